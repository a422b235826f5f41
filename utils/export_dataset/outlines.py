"""Polygons around masks, for YOLO's segmentation labels."""

from typing import cast

import numpy as np
from contourpy import FillType, contour_generator


def outline(mask: np.ndarray) -> np.ndarray:
    """One closed polygon (n, 2) of x, y in px around a mask (H, W) bool; empty for an empty mask.

    Pixel centers lie half a pixel from its sides: those of the mask are inside, all others outside, and its
    bounding box is the mask's. A line of the format has one polygon, so holes and further components are joined to it
    by bridges of zero width between nearest corners, as Ultralytics' converter from COCO does.
    """
    if not mask.any():
        return np.zeros((0, 2))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    padded = np.pad(window, 1).astype(float)  # so that every contour is closed
    filled = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
    polygons, offsets = cast(
        tuple[list[np.ndarray], list[np.ndarray]], filled
    )  # as this fill type gives them
    rings = [
        _corners(points[start : end - 1])  # the last point repeats the first
        for points, bounds in zip(polygons, offsets, strict=True)
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    joined = rings[0]
    for ring in rings[1:]:
        joined = _bridged(joined, ring)
    return joined + (columns[0] - 0.5, rows[0] - 0.5)  # centers of padded pixels -> edges of the image's


def _corners(ring: np.ndarray) -> np.ndarray:
    """A closed ring (n, 2) without the points that lie on the line between their neighbors."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _bridged(ring: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Both rings as one: along the first to the corner nearest to the other, around that one, and back."""
    distances = ((ring[:, None] - other[None]) ** 2).sum(-1)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    return np.concatenate([ring[: i + 1], other[j:], other[: j + 1], ring[i:]])
