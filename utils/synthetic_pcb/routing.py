"""Routing: rows of pads, buses and single conductors, as far as they find room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.synthetic_pcb.board import Pad, Trace, Vertex
from utils.synthetic_pcb.canvas import LayoutCanvas

_DIRECTIONS = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]


@dataclass(frozen=True)
class Bundle:
    """Parallel traces: their number, pitch and width in pixels, and the kinds of their two ends."""

    count: int
    pitch: float
    width: float
    ends: tuple[str, str]


def lay_out(rng: np.random.Generator, canvas: LayoutCanvas, scale: float) -> None:
    """Fill the canvas: pad rows, buses, then single conductors where there is room."""
    area = canvas.height * canvas.width / (256 * scale) ** 2
    holed = ["round", "round", "oval", "square"]

    def width() -> float:
        return float(rng.uniform(7.0, 12.0)) * scale

    for _ in range(round(float(rng.uniform(3, 7)) * area)):
        first = str(rng.choice(holed))
        last = str(rng.choice([*holed, "edge", "edge", "via", "smd"]))
        pitch = float(rng.uniform(27, 38)) * scale
        bundle = Bundle(int(rng.integers(2, 7)), pitch, width(), (first, last))
        _place_bundle(rng, canvas, bundle, scale)
    for _ in range(round(float(rng.uniform(2, 7)) * area)):
        first, last = (str(k) for k in rng.choice(["edge", "edge", "via"], size=2))
        wide = width()
        pitch = wide + float(rng.uniform(8, 16)) * scale
        bundle = Bundle(int(rng.integers(2, 8)), pitch, wide, (first, last))
        _place_bundle(rng, canvas, bundle, scale)
    for _ in range(round(float(rng.uniform(12, 40)) * area)):
        first = str(rng.choice([*holed, "smd", "via"]))
        last = str(rng.choice([*holed, "edge", "via", "smd"]))
        _place_bundle(rng, canvas, Bundle(1, 1.0, width(), (first, last)), scale)


def _place_bundle(rng: np.random.Generator, canvas: LayoutCanvas, bundle: Bundle, scale: float) -> None:
    """Place those traces of a bundle, with their terminals, that keep clear of everything placed before."""
    base = _base_line(rng, canvas, bundle.ends, scale)
    along = _direction(base)
    pads = [
        _terminal(rng, kind, (0.0, 0.0), along, scale) if kind != "edge" else None for kind in bundle.ends
    ]
    for index in range(bundle.count):
        line = _offset(base, (index - (bundle.count - 1) / 2) * bundle.pitch)
        shapes: list[Trace | Pad] = [Trace(tuple(line), bundle.width)]
        for pad, at in zip(pads, (line[0], line[-1]), strict=True):
            if pad is not None:
                shapes.append(replace(pad, x=at[0], y=at[1]))
        inside = all(_on_board(canvas, shape, scale) for shape in shapes[1:])
        inside = inside and math.dist(line[0], line[-1]) > 36 * scale and _unfolded(base, line, 12 * scale)
        if inside and all(canvas.fits(shape, 6.5 * scale) for shape in shapes):
            canvas.place(shapes)


def _base_line(
    rng: np.random.Generator, canvas: LayoutCanvas, kinds: tuple[str, str], scale: float
) -> list[Vertex]:
    """A random polyline over the board; at an end of the kind "edge" it runs far beyond the board."""
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


def _route(rng: np.random.Generator, start: Vertex, heading: int, reach: float, scale: float) -> list[Vertex]:
    """A polyline from `start` along `heading` (eighths of a turn), bending by 45 degrees, `reach` px long."""
    points, traveled = [start], 0.0
    turn, swing = int(rng.choice([-1, 1])), 0
    while traveled < reach:
        step = float(rng.uniform(28, 110)) * scale
        step = min(step, max(reach - traveled, 26 * scale))
        dx, dy = _DIRECTIONS[heading % 8]
        points.append((points[-1][0] + dx * step, points[-1][1] + dy * step))
        traveled += step
        turn = -turn if abs(swing + turn) > 2 else turn
        heading, swing = heading + turn, swing + turn
        turn = -turn if rng.random() < 0.7 else turn
    return points


def _offset(points: Sequence[Vertex], distance: float) -> list[Vertex]:
    """The polyline at `distance` pixels to the left of `points`, with mitered corners."""
    array = np.asarray(points, dtype=float)
    steps = np.diff(array, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    joint = np.concatenate([normals[:1], normals[:-1] + normals[1:], normals[-1:]])
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    cosine = np.clip((before * after).sum(axis=1, keepdims=True), -0.9, 1.0)
    joint[1:-1] /= (1 + cosine)[1:-1]
    return [(float(x), float(y)) for x, y in array + distance * joint]


def _unfolded(points: Sequence[Vertex], moved: Sequence[Vertex], least: float) -> bool:
    """Whether every stretch of the offset polyline still runs forward, for `least` pixels or more."""
    before, after = (np.diff(np.asarray(line, dtype=float), axis=0) for line in (points, moved))
    forward = (before * after).sum(axis=1) / np.linalg.norm(before, axis=1)
    return bool((forward >= least).all())


def _terminal(rng: np.random.Generator, kind: str, at: Vertex, heading: Vertex, scale: float) -> Pad:
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


def _direction(points: Sequence[Vertex]) -> Vertex:
    (ax, ay), (bx, by) = points[0], points[1]
    length = math.hypot(bx - ax, by - ay)
    return (bx - ax) / length, (by - ay) / length


def _on_board(canvas: LayoutCanvas, pad: Trace | Pad, scale: float) -> bool:
    assert isinstance(pad, Pad)
    slack = 2 * scale
    across = pad.rx - slack <= pad.x <= canvas.width - pad.rx + slack
    return across and pad.ry - slack <= pad.y <= canvas.height - pad.ry + slack
