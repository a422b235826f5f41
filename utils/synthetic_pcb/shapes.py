"""The shapes of the six defects: which pixels of a layer each of them changes."""

import math
from dataclasses import dataclass

import numpy as np

from utils.synthetic_pcb.board import SUPERSAMPLING, Board
from utils.synthetic_pcb.sites import Site


@dataclass(frozen=True)
class Frame:
    """A window of a layer with coordinates about a site: u along the normal, v along the edge, in pixels."""

    window: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray


def _frame(board: Board, site: Site, x: float, y: float) -> Frame:
    """A window of 64 px about (x, y) with u, v pointing along the site's normal and edge."""
    zoom, reach = SUPERSAMPLING, 32 * board.scale
    rows, columns = board.copper.shape
    x0, x1 = max(0, int((x - reach) * zoom)), min(columns, int((x + reach) * zoom))
    y0, y1 = max(0, int((y - reach) * zoom)), min(rows, int((y + reach) * zoom))
    dx = ((np.arange(x0, x1) + 0.5) / zoom - x - 0.5)[None, :]
    dy = ((np.arange(y0, y1) + 0.5) / zoom - y - 0.5)[:, None]
    nx, ny = (site.nx, site.ny) if site.nx or site.ny else (1.0, 0.0)
    return Frame((slice(y0, y1), slice(x0, x1)), dx * nx + dy * ny, dy * nx - dx * ny)


def _ragged(rng: np.random.Generator, along: np.ndarray, amplitude: float, scale: float) -> np.ndarray:
    """A smooth random wave along a coordinate, waves of 4 to 14 px."""
    wave = np.zeros_like(along)
    for low, high in ((9, 14), (6, 9), (4, 6)):
        length, phase = float(rng.uniform(low, high)) * scale, float(rng.uniform(0, 2 * math.pi))
        wave += np.sin(2 * math.pi * along / length + phase)
    return wave * (amplitude / 1.8)


def at_edge(site: Site, shift: float) -> tuple[float, float]:
    """(x, y) of a site moved inward by `shift` px."""
    return site.x - site.nx * shift, site.y - site.ny * shift


def mouse_bite(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, *at_edge(site, -0.25 * min(site.inner, 16 * scale) - 0.5))
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


def open_circuit(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    half = float(rng.uniform(4.2, 7.5)) * scale
    first = frame.v > -half + _ragged(rng, frame.u, 1.3 * scale, scale)
    second = frame.v < half + _ragged(rng, frame.u, 1.3 * scale, scale)
    return frame, first & second & (np.abs(frame.u) < site.inner / 2 + 2.5 * scale)


def short(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    half = float(rng.uniform(2.6, 4.6)) * scale
    center = _ragged(rng, frame.u, 0.9 * scale, scale)
    flare = 1 + 0.5 * np.clip(np.abs(frame.u) / (site.outer / 2), 0, 1) ** 3
    wide = half * flare + _ragged(rng, frame.u, 0.5 * scale, scale)
    return frame, (np.abs(frame.v - center) < wide) & (np.abs(frame.u) < site.outer / 2 + 2.5 * scale)


def spur(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, *at_edge(site, 4.5 * scale))
    length = min(float(rng.uniform(8.5, 15)) * scale, site.outer - 4 * scale)
    half = float(rng.uniform(2.4, 3.8)) * scale
    lean = frame.u * float(rng.uniform(-0.35, 0.35)) + _ragged(rng, frame.u, 0.6 * scale, scale)
    part = np.clip(frame.u / length, 0, 1)
    wide = half * (1.25 - 0.25 * part) * np.sqrt(np.clip(1 - part**4, 0, 1))
    wide = wide + _ragged(rng, frame.u, 0.5 * scale, scale) * (part < 0.9)
    return frame, (np.abs(frame.v - lean) < wide) & (frame.u > -1.5 * scale) & (frame.u < length)


def spurious_copper(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    scale = board.scale
    frame = _frame(board, site, site.x, site.y)
    angle = float(rng.uniform(0, 2 * math.pi))
    u = frame.u * math.cos(angle) + frame.v * math.sin(angle)
    v = frame.v * math.cos(angle) - frame.u * math.sin(angle)
    if rng.random() < 0.5:
        half = min(float(rng.uniform(9, 16)) * scale, site.outer + 6 * scale)
        center = _ragged(rng, u, 0.4 * scale, scale) + (u / half) ** 2 * float(rng.uniform(-2, 2)) * scale
        wide = float(rng.uniform(3.0, 4.4)) * scale + _ragged(rng, u, 0.4 * scale, scale)
        return frame, np.hypot(np.maximum(np.abs(u) - half + wide, 0), v - center) < wide
    radius = min(float(rng.uniform(6.5, 11)) * scale, site.outer - 3.6 * scale)
    theta = np.arctan2(v, u)
    wave = sum(
        float(rng.uniform(0.05, 0.16)) * np.sin(k * theta + float(rng.uniform(0, 2 * math.pi)))
        for k in (2, 3, 5)
    )
    return frame, np.hypot(u, v * float(rng.uniform(1.0, 1.35))) < radius * (1 + wave)


def missing_hole(board: Board, site: Site, rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    frame = _frame(board, site, site.x - 0.5, site.y - 0.5)
    return frame, np.hypot(frame.u, frame.v) < site.inner + board.scale
