"""A training defect brought onto the ground of its new place: moved and stretched by a little, so that the trace, the
hole or the edge that it lay on there lies on the one here.

A box says where a defect is to be to a pixel or two, and how large. A hole that is filled a pixel beside the hole
leaves a crescent of it, and a gap that is narrower than its trace leaves a bridge.
"""

import math

import numpy as np
from scipy import ndimage

from generation.exemplars.exemplar import Place
from generation.exemplars.ranking import Fit
from generation.placement.ground import light_between
from generation.placement.matching import sides_at_edge
from utils.shapes.boxes import Sides

MOVES = np.arange(-2, 2.25, 0.5)  # px that a defect may be moved along an axis
STRETCHES = np.arange(-0.2, 0.225, 0.05)  # by which it may be stretched along it, as a logarithm
COST_OF_MOVE, COST_OF_STRETCH = 0.01, 0.4  # of a px and of a stretch by e, in shares of another ground
ROUNDS = 2  # each looks along both axes
PIXELS = 400  # of the ground that are looked at


def registered(place: Place, fit: Fit) -> Sides:
    """The box (left, top, right, bottom) px of the window that a training defect is to fill: the place's, shifted as it
    fits, then moved and stretched along each axis so that the ground under the defect is most like its own.

    Nothing is moved at an edge of the image, and where the defect's own ground is not known.
    """
    (left, top, right, bottom), (dx, dy) = place.box, fit.shift
    box = left + dx, top + dy, right + dx, bottom + dy
    clean, side = fit.exemplar.clean, len(place.window)
    if clean.ground is None or not clean.ground.any() or any(sides_at_edge(place.box, side, side)):
        return box
    rows, columns = np.nonzero(clean.ground)
    looked = np.s_[:: math.ceil(len(rows) / PIXELS)]
    rows, columns = rows[looked], columns[looked]
    own = clean.pixels[rows, columns].astype(np.float32)
    moves, stretches = (grid.ravel() for grid in np.meshgrid(MOVES, STRETCHES, indexing="ij"))
    own_cost = COST_OF_MOVE * np.abs(moves) + COST_OF_STRETCH * np.abs(stretches)
    window = place.window.astype(np.float32)
    # where the pixels lie along each axis, -0.5 to 0.5 of the box
    at = [
        (pixels + 0.5 - clean.box[k]) / (clean.box[k + 2] - clean.box[k]) - 0.5
        for k, pixels in enumerate((columns, rows))
    ]
    sides = [[box[k], box[k + 2]] for k in (0, 1)]
    for _ in range(ROUNDS):
        for axis in (0, 1):
            low, high = box[axis], box[axis + 2]
            middles, lengths = (low + high) / 2 + moves, (high - low) * np.exp(stretches)
            along = middles[:, None] + at[axis] * lengths[:, None]
            first, last = sides[1 - axis]
            across = np.broadcast_to((first + last) / 2 + at[1 - axis] * (last - first), along.shape)
            x, y = (along, across) if axis == 0 else (across, along)
            best = int((_another(window, x - 0.5, y - 0.5, own, clean.contrast) + own_cost).argmin())
            sides[axis] = [middles[best] - lengths[best] / 2, middles[best] + lengths[best] / 2]
    (left, right), (top, bottom) = sides
    return float(left), float(top), float(right), float(bottom)


def _another(
    window: np.ndarray, x: np.ndarray, y: np.ndarray, own: np.ndarray, contrast: float
) -> np.ndarray:
    """How far what a window (S, S, 3) shows at n pixels is off what they are in the clean patch, `own` (n, 3), for each
    of t trials, `x` and `y` (t, n): means (t) of shares of the defect's `contrast`, 0 to 1."""
    where = np.stack([y, x])
    there = np.stack(
        [ndimage.map_coordinates(window[..., k], where, order=1, mode="nearest") for k in range(3)], axis=-1
    )
    off = there - own
    off -= light_between(off, contrast)
    return np.minimum(np.abs(off).max(axis=2) / contrast, 1).mean(axis=1)
