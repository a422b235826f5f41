"""Rendering a board's layers as a photograph."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from utils.synthetic_pcb.board import Board, Style, blur, coverage


def render(board: Board) -> np.ndarray:
    """Photograph a board: (H, W, 3) uint8 RGB.

    Light, noise and JPEG quality come only from the board's style, so a board and its defective copy agree
    away from the defects, up to the JPEG error inside the 8x8 blocks that a defect touches.
    """
    style = board.style
    rng = np.random.default_rng([style.noise_seed, 1])
    image = _surface(board, rng)
    y = np.linspace(-1, 1, board.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, board.width, dtype=np.float32)[None, :]
    light = style.gain * (1 + style.falloff[0] * x + style.falloff[1] * y - 0.05 * (x * x + y * y))
    image = image * light[..., None]
    image = ndimage.gaussian_filter(image, (style.blur, style.blur, 0), truncate=3.0)
    grain = rng.standard_normal((board.height, board.width, 3), dtype=np.float32)
    grain = ndimage.gaussian_filter(grain, (0.5, 0.5, 0), truncate=2.0) * (style.noise * 1.3)
    image = image + grain * (0.55 + image / 300.0)
    pixels = Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    with io.BytesIO() as buffer:
        pixels.save(buffer, "JPEG", quality=style.jpeg_quality, subsampling=0)
        return np.array(Image.open(buffer).convert("RGB"))


def _surface(board: Board, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 board as a sharp, noiseless, evenly lit image."""
    style, scale = board.style, board.scale
    copper, drill = _etched(coverage(board.copper), scale), coverage(board.drill)
    metal = np.minimum(coverage(board.opening), copper)
    shape = copper.shape
    mottle = blur(rng.standard_normal(shape, dtype=np.float32), 1.6) * 5
    cloud = ndimage.zoom(rng.standard_normal((shape[0] // 32 + 2, shape[1] // 32 + 2)), 32, order=1)
    cloud = cloud[: shape[0], : shape[1]].astype(np.float32)
    soft = blur(copper, 1.0 * scale)
    shadow = np.clip(blur(copper, 2.4 * scale) - 0.15, 0, 1) * (1 - copper) * style.halo
    laminate = (
        np.array(style.laminate, dtype=np.float32) * (1 - shadow + 0.04 * cloud + 0.025 * mottle)[..., None]
    )
    slope_y, slope_x = np.gradient(soft)
    relief = -(slope_x * style.light[0] + slope_y * style.light[1]) * style.emboss * 2
    lit = (1 + relief + 0.03 * cloud + 0.02 * mottle)[..., None]
    image = _over(laminate, np.array(style.copper, dtype=np.float32) * lit, copper)
    image = _over(image, np.array(style.copper, dtype=np.float32) * 0.35, coverage(board.via) * 0.9)
    worn = coverage(board.silk) * np.clip(0.86 + 0.06 * mottle, 0, 1)
    image = _over(image, np.array(style.silk, dtype=np.float32), worn)
    ring = np.clip(metal - drill, 0, 1)
    image = _over(image, _metal(ring, style, scale, mottle), metal)
    slope_y, slope_x = np.gradient(blur(drill, 1.2 * scale))
    wall = np.clip(slope_x * style.light[0] + slope_y * style.light[1], 0, 1)
    hole = np.array(style.hole, dtype=np.float32) + wall[..., None] * 120.0
    return _over(image, hole, drill)


def _metal(metal: np.ndarray, style: Style, scale: float, mottle: np.ndarray) -> np.ndarray:
    """(H, W, 3) color of exposed metal: a solder dome lit from one side. metal: (H, W) coverage."""
    reach = 8.0 * scale
    depth = np.minimum(ndimage.distance_transform_edt(metal > 0.5), reach).astype(np.float32) / reach
    dome = blur(np.sqrt(np.clip(1 - (1 - depth) ** 2, 0, 1)), 1.0 * scale) * reach * 0.8
    slope_y, slope_x = np.gradient(dome)
    steep = np.sqrt(1 + slope_x**2 + slope_y**2)
    toward = -(slope_x * style.light[0] + slope_y * style.light[1]) / steep
    flat = 1 / steep
    rim = np.clip(1 - depth * reach / (2.2 * scale), 0, 1)
    shade = (0.5 + 0.44 * flat + 0.4 * toward + 0.08 * mottle) * (1 - 0.25 * rim)
    shine = np.clip(0.55 * toward + 0.83 * flat, 0, 1) ** 14
    return np.array(style.metal, dtype=np.float32) * shade[..., None] + 74.0 * shine[..., None]


def _etched(cover: np.ndarray, scale: float) -> np.ndarray:
    """Coverage with the sharp corners rounded off, as etching leaves them."""
    return np.clip((blur(cover, 1.1 * scale) - 0.5) * 2.4 + 0.5, 0, 1)


def _over(image: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return image + (color - image) * alpha[..., None]
