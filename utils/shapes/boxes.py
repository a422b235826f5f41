"""Boxes in px, and the pixels in them."""

import math
from collections.abc import Sequence

import numpy as np

Sides = tuple[float, float, float, float]  # left, top, right, bottom


def pixels_in(box: Sequence[float], reach: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box (left, top, right, bottom) touches, and of `reach` px around it; the
    image's edge cuts them off."""
    left, top, right, bottom = (*map(math.floor, box[:2]), *map(math.ceil, box[2:]))
    return (
        slice(max(top - reach, 0), max(bottom + reach, 0)),
        slice(max(left - reach, 0), max(right + reach, 0)),
    )


def turned(
    box: Sequence[float], planes: Sequence[np.ndarray], quarters: int, mirrored: bool
) -> tuple[Sides, list[np.ndarray]]:
    """A box (left, top, right, bottom) in px of `planes` (h, w, ...), which are all of one size, and these: turned by
    quarters counterclockwise, then mirrored left to right."""
    left, top, right, bottom = box
    found = list(planes)
    for _ in range(quarters % 4):
        width = found[0].shape[1]
        left, top, right, bottom = top, width - right, bottom, width - left
        found = [np.rot90(plane) for plane in found]
    if mirrored:
        width = found[0].shape[1]
        left, right = width - right, width - left
        found = [plane[:, ::-1] for plane in found]
    return (left, top, right, bottom), found
