"""The ground under a defect: whether what a training defect changes is at another place as it was at its own.

A gap needs a trace under it, copper bare board. The likeness of all that surrounds a box says little about the few
pixels that a thin defect changes; here they alone count.
"""

from dataclasses import replace

import numpy as np
from PIL import Image
from scipy import ndimage

from generation.placement.matching import Surround
from generation.quality.checks import visible_pixels
from utils.shapes.boxes import pixels_in
from utils.shapes.changed import sure_change

BESIDE = 3  # px around what a defect changes that count with it
SLACK = 2  # px that a place may be off
RELIT = 24.0  # gray levels by which the light of two places may differ at most,
RELIT_SHARE = 0.25  # and of the defect's contrast: with ANOTHER below 1, so that copper is no bare board
ANOTHER = 0.5  # of the defect's contrast, from which on the ground is another
COST = 1.0  # likeness that ground which is another all over costs; a tenth of it is much: a trace that crosses copper


def with_change(surround: Surround, patch: np.ndarray) -> Surround:
    """The clean patch of a training defect with its ground: what the defect in `patch`, of the same size, changes of it
    in its box, and BESIDE px around that."""
    inside = np.zeros(patch.shape[:2], bool)
    inside[pixels_in(surround.box)] = True
    difference = np.where(inside, sure_change(patch, surround.pixels, inside), 0)
    changed = visible_pixels(difference)
    if not changed.any():
        return surround
    ground = ndimage.binary_dilation(changed, iterations=BESIDE)
    return replace(surround, ground=ground, contrast=float(np.median(difference[changed])))


def other_ground(surround: Surround, pixels: np.ndarray, middle: tuple[float, float]) -> float:
    """The share, 0 to 1, of what a training defect changes, and of what is just beside it, that is another at a place
    of an image (H, W, 3) uint8: off the defect's clean patch by more than half of the defect's contrast.

    `middle` (x, y) px is where the middle of its box would be, SLACK px of the patch more or less. 0 where the clean
    patch is not known.
    """
    near = surround.ground
    if near is None:
        return 0.0
    rows, columns = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in (rows, columns))
    x, y = ((surround.box[k] + surround.box[k + 2]) / 2 for k in (0, 1))
    scale, (x0, y0) = surround.scale, middle
    sides = (
        x0 + (left - SLACK - x) * scale,
        y0 + (top - SLACK - y) * scale,
        x0 + (right + SLACK - x) * scale,
        y0 + (bottom + SLACK - y) * scale,
    )
    place = _cut(pixels, sides, (right - left + 2 * SLACK, bottom - top + 2 * SLACK))
    own = surround.pixels[top:bottom, left:right].astype(np.float32)
    return float(shares_of_another(place, own, near[top:bottom, left:right], surround.contrast).min())


def shares_of_another(
    place: np.ndarray, own: np.ndarray, near: np.ndarray, contrast: float, reach: int = 0
) -> np.ndarray:
    """The share of the pixels `near` (h, w) bool of a clean patch `own` (h, w, 3), 0 to 255, that is another in `place`
    (h + m, w + n, 3), for each position of the patch there: (m + 1, n + 1). `contrast` is the defect's; a pixel may be
    like any of those within `reach` px of its place, as edges are off where a patch was stretched."""
    here, there = own[near], _windows(place, near)
    light = light_between(there - here, contrast)
    if not reach:
        off = np.abs(there - here - light)
    else:
        sides = (2 * reach + 1, 2 * reach + 1, 1)
        low, high = (
            _windows(of_side(place, sides), near) - light
            for of_side in (ndimage.minimum_filter, ndimage.maximum_filter)
        )
        off = np.maximum(low - here, here - high)
    return np.asarray((off.max(axis=3) > ANOTHER * contrast).mean(axis=2))


def light_between(off: np.ndarray, contrast: float) -> np.ndarray:
    """The difference in light between two places, (..., 1, 3) gray levels, of the differences `off` (..., n, 3) of
    their pixels; no more than those of one kind of ground may have for a defect of a contrast."""
    most = min(RELIT, RELIT_SHARE * contrast)
    return np.asarray(np.clip(np.median(off, axis=-2, keepdims=True), -most, most))


def _windows(place: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The n pixels `near` (h, w) bool at each position in `place` (h + m, w + n, 3): float32 (m + 1, n + 1, n, 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(place, near.shape, axis=(0, 1))
    return np.asarray(windows.transpose(0, 1, 3, 4, 2)[:, :, near], np.float32)


def _cut(pixels: np.ndarray, sides: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """What lies between the sides (left, top, right, bottom) of an image, shrunk to `size` (width, height); the image's
    edge goes on beyond it."""
    height, width = pixels.shape[:2]
    left, top = (int(np.floor(side)) for side in sides[:2])
    right, bottom = (int(np.ceil(side)) for side in sides[2:])
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    part = Image.fromarray(pixels[rows[:, None], columns])
    x0, y0, x1, y1 = sides
    return np.asarray(
        part.resize(size, Image.Resampling.BICUBIC, box=(x0 - left, y0 - top, x1 - left, y1 - top))
    )
