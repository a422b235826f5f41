"""Defects of surfaces: pits, scratches, cracks, stains, inclusions and dents, each filling its box."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from utils.foundation_data.textures import SIDE, Surface, draw_surface, fractal_noise

CLASSES = ("pit", "scratch", "crack", "stain", "inclusion", "dent")
COMPACT = ("pit", "inclusion", "dent")
FINER = 4  # lines are drawn at so many times the resolution

PatchBox = tuple[int, int, int, int]  # left, top, right, bottom in px, right and bottom exclusive


@dataclass(frozen=True)
class DefectPatch:
    """An image (H, W, 3) uint8 with a defect of `class_name` in `box`; no defect: both are None."""

    image: np.ndarray
    class_name: str | None
    box: PatchBox | None


def draw_patch(seed: int, index: int) -> DefectPatch:
    """A random surface, with a defect of a random class or, one time in seven, without."""
    rng = np.random.default_rng([seed, index])
    surface = draw_surface(rng)
    number = int(rng.integers(0, len(CLASSES) + 1))
    name, box = None, None
    if number < len(CLASSES):
        name = CLASSES[number]
        box = _draw_box(rng, name)
        left, top, right, bottom = box
        part = np.s_[top:bottom, left:right]
        surface.image[part] = _DRAWN[name](rng, surface.image[part].copy(), surface, _contrast(rng))
    blur = rng.uniform(0, 0.8)
    image = ndimage.gaussian_filter(surface.image, (blur, blur, 0)) + surface.fine
    return DefectPatch((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), name, box)


def _draw_box(rng: np.random.Generator, name: str) -> PatchBox:
    width, height = (int(np.exp(rng.uniform(np.log(9), np.log(56)))) for _ in "wh")
    if name in COMPACT:
        height = int(np.clip(width * np.exp(rng.normal(0, 0.35)), 8, 60))
    left = int(rng.integers(6, SIDE - 6 - width)) if width < SIDE - 12 else 6
    top = int(rng.integers(6, SIDE - 6 - height))
    if rng.random() < 0.12:
        left = int(rng.choice([0, SIDE - width]))
    if rng.random() < 0.12:
        top = int(rng.choice([0, SIDE - height]))
    return left, top, left + width, top + height


def _contrast(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.12, 0.5) * (-1 if rng.random() < 0.75 else 1))


# Shapes


def blob(rng: np.random.Generator, width: int, height: int, rough: float) -> np.ndarray:
    """Soft mask (height, width), 0 to 1, of a region with a `rough` outline that fills its box."""
    y, x = np.mgrid[0:height, 0:width]
    radius = np.hypot((x + 0.5 - width / 2) / (width / 2), (y + 0.5 - height / 2) / (height / 2))
    noise = fractal_noise(rng, rng.uniform(1.2, 2.0), max(width, height, 8))[:height, :width]
    depth = (0.92 - radius) + rough * noise * 0.5 * np.clip(1.08 - radius, 0, 1)
    mask = 1 / (1 + np.exp(-np.clip(depth * min(width, height) / 2 / rng.uniform(0.4, 0.8), -40, 40)))
    return np.where(radius > 1.5, 0, mask)


class _Pen:
    """Draws wavering lines in a box, at FINER times its resolution."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        self.rng, self.width, self.height = rng, width, height
        self.mask = np.zeros((height * FINER, width * FINER))

    def line(
        self, start: tuple[float, float], end: tuple[float, float], sway: float, thick: float
    ) -> np.ndarray:
        """A line of `thick` px that leaves the straight way by up to `sway` of its length; its points (n, 2), px."""
        rng = self.rng
        dx, dy = end[0] - start[0], end[1] - start[1]
        count = int(max(abs(dx), abs(dy)) * FINER) + 2
        t, length = np.linspace(0, 1, count), np.hypot(dx, dy)
        off = np.cumsum(rng.standard_normal(count))
        off = ndimage.gaussian_filter1d(off, count / rng.uniform(6, 30))
        off = (off - off[0]) - (off[-1] - off[0]) * t
        off = off / (np.abs(off).max() + 1e-6) * sway * length
        x, y = start[0] + dx * t - dy / length * off, start[1] + dy * t + dx / length * off
        columns = np.clip(x * FINER, 0, self.width * FINER - 1).astype(int)
        rows = np.clip(y * FINER, 0, self.height * FINER - 1).astype(int)
        drawn = np.zeros_like(self.mask)
        drawn[rows, columns] = 1
        near = ndimage.distance_transform_edt(1 - drawn) <= thick * FINER / 2
        self.mask = np.maximum(self.mask, near)
        return np.stack([columns, rows], axis=1) / FINER

    def result(self) -> np.ndarray:
        return self.mask.reshape(self.height, FINER, self.width, FINER).mean((1, 3))


def fracture(
    rng: np.random.Generator, width: int, height: int, thick: float, branches: int = 0
) -> np.ndarray:
    """Mask (height, width), 0 to 1, of a line from corner to corner of its box, with `branches`."""
    pen = _Pen(rng, width, height)
    ends = ((1, 1), (width - 1, height - 1)) if rng.random() < 0.5 else ((1, height - 1), (width - 1, 1))
    points = pen.line(*ends, rng.uniform(0.02, 0.2), thick)
    for _ in range(branches):
        i = rng.integers(len(points) // 5, max(len(points) // 5 + 1, len(points) * 4 // 5))
        end = rng.uniform(1, width - 1), rng.uniform(1, height - 1)
        pen.line((points[i, 0], points[i, 1]), end, 0.1, thick * 0.7)
    return pen.result()


# Classes: the part of the surface in the box (h, w, 3) with the defect, `contrast` darker or brighter


def _pit(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    mean = part.mean()
    mask = blob(rng, width, height, rng.uniform(0.5, 1.6))[..., None]
    noise = fractal_noise(rng, rng.uniform(0.4, 1.2), max(width, height, 8))[:height, :width, None]
    floor = noise * rng.uniform(0.02, 0.15)
    bottom = 0.7 * np.clip(mean + contrast, 0.02, 0.98)
    part = part * (1 - mask) + (part * 0.3 + bottom + floor) * mask
    if rng.random() < 0.5:  # light catches its rim
        gy, gx = np.gradient(ndimage.gaussian_filter(mask[..., 0], 1))
        rim = gx * np.cos(surface.angle) + gy * np.sin(surface.angle)
        part = part + rng.uniform(0.2, 1.0) * rim[..., None]
    return part


def _scratch(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    mask = fracture(rng, width, height, rng.uniform(1, 3.2))[..., None]
    return part * (1 - mask) + np.clip(part + contrast, 0, 1) * mask


def _crack(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    mask = fracture(rng, width, height, rng.uniform(1, 2.4), int(rng.integers(1, 4)))[..., None]
    return part * (1 - mask) + np.clip(part - abs(contrast), 0, 1) * mask


def _stain(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    shape = blob(rng, width, height, rng.uniform(0.3, 1.2))
    mask = ndimage.gaussian_filter(shape, min(width, height) / 14)[..., None]
    tint = np.ones(3) if surface.gray else rng.uniform(0.6, 1.1, 3)
    return part * (1 - mask) + part * np.clip(1 + contrast, 0.3, 1.5) * tint * mask


def _inclusion(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    mean = part.mean()
    mask = blob(rng, width, height, rng.uniform(0.2, 0.9))[..., None]
    tint = np.ones(3) if surface.gray else rng.uniform(0.5, 1.2, 3)
    strength = rng.uniform(0, 0.1)
    grain = strength * fractal_noise(rng, 0.8, max(width, height, 8))[:height, :width, None]
    return part * (1 - mask) + np.clip(mean - contrast, 0.02, 0.98) * tint * (1 + grain) * mask


def _dent(rng: np.random.Generator, part: np.ndarray, surface: Surface, contrast: float) -> np.ndarray:
    height, width = part.shape[:2]
    mask = ndimage.gaussian_filter(blob(rng, width, height, 0.4), min(width, height) / 12)
    light = rng.uniform(0, 6.3)
    gy, gx = np.gradient(mask)
    shade = gx * np.cos(light) + gy * np.sin(light)
    return part + (shade / (np.abs(shade).max() + 1e-6) * rng.uniform(0.1, 0.35))[..., None]


_DRAWN = {
    "pit": _pit,
    "scratch": _scratch,
    "crack": _crack,
    "stain": _stain,
    "inclusion": _inclusion,
    "dent": _dent,
}
