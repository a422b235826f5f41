"""Polygons around masks of known shapes: areas, boxes, and which pixel centers they contain."""

import numpy as np
import pytest
from scipy import ndimage

from utils.export_dataset.outlines import outline


def filled(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: which pixel centers a polygon contains, by the number of its sides to their left."""
    start, end = corners, np.roll(corners, -1, axis=0)
    swap = start[:, 1] > end[:, 1]  # so that both ways over a bridge give the same number
    start, end = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
    y = np.arange(shape[0])[:, None] + 0.5
    crossed = (start[:, 1] <= y) & (y < end[:, 1])  # (H, sides)
    rise = np.where(start[:, 1] == end[:, 1], 1, end[:, 1] - start[:, 1])
    x = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    left = crossed[:, None] & (x[:, None] < np.arange(shape[1])[:, None] + 0.5)  # (H, W, sides)
    return left.sum(2) % 2 == 1


def area(corners: np.ndarray) -> float:
    """Of a closed polygon, by the shoelace formula."""
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def disk(radius: float, hole: float = 0) -> np.ndarray:
    y, x = np.mgrid[-20:21, -20:21]
    return (np.hypot(x, y) <= radius) & (np.hypot(x, y) >= hole)


def test_a_rectangle_has_eight_corners_and_the_box_of_its_mask():
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    corners = outline(mask)
    assert len(corners) == 8  # each corner is cut at the middle of its pixel's sides
    assert corners.min(0).tolist() == [3, 2] and corners.max(0).tolist() == [9, 5]
    assert area(corners) == 6 * 3 - 4 / 8


def test_one_pixel_is_a_diamond():
    mask = np.zeros((5, 5), bool)
    mask[0, 4] = True
    assert sorted(outline(mask).tolist()) == [[4, 0.5], [4.5, 0], [4.5, 1], [5, 0.5]]


def test_a_hole_stays_open():
    ring = disk(15, 6)
    corners = outline(ring)
    assert np.array_equal(filled(corners, ring.shape), ring)
    solid = disk(15)
    assert area(outline(solid)) - area(corners) == pytest.approx((solid & ~ring).sum(), rel=0.05)


def test_several_components_are_one_polygon():
    mask = np.zeros((30, 40), bool)
    mask[2:6, 3:9] = mask[20:28, 30:38] = mask[10:12, 2:4] = True
    corners = outline(mask)
    assert np.array_equal(filled(corners, mask.shape), mask)
    assert area(corners) == 4 * 6 + 8 * 8 + 2 * 2 - 3 * 4 / 8


def test_diagonal_neighbors_lines_and_the_whole_image():
    for mask in (np.eye(6, dtype=bool), np.ones((1, 7), bool), np.ones((7, 1), bool), np.ones((3, 4), bool)):
        assert np.array_equal(filled(outline(mask), mask.shape), mask)
    assert outline(np.zeros((4, 4), bool)).shape == (0, 2)


@pytest.mark.parametrize("seed", range(8))
def test_random_masks_come_back(seed: int):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.standard_normal((48, 64)), rng.uniform(0, 2)) > 0.02
    corners = outline(mask)
    assert np.array_equal(filled(corners, mask.shape), mask)
    assert len(corners) < 4 * mask.sum()
