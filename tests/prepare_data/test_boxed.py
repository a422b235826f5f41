"""Patches with the place of their box, the choice of defects, and clean pieces."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from tests.prepare_data.builders import SMALL, index_of, pixels, write_boards, write_image, write_text
from utils.images import load_rgb
from utils.prepare_data.__main__ import main
from utils.prepare_data.boxed import (
    boxed_patch,
    boxes_beside,
    choose_defects,
    cut_piece,
    native_patch,
    outline_patch,
    plan_patch,
    plan_pieces,
)
from utils.prepare_data.cutting import CutOptions, fitting_tile
from utils.prepare_data.sources import DefectBox, Outline, SourceImage, Survey
from utils.prepare_data.tree import FileTree


def survey_of(tmp_path: Path, images: list[SourceImage]) -> Survey:
    for number, image in enumerate(images):
        image.name, image.group = f"image{number}", image.group or f"group{number}"
    return Survey(FileTree(tmp_path), "voc", None, images, {"spur": 0, "short": 1})


def test_a_patch_copies_twice_the_window_around_the_box():
    image = pixels(0)
    patch, box, scale = boxed_patch(image, DefectBox("spur", 70, 50, 80, 61), window=32)
    assert scale == 1 and patch.shape == (64, 64, 3)
    top, left = 50 - int(box[1]), 70 - int(box[0])
    assert np.array_equal(patch, image[top : top + 64, left : left + 64])
    assert box == (27, 26, 37, 37)  # of the corner (43, 23.5), rounded to (43, 24)


def test_a_patch_at_the_edge_is_shifted_into_the_image_and_not_reflected():
    image = pixels(0)
    patch, box, _ = boxed_patch(image, DefectBox("spur", 0, 112, 10, 120), window=32)
    assert np.array_equal(patch, image[120 - 64 :, :64]) and box == (0, 56, 10, 64)


def test_a_patch_of_a_large_defect_is_shrunk_and_its_box_with_it():
    image = np.zeros((600, 600, 3), np.uint8)
    image[250:346, 301:397] = 255
    patch, box, scale = boxed_patch(image, DefectBox("spur", 301, 250, 397, 346), window=64)
    assert scale == 2 and patch.shape == (128, 128, 3) and box == (40, 40, 88, 88)
    white = patch[..., 0] > 127
    assert white[40:88, 40:88].all() and white.sum() == 48 * 48


def test_the_outline_lies_in_its_patch_as_the_defect_does():
    mask = np.zeros((96, 96), bool)
    mask[:, 40:] = True
    box = DefectBox("spur", 301.4, 250.7, 396.5, 345.2, outline=Outline(301, 250, mask))
    shape = outline_patch((600, 600), box, 64)
    image = np.repeat(box.outline.drawn(600, 600)[..., None], 3, axis=2).astype(np.uint8) * 255
    assert image.sum() == 96 * 56 * 3 * 255 and image[250:346, 341:397].all()
    patch, inner, scale = boxed_patch(image, box, 64)
    assert shape.shape == patch.shape[:2] and set(np.unique(shape)) == {0, 255}
    assert (shape > 0).sum() == pytest.approx(96 * 56 / scale**2, rel=0.01)
    left, top, right, bottom = plan_patch((600, 600), box, 64).crop
    rows, columns = ((found[0], found[-1] + 1) for found in map(np.unique, np.nonzero(shape > 127)))
    for found, sides, start, length in (
        (columns, (341, 397), left, right - left),
        (rows, (250, 346), top, bottom - top),
    ):
        assert found == pytest.approx([(side - start) * 128 / length for side in sides], abs=0.85)
    assert inner == pytest.approx(
        [(a - b) * 128 / 254 for a, b in zip((301.4, 250.7, 396.5, 345.2), (left, top) * 2, strict=True)]
    )
    assert outline_patch((600, 600), DefectBox("spur", 3, 3, 9, 9), 64) is None


def test_a_native_patch_shows_what_its_shrunk_patch_does_pixel_by_pixel():
    image, box = pixels(0, 300, 260), DefectBox("spur", 100, 90, 170, 140)
    patch, _, scale = boxed_patch(image, box, 32)
    native = native_patch(image, box, 32)
    left, top, right, bottom = plan_patch((300, 260), box, 32).crop
    assert scale > 1 and np.array_equal(native, image[top:bottom, left:right])
    small = Image.fromarray(native).resize(patch.shape[1::-1], Image.Resampling.BICUBIC)
    inner = np.s_[4:-4, 4:-4]  # beyond its edge the patch saw more of the image
    assert np.array_equal(np.asarray(small)[inner], patch[inner])
    assert native_patch(image, DefectBox("spur", 70, 50, 80, 61), 32) is None  # its patch is not shrunk


@pytest.mark.parametrize("width", [1, 3, 6])
def test_the_outline_of_a_scratch_is_neither_lost_nor_cut_up(width):
    drawn = Image.new("1", (144, 61))
    ImageDraw.Draw(drawn).line([(0, 1), (143, 57)], fill=1, width=width)
    mask = np.asarray(drawn)
    box = DefectBox("spur", 200, 250, 344, 311, outline=Outline(200, 250, mask))
    shape = outline_patch((600, 600), box, 64) > 127
    columns = np.nonzero(shape)[1]
    area = max(mask.sum() / 9, 48)  # a pixel thin at least
    assert len(columns) == pytest.approx(area, abs=3) and np.ptp(columns) + 1 == 48
    assert ndimage.label(shape, np.ones((3, 3)))[1] == 1


def test_an_outline_beyond_the_image_is_cut_off():
    mask = np.ones((10, 20), bool)
    assert Outline(-5, 2, mask).drawn(30, 8).sum() == 15 * 6
    assert (
        Outline(25, -4, mask).drawn(30, 8)[:6, 25:].all() and Outline(25, -4, mask).drawn(30, 8).sum() == 30
    )


def test_an_image_below_the_patch_gives_all_of_it_and_below_the_window_its_reflection():
    image = pixels(0, 50, 20)
    patch, box, _ = boxed_patch(image, DefectBox("spur", 5, 5, 15, 15), window=32)
    assert patch.shape == (32, 50, 3) and box == (5, 11, 15, 21)
    assert np.array_equal(patch[6:26], image) and np.array_equal(patch[5], image[1])


def test_a_point_has_a_box_of_half_the_window():
    patch, box, _ = boxed_patch(pixels(0), DefectBox("spur", 80, 60, 80, 60, is_point=True), window=32)
    assert patch.shape == (64, 64, 3) and box == (24, 24, 40, 40)


def test_chosen_defects_are_spread_over_groups_and_images(tmp_path):
    def image(group: str, count: int) -> SourceImage:
        boxes = [DefectBox("spur", 10 * k, 0, 10 * k + 5, 5) for k in range(count)]
        return SourceImage(Path("x.png"), boxes, group=group, size=(100, 100))

    survey = survey_of(tmp_path, [image("a", 9), image("a", 9), image("b", 9), image("c", 1), image("d", 9)])
    chosen = choose_defects(survey, {"d"}, 5, seed=0)
    assert {name: len(boxes) for name, boxes in chosen.items()} == {
        "image0": 1, "image1": 1, "image2": 2, "image3": 1,
    }  # fmt: skip
    assert choose_defects(survey, {"d"}, 5, seed=0) == chosen != choose_defects(survey, {"d"}, 5, seed=1)
    assert sum(map(len, choose_defects(survey, {"d"}, None, seed=0).values())) == 28


def test_pieces_between_boxes_keep_their_distance(tmp_path):
    boxes = [DefectBox("spur", 80, 40, 120, 160)]
    survey = survey_of(tmp_path, [SourceImage(Path("x.png"), boxes, size=(200, 200))])
    small = {"image0": [DefectBox("spur", 0, 0, 9, 9)]}
    pieces = plan_pieces(survey, set(), small, window=16, distance=8, seed=0)["image0"]
    assert len(pieces) > 20 and all(
        piece.scale == 1 and piece.size in ((64, 64), (32, 32)) for piece in pieces
    )
    assert all(p.right <= 72 or p.left >= 128 or p.bottom <= 32 or p.top >= 168 for p in pieces)
    assert plan_pieces(survey, set(), {"image0": boxes}, window=32, distance=8, seed=0) == {}


def test_pieces_come_from_clean_images_of_any_size(tmp_path):
    images = [
        SourceImage(Path("x.png"), [DefectBox("spur", 0, 0, 9, 9)], size=(90, 90)),
        SourceImage(Path("y.png"), is_clean=True, size=(30, 50)),
        SourceImage(Path("z.png"), is_clean=True, size=(12, 50)),
    ]
    survey = survey_of(tmp_path, images)
    plan = plan_pieces(survey, set(), {"image0": images[0].boxes}, window=32, distance=8, seed=0)
    assert set(plan) == {"image1"} and all(piece.size == (30, 50) for piece in plan["image1"])
    assert np.array_equal(cut_piece(pixels(1, 30, 50), plan["image1"][0]), pixels(1, 30, 50))


def test_the_tile_is_the_largest_that_fits_most_images(tmp_path):
    clean = [
        SourceImage(Path("x.png"), is_clean=True, size=size) for size in ((300, 300), (140, 200), (200, 130))
    ]
    survey = survey_of(tmp_path, clean)
    assert fitting_tile(survey, set(), CutOptions()) == 128
    assert fitting_tile(survey, set(), CutOptions(tile=40)) == 40


def test_small_photographs_are_prepared_without_a_changed_option(tmp_path):
    root, out = write_boards(tmp_path / "source"), tmp_path / "out"
    main([str(root), "--out", str(out), "--holdout", "03", "--per-class", "2"])
    rows = index_of(out)
    boxed = [row for row in rows if row["file"].startswith("train/boxed/")]
    assert sorted(row["class"] for row in boxed) == ["short", "short", "spur", "spur"]
    assert all((out / row["file"]).with_suffix(".txt").is_file() for row in boxed)
    pieces = [load_rgb(out / row["file"]) for row in rows if row["file"].startswith("train/clean/")]
    assert pieces and all(piece.shape == (120, 160, 3) for piece in pieces)
    assert {p.name for p in (out / "train_clean").iterdir()} == {"01.png", "02.png", "04.png"}


def test_photographs_below_every_tile_still_teach_the_prior(tmp_path):
    for name in "abc":
        write_image(tmp_path / f"source/{name}.png", ord(name), 60, 50)
        write_text(tmp_path / f"source/{name}.txt", "0 0.2 0.2 0.2 0.2\n")
    write_text(tmp_path / "source/classes.txt", "pit\n")
    main([str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--holdout", "a"])
    assert len(list((tmp_path / "out/train/boxed").glob("*.png"))) == 2
    assert not list((tmp_path / "out/train/defect_free").iterdir())


def test_boxes_beside_the_first_one_are_known():
    first = DefectBox("spur", 100, 100, 120, 110)
    others = [DefectBox("short", 140, 90, 150, 130), DefectBox("short", 300, 100, 310, 110)]
    found = boxes_beside([first, *others], (50.0, 60.0, 60.0, 65.0), 2.0, (100, 100))
    assert found == [("short", (70.0, 55.0, 75.0, 75.0))]


def test_what_lies_beside_a_point_keeps_its_place(tmp_path: Path):
    source = tmp_path / "source"
    image = pixels(0)
    write_image(source / "clean/b.png", 1)
    Image.fromarray(image).save(write_text(source / "classes.txt", "spur\nshort\n").with_name("a.png"))
    neighbor = (90 / 160, 62 / 120, 10 / 160, 8 / 120)  # 85..95, 58..66
    write_text(source / "a.txt", f"0 0.5 0.5\n1 {' '.join(map(str, neighbor))}\n0 {85 / 160} {70 / 120}\n")
    main([str(source), "--out", str(tmp_path / "out"), "--holdout-share", "0", *SMALL])
    patch = np.array(Image.open(tmp_path / "out/train/boxed/spur_0000.png"))
    lines = (tmp_path / "out/train/boxed/spur_0000.txt").read_text().splitlines()
    boxes = [np.array(line.split()[1:], float) * (*patch.shape[1::-1], *patch.shape[1::-1]) for line in lines]
    assert [line.split()[0] for line in lines] == ["0", "1", "0"]
    x, y = boxes[0][:2] - (80, 60)  # the patch's corner, by the middle of the point's box
    assert np.array_equal(patch, image[round(-y) : round(-y) + 64, round(-x) : round(-x) + 64])
    assert np.allclose(boxes[1], (90 + x, 62 + y, 10, 8), atol=1e-3)
    assert np.allclose(boxes[2], (85 + x, 70 + y, 16, 16), atol=1e-3)  # the other point is half a window, too


def test_what_is_shrunk_is_kept_in_native_px_too(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    image = write_image(source / "a.png", 0, 300, 260)
    write_image(source / "clean/a.png", 1, 300, 260)
    write_text(source / "classes.txt", "spur\n")
    lines = ("0 0.45 0.5 0.2 0.2\n", "0 0.8 0.5 0.03 0.03\n")  # 105..165, 104..156, and 9 x 8 px
    write_text(source / "a.txt", "".join(lines))
    main([str(source), "--out", str(out), "--holdout-share", "0", *SMALL])
    patch, native = (load_rgb(out / f"train/{part}boxed/spur_0000.png") for part in ("", "native/"))
    assert patch.shape[0] < native.shape[0]
    crop = plan_patch((300, 260), DefectBox("spur", 105, 104, 165, 156), 32).crop
    assert np.array_equal(native, load_rgb(image)[crop[1] : crop[3], crop[0] : crop[2]])
    assert [path.name for path in (out / "train/native/boxed").iterdir()] == ["spur_0000.png"]
