"""Training defects laid over clean windows: which, where, how large, and where sampling then starts."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from generation.exemplars.exemplar import Exemplar, Place, without_margin
from generation.exemplars.laying import Exemplars
from generation.exemplars.ranking import SHIFT, SIZE_MATTERS, VARIANTS, WORSE, Fit, best_fit, stretched_to
from generation.exemplars.reading import read_exemplars
from generation.exemplars.registration import registered
from generation.geometry import Context
from generation.jobs import BatchItem, Defect, Job
from generation.training_defects import training_defects_sha256
from guided_diffusion.windows import Windows
from tests.test_surroundings import PriorSampler, Sampler, box_masks, sampler
from utils.errors import UserError
from utils.images import save_png
from utils.labels import Annotation
from utils.seeding import SampleNoise

SIDE = 64
CLASSES = {"spot": 0, "scratch": 1}


def striped(vertical: bool = False, side: int = 128) -> np.ndarray:
    """Green with a bright trace of 12 px through the middle."""
    image = np.full((side, side, 3), (20, 90, 30), np.uint8)
    middle = side // 2
    image[middle - 6 : middle + 6] = (40, 160, 60)
    return image.transpose(1, 0, 2).copy() if vertical else image


def square(image: np.ndarray, box: tuple[int, int, int, int], color: int) -> np.ndarray:
    image = image.copy()
    image[box[1] : box[3], box[0] : box[2]] = color
    return image


class Folder:
    """What `utils.prepare_data` writes of training defects."""

    def __init__(self, root: Path):
        self.root, self.rows = root, []
        for name in ("boxed", "twins", "outlines", "native/boxed", "native/twins", "native/outlines"):
            (root / "train" / name).mkdir(parents=True)

    def add(
        self,
        name: str,
        class_id: int,
        patch: np.ndarray,
        twin: np.ndarray | None,
        box,
        scale: float = 1.0,
        group: str = "a",
    ):
        height, width = patch.shape[:2]
        save_png(self.root / "train/boxed" / f"{name}.png", patch)
        cx, cy = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
        w, h = (box[2] - box[0]) / width, (box[3] - box[1]) / height
        (self.root / "train/boxed" / f"{name}.txt").write_text(f"{class_id} {cx} {cy} {w} {h}\n")
        if twin is not None:
            save_png(self.root / "train/twins" / f"{name}.png", twin)
        sides = [500 + side * scale for side in box]
        self.rows.append([f"train/boxed/{name}.png", "a.png", "spot", *sides, scale, group, "train"])
        with (self.root / "index.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(
                ["file", "source", "class", "left", "top", "right", "bottom", "scale", "group", "split"]
            )
            rows.writerows(self.rows)

    def read(self, turns: bool = False) -> Exemplars:
        return read_exemplars(self.root, CLASSES, turns, turns)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def laid(
    exemplars: Exemplars, pixels: np.ndarray, box, variant: int, scale: float = 1.0, class_id: int = 0
) -> np.ndarray:
    return exemplars.laid_over(Place(pixels, box, scale, class_id), variant).pixels


def fits(place: Place, known: Sequence[Exemplar]) -> list[Fit]:
    return [best_fit(place, laid) for laid in stretched_to(place, known)]


def window(vertical: bool = False) -> np.ndarray:
    return striped(vertical)[32:96, 32:96]


def test_the_defect_comes_into_the_box_and_the_rest_stays(folder: Folder):
    # A dark gap of 10 px in the trace; its box keeps 5 px from it
    patch = square(striped(), (59, 58, 69, 70), 0)
    folder.add("gap", 0, patch, striped(), (54, 53, 74, 75))
    found = laid(folder.read(), window(), (22, 21, 42, 43), 0)
    off = np.abs(found.astype(int) - square(window(), (27, 26, 37, 38), 0)).max(axis=2)
    assert (off[26:38, 27:37] <= 1).sum() > 100  # its corners are soft
    off[25:39, 26:38] = 0
    assert off.max() <= 1
    assert np.array_equal(found[:, :20], window()[:, :20]) and np.array_equal(found[:, 44:], window()[:, 44:])


def test_a_class_without_defects_leaves_the_window(folder: Folder):
    folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), striped(), (54, 53, 74, 75))
    assert np.array_equal(laid(folder.read(), window(), (22, 21, 42, 43), 0, class_id=1), window())


def test_what_looks_alike_is_taken(folder: Folder):
    box = (54, 53, 74, 75)
    for k, (name, vertical) in enumerate([("across", True), ("along", False)]):
        clean = striped(vertical)
        folder.add(name, 0, square(clean, (59, 58, 69, 70), 200 + 40 * k), clean, box)
    exemplars = folder.read()
    middles = [laid(exemplars, window(), (22, 21, 42, 43), k)[32, 32, 0] for k in range(4)]
    assert middles == [240] * 4  # the second defect, which has the window's trace
    assert laid(exemplars, window(True), (21, 22, 43, 42), 0)[32, 32, 0] == 200


def test_turned_defects_fit_where_the_upright_one_does_not(folder: Folder):
    clean = striped()
    folder.add("gap", 0, square(clean, (59, 58, 69, 70), 255), clean, (54, 53, 74, 75))
    place = Place(window(True), (21, 22, 43, 42), 1.0, 0)
    (plain,) = fits(place, folder.read().of_class[0])
    turned = [fit.value for fit in fits(place, folder.read(turns=True).of_class[0])]
    assert len(turned) == 8 and plain.value < 0.85 and max(turned) > 0.97


def test_a_shift_brings_the_traces_together(folder: Folder):
    clean = striped()
    folder.add("gap", 0, square(clean, (59, 58, 69, 70), 0), clean, (54, 53, 74, 75))
    exemplars = folder.read()
    for off in (-3, 0, SHIFT):
        (fit,) = fits(Place(window(), (22, 21 + off, 42, 43 + off), 1.0, 0), exemplars.of_class[0])
        assert fit.shift == (0, -off) and fit.value > 0.97


def test_a_defect_on_another_ground_goes_after_one_on_its_own(folder: Folder):
    # Both look like the window around the box; copper that lies on bare board there would cross the trace here
    bare = np.full((128, 128, 3), (20, 90, 30), np.uint8)
    beside = bare.copy()
    beside[42:46] = (40, 160, 60)  # a trace above
    here = beside.copy()
    here[56:72, 62:66] = (40, 160, 60)  # and a short piece under the middle of the box
    box = (54, 53, 74, 75)
    for name, left in (("across", 59), ("left", 55)):
        folder.add(
            name, 0, square(beside, (left, 58, left + 5 if name == "left" else 69, 70), 130), beside, box
        )
    place = Place(here[32:96, 32:96], (22, 21, 42, 43), 1.0, 0)
    across, left = fits(place, folder.read().of_class[0])
    assert across.value < left.value - 0.1
    assert [fit.exemplar.number for fit in folder.read().ranked(place)][0] == 1


def test_the_ground_moves_a_defect_off_what_it_does_not_lie_on(folder: Folder):
    bare = np.full((128, 128, 3), (20, 90, 30), np.uint8)
    here = square(bare, (51, 53, 55, 75), 220)  # something bright at the left edge of the box
    folder.add("spot", 0, square(bare, (56, 58, 72, 70), 200), bare, (54, 53, 74, 75))
    (fit,) = fits(Place(here[32:96, 32:96], (22, 21, 42, 43), 1.0, 0), folder.read().of_class[0])
    assert fit.shift[0] in (1, 2) and fit.shift[1] == 0


def test_what_fits_much_worse_than_the_best_has_no_turn(folder: Folder):
    for name, vertical in (("along", False), ("across", True)):
        clean = crossed(vertical)
        folder.add(name, 0, square(clean, (59, 58, 69, 70), 0), clean, (54, 53, 74, 75))
    along, across = fits(Place(crossed()[32:96, 32:96], (22, 21, 42, 43), 1.0, 0), folder.read().of_class[0])
    assert across.value < along.value - WORSE
    turns = folder.read().ranked(Place(crossed()[32:96, 32:96], (22, 21, 42, 43), 1.0, 0))
    assert [fit.exemplar.number for fit in turns] == [0]


def test_a_larger_box_stretches_the_defect_and_one_of_the_right_size_goes_first(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    folder.add("small", 0, square(clean, (59, 59, 69, 69), 200), clean, (54, 54, 74, 74))
    found = laid(folder.read(), clean[:64, :64], (18, 18, 46, 46), 0)
    assert (found[..., 0] > 140).sum() == pytest.approx(14 * 14, abs=30)  # 10 px times 28 / 20
    folder.add("large", 0, square(clean, (50, 50, 78, 78), 120), clean, (45, 45, 83, 83))
    exemplars = folder.read()
    assert laid(exemplars, clean[:64, :64], (13, 13, 51, 51), 0)[32, 32, 0] == 120
    assert laid(exemplars, clean[:64, :64], (22, 22, 42, 42), 0)[32, 32, 0] == 200
    # Scales count: 20 px of a window at 2 native px each are 40 px
    assert laid(exemplars, clean[:64, :64], (22, 22, 42, 42), 0, scale=2.0)[32, 32, 0] == 120


def test_without_a_twin_the_box_is_pasted_and_its_inside_does_not_count(folder: Folder):
    patch = square(striped(), (54, 53, 74, 75), 7)
    folder.add("gap", 0, patch, None, (54, 53, 74, 75))
    exemplars = folder.read()
    (fit,) = fits(Place(window(), (22, 21, 42, 43), 1.0, 0), exemplars.of_class[0])
    assert fit.value > 0.99
    found = laid(exemplars, window(), (22, 21, 42, 43), 0)
    assert (np.abs(found[23:41, 24:40].astype(int) - 7) <= 1).all()


def test_boxes_with_a_margin_are_filled_as_training_boxes_are(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    folder.add("bar", 0, square(clean, (60, 54, 68, 74), 200), clean, (55, 49, 73, 79))  # 5 px around 8 x 20
    exemplars = read_exemplars(folder.root, CLASSES, False, False, margin=5)
    (bar,) = exemplars.of_class[0]
    assert bar.clean.box == pytest.approx((60, 54, 68, 74)) and bar.size == pytest.approx((8, 20))
    # A box of 22 x 36 px asks for 12 x 26 px in its middle
    found = laid(exemplars, clean[:64, :64], (26, 19, 38, 45), 0)[..., 0] > 140
    assert found[20:44, 27:37].all() and not found[:, :25].any() and not found[:, 39:].any()
    assert not found[:18].any() and not found[46:].any()


def test_a_defect_at_the_edge_goes_to_the_same_edge(folder: Folder):
    clean = np.full((96, 128, 3), 80, np.uint8)
    # 4 px of margin, but for the edge
    folder.add("chip", 0, square(clean, (54, 0, 74, 20), 10), clean, (50, 0, 78, 24))
    folder.add("spot", 0, square(clean, (54, 38, 74, 58), 200), clean, (50, 34, 78, 62))
    chips = read_exemplars(folder.root, CLASSES, True, True, margin=4)
    assert {one.clean.edges for one in chips.of_class[0] if one.number == 1} == {(False,) * 4}
    assert len({one.clean.edges for one in chips.of_class[0] if one.number == 0}) == 4  # turned to every edge
    pixels = clean[:64, :64]
    for box, dark in (
        ((22, 0, 42, 20), np.s_[0:19, 23:41]),
        ((22, 44, 42, 64), np.s_[45:64, 23:41]),
        ((3, 22, 20, 42), np.s_[23:41, 0:19]),  # close to it
    ):
        whole = without_margin(box, 0, 64, 64)
        assert all((laid(chips, pixels, whole, k)[dark] < 20).all() for k in range(3))
    assert laid(chips, pixels, (22, 22, 42, 42), 0)[32, 32, 0] == 200


def test_only_where_the_defect_is_may_be_painted(folder: Folder):
    folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), striped(), (54, 53, 74, 75))
    support = folder.read().laid_over(Place(window(), (22, 21, 42, 43), 1.0, 0), 0).support
    assert support[26:38, 27:37].all()  # the gap
    rows, columns = np.nonzero(support)
    assert 23 <= rows.min() <= 24 and 39 <= rows.max() <= 40  # its soft mask and a px
    assert 24 <= columns.min() <= 25 and 38 <= columns.max() <= 39
    unknown = folder.read().laid_over(Place(window(), (22, 21, 42, 43), 1.0, 1), 0)
    assert unknown.support.all()


def test_without_a_twin_an_outline_tells_the_shape(folder: Folder):
    clean = striped()
    folder.add("gap", 0, square(clean, (59, 58, 69, 70), 7), None, (54, 53, 74, 75))
    shape = np.zeros((128, 128), np.uint8)
    shape[58:70, 59:69] = 255
    before = training_defects_sha256(folder.root)
    save_png(folder.root / "train/outlines/gap.png", shape)
    assert training_defects_sha256(folder.root) != before
    found = folder.read().laid_over(Place(window(), (22, 21, 42, 43), 1.0, 0), 0)
    assert (found.pixels[26:38, 27:37] == 7).all() and found.support.sum() < 20 * 20
    assert np.array_equal(found.pixels[:, :21], window()[:, :21])


@pytest.mark.parametrize("shaped, kept", [(1, 3), (2, 2), (3, 3)])
def test_defects_without_a_shape_are_left_out_where_most_have_one(folder: Folder, shaped: int, kept: int):
    for k in range(3):
        twin = striped() if k < shaped else None
        folder.add(f"gap{k}", 0, square(striped(), (59, 58, 69, 70), 0), twin, (54, 53, 74, 75))
    assert {one.number for one in folder.read().of_class[0]} == set(range(kept))


def test_as_many_variants_as_said(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    for k in range(VARIANTS + 2):
        folder.add(f"spot{k}", 0, square(clean, (59, 59, 69, 69), 100 + 20 * k), clean, (54, 54, 74, 74))
    exemplars = folder.read()
    seen = [int(laid(exemplars, clean[:64, :64], (22, 22, 42, 42), k)[32, 32, 0]) for k in range(9)]
    assert len(set(seen)) == VARIANTS and seen[:VARIANTS] == seen[VARIANTS : 2 * VARIANTS]


def test_the_candidates_of_two_samples_begin_with_four_defects(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    for k in range(VARIANTS):
        folder.add(f"spot{k}", 0, square(clean, (59, 59, 69, 69), 100 + 20 * k), clean, (54, 54, 74, 74))
    context = Context(0, 0, 64, ((0, 0),), 1.0)
    wanted = Defect(Annotation(0, "spot", 0.5, 0.5, 0.3, 0.3), (32, 32), (0, 0, 64), (22, 22, 42, 42))
    seen = []
    for sample in (0, 1):
        job = Job(Path("a.png"), (wanted,), (), "a", sample)
        for attempt in (0, 1):
            item = BatchItem(0, 0, context, (0,), attempt)
            start = folder.read().starts([(job, item)], [clean[:64, :64]], 64, candidates=2)
            seen.append(round(float(start.contexts[0, 0, 32, 32]), 3))
            assert start.misfits == [0.0] and start.support.shape == (1, 1, 64, 64)
    assert len(set(seen)) == 4


@pytest.mark.parametrize("shaped", [True, False])
def test_of_a_defect_with_a_shape_what_lies_beyond_the_box_is_known(folder: Folder, shaped: bool):
    twin = striped() if shaped else None
    folder.add(
        "gap", 0, square(striped(), (59, 58, 69, 70), 0), twin, (61, 60, 67, 68)
    )  # a box that is too small
    context = Context(0, 0, 64, ((0, 0),), 1.0)
    wanted = Defect(Annotation(0, "spot", 0.5, 0.5, 0.1, 0.1), (32, 32), (0, 0, 64), (29, 28, 35, 36))
    job, item = Job(Path("a.png"), (wanted,), (), "a", 0), BatchItem(0, 0, context, (0,), 0)
    start = folder.read().starts([(job, item)], [window()], 64)
    (laid,) = start.laid
    assert laid.shaped == shaped and laid.pixels[32, 28, 1] < 60 and window()[32, 28, 1] == 160
    known = ((start.known[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    assert np.array_equal(known, laid.pixels if shaped else window())


def shrunk_gap(folder: Folder, native: tuple[int, int, int, int] | None) -> Exemplar:
    """A gap of 10 px in the trace of a patch that was shrunk by 2, and the native gap, with its twin."""
    folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), striped(), (54, 53, 74, 75), scale=2.0)
    large = striped().repeat(2, axis=0).repeat(2, axis=1)
    if native:
        save_png(folder.root / "train/native/boxed/gap.png", square(large, native, 0))
        save_png(folder.root / "train/native/twins/gap.png", large)
    return folder.read().of_class[0][0]


def test_a_defect_that_was_shrunk_is_known_in_native_px_too(folder: Folder):
    one = shrunk_gap(folder, (119, 116, 138, 140))  # 19 px: half a px of the patch less than there
    assert one.native is not None and one.native.box == (8, 8, 48, 52)  # REACH px around it, larger by 2
    over = folder.read().laid_over(Place(window(), (22, 21, 42, 43), 2.0, 0), 0).native
    assert over is not None
    large = window().repeat(2, axis=0).repeat(2, axis=1)
    off = over.over(large)[..., 1].astype(int) - large[..., 1]
    columns = np.flatnonzero(off[64] < -80)
    assert (columns[0], columns[-1] + 1) == (55, 74) and off[64, 53] == 0 and off[64, 75] == 0
    assert one.turned(1, False).native.box == (8, 8, 52, 48)


def test_a_defect_with_fewer_px_than_the_place_has_is_not_laid_in_native_px(folder: Folder):
    shrunk_gap(folder, (119, 116, 138, 140))  # 40 x 44 px
    known, large = folder.read(), np.repeat(np.repeat(window(), 2, axis=0), 2, axis=1)
    for width, has in ((20, True), (38, True), (42, False)):
        place = Place(large, (64 - width / 2, 44, 64 + width / 2, 84), 2.0, 0)
        assert (known.laid_over(place, 0).native is not None) == has


def test_a_native_outline_is_used_unless_the_shrunk_one_was_corrected(folder: Folder):
    def read() -> tuple[Exemplar, int]:
        (one,) = folder.read().of_class[0]
        assert one.native is not None
        return one, int((one.native.alpha >= 0.5).sum())

    plain = np.full((128, 128, 3), 100, np.uint8)
    folder.add("mark", 0, square(plain, (54, 60, 74, 68), 60), None, (52, 58, 76, 70), scale=2.0)
    large = np.full((256, 256, 3), 100, np.uint8)
    save_png(folder.root / "train/native/boxed/mark.png", square(large, (108, 120, 148, 136), 60))
    black = np.zeros((128, 128, 3), np.uint8)
    outline = folder.root / "train/outlines/mark.png"
    save_png(outline, square(black, (54, 60, 74, 68), 255))
    save_png(
        folder.root / "train/native/outlines/mark.png",
        square(np.zeros_like(large), (108, 121, 148, 135), 255),
    )
    _, fine = read()  # 40 x 14 px, and the 2 px beside them that are pasted with it
    save_png(outline, square(black, (54, 60, 64, 68), 255))  # corrected to the left half: 20 x 16 px
    _, corrected = read()
    assert (fine, corrected) == pytest.approx((44 * 18, 24 * 20), abs=24)
    outline.unlink()
    known, _ = read()
    assert not known.shaped  # the box it is, as if there had been no outline


def test_a_native_cutout_of_another_shape_does_not_count(folder: Folder):
    assert shrunk_gap(folder, (119, 116, 126, 140)).native is None  # a third of the gap


def test_a_patch_as_large_as_in_its_photograph_has_no_other(folder: Folder):
    assert shrunk_gap(folder, None).native is None


@pytest.mark.parametrize(
    "name",
    ["train/boxed/gap.png", "train/boxed/gap.txt", "classes.json", "index.csv", "train/native/twins/gap.png"],
)
def test_all_that_is_read_is_in_the_hash(folder: Folder, name: str):
    shrunk_gap(folder, (119, 116, 138, 140))
    (folder.root / "classes.json").write_text('{"spot": 0, "scratch": 1}')
    before = training_defects_sha256(folder.root)
    assert training_defects_sha256(folder.root) == before
    with (folder.root / name).open("ab") as file:
        file.write(b" ")
    assert training_defects_sha256(folder.root) != before


DAMAGE = {
    "no patch": lambda root: (root / "train/boxed/gap.png").unlink(),
    "broken patch": lambda root: (root / "train/boxed/gap.png").write_bytes(b"x"),
    "broken twin": lambda root: (root / "train/twins/gap.png").write_bytes(b"x"),
    "cut twin": lambda root: (root / "train/twins/gap.png").write_bytes(
        (root / "train/twins/gap.png").read_bytes()[:60]
    ),
    "no label": lambda root: (root / "train/boxed/gap.txt").unlink(),
    "bad label": lambda root: (root / "train/boxed/gap.txt").write_text("9 0.5 x 0.1 0.1\n"),
    "flat box": lambda root: (root / "train/boxed/gap.txt").write_text("0 0.5 0.5 0.25 1e-300\n"),
    "bad scale": lambda root: (root / "index.csv").write_text(
        (root / "index.csv").read_text().replace("1.0,a", "-1,a")
    ),
    "zeros": lambda root: (root / "index.csv").write_bytes(b"file,a\n\0\0,b\n"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_in_a_sentence(folder: Folder, name: str):
    folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), striped(), (54, 53, 74, 75))
    assert len(folder.read().of_class[0]) == 1
    DAMAGE[name](folder.root)
    with pytest.raises(UserError):
        folder.read()


@pytest.mark.parametrize("label", ["0 0.5 0.5 1 1", "0 0.5 0.5 0.001 0.001", "0 0.01 0.5 0.02 0.9"])
def test_odd_boxes_are_laid_over_all_the_same(folder: Folder, label: str):
    folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), striped(), (54, 53, 74, 75))
    (folder.root / "train/boxed/gap.txt").write_text(label + "\n")
    for box in ((22, 21, 42, 43), (-5, 0, 64, 70), (63, 63, 64, 64)):
        found = folder.read(turns=True).laid_over(Place(window(), box, 1.0, 0), 0)
        assert found.pixels.shape == (64, 64, 3) and found.support.shape == (64, 64)


def test_classes_are_those_of_the_same_names(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    for class_id, name in enumerate(("dent", "Scratch")):
        folder.add(name, class_id, square(clean, (59, 59, 69, 69), 200), clean, (54, 54, 74, 74))
    (folder.root / "classes.json").write_text('{"dent": 0, "Scratch": 1}')
    assert {key: len(found) for key, found in folder.read().of_class.items()} == {CLASSES["scratch"]: 1}
    (folder.root / "classes.json").write_text('{"dent": 0, "hole": 1}')
    with pytest.raises(UserError, match="got defects of dent, hole, expected some of spot, scratch"):
        folder.read()


def test_groups_take_turns_where_they_are_as_good(folder: Folder):
    clean = np.full((128, 128, 3), 80, np.uint8)
    for k, group in enumerate("aaabc"):
        twin = striped() if group == "c" else clean + k  # the third group looks otherwise
        folder.add(
            f"spot{k}", 0, square(twin, (59, 59, 69, 69), 150 + 20 * k), twin, (54, 54, 74, 74), group=group
        )
    exemplars = folder.read()
    order = [
        exemplars.laid_over(Place(clean[:64, :64], (22, 22, 42, 42), 1.0, 0), k).pixels for k in range(4)
    ]
    assert [round((int(one[32, 32, 0]) - 150) / 20) for one in order] == [0, 3, 1, 2]


def crossed(vertical: bool = False) -> np.ndarray:
    """Black with a white trace: places across each other are not alike."""
    return np.repeat((striped(vertical)[..., 1:2] > 100).astype(np.uint8) * 255, 3, axis=2)


def test_how_well_the_best_training_defect_fits(folder: Folder):
    folder.add("gap", 0, square(crossed(), (59, 58, 69, 70), 0), crossed(), (54, 53, 74, 75))
    exemplars, box = folder.read(), (22, 21, 42, 43)
    along = crossed()[32:96, 32:96]
    assert exemplars.ranked(Place(along, box, 1.0, 0))[0].value == pytest.approx(1, abs=0.01)
    across = Place(crossed(True)[32:96, 32:96], box, 1.0, 0)
    assert exemplars.ranked(across)[0].value < 0.3 < 0.9 < folder.read(turns=True).ranked(across)[0].value
    assert exemplars.ranked(Place(along, box, 1.0, 1)) == []  # no defect of the class
    wide = exemplars.ranked(Place(along, (18, 21, 46, 43), 1.0, 0))[0].value
    assert wide == pytest.approx(1 - SIZE_MATTERS * np.log(28 / 20), abs=0.02)


def test_what_fits_worse_than_usual(folder: Folder):
    for name in ("first", "second", "third"):
        folder.add(name, 0, square(crossed(), (59, 58, 69, 70), 0), crossed(), (54, 53, 74, 75))
    exemplars = folder.read()
    assert exemplars.usual_fit == pytest.approx(1, abs=0.01)
    along, across = (Place(crossed(v)[32:96, 32:96], (22, 21, 42, 43), 1.0, 0) for v in (False, True))
    assert exemplars.misfit(exemplars.laid_over(along, 0).fit) == 0
    fit = exemplars.laid_over(across, 0).fit
    assert fit < 0.3 and exemplars.misfit(fit) == pytest.approx(0.5 - fit)  # well is 0.5, usual is more
    unknown = Place(along.window, along.box, 1.0, 1)
    assert exemplars.laid_over(unknown, 0).fit is None and exemplars.misfit(None) is None


def test_rough_textures_are_never_much_alike(folder: Folder):
    rng = np.random.default_rng(0)
    for k in range(4):
        clean = rng.integers(0, 256, (128, 128, 3)).astype(np.uint8)
        folder.add(f"spot{k}", 0, square(clean, (59, 59, 69, 69), 255), clean, (54, 54, 74, 74))
    exemplars = folder.read()
    assert exemplars.usual_fit < 0.1
    place = Place(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8), (22, 22, 42, 42), 1.0, 0)
    assert exemplars.misfit(exemplars.laid_over(place, 0).fit) < 0.05


def test_one_defect_of_a_class_has_no_other_to_fit(folder: Folder):
    folder.add("gap", 0, square(crossed(), (59, 58, 69, 70), 0), crossed(), (54, 53, 74, 75))
    assert folder.read(turns=True).usual_fit == 1.0


def gap_in_trace(folder: Folder) -> Exemplars:
    """A gap of 10 px in the trace of 12 px, of the color of the board; its box keeps 5 px from it."""
    patch = striped()
    patch[58:70, 59:69] = patch[0, 0]
    folder.add("gap", 0, patch, striped(), (54, 53, 74, 75))
    return folder.read()


@pytest.mark.parametrize("moved, height", [(0, 12), (1, 12), (0, 14), (1, 14)])
def test_a_defect_is_brought_onto_the_ground_of_its_place(folder: Folder, moved: int, height: int):
    ground = np.full((64, 64, 3), (20, 90, 30), np.uint8)
    top = 32 - height // 2 + moved
    ground[top : top + height] = (40, 160, 60)
    place = Place(ground, (22, 21, 42, 43), 1.0, 0)  # of the size of the trace of 12 px, around the middle
    exemplars = gap_in_trace(folder)
    left, up, right, down = registered(place, exemplars.ranked(place)[0])
    assert (left, right) == (22, 42)  # nothing tells where along the trace
    assert (up + down) / 2 == 32 + moved
    assert down - up == pytest.approx(22 * height / 12, abs=0.6)
    found = exemplars.laid_over(place, 0)
    assert found.box == (left, up, right, down)
    bridge = found.pixels[top : top + height, 29:35].astype(int) - (20, 90, 30)
    assert np.abs(bridge).max() <= 12  # of 70: nothing of the trace is left in the gap


def test_a_defect_at_the_edge_of_the_image_is_not_moved(folder: Folder):
    ground = np.full((64, 64, 3), (20, 90, 30), np.uint8)
    ground[3:15] = (40, 160, 60)  # 2 px below where the box has it
    place = Place(ground, (22, -4, 42, 18), 1.0, 0)
    exemplars = gap_in_trace(folder)
    fit = exemplars.ranked(place)[0]
    x, y = fit.shift
    assert registered(place, fit) == (22 + x, -4 + y, 42 + x, 18 + y)


def test_a_folder_without_training_defects_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"index.csv cannot be read"):
        read_exemplars(tmp_path, CLASSES, True, True)


@pytest.mark.parametrize("kind", [Sampler, PriorSampler])
def test_sampling_starts_from_what_is_laid_over(kind):
    clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
    windows = Windows([(1, 2), (7, 4)], 8, torch.tensor([0, 1]), box_masks([(2, 3, 6, 7), (0, 0, 4, 8)], 8))
    own, start = sampler(kind), clean.flip(3)
    found = own.sample(clean, windows, torch.tensor([0, 2]), SampleNoise([1, 2], [0, 1]), start=start)
    noise = SampleNoise([1, 2], [0, 1]).image(clean)
    assert torch.equal(found.noised, own.diffusion.q_sample(start, own.options.start_index, noise))
    plain = own.sample(clean, windows, torch.tensor([0, 2]), SampleNoise([1, 2], [0, 1]))
    assert torch.equal(plain.noised, own.diffusion.q_sample(clean, own.options.start_index, noise))
    assert not torch.equal(found.crop, plain.crop)
