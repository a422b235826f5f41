"""Candidates for places: the grid, their boxes, ranking and choice."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.geometry import Geometry
from generation.placement.candidates import (
    Candidate,
    Picture,
    Wanted,
    best,
    candidates,
    choose,
    grid_centers,
    survey,
    window_of,
)
from generation.placement.request import PlacementRequest
from utils.errors import UserError
from utils.schema.places import PlanConfig

CLASSES = {"open_circuit": 0, "short": 1}
GEOMETRY = Geometry("native", 1.0, 64, 32)


def requested(config: PlanConfig, geometry: Geometry = GEOMETRY, pictures=()) -> PlacementRequest:
    return PlacementRequest(pictures, {"short": 1}, config, geometry, 0)


def plan_of(**changes) -> PlanConfig:
    return PlanConfig(**({"edge_margin": 2, "stride": 4} | changes))


def test_grid_has_one_point_per_cell_of_the_allowed_region():
    points = grid_centers((40, 24), 8, None, np.random.default_rng(0))
    assert sorted(map(tuple, (points // 8).tolist())) == list(itertools.product(range(5), range(3)))
    allowed = np.zeros((24, 40), dtype=bool)
    allowed[8:16, 16:32] = True
    points = grid_centers((40, 24), 8, allowed, np.random.default_rng(0))
    assert sorted(map(tuple, (points // 8).tolist())) == [(2, 1), (3, 1)]


def test_boxes_keep_the_margin_and_windows_lie_inside_and_are_centered():
    picture = Picture(0, Path("x.png"), np.zeros((96, 128, 3), dtype=np.uint8), (128, 96))
    points = grid_centers(picture.size, 1, None, np.random.default_rng(0))
    config = plan_of(size=[8, 40], edge_margin=6)
    found = candidates(
        picture, Wanted("short", 1, 1), points, requested(config), 10**6, np.random.default_rng(1)
    )
    assert len(found) > 1000
    assert {value for one in found for value in (one.w, one.h)} == set(range(8, 41))
    for one in found:
        for center, box, side in ((one.x, one.w, 128), (one.y, one.h, 96)):
            assert center + 0.5 - box / 2 >= 6 and center + 0.5 + box / 2 <= side - 6
        assert window_of(one, picture.size, GEOMETRY) == (one.x - 16, one.y - 16, 32)
    assert min(one.x for one in found) == 16 and max(one.y for one in found) == 79  # the window's limits


def test_boxes_are_small_as_often_as_large():
    picture = Picture(0, Path("x.png"), np.zeros((400, 400, 3), dtype=np.uint8), (400, 400))
    points = grid_centers(picture.size, 2, None, np.random.default_rng(0))
    config = plan_of(size=[16, 64], edge_margin=0)
    found = candidates(
        picture, Wanted("short", 1, 1), points, requested(config), 4000, np.random.default_rng(1)
    )
    assert len(found) == 4000
    widths = np.array([one.w for one in found])
    assert np.mean(widths < 32) == pytest.approx(0.5, abs=0.03)  # 16 to 32 is half of the way on a log scale


def test_auto_scale_cuts_larger_windows_around_larger_boxes():
    picture = Picture(0, Path("x.png"), np.zeros((256, 256, 3), dtype=np.uint8), (256, 256))
    auto = Geometry("native", "auto", 64, 32)
    box = Candidate(0, "short", 1, 128, 128, 48, 20)  # 48 px are three quarters of a 64 px window
    assert window_of(box, picture.size, auto) == (96, 96, 64)
    with pytest.raises(UserError, match=r"plan.size: a box of \d+x\d+ px on x.png: .*needs"):
        candidates(
            picture,
            Wanted("short", 1, 1),
            np.array([[128, 128]]),
            requested(plan_of(size=[200, 200]), auto),
            1,
            np.random.default_rng(0),
        )


def test_best_keeps_the_highest_scores():
    pool = [Candidate(0, "short", 1, x, 0, 8, 8, score) for x, score in enumerate([0.1, 0.9, 0.5, 0.9, 0.2])]
    assert [one.x for one in best(pool, 0.5)] == [1, 3, 2]
    assert [one.x for one in best(pool, 0.01)] == [1] and best([], 0.5) == []


def row(class_name: str, picture: int, count: int) -> list[Candidate]:
    """Candidates 10 px apart on a line of an image."""
    return [Candidate(picture, class_name, CLASSES[class_name], 10 * k, 0, 8, 8) for k in range(count)]


def test_earlier_turns_are_chosen_first():
    pool = [Candidate(n % 3, "short", 1, 40 * n, 0, 8, 8, model=n, turn=n // 6) for n in range(18)]
    found = choose({"short": pool}, [Wanted("short", 1, 6)], 10, None, np.random.default_rng(0))
    assert sorted(one.model for one in found) == list(range(6))


def test_of_many_images_those_with_early_turns_are_taken_and_poor_places_last():
    pool = [Candidate(n, "short", 1, 40, 0, 8, 8, model=n % 5, turn=n // 5) for n in range(20)]
    pool += [Candidate(20 + n, "short", 1, 40, 0, 8, 8, model=9, is_poor=True) for n in range(20)]
    for count, pictures in ((5, range(5)), (10, range(10)), (20, range(20))):
        found = choose({"short": pool}, [Wanted("short", 1, count)], 10, None, np.random.default_rng(0))
        assert sorted(one.picture for one in found) == list(pictures)
    found = choose({"short": pool}, [Wanted("short", 1, 22)], 10, None, np.random.default_rng(0))
    assert sum(one.is_poor for one in found) == 2


def test_a_poor_place_waits_although_its_image_has_the_fewest():
    pool = row("short", 0, 3) + [Candidate(1, "short", 1, 0, 0, 8, 8, is_poor=True)]
    found = choose({"short": pool}, [Wanted("short", 1, 3)], 5, None, np.random.default_rng(0))
    assert [one.picture for one in found] == [0, 0, 0]


def test_places_are_shared_fairly_and_keep_their_distance():
    pools = {
        "open_circuit": [one for picture in range(4) for one in row("open_circuit", picture, 40)],
        "short": [one for picture in range(4) for one in row("short", picture, 40)],
    }
    wanted = [Wanted("open_circuit", 0, 10), Wanted("short", 1, 4)]
    chosen = choose(pools, wanted, 30, None, np.random.default_rng(0))
    opens = [sum(one.picture == p and one.class_name == "open_circuit" for one in chosen) for p in range(4)]
    assert sorted(opens) == [2, 2, 3, 3] and len(chosen) == 14
    assert [sum(one.picture == p and one.class_name == "short" for one in chosen) for p in range(4)] == [
        1
    ] * 4
    for a, b in itertools.combinations(chosen, 2):
        assert a.picture != b.picture or math.dist((a.x, a.y), (b.x, b.y)) >= 30


def test_a_picture_without_candidates_leaves_its_share_to_the_others():
    chosen = choose(
        {"short": row("short", 2, 40)}, [Wanted("short", 1, 5)], 30, None, np.random.default_rng(0)
    )
    assert [one.picture for one in chosen] == [2] * 5


def test_per_image_and_spacing_are_limits():
    pools = {"short": [*row("short", 0, 40), *row("short", 1, 40)]}
    wanted = [Wanted("short", 1, 9)]
    assert len(choose(pools, wanted, 30, 3, np.random.default_rng(0))) == 6
    assert len(choose(pools, wanted, 1000, None, np.random.default_rng(0))) == 2


def test_scarce_room_is_shared_among_the_classes():
    pools = {name: row(name, 0, 40) for name in CLASSES}
    wanted = [Wanted("open_circuit", 0, 30), Wanted("short", 1, 30)]
    chosen = choose(pools, wanted, 0, 6, np.random.default_rng(0))
    assert sorted(one.class_name for one in chosen) == ["open_circuit"] * 3 + ["short"] * 3


def test_an_image_too_small_for_a_context_is_named_and_the_others_serve(tmp_path: Path, caplog):
    paths = [tmp_path / "large.png", tmp_path / "small.png"]
    for path, side in zip(paths, (128, 40), strict=True):
        Image.new("RGB", (side, side)).save(path)
    wanted, config = [Wanted("short", 1, 3)], plan_of(size=[8, 8], rank="uniform")
    pools, _ = survey(requested(config, pictures=paths), wanted, lambda class_id, picture: None, None)
    assert {one.picture for one in pools["short"]} == {0}
    assert "small.png" in caplog.text and "large.png" not in caplog.text
    with pytest.raises(UserError, match="small.png"):
        survey(requested(config, pictures=paths[1:]), wanted, lambda class_id, picture: None, None)
