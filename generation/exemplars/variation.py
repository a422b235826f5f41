"""A training defect in another shape: bent by a smooth random field that slides along the edges of its new place.

So a gap may become wider along its trace, and still reaches from edge to edge; a filled hole stays round, or a crescent
of the hole would show.
"""

import numpy as np
from scipy import ndimage

from generation.geometry import PixelBox
from utils.shapes.boxes import Sides

WAVES = 3  # of each component of a field,
FREQUENCIES = 0.4, 1.1  # periods of one over the defect's box
GRADIENT, BESIDE = (
    1.0,
    1.5,
)  # px, sigma of the gradients that edges are seen by, and of how far beside them they count
STEEP = 3.0  # gray levels per px, a gradient across which half of the movement is left


def random_field(box: Sides, side: int, vary: float, stream: np.random.Generator) -> np.ndarray:
    """By how many px, (y, x), each pixel of a window of `side` px is taken from elsewhere: (2, side, side).

    A sum of WAVES waves per component, with a standard deviation of `vary` of the box's side along it.
    """
    left, top, right, bottom = box
    sides = max(bottom - top, 1.0), max(right - left, 1.0)
    y, x = np.mgrid[:side, :side] + 0.5
    at = np.stack([(y - top) / sides[0], (x - left) / sides[1]])
    field = np.zeros((2, side, side))
    for component, length in enumerate(sides):
        angles, phases = stream.uniform(0, 2 * np.pi, (2, WAVES))
        for angle, phase, period in zip(angles, phases, stream.uniform(*FREQUENCIES, WAVES), strict=True):
            along = np.sin(angle) * at[0] + np.cos(angle) * at[1]
            field[component] += np.sin(2 * np.pi * period * along + phase)
        field[component] *= vary * length * np.sqrt(2 / WAVES)
    return field


def along_edges(field: np.ndarray, window: np.ndarray) -> np.ndarray:
    """A field (2, S, S) without what moves across the edges of a window (S, S, 3): c (J + c)^-1 d of a movement d, with
    the structure tensor J (Bigun and Granlund 1987) and c the square of STEEP."""
    planes = window.astype(np.float32)
    dy, dx = (
        ndimage.gaussian_filter(planes, (GRADIENT, GRADIENT, 0), order) for order in ((1, 0, 0), (0, 1, 0))
    )
    yy, xx, yx = (
        ndimage.gaussian_filter((a * b).mean(axis=2), BESIDE) for a, b in ((dy, dy), (dx, dx), (dy, dx))
    )
    c = STEEP**2
    yy, xx = yy + c, xx + c
    determinant = yy * xx - yx**2
    return c * np.stack([xx * field[0] - yx * field[1], yy * field[1] - yx * field[0]]) / determinant


def bent(pixels: np.ndarray, field: np.ndarray) -> np.ndarray:
    """`pixels` (S, S) or (S, S, 3) moved by a field (2, S, S): float32."""
    where = np.mgrid[: len(pixels), : len(pixels)] + field
    planes = [pixels] if pixels.ndim == 2 else [pixels[..., k] for k in range(3)]
    made = [
        ndimage.map_coordinates(plane.astype(np.float32), where, order=1, mode="nearest") for plane in planes
    ]
    return made[0] if pixels.ndim == 2 else np.stack(made, axis=-1)


def followed(box: Sides, before: PixelBox | None, after: PixelBox | None) -> Sides:
    """A defect's box after it was bent: each side as far from what is visible of it `after` as it was `before`."""
    if before is None or after is None:
        return box
    left, top, right, bottom = (side + new - old for side, old, new in zip(box, before, after, strict=True))
    return left, top, right, bottom
