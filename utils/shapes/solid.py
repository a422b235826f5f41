"""Shapes filled in."""

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull, QhullError

SOLID = 2.0  # px of a shape's hull per px of the shape, at most


def solid(shape: np.ndarray) -> np.ndarray | None:
    """The convex hull (h, w) bool of a shape (h, w) bool; None if that is much larger than the shape, or a line."""
    hull = hull_of(shape)
    return hull if hull is not None and hull.sum() <= SOLID * shape.sum() else None


def hull_of(shape: np.ndarray) -> np.ndarray | None:
    """The convex hull (h, w) bool of a shape (h, w) bool; None if that is a line."""
    rows, columns = np.nonzero(shape)
    if len(rows) < 3 or np.ptp(rows) == 0 or np.ptp(columns) == 0:
        return None
    corners = np.stack([columns, rows], axis=1)
    try:
        outline = corners[ConvexHull(corners).vertices]
    except QhullError:  # all on one line
        return None
    drawn = Image.fromarray(np.zeros(shape.shape, np.uint8))
    ImageDraw.Draw(drawn).polygon([(int(x), int(y)) for x, y in outline], fill=1, outline=1)
    return np.asarray(drawn) > 0
