"""The layers around the conductors: copper pours and silkscreen."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from utils.synthetic_pcb.board import SUPERSAMPLING, Pad, Vertex
from utils.synthetic_pcb.canvas import LayoutCanvas


def pour_copper(rng: np.random.Generator, canvas: LayoutCanvas, scale: float) -> np.ndarray | None:
    """(3H, 3W) bool copper pour around what is placed, or None for a board without one."""
    choice = rng.random()
    if choice < 0.5:
        return None
    height, width, zoom = canvas.height, canvas.width, SUPERSAMPLING
    region = Image.new("L", (width * zoom, height * zoom), 255 if choice > 0.85 else 0)
    if choice <= 0.85:
        corner = rng.uniform(0.25, 0.75, size=2) * (width, height)
        x = (0, corner[0]) if rng.random() < 0.5 else (corner[0], width)
        y = (
            (0, corner[1])
            if rng.random() < 0.4
            else ((corner[1], height) if rng.random() < 0.5 else (0, height))
        )
        box = [x[0] * zoom, y[0] * zoom, x[1] * zoom, y[1] * zoom]
        ImageDraw.Draw(region).rounded_rectangle(box, radius=4 * scale * zoom, fill=255)
    pour = np.asarray(region) > 0
    pour &= canvas.layer(canvas.shapes, float(rng.uniform(8, 12)) * scale) == 0
    size = round(13 * scale * zoom)
    solid = ndimage.minimum_filter(pour.astype(np.uint8), size=size)
    pour = ndimage.maximum_filter(solid, size=size) > 0
    if rng.random() < 0.35:
        pour &= ~_hatching(rng, pour, scale)
    labels, count = ndimage.label(pour)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = sizes >= 900 * (scale * zoom) ** 2
    keep[0] = False
    return keep[labels]


def _hatching(rng: np.random.Generator, pour: np.ndarray, scale: float) -> np.ndarray:
    """Small square windows on a grid, well inside the pour."""
    pitch = round(float(rng.uniform(14, 20)) * scale) * SUPERSAMPLING
    hole = round(float(rng.uniform(3.5, 6)) * scale) * SUPERSAMPLING
    rows, columns = np.arange(pour.shape[0]) % pitch < hole, np.arange(pour.shape[1]) % pitch < hole
    size = round(30 * scale * SUPERSAMPLING)
    inside = ndimage.minimum_filter(pour.astype(np.uint8), size=size) > 0
    return rows[:, None] & columns[None, :] & inside


# Strokes of a plotter font on a grid 2 wide and 4 high.
_GLYPHS = {
    "0": "0020240400", "1": "011014", "2": "002022020424", "3": "00202212222404", "4": "0002222024",
    "5": "200002222404", "7": "002014", "C": "20000424", "D": "00041423211000", "J": "20240403",
    "L": "000424", "Q": "00202404002414", "R": "040020220224", "T": "00201014", "U": "00042420",
}  # fmt: skip


def silkscreen(rng: np.random.Generator, canvas: LayoutCanvas, scale: float) -> np.ndarray:
    """(3H, 3W) uint8 silkscreen: designators and outlines, kept off the pads."""
    zoom = SUPERSAMPLING * scale
    image = Image.new("L", (canvas.width * SUPERSAMPLING, canvas.height * SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    area = canvas.height * canvas.width / (256 * scale) ** 2
    for _ in range(round(float(rng.uniform(0, 3.6)) * area)):
        at = (float(rng.uniform(0, image.width)), float(rng.uniform(0, image.height)))
        _text(rng, draw, at, float(rng.uniform(13, 22)) * zoom, bool(rng.random() < 0.7))
    pen = max(2, round(2.2 * zoom))
    for _ in range(round(float(rng.uniform(0, 1.8)) * area)):
        x, y = float(rng.uniform(0, image.width)), float(rng.uniform(0, image.height))
        w, h = rng.uniform(30, 110, size=2) * zoom
        if rng.random() < 0.7:
            draw.rectangle((x, y, x + w, y + h), outline=255, width=pen)
        else:
            draw.ellipse((x, y, x + w, y + w), outline=255, width=pen)
    pads = [shape for shape in canvas.shapes if isinstance(shape, Pad)]
    silk = np.array(image)
    silk[canvas.layer(pads, 3 * scale) > 0] = 0
    return silk


def _text(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, at: Vertex, size: float, upright: bool
) -> None:
    pen = max(2, round(size * 0.17))
    letters = [
        *rng.choice(list("RCUDJLQT")),
        *(str(d) for d in rng.choice(list("0123457"), rng.integers(1, 4))),
    ]
    for index, letter in enumerate(letters):
        digits = _GLYPHS[letter]
        cell = [(int(digits[k]), int(digits[k + 1])) for k in range(0, len(digits) - 1, 2)]
        unit = size / 4
        local = [(index * size * 0.85 + u * unit * 1.15, v * unit) for u, v in cell]
        line = [(at[0] + u, at[1] + v) if upright else (at[0] + v, at[1] - u) for u, v in local]
        draw.line(line, fill=255, width=pen, joint="curve")
