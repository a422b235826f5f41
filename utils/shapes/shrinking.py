"""Shapes made smaller, without losing what is thin."""

import numpy as np
from scipy import ndimage

FAINT = 0.25  # of what a line of one px covers when it is shrunk, below which a pixel belongs to no shape
EIGHT = np.ones((3, 3), dtype=bool)


def covered(coverage: np.ndarray, scale: float, parts: int) -> np.ndarray:
    """The pixels (h, w) bool of a shape of `parts` connected parts that was shrunk by `scale`; `coverage` (h, w) tells
    how much of each pixel it fills.

    They are those that it fills most, as many as its area. Where that tears it, as it does a line thinner than a
    pixel, its faintest pixels go one by one instead, until the area is right or what is left is a pixel thin.
    """
    area = round(float(coverage.sum()))
    order = np.argsort(-coverage, axis=None, kind="stable")
    found = coverage > 0.5
    found.ravel()[order[:area]] = True
    torn = ndimage.label(found, EIGHT)[1] > parts or not found.any()
    return _thinned(coverage, coverage > FAINT / scale, area) if torn else found


def _thinned(coverage: np.ndarray, shape: np.ndarray, area: int) -> np.ndarray:
    """The shape (h, w) bool without its faintest pixels, but for its ends and those that hold it together."""
    left = np.pad(shape, 1)
    rows, columns = np.nonzero(shape)
    order = np.argsort(coverage[rows, columns], kind="stable")
    pixels = list(zip(rows[order], columns[order], strict=True))
    surplus, before = len(pixels) - area, 0
    while surplus > 0 and len(pixels) != before:
        before, rest = len(pixels), []
        for y, x in pixels:
            around = left[y : y + 3, x : x + 3]
            if surplus > 0 and _is_spare(around):
                around[1, 1] = False
                surplus -= 1
            else:
                rest.append((y, x))
        pixels = rest
    return left[1:-1, 1:-1]


def _is_spare(around: np.ndarray) -> bool:
    """Whether the middle of 3 x 3 pixels can go: it is at the rim, no end, and the others are connected without it."""
    others = around.copy()
    others[1, 1] = False
    at_rim = not (around[0, 1] and around[1, 0] and around[1, 2] and around[2, 1])
    return at_rim and others.sum() > 1 and ndimage.label(others, EIGHT)[1] == 1
