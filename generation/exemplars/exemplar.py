"""A training defect that painting may start from, and the place that it is laid over."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from generation.exemplars.cutout import Cutout
from generation.placement.matching import Surround, sides_at_edge
from generation.quality.checks import inset
from utils.shapes.boxes import Sides


@dataclass(frozen=True)
class Exemplar:
    """A training defect, turned: its clean patch (h, w, 3) uint8 with its box in px of it, and its cutout with the same
    box; boxes are without margin.

    `hidden`: the patch is not clean, so that what is inside the box does not count. `shaped`: the cutout is the
    defect's shape, not its box. `number` is the defect's, `group` that of its photograph. `native` is the cutout in px
    of its photograph, where the patch was shrunk, else None.
    """

    number: int
    group: str
    clean: Surround
    cutout: Cutout
    hidden: bool
    shaped: bool
    native: Cutout | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box in px of the patch."""
        left, top, right, bottom = self.clean.box
        return right - left, bottom - top

    def turned(self, quarters: int, mirrored: bool) -> "Exemplar":
        """Turned by quarters counterclockwise, then mirrored left to right."""
        turn = quarters, mirrored
        clean, cutout = self.clean.turned(*turn), self.cutout.turned(*turn)
        native = None if self.native is None else self.native.turned(*turn)
        return replace(self, clean=clean, cutout=cutout, native=native)


@dataclass(frozen=True)
class Place:
    """A window (S, S, 3) uint8 with the box that a defect of a class is to fill, without margin, in px of it, and how
    many native px one of them is."""

    window: np.ndarray
    box: Sides
    scale: float
    class_id: int


def without_margin(box: Sequence[float], margin: float, width: int, height: int) -> Sides:
    """A box without its margin in px; up to the edge, where it lies there."""
    inner, edges = inset(box, margin), sides_at_edge(box, width, height)
    left, top, right, bottom = (
        limit if edge else side for limit, edge, side in zip((0, 0, width, height), edges, inner, strict=True)
    )
    return left, top, right, bottom


def warp_to_box(
    pixels: np.ndarray, inner: Sequence[float], box: Sequence[float], side: int, reach: int
) -> np.ndarray:
    """`pixels` (h, w) or (h, w, 3) stretched so that `inner` fills `box` of a window: float32, with `reach` px around
    it."""
    fx, fy = (((inner[k + 2] - inner[k]) / (box[k + 2] - box[k])) for k in (0, 1))
    pad = 2 * side
    padded = np.pad(pixels, [(pad, pad), (pad, pad), (0, 0)][: pixels.ndim], mode="edge")
    x0 = inner[0] + pad - (box[0] + reach) * fx
    y0 = inner[1] + pad - (box[1] + reach) * fy
    size = side + 2 * reach
    planes = [padded] if pixels.ndim == 2 else [padded[..., k] for k in range(3)]
    made = [
        Image.fromarray(np.ascontiguousarray(plane, np.float32)).transform(
            (size, size), Image.Transform.AFFINE, (fx, 0, x0, 0, fy, y0), Image.Resampling.BILINEAR
        )
        for plane in planes
    ]
    found = np.stack([np.asarray(plane) for plane in made], axis=-1)
    return found[..., 0] if pixels.ndim == 2 else found
