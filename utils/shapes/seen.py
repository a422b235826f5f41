"""The shape of a defect of which only the box is known: what in the box looks like nothing around it."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from utils.shapes.boxes import pixels_in
from utils.shapes.solid import hull_of, solid

RING = 16  # px around a box that tell what is usual
SMOOTH = 0.7  # px of a Gaussian before looks are compared
ALIKE = 0.02  # of the ring's pixels that a pixel must look like
USUAL = 0.98  # of the ring's pixels that do
LEAST = 6.0  # gray levels off them from which on a pixel stands out
FEWEST = 64  # px of a ring that tells anything
SPECK = 0.1  # of the largest part, from which on another part belongs to the shape
GAP = 1  # px by which parts are grown and shrunk again, so that near ones join
SPAN = 0.5  # of the box's width and height that a shape has
OFF_CENTER = 0.15  # of a side, that the middle of a shape may be off the box's
LINE_SPAN = 0.9  # of the box's width and height that a line has, which runs from corner to corner
LINE_WIDTH, LINE_BEND = 1 / 15, 0.15  # of its length: its mean width, and that of its convex hull
EIGHT = np.ones((3, 3), bool)


def seen_shape(patch: np.ndarray, boxes: Sequence[Sequence[float]]) -> np.ndarray | None:
    """The pixels (h, w) bool of a patch (h, w, 3) uint8 in the first of the `boxes` (left, top, right, bottom) px that
    stand out from what is around it, without the other boxes.

    Bays are filled, but for those of a thin line, a little bent. None where they do not fill the box as its defect
    must: the defect looks like its surroundings, as a gap in a trace does, or the surroundings tell too little; and
    where they are mostly bays: what looks like one side of an edge is then part of a notch in the other, and which
    part is not known.
    """
    height, width = patch.shape[:2]
    inside, *others = (pixels_in(box) for box in boxes)
    ring = np.zeros((height, width), bool)
    ring[pixels_in(boxes[0], RING)] = True
    for part in (inside, *others):
        ring[part] = False
    shape = np.zeros((height, width), bool)
    if ring.sum() < FEWEST or not shape[inside].size:
        return None
    looks = ndimage.gaussian_filter(patch.astype(np.float32), (SMOOTH, SMOOTH, 0))
    usual = looks[ring]
    tree, count = cKDTree(usual), max(2, round(ALIKE * len(usual)))
    limit = max(float(np.quantile(_distance(tree, usual, count + 1), USUAL)), LEAST)
    part = looks[inside]
    shape[inside] = (_distance(tree, part.reshape(-1, 3), count) > limit).reshape(part.shape[:2])
    whole = _whole(shape)
    if whole is None:
        return None
    filled, span = solid(whole), SPAN
    if filled is None and _is_line(whole):
        filled, span = whole, LINE_SPAN
    return filled if filled is not None and _fills(filled[inside], span) else None


def _distance(tree: cKDTree, looks: np.ndarray, count: int) -> np.ndarray:
    """How far each of `looks` (n, 3) is from the `count`th nearest of the tree's, in gray levels."""
    return tree.query(looks, k=[count])[0][:, 0]


def _whole(shape: np.ndarray) -> np.ndarray | None:
    """The shape without specks, its gaps closed and its holes filled; None if nothing is left."""
    joined = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(shape, GAP), EIGHT, GAP))
    parts, count = ndimage.label(joined[GAP:-GAP, GAP:-GAP], EIGHT)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    return np.isin(parts, np.flatnonzero(sizes >= SPECK * sizes.max()) + 1)


def _is_line(shape: np.ndarray) -> bool:
    """Whether a shape is one thin line, a little bent."""
    hull = hull_of(shape)
    rows, columns = np.nonzero(shape)
    square = (np.ptp(rows) + 1) ** 2 + (np.ptp(columns) + 1) ** 2  # of its length
    return bool(
        hull is not None
        and ndimage.label(shape, EIGHT)[1] == 1
        and shape.sum() <= LINE_WIDTH * square
        and hull.sum() <= LINE_BEND * square
    )


def _fills(shape: np.ndarray, span: float) -> bool:
    """Whether a shape has this `span` of the box (h, w) that was drawn around it, and lies in its middle."""
    for axis in (0, 1):
        used, side = np.flatnonzero(shape.any(axis=1 - axis)), shape.shape[axis]
        if not len(used) or used[-1] + 1 - used[0] < span * side:
            return False
        if abs(used[0] + used[-1] + 1 - side) / 2 > OFF_CENTER * side:
            return False
    return True
