"""Places requested by numbers: counts, regions, and the plan's folder."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from generation.geometry import Geometry
from generation.placement.candidates import (
    SPARE,
    Wanted,
)
from generation.placement.plan import make_plan, wanted_counts
from generation.placement.request import PlacementRequest
from utils.errors import UserError
from utils.images import save_png
from utils.labels import read_annotations
from utils.schema.places import PlanConfig

CLASSES = {"open_circuit": 0, "short": 1}
GEOMETRY = Geometry("native", 1.0, 64, 32)


def plan_of(**changes) -> PlanConfig:
    values = {"counts": {"open_circuit": 4}, "spacing": 20, "size": [8, 16], "edge_margin": 2, "stride": 4}
    return PlanConfig(**(values | changes))


def brightness(windows: np.ndarray, class_id: int) -> np.ndarray:
    """A score that likes a bright middle for class 0 and a dark one for class 1."""
    middle = windows[:, 12:20, 12:20].mean(axis=(1, 2, 3))
    return middle if class_id == 0 else -middle


def no_score(windows: np.ndarray, class_id: int) -> np.ndarray:
    raise AssertionError("nothing was to be scored")


@pytest.fixture
def boards(tmp_path) -> list[Path]:
    """Three black images of 160x128 px; the second has a white square at x 100..123, y 40..63."""
    (tmp_path / "clean").mkdir()
    paths = []
    for number in range(3):
        pixels = np.zeros((128, 160, 3), dtype=np.uint8)
        if number == 1:
            pixels[40:64, 100:124] = 255
        paths.append(tmp_path / "clean" / f"board_{number}.png")
        save_png(paths[-1], pixels)
    return paths


def plan(
    boards: list[Path], config: PlanConfig, score=brightness, out=None, overwrite=False, **request
) -> dict:
    """The content of plan.json of a plan made beside the boards."""
    wanted = PlacementRequest(boards, CLASSES, config, **({"geometry": GEOMETRY, "seed": 0} | request))
    folder = make_plan(wanted, score, out or boards[0].parent.parent / "plan", overwrite)
    return json.loads((folder / "plan.json").read_text())


def centers(found: dict, picture: str) -> list[tuple[int, int]]:
    return [tuple(one["centre"]) for one in found["places"] if one["picture"] == picture]


# Plans


def test_ranked_places_lie_where_the_score_is_high(boards):
    found = plan(boards, plan_of(counts={"open_circuit": 1}, keep=0.01))
    (place,) = found["places"]
    assert place["picture"] == "board_1.png" and place["score"] > 100
    x, y = place["centre"]
    assert 96 <= x <= 128 and 36 <= y <= 68
    # SPARE / 0.01 candidates for the wanted place, shared by 3 images: 167 of each
    assert found["classes"]["open_circuit"] == {
        "asked": 1, "found": 1, "possible": 3 * 40 * 32, "looked_at": 3 * 167, "kept": 6,
    }  # fmt: skip


def test_uniform_places_need_no_score_and_fall_anywhere(boards):
    found = plan(boards, plan_of(rank="uniform", counts={"open_circuit": 6, "short": 3}), no_score)
    assert [len(centers(found, f"board_{n}.png")) for n in range(3)] == [3, 3, 3]
    assert len({tuple(one["centre"]) for one in found["places"]}) == 9


def test_label_files_say_what_the_plan_says(boards, tmp_path):
    found = plan(boards, plan_of(rank="uniform", counts={"Open-Circuit": 3, "SHORT": 3}), no_score)
    seen = []
    for number in range(3):
        for one in read_annotations(tmp_path / "plan" / f"board_{number}.txt", CLASSES):
            center = [math.floor(one.cx * 160), math.floor(one.cy * 128)]
            box = [round(one.w * 160), round(one.h * 128)]
            seen.append((f"board_{number}.png", one.class_name, center, box))
    said = [(one["picture"], one["class"], one["centre"], one["box"]) for one in found["places"]]
    assert seen == said and len(seen) == 6


def test_equal_seeds_give_equal_plans(boards, tmp_path):
    config = plan_of(counts={"open_circuit": 3, "short": 3}, keep=0.3)
    first = plan(boards, config, out=tmp_path / "a")
    assert plan(boards, config, out=tmp_path / "b") == first
    assert plan(boards, config, seed=1, out=tmp_path / "c")["places"] != first["places"]


def test_regions_of_interest_hold_the_centers(boards, tmp_path):
    mask = np.zeros((128, 160), dtype=np.uint8)
    mask[40:80, 60:100] = 255
    save_png(tmp_path / "roi.png", mask)
    found = plan(
        boards,
        plan_of(
            roi={"Open Circuit": str(tmp_path / "roi.png")}, counts={"short": 3, "opencircuit": 6}, spacing=4
        ),
    )
    opens = [one["centre"] for one in found["places"] if one["class"] == "open_circuit"]
    assert len(opens) == 6 and all(60 <= x < 100 and 40 <= y < 80 for x, y in opens)
    shorts = [one["centre"] for one in found["places"] if one["class"] == "short"]
    assert len(shorts) == 3 and not all(60 <= x < 100 and 40 <= y < 80 for x, y in shorts)


def test_regions_of_their_own_for_each_picture(boards, tmp_path):
    (tmp_path / "roi").mkdir()
    for number in range(3):
        mask = np.zeros((128, 160, 3), dtype=np.uint8)
        mask[:, 40 * number : 40 * number + 60] = 255 if number else 0  # nothing on the first image
        save_png(tmp_path / "roi" / f"board_{number}.png", mask)
    found = plan(boards, plan_of(roi=str(tmp_path / "roi"), rank="uniform"), no_score)
    assert centers(found, "board_0.png") == [] and not (tmp_path / "plan" / "board_0.txt").exists()
    assert all(40 <= x < 100 for x, _ in centers(found, "board_1.png"))
    assert all(80 <= x < 140 for x, _ in centers(found, "board_2.png"))
    assert len(found["places"]) == 4


def test_squashed_pictures_are_planned_in_their_new_size(boards, tmp_path):
    save_png(
        tmp_path / "roi.png", np.repeat(np.arange(160) >= 80, 128).reshape(160, 128).T.astype(np.uint8) * 255
    )
    squash = Geometry("squash", 1.0, 64, 32)
    config = plan_of(size=[4, 8], spacing=4, keep=1, roi=str(tmp_path / "roi.png"))
    plan(boards, config, geometry=squash)
    found = json.loads((tmp_path / "plan" / "plan.json").read_text())["places"]
    assert len(found) == 4 and all(
        32 <= one["centre"][0] <= 48 and 16 <= one["centre"][1] <= 48 for one in found
    )


def test_masks_that_do_not_fit_are_the_users_to_mend(boards, tmp_path):
    save_png(tmp_path / "roi.png", np.zeros((10, 20), dtype=np.uint8))
    with pytest.raises(UserError, match="20x10 px, but board_0.png is 160x128"):
        plan(boards, plan_of(roi=str(tmp_path / "roi.png")))
    with pytest.raises(UserError, match="no such file or folder"):
        plan(boards, plan_of(roi="nowhere.png"))
    with pytest.raises(UserError, match="class 'scratch' is unknown"):
        plan(boards, plan_of(roi={"scratch": str(tmp_path / "roi.png")}))
    with pytest.raises(UserError, match="no mask for 3 of 3 images"):
        plan(boards, plan_of(roi=str(tmp_path)))
    save_png(tmp_path / "roi.png", np.zeros((128, 160), dtype=np.uint8))
    with pytest.raises(UserError, match="no place found"):
        plan(boards, plan_of(roi=str(tmp_path / "roi.png")))


def test_too_few_places_are_reported_with_numbers(boards, caplog):
    with caplog.at_level(logging.WARNING, "generation.placement.plan"):
        found = plan(boards, plan_of(counts={"open_circuit": 50, "short": 2}, spacing=60, rank="uniform"))
    (record,) = caplog.records
    count = len([one for one in found["places"] if one["class"] == "open_circuit"])
    assert 3 <= count < 50
    assert f"open_circuit: {count} of 50 places found on 3 images" in record.getMessage()
    assert "short" not in record.getMessage().split("; for more")[0]


# Counts


def test_counts_are_matched_by_normalized_names():
    wanted = wanted_counts({"SHORT": 2, "Open Circuit": 3}, CLASSES)
    assert wanted == [Wanted("open_circuit", 0, 3), Wanted("short", 1, 2)]
    assert wanted_counts({"short": 2, "open_circuit": 0}, CLASSES) == [Wanted("short", 1, 2)]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"scratch": 1}, "'scratch' is unknown"),
        ({"short": 1, "Short": 2}, "given twice"),
        ({}, "no defect to place"),
        ({"short": 0}, "no defect to place"),
    ],
)
def test_counts_that_cannot_be_met(counts, message):
    with pytest.raises(UserError, match=message):
        wanted_counts(counts, CLASSES)


@pytest.mark.parametrize(
    "values",
    [
        {"counts": {"short": -1}},
        {"counts": {"short": 1.5}},
        {"size": [10]},
        {"size": [48, 24]},
        {"size": [0, 24]},
        {"keep": 0},
        {"keep": 1.1},
        {"stride": 0},
        {"per_image": 0},
        {"rank": "best"},
        {"roi": ""},
        {"spacing": "wide"},
        {"unknown": 1},
    ],
)
def test_the_schema_refuses(values):
    with pytest.raises(ValidationError):
        PlanConfig(**values)


def test_the_schema_reads_numbers_from_text_and_plans_nothing_by_default():
    config = PlanConfig(counts={"short": "3"}, keep="0.2", spacing="64")
    assert (config.counts, config.keep, config.spacing) == ({"short": 3}, 0.2, 64)
    assert PlanConfig().counts == {} and PlanConfig(**PlanConfig().plain()) == PlanConfig()


# The folder


def test_a_plan_is_used_again_with_edited_labels(boards, tmp_path):
    config = plan_of()
    first = plan(boards, config)
    files = sorted((tmp_path / "plan").glob("*.txt"))
    assert len(files) == len({one["picture"] for one in first["places"]})
    files[0].write_text("0 0.5 0.5 0.1 0.1\n")
    files[1].unlink()
    assert plan(boards, config, no_score) == first
    assert files[0].read_text() == "0 0.5 0.5 0.1 0.1\n" and files[1].exists()


def test_another_request_needs_another_folder_or_overwrite(boards, tmp_path):
    plan(boards, plan_of(rank="uniform"))
    for config, options, what in (
        (plan_of(), {}, "plan"),
        (plan_of(rank="uniform"), {"seed": 1}, "seed"),
        (plan_of(rank="uniform"), {"identity": {"weights": "abc"}}, "weights"),
    ):
        with pytest.raises(UserError, match=rf"another request \(what differs: {what}\)"):
            plan(boards, config, **options)
    save_png(boards[0], np.full((128, 160, 3), 9, dtype=np.uint8))
    with pytest.raises(UserError, match="what differs: pictures"):
        plan(boards, plan_of(rank="uniform"))
    config = plan_of(counts={"short": 1}, rank="uniform")
    found = plan(boards, config, overwrite=True)
    assert len(found["places"]) == 1 and len(list((tmp_path / "plan").glob("*.txt"))) == 1


def test_label_files_of_others_are_left_alone(boards, tmp_path):
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "board_0.txt").write_text("0 0.5 0.5\n")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds label files that no plan made"):
            plan(boards, plan_of(), overwrite=overwrite)
    (tmp_path / "plan" / "plan.json").write_text("[]")
    with pytest.raises(UserError, match="not a plan"):
        plan(boards, plan_of())


@pytest.mark.parametrize(
    "labels",
    [{"../evil": ["0 0.5 0.5"]}, {"/tmp/evil": []}, {"": []}, {"board_0": "0 0.5 0.5"}, {"board_0": [1]}, []],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_changed_plan_neither_writes_nor_deletes_elsewhere(boards, tmp_path, labels, overwrite):
    plan(boards, plan_of(rank="uniform"))
    path = tmp_path / "plan/plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))
    (tmp_path / "evil.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for config in (plan_of(rank="uniform"), plan_of(rank="uniform", spacing=21)):
        with pytest.raises(
            UserError, match=r"not a plan of this program \(labels.*: .*\); remove its folder"
        ):
            plan(boards, config, overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "evil.txt").read_text() == "mine"


def test_pictures_of_one_name_are_refused(boards, tmp_path):
    (tmp_path / "more").mkdir()
    save_png(tmp_path / "more" / "board_0.png", np.zeros((128, 160, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="board_0: several clean images"):
        plan([*boards, tmp_path / "more" / "board_0.png"], plan_of())


def test_many_candidates_are_sampled_and_scored_in_batches(boards):
    sizes = []

    def score(windows: np.ndarray, class_id: int) -> np.ndarray:
        sizes.append(len(windows))
        return brightness(windows, class_id)

    found = plan(boards, plan_of(counts={"short": 12}, keep=0.5, stride=1), score)
    looked = SPARE * 12 / 0.5
    assert found["classes"]["short"]["looked_at"] == looked == sum(sizes)
    assert max(sizes) <= 64 and found["classes"]["short"]["possible"] == 3 * 128 * 160
