"""Photographs of printed circuit boards drawn from nothing, with the six classic defects.

A board is drawn as layers (copper, openings of the solder mask, drills, vias, silkscreen) at three times the
picture's resolution. One shading function turns layers into a photograph. A defect is an edit of the copper
or the drill layer, so a defective board is the same board under the same light with the same noise: away
from the defect the two photographs are equal, except that the JPEG step may change pixels of the 8x8 blocks
that the defect touches. The classes are those of PKU-Market-PCB (Huang and Wei, "A PCB Dataset for Defects
Detection and Classification", 2019); no photograph is used.

    python -m utils.synthetic_pcb --out DIR --seed 0 --clean 500 --per-class 1000
"""

import argparse
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from tqdm import tqdm

from utils.errors import UserError, run_main

CLASSES: tuple[str, ...] = ("missing_hole", "mouse_bite", "open_circuit", "short", "spur", "spurious_copper")
SUPERSAMPLING = 3
MAX_EXTENT = 40
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)

Point = tuple[float, float]


# Geometry


@dataclass(frozen=True)
class Trace:
    """A polyline of copper; points (x, y) and width in pixels of the picture."""

    points: tuple[Point, ...]
    width: float


@dataclass(frozen=True)
class Pad:
    """A terminal. kind: round, square, oval_x, oval_y, smd (no drill) or via (covered by solder mask).

    x, y, half sizes rx, ry and the drill's radius (0: none) are in pixels of the picture.
    """

    kind: str
    x: float
    y: float
    rx: float
    ry: float
    drill: float


@dataclass(frozen=True)
class Style:
    """How a board is lit and photographed; colours are RGB in 0..255."""

    laminate: tuple[float, float, float]
    copper: tuple[float, float, float]
    metal: tuple[float, float, float]
    silk: tuple[float, float, float]
    hole: tuple[float, float, float]
    light: Point
    falloff: Point
    gain: float
    halo: float
    emboss: float
    blur: float
    noise: float
    jpeg_quality: int
    noise_seed: int


@dataclass
class Board:
    """One board: layers are uint8, SUPERSAMPLING times (height, width), 255 where the material is."""

    height: int
    width: int
    scale: float
    style: Style
    copper: np.ndarray
    opening: np.ndarray
    drill: np.ndarray
    via: np.ndarray
    silk: np.ndarray
    pads: list[Pad] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)


@dataclass(frozen=True)
class Defect:
    """One defect: its class, its tight box and the pixels whose copper or drill changed.

    box is (left, top, right, bottom) in pixels, right and bottom exclusive; mask is (H, W) bool.
    """

    class_name: str
    box: tuple[int, int, int, int]
    mask: np.ndarray


@dataclass(frozen=True)
class _Site:
    """A place for a defect: centre, outward normal, copper width inwards and free gap outwards (pixels)."""

    x: float
    y: float
    nx: float = 0.0
    ny: float = 0.0
    inner: float = 0.0
    outer: float = 0.0


def _paint_trace(draw: ImageDraw.ImageDraw, trace: Trace, zoom: int, origin: Point, grow: float) -> None:
    points = [((x - origin[0]) * zoom, (y - origin[1]) * zoom) for x, y in trace.points]
    radius = (trace.width / 2 + grow) * zoom
    draw.line(points, fill=255, width=max(1, round(2 * radius)))
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _paint_pad(draw: ImageDraw.ImageDraw, pad: Pad, zoom: int, origin: Point, grow: float) -> None:
    x, y = (pad.x - origin[0]) * zoom, (pad.y - origin[1]) * zoom
    rx, ry = (pad.rx + grow) * zoom, (pad.ry + grow) * zoom
    box = (x - rx, y - ry, x + rx, y + ry)
    if pad.kind in ("round", "via"):
        draw.ellipse(box, fill=255)
    elif pad.kind in ("oval_x", "oval_y"):
        draw.rounded_rectangle(box, radius=min(rx, ry), fill=255)
    else:
        draw.rounded_rectangle(box, radius=max(1.0, 1.2 * zoom), fill=255)


def _paint(draw: ImageDraw.ImageDraw, shape: Trace | Pad, zoom: int, origin: Point, grow: float) -> None:
    if isinstance(shape, Trace):
        _paint_trace(draw, shape, zoom, origin, grow)
    else:
        _paint_pad(draw, shape, zoom, origin, grow)


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


class _Canvas:
    """Shapes placed so far, and which of them owns each pixel (0: free laminate)."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.owner = np.zeros((height, width), dtype=np.int32)
        self.shapes: list[Trace | Pad] = []

    def stamp(self, shape: Trace | Pad, grow: float) -> tuple[tuple[slice, slice], np.ndarray]:
        """The window of the picture that `shape`, grown by `grow` pixels, covers, and its mask there."""
        left, top, right, bottom = _bounds(shape, grow)
        x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
        x1, y1 = min(self.width, math.ceil(right)), min(self.height, math.ceil(bottom))
        if x1 <= x0 or y1 <= y0:
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
        image = Image.new("L", (x1 - x0, y1 - y0))
        _paint(ImageDraw.Draw(image), shape, 1, (x0, y0), grow)
        return (slice(y0, y1), slice(x0, x1)), np.asarray(image) > 0

    def fits(self, shape: Trace | Pad, clearance: float) -> bool:
        """Whether `shape` keeps `clearance` pixels from everything placed."""
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


# Routing

_DIRECTIONS = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]


def _route(rng: np.random.Generator, start: Point, heading: int, reach: float, scale: float) -> list[Point]:
    """A polyline from `start` along `heading` (eighths of a turn), bending by 45 degrees, `reach` px long."""
    points, travelled = [start], 0.0
    turn, swing = int(rng.choice([-1, 1])), 0
    while travelled < reach:
        step = float(rng.uniform(28, 110)) * scale
        step = min(step, max(reach - travelled, 26 * scale))
        dx, dy = _DIRECTIONS[heading % 8]
        points.append((points[-1][0] + dx * step, points[-1][1] + dy * step))
        travelled += step
        turn = -turn if abs(swing + turn) > 2 else turn
        heading, swing = heading + turn, swing + turn
        turn = -turn if rng.random() < 0.7 else turn
    return points


def _offset(points: Sequence[Point], distance: float) -> list[Point]:
    """The polyline at `distance` pixels to the left of `points`, with mitred corners."""
    array = np.asarray(points, dtype=float)
    steps = np.diff(array, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    joint = np.concatenate([normals[:1], normals[:-1] + normals[1:], normals[-1:]])
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    cosine = np.clip((before * after).sum(axis=1, keepdims=True), -0.9, 1.0)
    joint[1:-1] /= (1 + cosine)[1:-1]
    return [(float(x), float(y)) for x, y in array + distance * joint]


def _unfolded(points: Sequence[Point], moved: Sequence[Point], least: float) -> bool:
    """Whether every stretch of the offset polyline still runs forward, for `least` pixels or more."""
    before, after = (np.diff(np.asarray(line, dtype=float), axis=0) for line in (points, moved))
    forward = (before * after).sum(axis=1) / np.linalg.norm(before, axis=1)
    return bool((forward >= least).all())


def _terminal(rng: np.random.Generator, kind: str, at: Point, heading: Point, scale: float) -> Pad:
    x, y = at
    radius = float(rng.uniform(8.5, 12.5)) * scale
    drill = radius * float(rng.uniform(0.46, 0.54))
    if kind == "via":
        return Pad("via", x, y, 6.0 * scale, 6.0 * scale, 2.6 * scale)
    if kind == "smd":
        long, short = 10.0 * scale, 6.0 * scale
        return Pad("smd", x, y, *((long, short) if abs(heading[0]) > 0.9 else (short, long)), 0.0)
    if kind == "oval":
        flat = abs(heading[0]) > 0.9
        wide, narrow = 1.4 * radius, 0.92 * radius
        return Pad("oval_x" if flat else "oval_y", x, y, *((wide, narrow) if flat else (narrow, wide)), drill)
    return Pad(kind, x, y, radius, radius, drill)


def _base_line(
    rng: np.random.Generator, canvas: _Canvas, kinds: tuple[str, str], scale: float
) -> list[Point]:
    """A random polyline over the board; where a kind is "edge" it runs far beyond the board there."""
    heading = int(rng.choice([0, 2, 4, 6]) if rng.random() < 0.85 else rng.integers(8))
    start = (float(rng.uniform(0, canvas.width)), float(rng.uniform(0, canvas.height)))
    span = math.hypot(canvas.width, canvas.height)
    base = _route(rng, start, heading, float(rng.uniform(40, 230)) * scale, scale)
    if kinds[0] == "edge":
        dx, dy = _DIRECTIONS[heading]
        base.insert(0, (start[0] - dx * span, start[1] - dy * span))
    if kinds[1] == "edge":
        (ax, ay), (bx, by) = base[-2:]
        length = math.hypot(bx - ax, by - ay)
        base[-1] = (bx + (bx - ax) / length * 2 * span, by + (by - ay) / length * 2 * span)
    return base


def _bundle(
    rng: np.random.Generator,
    canvas: _Canvas,
    count: int,
    pitch: float,
    width: float,
    kinds: tuple[str, str],
    scale: float,
) -> None:
    """Place those of `count` parallel traces, with their terminals, that keep clear of all else."""
    base = _base_line(rng, canvas, kinds, scale)
    along = _direction(base)
    ends = [_terminal(rng, kind, (0.0, 0.0), along, scale) if kind != "edge" else None for kind in kinds]
    for index in range(count):
        line = _offset(base, (index - (count - 1) / 2) * pitch)
        shapes: list[Trace | Pad] = [Trace(tuple(line), width)]
        for pad, at in zip(ends, (line[0], line[-1]), strict=True):
            if pad is not None:
                shapes.append(replace(pad, x=at[0], y=at[1]))
        inside = all(_on_board(canvas, shape, scale) for shape in shapes[1:])
        inside = inside and math.dist(line[0], line[-1]) > 36 * scale and _unfolded(base, line, 12 * scale)
        if inside and all(canvas.fits(shape, 6.5 * scale) for shape in shapes):
            canvas.place(shapes)


def _direction(points: Sequence[Point]) -> Point:
    (ax, ay), (bx, by) = points[0], points[1]
    length = math.hypot(bx - ax, by - ay)
    return (bx - ax) / length, (by - ay) / length


def _on_board(canvas: _Canvas, pad: Trace | Pad, scale: float) -> bool:
    assert isinstance(pad, Pad)
    slack = 2 * scale
    across = pad.rx - slack <= pad.x <= canvas.width - pad.rx + slack
    return across and pad.ry - slack <= pad.y <= canvas.height - pad.ry + slack


def _lay_out(rng: np.random.Generator, canvas: _Canvas, scale: float) -> None:
    """Fill the canvas: pad rows, buses, then single conductors where there is room."""
    area = canvas.height * canvas.width / (256 * scale) ** 2
    holed = ["round", "round", "oval", "square"]

    def width() -> float:
        return float(rng.uniform(7.0, 12.0)) * scale

    for _ in range(round(float(rng.uniform(3, 7)) * area)):
        first = str(rng.choice(holed))
        last = str(rng.choice([*holed, "edge", "edge", "via", "smd"]))
        pitch = float(rng.uniform(27, 38)) * scale
        _bundle(rng, canvas, int(rng.integers(2, 7)), pitch, width(), (first, last), scale)
    for _ in range(round(float(rng.uniform(2, 7)) * area)):
        first, last = (str(k) for k in rng.choice(["edge", "edge", "via"], size=2))
        wide = width()
        pitch = wide + float(rng.uniform(8, 16)) * scale
        _bundle(rng, canvas, int(rng.integers(2, 8)), pitch, wide, (first, last), scale)
    for _ in range(round(float(rng.uniform(12, 40)) * area)):
        first = str(rng.choice([*holed, "smd", "via"]))
        last = str(rng.choice([*holed, "edge", "via", "smd"]))
        _bundle(rng, canvas, 1, 1.0, width(), (first, last), scale)


# Copper pours and silkscreen


def _pour(rng: np.random.Generator, canvas: _Canvas, scale: float) -> np.ndarray | None:
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


def _text(rng: np.random.Generator, draw: ImageDraw.ImageDraw, at: Point, size: float, upright: bool) -> None:
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


def _silkscreen(rng: np.random.Generator, canvas: _Canvas, scale: float) -> np.ndarray:
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


# Style

_MASKS = {
    "green": ((3, 47, 9), (8, 106, 20)),
    "blue": ((8, 26, 74), (18, 64, 142)),
    "red": ((86, 14, 18), (154, 36, 36)),
    "black": ((20, 22, 25), (68, 72, 76)),
}


def _style(rng: np.random.Generator) -> Style:
    name = str(rng.choice(list(_MASKS), p=[0.64, 0.15, 0.12, 0.09]))
    laminate, copper = (np.array(colour, dtype=float) for colour in _MASKS[name])
    laminate = np.clip(laminate * rng.uniform(0.8, 1.2) + rng.uniform(-4, 4, size=3), 0, 255)
    copper = np.clip(copper * rng.uniform(0.9, 1.1) + rng.uniform(-5, 5, size=3), 0, 255)
    tin = np.array((158.0, 141.0, 133.0)) + rng.uniform(-10, 10, size=3)
    gold = np.array((196.0, 158.0, 84.0)) + rng.uniform(-10, 10, size=3)
    angle = float(rng.uniform(0, 2 * math.pi))
    falloff = rng.uniform(-0.09, 0.09, size=2)
    return Style(
        laminate=tuple(laminate),
        copper=tuple(copper),
        metal=tuple(gold if rng.random() < 0.25 else tin),
        silk=tuple(np.array((188.0, 198.0, 196.0)) + rng.uniform(-12, 12, size=3)),
        hole=tuple(laminate * 0.28 + rng.uniform(4, 12)),
        light=(math.cos(angle), math.sin(angle)),
        falloff=(float(falloff[0]), float(falloff[1])),
        gain=float(rng.uniform(0.92, 1.1)),
        halo=float(rng.uniform(0.35, 0.75)),
        emboss=float(rng.uniform(0.05, 0.3)),
        blur=float(rng.uniform(0.6, 0.95)),
        noise=float(rng.uniform(2.0, 4.0)),
        jpeg_quality=int(rng.integers(90, 97)),
        noise_seed=int(rng.integers(2**31)),
    )


def draw_board(seed: int, height: int = 256, width: int = 256, scale: float = 1.0) -> Board:
    """Draw a defect-free board; equal arguments give equal boards.

    height and width are in pixels (at least 64); at scale 1 traces are 7 to 12 px wide, pads have radii of
    8.5 to 12.5 px and clearances are 6.5 px or more, and all grow with `scale`. Raises ValueError.
    """
    if min(height, width) < 64 or scale <= 0:
        raise ValueError(f"a board needs 64 px a side and a positive scale, got {height}x{width}, {scale}")
    rng = np.random.default_rng([seed, 0])
    style = _style(rng)
    canvas = _Canvas(height, width)
    _lay_out(rng, canvas, scale)
    pour = _pour(rng, canvas, scale)
    silk = _silkscreen(rng, canvas, scale)
    pads = [shape for shape in canvas.shapes if isinstance(shape, Pad)]
    vias = [pad for pad in pads if pad.kind == "via"]
    copper = canvas.layer(canvas.shapes)
    if pour is not None:
        copper = np.where(pour, np.uint8(255), copper)
    return Board(
        height=height,
        width=width,
        scale=scale,
        style=style,
        copper=copper,
        opening=canvas.layer([pad for pad in pads if pad.kind != "via"]),
        drill=canvas.layer([_drill(pad) for pad in pads if pad.drill > 0 and pad.kind != "via"]),
        via=canvas.layer([_drill(pad) for pad in vias]),
        silk=silk,
        pads=pads,
        traces=[shape for shape in canvas.shapes if isinstance(shape, Trace)],
    )


def _drill(pad: Pad) -> Pad:
    return Pad("round", pad.x, pad.y, pad.drill, pad.drill, 0.0)


# Shading


def _coverage(layer: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the share of each pixel that a (3H, 3W) layer covers."""
    return np.asarray(Image.fromarray(layer).reduce(SUPERSAMPLING), dtype=np.float32) / 255.0


def _blur(array: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(array, sigma, truncate=3.0, mode="nearest")


def _etched(cover: np.ndarray, scale: float) -> np.ndarray:
    """Coverage with the sharp corners rounded off, as etching leaves them."""
    return np.clip((_blur(cover, 1.1 * scale) - 0.5) * 2.4 + 0.5, 0, 1)


def _over(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return picture + (colour - picture) * alpha[..., None]


def _metal(metal: np.ndarray, style: Style, scale: float, mottle: np.ndarray) -> np.ndarray:
    """(H, W, 3) colour of exposed metal: a solder dome lit from one side. metal: (H, W) coverage."""
    reach = 8.0 * scale
    depth = np.minimum(ndimage.distance_transform_edt(metal > 0.5), reach).astype(np.float32) / reach
    dome = _blur(np.sqrt(np.clip(1 - (1 - depth) ** 2, 0, 1)), 1.0 * scale) * reach * 0.8
    slope_y, slope_x = np.gradient(dome)
    steep = np.sqrt(1 + slope_x**2 + slope_y**2)
    toward = -(slope_x * style.light[0] + slope_y * style.light[1]) / steep
    flat = 1 / steep
    rim = np.clip(1 - depth * reach / (2.2 * scale), 0, 1)
    shade = (0.5 + 0.44 * flat + 0.4 * toward + 0.08 * mottle) * (1 - 0.25 * rim)
    shine = np.clip(0.55 * toward + 0.83 * flat, 0, 1) ** 14
    return np.array(style.metal, dtype=np.float32) * shade[..., None] + 74.0 * shine[..., None]


def _surface(board: Board, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 board as a sharp, noiseless, evenly lit picture."""
    style, scale = board.style, board.scale
    copper, drill = _etched(_coverage(board.copper), scale), _coverage(board.drill)
    metal = np.minimum(_coverage(board.opening), copper)
    shape = copper.shape
    mottle = _blur(rng.standard_normal(shape, dtype=np.float32), 1.6) * 5
    cloud = ndimage.zoom(rng.standard_normal((shape[0] // 32 + 2, shape[1] // 32 + 2)), 32, order=1)
    cloud = cloud[: shape[0], : shape[1]].astype(np.float32)
    soft = _blur(copper, 1.0 * scale)
    shadow = np.clip(_blur(copper, 2.4 * scale) - 0.15, 0, 1) * (1 - copper) * style.halo
    laminate = (
        np.array(style.laminate, dtype=np.float32) * (1 - shadow + 0.04 * cloud + 0.025 * mottle)[..., None]
    )
    slope_y, slope_x = np.gradient(soft)
    relief = -(slope_x * style.light[0] + slope_y * style.light[1]) * style.emboss * 2
    lit = (1 + relief + 0.03 * cloud + 0.02 * mottle)[..., None]
    picture = _over(laminate, np.array(style.copper, dtype=np.float32) * lit, copper)
    picture = _over(picture, np.array(style.copper, dtype=np.float32) * 0.35, _coverage(board.via) * 0.9)
    worn = _coverage(board.silk) * np.clip(0.86 + 0.06 * mottle, 0, 1)
    picture = _over(picture, np.array(style.silk, dtype=np.float32), worn)
    ring = np.clip(metal - drill, 0, 1)
    picture = _over(picture, _metal(ring, style, scale, mottle), metal)
    slope_y, slope_x = np.gradient(_blur(drill, 1.2 * scale))
    wall = np.clip(slope_x * style.light[0] + slope_y * style.light[1], 0, 1)
    hole = np.array(style.hole, dtype=np.float32) + wall[..., None] * 120.0
    return _over(picture, hole, drill)


def render(board: Board) -> np.ndarray:
    """Photograph a board: (H, W, 3) uint8 RGB.

    Light, noise and JPEG quality come from the board's style alone, so a board and its defective copy agree
    away from the defects, up to the JPEG error inside the 8x8 blocks that a defect touches.
    """
    style = board.style
    rng = np.random.default_rng([style.noise_seed, 1])
    picture = _surface(board, rng)
    y = np.linspace(-1, 1, board.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, board.width, dtype=np.float32)[None, :]
    light = style.gain * (1 + style.falloff[0] * x + style.falloff[1] * y - 0.05 * (x * x + y * y))
    picture = picture * light[..., None]
    picture = ndimage.gaussian_filter(picture, (style.blur, style.blur, 0), truncate=3.0)
    grain = rng.standard_normal((board.height, board.width, 3), dtype=np.float32)
    grain = ndimage.gaussian_filter(grain, (0.5, 0.5, 0), truncate=2.0) * (style.noise * 1.3)
    picture = picture + grain * (0.55 + picture / 300.0)
    pixels = Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    with io.BytesIO() as buffer:
        pixels.save(buffer, "JPEG", quality=style.jpeg_quality, subsampling=0)
        return np.array(Image.open(buffer).convert("RGB"))


# Places for defects


def conductors(board: Board) -> tuple[np.ndarray, int]:
    """(H, W) int labels of the pieces of copper that hang together (0: laminate), and how many there are."""
    return ndimage.label(_coverage(board.copper) >= 0.5, structure=EIGHT_CONNECTED)


def _march(
    blocked: np.ndarray, x: np.ndarray, y: np.ndarray, nx: np.ndarray, ny: np.ndarray, reach: int
) -> np.ndarray:
    """Steps of one pixel along (nx, ny) until `blocked` is met; `reach` where it is not met before."""
    steps = np.arange(1, reach)
    columns = np.rint(x[:, None] + nx[:, None] * steps).astype(int)
    rows = np.rint(y[:, None] + ny[:, None] * steps).astype(int)
    inside = (columns >= 0) & (columns < blocked.shape[1]) & (rows >= 0) & (rows < blocked.shape[0])
    hit = inside & blocked[np.where(inside, rows, 0), np.where(inside, columns, 0)]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, reach).astype(float)


def _edges(board: Board) -> dict[str, np.ndarray]:
    """Points on the copper's edge, away from pads, vias and silkscreen, as columns of equal length."""
    scale = board.scale
    cover = _coverage(board.copper)
    labels, _ = ndimage.label(cover >= 0.5, structure=EIGHT_CONNECTED)
    copper = labels > 0
    crowded = _near(_coverage(board.opening) + _coverage(board.via), 6 * scale) | _near(
        _coverage(board.silk), 9 * scale
    )
    rows, columns = np.nonzero(copper & ~ndimage.binary_erosion(copper, border_value=1) & ~crowded)
    rows, columns = rows[::3], columns[::3]
    smooth = _blur(cover, 1.5 * scale)
    slope_y, slope_x = np.gradient(smooth)
    nx, ny = -slope_x[rows, columns], -slope_y[rows, columns]
    norm = np.maximum(np.hypot(nx, ny), 1e-6)
    nx, ny = nx / norm, ny / norm
    straight = _straight(copper, columns, rows, nx, ny, scale)
    columns, rows, nx, ny = columns[straight], rows[straight], nx[straight], ny[straight]
    x, y = columns.astype(float), rows.astype(float)
    reach = round(40 * scale)
    inner = _march(~copper, x, y, -nx, -ny, reach)
    outer = _march(copper, x + nx, y + ny, nx, ny, reach)
    far_x = np.clip(np.rint(x + nx * (outer + 1)), 0, board.width - 1).astype(int)
    far_y = np.clip(np.rint(y + ny * (outer + 1)), 0, board.height - 1).astype(int)
    return {
        "x": x, "y": y, "nx": nx, "ny": ny, "inner": inner, "outer": outer,
        "own": labels[rows, columns], "far": np.where(outer < reach, labels[far_y, far_x], 0),
    }  # fmt: skip


def _straight(
    copper: np.ndarray, x: np.ndarray, y: np.ndarray, nx: np.ndarray, ny: np.ndarray, scale: float
) -> np.ndarray:
    """Which edge points have copper behind and laminate before them for 10 px to either side."""
    good = np.ones(len(x), dtype=bool)
    for along in (-10.0, -5.0, 5.0, 10.0):
        for out in (-2.5, 2.5):
            columns = np.rint(x + scale * (nx * out - ny * along)).astype(int).clip(0, copper.shape[1] - 1)
            rows = np.rint(y + scale * (ny * out + nx * along)).astype(int).clip(0, copper.shape[0] - 1)
            good &= copper[rows, columns] == (out < 0)
    return good


def _near(cover: np.ndarray, distance: float) -> np.ndarray:
    return ndimage.maximum_filter(cover, size=2 * round(distance) + 1) > 0.1


def _pick(edges: dict[str, np.ndarray], keep: np.ndarray, shift: np.ndarray) -> list[_Site]:
    """Sites at the kept edge points, moved by `shift` pixels along the outward normal."""
    kept = {key: value[keep] for key, value in edges.items()}
    moved = shift[keep]
    columns = (kept["x"] + kept["nx"] * moved, kept["y"] + kept["ny"] * moved)
    rest = (kept["nx"], kept["ny"], kept["inner"], kept["outer"])
    return [_Site(*(float(v) for v in row)) for row in zip(*columns, *rest, strict=True)]


def _edge_sites(board: Board, class_name: str, edges: dict[str, np.ndarray]) -> list[_Site]:
    scale = board.scale
    inner, outer = edges["inner"], edges["outer"]
    if class_name == "mouse_bite":
        return _pick(edges, inner >= 7.5 * scale, -0.25 * np.minimum(inner, 16 * scale))
    if class_name == "open_circuit":
        return _pick(edges, (inner >= 4 * scale) & (inner <= 14.5 * scale), 0.5 - inner / 2)
    if class_name == "spur":
        return _pick(edges, (outer >= 13 * scale) & (inner >= 4 * scale), np.full_like(outer, 5 * scale))
    linked = (
        (outer >= 5 * scale) & (outer <= 24 * scale) & (edges["far"] > 0) & (edges["far"] != edges["own"])
    )
    return _pick(edges, linked, 0.5 + outer / 2)


def _hole_sites(board: Board) -> list[_Site]:
    drill = _coverage(board.drill)
    sites = []
    for pad in board.pads:
        inside = 0 <= pad.x < board.width and 0 <= pad.y < board.height
        if pad.kind not in ("via", "smd") and inside and drill[int(pad.y), int(pad.x)] > 0.5:
            sites.append(_Site(pad.x, pad.y, inner=pad.drill))
    return sites


def _free_sites(board: Board) -> list[_Site]:
    """Points of bare laminate, on a grid of 4 px, at least 11 px from copper and away from silkscreen."""
    free = ndimage.distance_transform_edt(_coverage(board.copper) < 0.5)
    silk = _near(_coverage(board.silk), 9 * board.scale)
    rows, columns = np.nonzero((free[::4, ::4] >= 11 * board.scale) & ~silk[::4, ::4])
    return [
        _Site(float(x), float(y), outer=float(free[y, x])) for x, y in zip(columns * 4, rows * 4, strict=True)
    ]


def _sites(
    board: Board, class_name: str, margin: int, edges: dict[str, np.ndarray] | None = None
) -> list[_Site]:
    if class_name not in CLASSES:
        raise ValueError(f"class {class_name!r} is none of {', '.join(CLASSES)}")
    if class_name == "missing_hole":
        sites = _hole_sites(board)
    elif class_name == "spurious_copper":
        sites = _free_sites(board)
    else:
        sites = _edge_sites(board, class_name, _edges(board) if edges is None else edges)
    return [site for site in sites if _keeps_margin(board, site.x, site.y, margin)]


def _keeps_margin(board: Board, x: float, y: float, margin: int) -> bool:
    return margin <= x <= board.width - margin and margin <= y <= board.height - margin


def candidate_sites(board: Board, class_name: str, margin: int) -> list[tuple[int, int]]:
    """Pixels (x, y) where such a defect could be centred, at least `margin` px from the image's edge.

    Raises ValueError for an unknown class.
    """
    last_x, last_y = board.width - 1, board.height - 1
    found = [(min(round(s.x), last_x), min(round(s.y), last_y)) for s in _sites(board, class_name, margin)]
    return sorted(set(found))


# Defects


@dataclass(frozen=True)
class _Frame:
    """A window of a layer with coordinates about a site: u along the normal, v along the edge, in pixels."""

    window: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray


def _frame(board: Board, site: _Site, x: float, y: float) -> _Frame:
    """A window of 64 px about (x, y) with u, v pointing along the site's normal and edge."""
    zoom, reach = SUPERSAMPLING, 32 * board.scale
    rows, columns = board.copper.shape
    x0, x1 = max(0, int((x - reach) * zoom)), min(columns, int((x + reach) * zoom))
    y0, y1 = max(0, int((y - reach) * zoom)), min(rows, int((y + reach) * zoom))
    dx = ((np.arange(x0, x1) + 0.5) / zoom - x - 0.5)[None, :]
    dy = ((np.arange(y0, y1) + 0.5) / zoom - y - 0.5)[:, None]
    nx, ny = (site.nx, site.ny) if site.nx or site.ny else (1.0, 0.0)
    return _Frame((slice(y0, y1), slice(x0, x1)), dx * nx + dy * ny, dy * nx - dx * ny)


def _ragged(rng: np.random.Generator, along: np.ndarray, amplitude: float, scale: float) -> np.ndarray:
    """A smooth random wave along a coordinate, waves of 4 to 14 px."""
    wave = np.zeros_like(along)
    for low, high in ((9, 14), (6, 9), (4, 6)):
        length, phase = float(rng.uniform(low, high)) * scale, float(rng.uniform(0, 2 * math.pi))
        wave += np.sin(2 * math.pi * along / length + phase)
    return wave * (amplitude / 1.8)


def _at_edge(site: _Site, shift: float) -> tuple[float, float]:
    return site.x - site.nx * shift, site.y - site.ny * shift


def _mouse_bite(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, *_at_edge(site, -0.25 * min(site.inner, 16 * scale) - 0.5))
    depth = min(site.inner * float(rng.uniform(0.6, 0.75)), site.inner - 2.7 * scale)
    depth = min(depth, float(rng.uniform(6.5, 10)) * scale)
    count = int(rng.choice([1, 2, 2, 3]))
    spread = float(rng.uniform(3.5, 5)) * scale
    wave = _ragged(rng, frame.v, 0.5 * scale, scale)
    bite = np.zeros(frame.u.shape, dtype=bool)
    for index in range(count):
        radius = depth * float(rng.uniform(0.8, 1.0)) if index else depth
        along = (index - (count - 1) / 2) * spread
        round_bite = np.hypot(frame.u, frame.v - along) + wave < max(radius, 3.6 * scale)
        bite |= round_bite & (frame.u > -depth)
    return frame, bite & (frame.u < 2.5 * scale)


def _open_circuit(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    half = float(rng.uniform(4.2, 7.5)) * scale
    first = frame.v > -half + _ragged(rng, frame.u, 1.3 * scale, scale)
    second = frame.v < half + _ragged(rng, frame.u, 1.3 * scale, scale)
    return frame, first & second & (np.abs(frame.u) < site.inner / 2 + 2.5 * scale)


def _short(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    half = float(rng.uniform(2.6, 4.6)) * scale
    centre = _ragged(rng, frame.u, 0.9 * scale, scale)
    flare = 1 + 0.5 * np.clip(np.abs(frame.u) / (site.outer / 2), 0, 1) ** 3
    wide = half * flare + _ragged(rng, frame.u, 0.5 * scale, scale)
    return frame, (np.abs(frame.v - centre) < wide) & (np.abs(frame.u) < site.outer / 2 + 2.5 * scale)


def _spur(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, *_at_edge(site, 4.5 * scale))
    length = min(float(rng.uniform(8.5, 15)) * scale, site.outer - 4 * scale)
    half = float(rng.uniform(2.4, 3.8)) * scale
    lean = frame.u * float(rng.uniform(-0.35, 0.35)) + _ragged(rng, frame.u, 0.6 * scale, scale)
    part = np.clip(frame.u / length, 0, 1)
    wide = half * (1.25 - 0.25 * part) * np.sqrt(np.clip(1 - part**4, 0, 1))
    wide = wide + _ragged(rng, frame.u, 0.5 * scale, scale) * (part < 0.9)
    return frame, (np.abs(frame.v - lean) < wide) & (frame.u > -1.5 * scale) & (frame.u < length)


def _spurious_copper(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    angle = float(rng.uniform(0, 2 * math.pi))
    u = frame.u * math.cos(angle) + frame.v * math.sin(angle)
    v = frame.v * math.cos(angle) - frame.u * math.sin(angle)
    if rng.random() < 0.5:
        half = min(float(rng.uniform(9, 16)) * scale, site.outer + 6 * scale)
        centre = _ragged(rng, u, 0.4 * scale, scale) + (u / half) ** 2 * float(rng.uniform(-2, 2)) * scale
        wide = float(rng.uniform(3.0, 4.4)) * scale + _ragged(rng, u, 0.4 * scale, scale)
        return frame, np.hypot(np.maximum(np.abs(u) - half + wide, 0), v - centre) < wide
    radius = min(float(rng.uniform(6.5, 11)) * scale, site.outer - 3.6 * scale)
    theta = np.arctan2(v, u)
    wave = sum(
        float(rng.uniform(0.05, 0.16)) * np.sin(k * theta + float(rng.uniform(0, 2 * math.pi)))
        for k in (2, 3, 5)
    )
    return frame, np.hypot(u, v * float(rng.uniform(1.0, 1.35))) < radius * (1 + wave)


def _missing_hole(board: Board, site: _Site, rng: np.random.Generator) -> tuple[_Frame, np.ndarray]:
    frame = _frame(board, site, site.x - 0.5, site.y - 0.5)
    return frame, np.hypot(frame.u, frame.v) < site.inner + board.scale


_EDITS: dict[str, tuple[str, bool, int, Callable[..., tuple[_Frame, np.ndarray]]]] = {
    # class: (layer, whether material is added, change in the number of conductors, shape)
    "missing_hole": ("drill", False, 0, _missing_hole),
    "mouse_bite": ("copper", False, 0, _mouse_bite),
    "open_circuit": ("copper", False, 1, _open_circuit),
    "short": ("copper", True, -1, _short),
    "spur": ("copper", True, 0, _spur),
    "spurious_copper": ("copper", True, 1, _spurious_copper),
}


def _make(
    board: Board, class_name: str, site: _Site, rng: np.random.Generator
) -> tuple[Board, Defect] | None:
    """Try one defect at one site; None where it would not be a clear case of its class."""
    name, added, change, shape = _EDITS[class_name]
    frame, touched = shape(board, site, rng)
    layer = getattr(board, name).copy()
    layer[frame.window][touched] = 255 if added else 0
    edited = replace(board, **{name: layer})
    changed = np.abs(_coverage(layer) - _coverage(getattr(board, name))) >= 0.25
    rows, columns = np.nonzero(changed.any(axis=1))[0], np.nonzero(changed.any(axis=0))[0]
    if not len(rows):
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    extent = max(box[2] - box[0], box[3] - box[1])
    if not 7.5 * board.scale <= extent <= MAX_EXTENT * board.scale:
        return None
    if name == "copper":
        if conductors(edited)[1] - conductors(board)[1] != change:
            return None
        if class_name in ("spur", "spurious_copper") and _crowds(board, changed, site, class_name):
            return None
    return edited, Defect(class_name, box, changed)


def _crowds(board: Board, changed: np.ndarray, site: _Site, class_name: str) -> bool:
    """Whether new copper comes within 3 px of other copper, a spur's root aside."""
    if class_name == "spur":
        x, y = _at_edge(site, 5 * board.scale)
        columns, rows = np.arange(board.width)[None, :] - x, np.arange(board.height)[:, None] - y
        changed = changed & (columns * site.nx + rows * site.ny > 5 * board.scale)
    around = ndimage.binary_dilation(changed, EIGHT_CONNECTED, iterations=max(1, round(3 * board.scale)))
    return bool((around & (_coverage(board.copper) >= 0.5)).any())


def _apart(box: tuple[int, int, int, int], others: Sequence[Defect], spacing: int) -> bool:
    """Whether a box keeps clear of the others by 6 px, and its centre by `spacing` px along one axis."""
    for other in others:
        left, top, right, bottom = other.box
        if min(box[2], right) + 6 > max(box[0], left) and min(box[3], bottom) + 6 > max(box[1], top):
            return False
        across, down = abs(box[0] + box[2] - left - right) / 2, abs(box[1] + box[3] - top - bottom) / 2
        if max(across, down) < spacing:
            return False
    return True


def add_defects(
    board: Board, classes: Sequence[str], seed: int, margin: int = 0, min_spacing: int = 0
) -> tuple[Board, list[Defect]]:
    """A copy of `board` with one defect for each entry of `classes`, as far as they find a place.

    margin: least distance in pixels of a defect's centre from the image's edge; min_spacing: least distance
    between two centres, along x or y, whichever is larger. A class without a fitting place is left out of
    the list. Defects never overlap. Raises ValueError for an unknown class.
    """
    rng = np.random.default_rng([seed, 2])
    original, edges = board, _edges(board)
    defects: list[Defect] = []
    for class_name in classes:
        sites = _sites(original, class_name, margin, edges)
        tries = 0
        for index in rng.permutation(len(sites)):
            site = sites[index]
            point = (round(site.x), round(site.y), round(site.x), round(site.y))
            if not _apart(point, defects, min_spacing):
                continue
            made = _make(board, class_name, site, rng)
            tries += 1
            if made is not None and _fits(made, defects, margin, min_spacing):
                board = made[0]
                defects.append(made[1])
                break
            if tries >= 14:
                break
    return board, defects


def _fits(made: tuple[Board, Defect], others: Sequence[Defect], margin: int, spacing: int) -> bool:
    board, defect = made
    x, y = defect_centre(defect)
    return _keeps_margin(board, x, y, margin) and _apart(defect.box, others, spacing)


def defect_centre(defect: Defect) -> tuple[int, int]:
    """(x, y) of the middle of the defect's box, in whole pixels."""
    left, top, right, bottom = defect.box
    return (left + right) // 2, (top + bottom) // 2


# Files


def yolo_line(box: tuple[int, int, int, int], class_name: str, height: int, width: int) -> str:
    """`class cx cy w h` with coordinates as shares of the picture, for a box in pixels."""
    left, top, right, bottom = box
    numbers = (
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        (right - left) / width,
        (bottom - top) / height,
    )
    return " ".join([str(CLASSES.index(class_name)), *(f"{number:.6f}" for number in numbers)])


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=4)


def write_clean(folder: Path, count: int, seed: int, size: int) -> None:
    """Write `count` clean boards as `board_<n>.png`, size x size."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="clean boards"):
        _save(render(draw_board(_mix(seed, 0, index), size, size)), folder / f"board_{index}.png")


def write_patches(folder: Path, per_class: int, seed: int, size: int, patch: int, margin: int) -> None:
    """Write `per_class` patches of every class as `<class>_<n>.png`, the defect's centre in the middle.

    No patch holds more than its own defect. Boards are drawn until all classes are complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = dict.fromkeys(CLASSES, per_class)
    order = np.random.default_rng([seed, 3])
    board_index = 0
    with tqdm(total=per_class * len(CLASSES), desc="defect patches") as bar:
        while any(missing.values()):
            wanted = [
                str(name) for name in order.permutation([name for name in CLASSES if missing[name] > 0])
            ]
            wanted.sort(key=lambda name: -missing[name])
            board_seed = _mix(seed, 1, board_index)
            board, defects = add_defects(
                draw_board(board_seed, size, size), wanted, board_seed, margin, patch // 2 + MAX_EXTENT // 2
            )
            picture = render(board) if defects else None
            for defect in defects:
                x, y = defect_centre(defect)
                left, top = x - patch // 2, y - patch // 2
                missing[defect.class_name] -= 1
                name = f"{defect.class_name}_{per_class - 1 - missing[defect.class_name]}.png"
                _save(picture[top : top + patch, left : left + patch], folder / name)
                bar.update()
            board_index += 1


def write_test_boards(folder: Path, count: int, seed: int, size: int, margin: int) -> None:
    """Write `count` boards with up to six defects: `board_<n>.png`, `.txt` (YOLO), `_mask.png` (0, 255)."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="test boards"):
        board_seed = _mix(seed, 2, index)
        wanted = [str(name) for name in np.random.default_rng([board_seed, 4]).permutation(CLASSES)]
        board, defects = add_defects(draw_board(board_seed, size, size), wanted, board_seed, margin)
        lines = [yolo_line(defect.box, defect.class_name, size, size) for defect in defects]
        mask = np.zeros((size, size), dtype=np.uint8)
        for defect in defects:
            mask[defect.mask] = 255
        _save(render(board), folder / f"board_{index}.png")
        _save(mask, folder / f"board_{index}_mask.png")
        (folder / f"board_{index}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _mix(seed: int, stream: int, index: int) -> int:
    """A seed of its own for every (seed, stream, index)."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1)[0])


# Bundled sample: file name, height, width, board seed, and the classes to be asked for.
_SAMPLE: tuple[tuple[str, int, int, int, tuple[str, ...]], ...] = (
    ("board_1.png", 256, 256, 10, ("missing_hole",)),
    ("board_2.png", 256, 256, 3, ("mouse_bite",)),
    ("board_3.png", 256, 256, 2, ("open_circuit",)),
    ("board_4.png", 256, 256, 21, ("spur",)),
    ("board_5.png", 384, 512, 3, ("short", "spurious_copper")),
)


def write_samples(folder: Path) -> None:
    """Write five clean boards with YOLO labels saying where a defect of each class can be painted."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, height, width, seed, classes in _SAMPLE:
        board = draw_board(seed, height, width)
        _, defects = add_defects(board, classes, seed, margin=60, min_spacing=100)
        lines = [yolo_line(defect.box, defect.class_name, height, width) for defect in defects]
        _save(render(board), folder / name)
        (folder / name).with_suffix(".txt").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )


# Command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils.synthetic_pcb", description="Draw circuit boards.")
    parser.add_argument("--out", type=Path, help="folder for the training set")
    parser.add_argument("--seed", type=int, default=0, help="the only source of randomness (0 or more)")
    parser.add_argument("--clean", type=int, default=0, help="clean boards to write")
    parser.add_argument("--per-class", type=int, default=0, help="defect patches to write for every class")
    parser.add_argument("--boards", type=int, default=0, help="whole defective boards to write to OUT/test")
    parser.add_argument("--size", type=int, default=256, help="side of a board in pixels")
    parser.add_argument("--patch", type=int, default=96, help="side of a defect patch in pixels")
    parser.add_argument("--margin", type=int, help="least distance of a defect from the edge (half a patch)")
    parser.add_argument("--samples", type=Path, help="folder for the bundled sample boards")
    return parser


def _check(args: argparse.Namespace) -> None:
    problems = []
    if args.out is None and args.samples is None:
        problems.append(
            "nothing to write: give --out DIR for a training set or --samples DIR for sample boards"
        )
    for name in ("seed", "clean", "per_class", "boards"):
        if getattr(args, name) < 0:
            problems.append(f"--{name.replace('_', '-')} must be 0 or more, got {getattr(args, name)}")
    if args.patch < 48 or args.patch % 2:
        problems.append(f"--patch must be an even number of pixels, 48 or more, got {args.patch}")
    if args.margin < args.patch // 2:
        problems.append(f"--margin must be at least half of --patch ({args.patch // 2}), got {args.margin}")
    if args.size < 2 * args.margin + 64:
        problems.append(f"--size must be at least {2 * args.margin + 64} with this margin, got {args.size}")
    if problems:
        raise UserError.from_problems("these options do not go together", problems)


def main(argv: list[str]) -> None:
    """Write what the command line asks for; raises UserError."""
    args = _parser().parse_args(argv)
    args.margin = args.patch // 2 if args.margin is None else args.margin
    _check(args)
    try:
        if args.samples is not None:
            write_samples(args.samples)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            ids = {name: index for index, name in enumerate(CLASSES)}
            (args.out / "pcb.json").write_text(json.dumps(ids) + "\n", encoding="utf-8")
            write_clean(args.out / "defect_free", args.clean, args.seed, args.size)
            write_patches(args.out / "defect", args.per_class, args.seed, args.size, args.patch, args.margin)
            if args.boards:
                write_test_boards(args.out / "test", args.boards, args.seed, args.size, args.margin)
    except OSError as error:
        raise UserError(
            f"cannot write the boards: {error}; choose a folder that can be written to"
        ) from error


if __name__ == "__main__":
    raise SystemExit(run_main(main))
