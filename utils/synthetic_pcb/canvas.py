"""The canvas of a layout: places shapes that keep clear of each other, and rasterizes them to layers."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from utils.synthetic_pcb.board import SUPERSAMPLING, Pad, Trace, Vertex


class LayoutCanvas:
    """The shapes placed so far, and the 1-based index of the one that owns each pixel (0: free laminate)."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.owner = np.zeros((height, width), dtype=np.int32)
        self.shapes: list[Trace | Pad] = []

    def stamp(self, shape: Trace | Pad, grow: float) -> tuple[tuple[slice, slice], np.ndarray]:
        """The window of the canvas that `shape`, grown by `grow` pixels, covers, and its mask there."""
        left, top, right, bottom = _bounds(shape, grow)
        x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
        x1, y1 = min(self.width, math.ceil(right)), min(self.height, math.ceil(bottom))
        if x1 <= x0 or y1 <= y0:
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
        image = Image.new("L", (x1 - x0, y1 - y0))
        _paint(ImageDraw.Draw(image), shape, 1, (x0, y0), grow)
        return (slice(y0, y1), slice(x0, x1)), np.asarray(image) > 0

    def fits(self, shape: Trace | Pad, clearance: float) -> bool:
        """Whether `shape` keeps `clearance` pixels away from everything placed."""
        window, mask = self.stamp(shape, clearance)
        return not (self.owner[window][mask] != 0).any()

    def place(self, shapes: Sequence[Trace | Pad]) -> None:
        """Draw `shapes`, which belong to one conductor."""
        for shape in shapes:
            window, mask = self.stamp(shape, 0)
            self.shapes.append(shape)
            self.owner[window][mask] = len(self.shapes)

    def layer(self, shapes: Sequence[Trace | Pad], grow: float = 0.0) -> np.ndarray:
        """(3H, 3W) uint8 layer with `shapes`, each grown by `grow` pixels."""
        image = Image.new("L", (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING))
        draw = ImageDraw.Draw(image)
        for shape in shapes:
            _paint(draw, shape, SUPERSAMPLING, (0.0, 0.0), grow)
        return np.asarray(image)


def _bounds(shape: Trace | Pad, grow: float) -> tuple[float, float, float, float]:
    if isinstance(shape, Trace):
        xs, ys = [p[0] for p in shape.points], [p[1] for p in shape.points]
        reach = shape.width / 2 + grow + 2
        return min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach
    return (
        shape.x - shape.rx - grow - 2,
        shape.y - shape.ry - grow - 2,
        shape.x + shape.rx + grow + 2,
        shape.y + shape.ry + grow + 2,
    )


def _paint(draw: ImageDraw.ImageDraw, shape: Trace | Pad, zoom: int, origin: Vertex, grow: float) -> None:
    if isinstance(shape, Trace):
        _paint_trace(draw, shape, zoom, origin, grow)
    else:
        _paint_pad(draw, shape, zoom, origin, grow)


def _paint_trace(draw: ImageDraw.ImageDraw, trace: Trace, zoom: int, origin: Vertex, grow: float) -> None:
    points = [((x - origin[0]) * zoom, (y - origin[1]) * zoom) for x, y in trace.points]
    radius = (trace.width / 2 + grow) * zoom
    draw.line(points, fill=255, width=max(1, round(2 * radius)))
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _paint_pad(draw: ImageDraw.ImageDraw, pad: Pad, zoom: int, origin: Vertex, grow: float) -> None:
    x, y = (pad.x - origin[0]) * zoom, (pad.y - origin[1]) * zoom
    rx, ry = (pad.rx + grow) * zoom, (pad.ry + grow) * zoom
    box = (x - rx, y - ry, x + rx, y + ry)
    if pad.kind in ("round", "via"):
        draw.ellipse(box, fill=255)
    elif pad.kind in ("oval_x", "oval_y"):
        draw.rounded_rectangle(box, radius=min(rx, ry), fill=255)
    else:
        draw.rounded_rectangle(box, radius=max(1.0, 1.2 * zoom), fill=255)
