"""Tiles of images, detections merged from tiles, and the order of draws."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.detectors.draws import batches
from evaluation.detectors.interface import Detections, Example, TrainingTask
from evaluation.detectors.tiles import grid, merged, tiles


def image(height: int, width: int) -> np.ndarray:
    """Every pixel tells its column and row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], axis=2).astype(np.uint8)


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_a_grid_covers_the_image_evenly():
    assert grid((100, 100), 100, 20) == [(0, 0)]
    assert grid((60, 100), 100, 20) == [(0, 0)]
    assert grid((100, 180), 100, 20) == [(0, 0), (80, 0)]
    assert grid((100, 181), 100, 20) == [(0, 0), (40, 0), (81, 0)]
    assert grid((120, 120), 100, 0) == [(0, 0), (20, 0), (0, 20), (20, 20)]


def test_boxes_cut_by_an_edge_stay_if_half_of_them_is_to_see():
    # Left tile 0..100, right tile 80..180
    given = boxes([90, 10, 110, 20], [95, 30, 115, 40], [10, 50, 30, 60])
    left, right = tiles(image(100, 180), given, np.array([0, 1, 2]), 100, 20)
    assert left.boxes.tolist() == [[90, 10, 100, 20], [10, 50, 30, 60]] and left.classes.tolist() == [0, 2]
    assert right.boxes.tolist() == [[10, 10, 30, 20], [15, 30, 35, 40]] and right.classes.tolist() == [0, 1]
    assert right.image.shape == (100, 100, 3) and right.image[0, 0].tolist() == [80, 0, 80]


def test_a_small_image_is_filled_up():
    (one,) = tiles(image(30, 50), boxes([1, 2, 3, 4]), np.array([0]), 64)
    assert one.image.shape == (64, 64, 3) and one.boxes.tolist() == [[1, 2, 3, 4]]
    assert one.image[63, 63].tolist() == [49, 29, 78]


def test_training_tiles_show_their_boxes():
    rng = np.random.default_rng(0)
    given = boxes([5, 5, 25, 15], [150, 90, 170, 110])
    for _ in range(20):
        found = tiles(image(120, 200), given, np.array([3, 4]), 64, rng=rng)
        for one, original, kind in zip(found, given, (3, 4), strict=True):
            (place,) = np.flatnonzero(one.classes == kind)
            corner = one.image[0, 0, :2].astype(np.float32)
            assert np.array_equal(one.boxes[place] + np.tile(corner, 2), original)
    (clean,) = tiles(image(120, 200), boxes(), np.zeros(0, np.int64), 64, rng=rng)
    assert clean.image.shape == (64, 64, 3) and clean.boxes.shape == (0, 4)


def found(rows: np.ndarray, scores: list[float], classes: list[int]) -> Detections:
    return Detections(rows, np.array(scores, np.float32), np.array(classes, np.int64))


def test_one_defect_seen_in_two_tiles_counts_once():
    corners = [(0, 0), (80, 0)]
    whole, cut = found(boxes([5, 10, 30, 20]), [0.5], [0]), found(boxes([85, 10, 100, 20]), [0.9], [0])
    once = merged([cut, whole], corners, 100)
    assert once.boxes.tolist() == [[85, 10, 110, 20]] and once.scores.tolist() == [0.5]
    other = found(boxes([5, 10, 30, 20]), [0.5], [1])
    assert len(merged([cut, other], corners, 100).scores) == 2
    nothing = found(boxes(), [], [])
    assert len(merged([nothing, nothing], corners, 100).scores) == 0


def task(real: int, synthetic: int, share: float) -> TrainingTask:
    one = Example(image(8, 8), boxes(), np.zeros(0, np.int64))
    return TrainingTask([one] * real, [one] * synthetic, ("a",), share, 10, 8, 0, 8, Path("unused"))


@pytest.mark.parametrize(
    ("real", "synthetic", "share", "wanted"),
    [(5, 20, 0.5, 40), (5, 20, 0.3, 24), (5, 0, 0.5, 80), (0, 9, 1.0, 0)],
)
def test_the_share_of_real_images_is_kept(real, synthetic, share, wanted):
    stream = batches(task(real, synthetic, share))
    drawn = np.concatenate([next(stream) for _ in range(10)])
    assert len(drawn) == 80 and (drawn < real).sum() == wanted
    counts = np.bincount(drawn, minlength=real + synthetic)
    for kind in (counts[:real], counts[real:]):  # all of a kind come up equally often
        assert not len(kind) or kind.max() - kind.min() <= 1
