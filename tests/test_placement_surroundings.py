"""Places that look like the surroundings of training defects: likeness, templates, and plans from a prepared folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generation.geometry import Geometry
from generation.placement.candidates import Candidate, Picture
from generation.placement.matching import (
    Surround,
    at_edges,
    likeness,
    make_template,
    peaks,
    same_surroundings,
    to_planes,
)
from generation.placement.plan import make_plan
from generation.placement.request import PlacementRequest
from generation.placement.surroundings import (
    TurnedQuery,
    common_scale,
    in_turns,
    snapped,
    thinned,
)
from generation.training_defects import Query, allowed_turns
from utils.errors import UserError
from utils.images import save_png
from utils.schema.places import PlanConfig

GEOMETRY = Geometry("native", "auto", 64, 32)


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cross(size: int = 200, at: tuple[int, int] = (100, 100), width: int = 12) -> np.ndarray:
    """A gray image (size, size, 3) with a bright cross whose arms of 30 px meet at (x, y)."""
    image = np.full((size, size, 3), 60, np.uint8)
    x, y = at
    image[y - 30 : y + 30, x - width // 2 : x + width // 2] = 200
    image[y - width // 2 : y + width // 2, x - 30 : x + 30] = 200
    return image


# Likeness


def test_likeness_is_one_at_the_place_itself_and_the_inside_of_the_box_does_not_count():
    image = noise(0, 90, 80)
    patch = image[10:74, 20 : 84 - 4].copy()
    patch[20:40, 22:44] = 0  # the defect
    template = make_template(Surround(patch, (22, 20, 44, 40), 1.0), 1.0)
    (alike,) = likeness(to_planes(image), [template])
    y, x = divmod(int(alike.argmax()), alike.shape[1])
    assert (x, y) == (20 + 22 - 16, 10 + 20 - 16) and alike.max() == pytest.approx(1, abs=1e-4)
    assert alike.flatten().topk(2).values[1] < 0.5


def test_likeness_of_plain_surfaces_falls_with_the_difference_in_brightness():
    def plain(level: int) -> np.ndarray:
        return np.full((64, 64, 3), level, np.uint8)

    template = make_template(Surround(plain(100), (24, 24, 40, 40), 1.0), 1.0)
    values = [float(likeness(to_planes(plain(level)), [template])[0][0, 0]) for level in (100, 105, 160)]
    # With variances of 0 it is 1 - d^2 / NOISE, d = 5 / 127.5
    assert values[0] == pytest.approx(1, abs=1e-3)
    assert values[1] == pytest.approx(1 - (5 / 127.5) ** 2 / 0.0128, abs=1e-3)
    assert values[2] < -10


def test_maps_of_templates_of_different_sizes_are_those_of_each_alone():
    image = to_planes(noise(1, 60, 70))
    one = make_template(Surround(noise(2, 40, 40), (18, 18, 22, 22), 1.0), 2.0)
    two = make_template(Surround(noise(3, 60, 50), (20, 20, 30, 44), 1.0), 1.5)
    together = likeness(image, [one, two])
    for alone, template in zip(together, (one, two), strict=True):
        assert torch.allclose(alone, likeness(image, [template])[0], atol=1e-5)
        assert alone.shape == (60 - template.weights.shape[0] + 1, 70 - template.weights.shape[1] + 1)


def test_a_template_too_large_for_the_image_has_no_place():
    template = make_template(Surround(noise(0, 64, 64), (20, 20, 40, 40), 1.0), 1.0)
    assert likeness(to_planes(noise(1, 30, 100)), [template])[0].numel() == 0


def test_turning_moves_the_box_with_the_pixels():
    pixels = np.zeros((50, 80, 3), np.uint8)
    pixels[5:15, 50:78] = 255
    for quarters in range(4):
        for mirrored in (False, True):
            turned = Surround(pixels, (50, 5, 78, 15), 1.0).turned(quarters, mirrored)
            left, top, right, bottom = (round(side) for side in turned.box)
            assert (turned.pixels[top:bottom, left:right] == 255).all()
            assert (right - left) * (bottom - top) == 280


def test_sides_at_the_edge_of_the_image_are_known_and_bind_the_place():
    template = make_template(Surround(noise(0, 64, 64), (0, 30, 12, 40), 1.0), 1.0)
    assert template.at_edge == (True, False, False, False) and template.center == (6, 21)
    allowed = at_edges(torch.zeros(5, 6), template.at_edge) > -torch.inf
    assert allowed[:, :2].all() and not allowed[:, 2:].any()


def test_peaks_keep_their_distance():
    alike = torch.zeros(20, 20)
    alike[4, 4], alike[4, 5], alike[15, 9] = 3, 2, 1
    assert peaks(alike, 5, 2) == [(4, 4), (9, 15)]
    assert peaks(torch.zeros(0, 4), 5, 2) == []


def test_a_clean_image_of_the_same_place_is_told_from_another():
    patch = noise(0, 64, 64)
    defect = patch.copy()
    defect[24:40, 24:40] = 0
    surround = Surround(defect, (24, 24, 40, 40), 1.0)
    assert same_surroundings(surround, patch) == pytest.approx(1, abs=1e-4)
    assert same_surroundings(surround, noise(1, 64, 64)) < 0.5


def test_scales_are_rounded_to_powers_of_the_root_of_two():
    assert [round(common_scale(scale), 3) for scale in (1, 1.1, 1.3, 2.2)] == [1, 1, 1.414, 2]


def test_every_training_defect_has_its_turn_before_a_better_one_comes_again():
    small = [Candidate(0, "spur", 0, 100 * k, 0, 9, 9, 0.99 - k / 1000, model=0) for k in range(5)]
    large = [Candidate(0, "spur", 0, 100 * k + 10, 0, 90, 90, 0.8 - k / 100, model=1) for k in range(3)]
    poor = [Candidate(0, "spur", 0, 900, 0, 40, 40, 0.7, model=2)]
    found = in_turns([*small, *large, *poor], 50)
    assert [(one.model, one.turn) for one in found] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (0, 4), (2, 0)
    ]  # fmt: skip
    assert [one.model for one in found if one.is_poor] == [2]
    assert [one.x for one in found if one.model == 1] == [10, 110, 210]


def test_places_of_one_training_defect_are_thinned_and_not_for_the_sake_of_another():
    pool = [
        Candidate(0, "spur", 0, x, 0, 9, 9, score, model)
        for x, score, model in ((0, 0.9, 0), (5, 0.8, 1), (9, 0.85, 0))
    ]
    assert [one.x for one in in_turns(pool, 20)] == [0, 5]


def test_of_places_that_lie_together_the_best_stays():
    pool = [Candidate(0, "spur", 0, x, 0, 9, 9, score) for x, score in ((0, 0.5), (10, 0.9), (40, 0.1))]
    assert [one.x for one in thinned([*pool, Candidate(1, "spur", 0, 0, 0, 9, 9, 0.3)], 20)] == [10, 0, 40]


# Plans


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared folder with one training defect: a cross whose middle is missing, with and without its clean image."""
    folder = tmp_path / "prepared"
    (folder / "train/boxed").mkdir(parents=True)
    patch = cross()[36:164, 36:164].copy()
    patch[54:74, 54:74] = 60
    save_png(folder / "train/boxed/gap_0000.png", patch)
    (folder / "train/boxed/gap_0000.txt").write_text("0 0.5 0.5 0.15625 0.15625\n")
    row = {"file": "train/boxed/gap_0000.png", "left": 90, "top": 90, "right": 110, "bottom": 110, "scale": 1}
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerow(row)
    return folder


def plan_of(folder: Path, image: np.ndarray, tmp_path: Path, **changes) -> dict:
    (tmp_path / "clean").mkdir()
    save_png(tmp_path / "clean/a.png", image)
    values = {"counts": {"gap": 1}, "rank": "surroundings", "queries": str(folder), "edge_margin": 0}
    config = PlanConfig(**(values | changes))
    request = PlacementRequest([tmp_path / "clean/a.png"], {"gap": 0}, config, GEOMETRY, 0)

    def score(windows: np.ndarray, class_id: int) -> np.ndarray:
        raise AssertionError("the networks are not asked")

    return json.loads((make_plan(request, score, tmp_path / "plan") / "plan.json").read_text())


def test_the_place_is_where_the_surroundings_are_and_has_the_box_of_the_query(prepared, tmp_path):
    found = plan_of(prepared, cross(at=(70, 130)), tmp_path)
    (place,) = found["places"]
    assert place["box"] == [20, 20] and place["score"] > 0.9
    assert np.abs(np.array(place["center" if "center" in place else "centre"]) - (70, 130)).max() <= 3


def test_the_place_that_the_query_was_taken_from_is_none(prepared, tmp_path):
    found = plan_of(prepared, cross(), tmp_path, rotate90=False, flip=False, spacing=0)
    assert all(place["score"] < 0.9 for place in found["places"])


def test_with_the_clean_image_the_inside_of_the_box_counts(prepared, tmp_path):
    (prepared / "train/twins").mkdir()
    save_png(prepared / "train/twins/gap_0000.png", cross()[36:164, 36:164])
    broken = cross(at=(70, 130))
    broken[120:140, 60:80] = 60
    whole = cross(at=(70, 130))
    for number, (image, wanted) in enumerate(((broken, False), (whole, True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (place,) = plan_of(prepared, image, folder)["places"]
        assert (place["score"] > 0.9) == wanted


def test_folders_and_classes_without_defects_are_named(prepared, tmp_path):
    with pytest.raises(UserError, match="index.csv cannot be read"):
        plan_of(tmp_path, cross(), tmp_path)
    with pytest.raises(ValueError, match="queries: got null"):
        PlanConfig(rank="surroundings")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("scale", "scal", "gap_0000.png: scale: "),
        (",90,", ",nan,", "left: Input should be a finite number"),
        (",90,", f",{'x' * 500},", "left: Input should be a valid number"),
    ],
)
def test_an_index_that_was_changed_is_a_sentence(prepared, tmp_path, old: str, new: str, told: str):
    text = (prepared / "index.csv").read_text()
    assert old in text
    (prepared / "index.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        plan_of(prepared, cross(), tmp_path)
    assert told in str(caught.value) and len(str(caught.value)) < 500


def test_a_patch_without_a_box_is_named(prepared, tmp_path):
    for number, text in enumerate(("", "0 0.5 0.5")):
        (prepared / "train/boxed/gap_0000.txt").write_text(text)
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UserError, match=r"gap_0000\.txt: got no box"):
            plan_of(prepared, cross(), tmp_path / str(number))


def test_an_image_too_small_for_a_context_is_named_and_the_others_serve(prepared, tmp_path, caplog):
    (tmp_path / "clean").mkdir()
    for name, image in (("large", cross(at=(70, 130))), ("small", cross()[70:130, 70:130])):
        save_png(tmp_path / f"clean/{name}.png", image)  # contexts are 64 px wide at least
    config = PlanConfig(counts={"gap": 3}, rank="surroundings", queries=str(prepared), edge_margin=0)
    paths = [tmp_path / "clean/large.png", tmp_path / "clean/small.png"]
    request = PlacementRequest(paths, {"gap": 0}, config, GEOMETRY, 0)
    folder = make_plan(request, lambda windows, class_id: windows, tmp_path / "plan")
    assert [path.name for path in folder.glob("*.txt")] == ["large.txt"]
    assert "small.png" in caplog.text and "it gets no defect" in caplog.text
    assert "large.png" not in caplog.text
    with pytest.raises(UserError, match="small.png"):
        make_plan(replace(request, pictures=paths[1:]), lambda windows, class_id: windows, tmp_path / "other")


def test_mirror_images_both_ways_are_a_half_turn():
    assert allowed_turns(False, False) == [(0, False)]
    assert allowed_turns(False, True) == [(0, False), (0, True), (2, False), (2, True)]
    assert allowed_turns(True, False) == [(0, False), (1, False), (2, False), (3, False)]
    assert len(set(allowed_turns(True, True))) == 8


def test_a_box_at_the_edge_is_moved_to_the_edge():
    chip = Query(Surround(np.zeros((64, 128, 3), np.uint8), (50, 0, 78, 20), 1.0), 0, (300, 10), (28, 20))
    picture = Picture(0, Path("a.png"), np.zeros((200, 400, 3), np.uint8), (400, 200))
    assert snapped((90, 14.5), TurnedQuery(chip, 0, False), picture) == (90, 10)
    assert snapped((90, 186), TurnedQuery(chip, 2, False), picture) == (90, 190)
    assert snapped((13, 77), TurnedQuery(chip, 1, False), picture) == (10, 77)
    assert snapped((391, 77), TurnedQuery(chip, 3, False), picture) == (390, 77)
    inside = Query(Surround(np.zeros((128, 128, 3), np.uint8), (50, 54, 78, 74), 1.0), 0, (300, 99), (28, 20))
    assert snapped((13, 14), TurnedQuery(inside, 0, False), picture) == (13, 14)
