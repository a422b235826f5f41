"""A synthetic board: its layers, the shapes on it, its appearance and its defects."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy import ndimage

CLASSES: tuple[str, ...] = ("missinghole", "mousebite", "opencircuit", "short", "spur", "spuriouscopper")
SUPERSAMPLING = 3  # pixels of a layer per image pixel, along each side
MAX_EXTENT = 40  # px at scale 1: the longest side of a defect's box
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)

Vertex = tuple[float, float]  # (x, y)


@dataclass(frozen=True)
class Trace:
    """A polyline of copper; points (x, y) and width in image pixels."""

    points: tuple[Vertex, ...]
    width: float


@dataclass(frozen=True)
class Pad:
    """A terminal. kind: round, square, oval_x, oval_y, smd (no drill) or via (covered by solder mask).

    x, y, half sizes rx, ry and the drill's radius (0: none) are in image pixels.
    """

    kind: str
    x: float
    y: float
    rx: float
    ry: float
    drill: float


@dataclass(frozen=True)
class Style:
    """Appearance of a board: its materials (RGB, 0..255), the light and the camera."""

    laminate: tuple[float, float, float]
    copper: tuple[float, float, float]
    metal: tuple[float, float, float]
    silk: tuple[float, float, float]
    hole: tuple[float, float, float]
    light: Vertex
    falloff: Vertex
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
class BoardDefect:
    """A defect on a synthetic board: its class, its tight box and the pixels whose copper or drill changed.

    box is (left, top, right, bottom) in pixels, right and bottom exclusive; mask is (H, W) bool.
    """

    class_name: str
    box: tuple[int, int, int, int]
    mask: np.ndarray


def defect_center(defect: BoardDefect) -> tuple[int, int]:
    """(x, y) of the middle of the defect's box, in whole pixels."""
    left, top, right, bottom = defect.box
    return (left + right) // 2, (top + bottom) // 2


def conductors(board: Board) -> tuple[np.ndarray, int]:
    """Connected pieces of copper as (H, W) int labels (0: laminate), and their number."""
    return ndimage.label(coverage(board.copper) >= 0.5, structure=EIGHT_CONNECTED)


def coverage(layer: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the fraction of each pixel that a (3H, 3W) layer covers."""
    return np.asarray(Image.fromarray(layer).reduce(SUPERSAMPLING), dtype=np.float32) / 255.0


def blur(array: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an (H, W) array; `sigma` in pixels."""
    return ndimage.gaussian_filter(array, sigma, truncate=3.0, mode="nearest")
