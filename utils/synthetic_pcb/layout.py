"""A board without defects, from a seed."""

import math

import numpy as np

from utils.synthetic_pcb.board import Board, Pad, Style, Trace
from utils.synthetic_pcb.canvas import LayoutCanvas
from utils.synthetic_pcb.layers import pour_copper, silkscreen
from utils.synthetic_pcb.routing import lay_out

_MASKS = {
    "green": ((3, 47, 9), (8, 106, 20)),
    "blue": ((8, 26, 74), (18, 64, 142)),
    "red": ((86, 14, 18), (154, 36, 36)),
    "black": ((20, 22, 25), (68, 72, 76)),
}


def draw_board(seed: int, height: int = 256, width: int = 256, scale: float = 1.0) -> Board:
    """Draw a defect-free board; equal arguments give equal boards.

    height and width are in pixels (at least 64); at scale 1 traces are 7 to 12 px wide, pads have radii of
    8.5 to 12.5 px and clearances are 6.5 px or more, and all grow with `scale`. Raises ValueError.
    """
    if min(height, width) < 64 or scale <= 0:
        raise ValueError(f"a board needs 64 px a side and a positive scale, got {height}x{width}, {scale}")
    rng = np.random.default_rng([seed, 0])
    style = _style(rng)
    canvas = LayoutCanvas(height, width)
    lay_out(rng, canvas, scale)
    pour = pour_copper(rng, canvas, scale)
    silk = silkscreen(rng, canvas, scale)
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


def _style(rng: np.random.Generator) -> Style:
    name = str(rng.choice(list(_MASKS), p=[0.64, 0.15, 0.12, 0.09]))
    laminate, copper = (np.array(color, dtype=float) for color in _MASKS[name])
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


def _drill(pad: Pad) -> Pad:
    return Pad("round", pad.x, pad.y, pad.drill, pad.drill, 0.0)
