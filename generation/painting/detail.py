"""Detail that is too fine for the model, where the photograph has more pixels than it saw.

Outside what was painted it stays the photograph's. A painted defect gets that of the training defect it began with, as
in a Laplacian pyramid (Burt and Adelson 1983): coarse structure by the prior, fine structure from a real defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generation.geometry import Window
from generation.painting.results import ContextResult
from generation.quality.checks import FLOOR, fine_texture
from utils import images

REACH = 1.5  # px, sigma of the neighborhood in which fine textures are compared
PAINTED = 16.0  # gray levels of change from which on a pixel counts as painted anew
LIGHT = 3.0  # px, sigma of the neighborhood in which painting has a light or color of its own
RELIT = 0.3  # of a defect's contrast, by which it may be lighter or darker than it was laid
STRUCTURE = 1.5  # px, sigma of the smallest change of a defect's shape that counts; less is a softer edge
FOLLOWED = 0.12, 0.24  # of a defect's contrast, off by up to which it is followed, and from which it is not,
# times its scale: the more it was shrunk, the less of its shape was seen
BESIDE = 5  # px, side of the neighborhood that is not followed where one pixel is not
GROWTH = 3  # px around a training defect that are as it was laid, not as they were painted
HALF = 0.5  # of a pixel, from which on it is of a defect
EPSILON = 1e-3  # keeps a mean over no pixels finite


@dataclass(frozen=True)
class Fine:
    """What a native square looks like with all detail, `pixels` (side, side, 3) float32, and how far that counts there,
    `weight` (side, side) in 0..1."""

    pixels: np.ndarray
    weight: np.ndarray


def with_detail(
    result: ContextResult, shown: np.ndarray, native: np.ndarray, square: Window, windows: Sequence[Window]
) -> Fine | None:
    """The training defects that a context began with in its native `square`, `native` (side, side, 3) uint8, where
    `shown` (S, S, 3) uint8, as it was painted, still follows them; as light and as colored as they were painted.
    `windows` are its windows in px of the image. None where the model saw all of it, or no defect is native.
    """
    if len(native) == len(shown) or all(laid.native is None for laid in result.laid):
        return None
    left, top, side = square
    pixels, size = native.copy(), native.shape[:2]
    own, near = (np.zeros(shown.shape[:2], np.float32) for _ in range(2))
    for laid, (x, y, length), (column, row) in zip(result.laid, windows, result.corners, strict=True):
        if laid.native is not None:
            part = np.s_[y - top : y - top + length, x - left : x - left + length]
            pixels[part] = laid.native.over(pixels[part])
            part = np.s_[row : row + len(laid.pixels), column : column + len(laid.pixels)]
            np.maximum(own[part], laid.native.weight, out=own[part])
            np.maximum(near[part], laid.support, out=near[part])
    off = shown.astype(np.float32) - result.begun
    contrast = _contrast(result, own)
    light = _smooth(off * own[..., None], LIGHT) / (_smooth(own, LIGHT)[..., None] + EPSILON)
    light = np.clip(light, -RELIT * contrast, RELIT * contrast) * own[..., None]
    near = _smooth(ndimage.binary_dilation(near > 0, iterations=GROWTH).astype(np.float32), 1)
    weight = images.resize_float(
        (near * follows(off - light, contrast * side / len(shown)))[..., None], size
    )[..., 0]
    if images.is_gray(result.before):
        pixels = images.gray(pixels)
    return Fine(pixels + images.resize_float(light, size), weight)


def follows(off: np.ndarray, contrast: float) -> np.ndarray:
    """How far a painting has kept the shape of a defect of some contrast that it began with, from which it is `off` by
    (S, S, 3) gray levels: (S, S) float32, 1 where it has, 0 where it is another."""
    strength = ndimage.maximum_filter(np.abs(_smooth(off, STRUCTURE)).max(axis=2), BESIDE)
    kept, lost = (share * contrast + EPSILON for share in FOLLOWED)
    return np.clip((lost - strength) / (lost - kept), 0, 1).astype(np.float32)


def _contrast(result: ContextResult, own: np.ndarray) -> float:
    """What the training defects that are laid over a context, where they are its `own` (S, S), change: gray levels."""
    change = np.abs(result.begun.astype(np.float32) - result.before).max(axis=2)
    return float(np.percentile(change[own >= HALF], 75)) if (own >= HALF).any() else 0.0


def _smooth(field: np.ndarray, sigma: float) -> np.ndarray:
    """(S, S) or (S, S, c) blurred by a Gaussian of `sigma` px."""
    return ndimage.gaussian_filter(field, (sigma, sigma, *[0] * (field.ndim - 2)))


def detail_kept(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much of the photograph's detail that is too fine for the model stays: (S, S, 3) float32 in 0..1, `before` and
    `after` its context (S, S, 3) uint8. Where something was painted, the ratio of the fine texture after to that
    before, at most 1: the edge of a trace does not show through what was painted over it."""
    fine_before, fine_after = (
        ndimage.gaussian_filter(fine_texture(image), REACH) + FLOOR for image in (before, after)
    )
    ratio = np.minimum(fine_after / fine_before, 1)
    change = np.abs(after.astype(np.float32) - before).max(axis=2)
    painted = np.clip(ndimage.gaussian_filter(change, 1) / PAINTED, 0, 1)
    kept = 1 + painted * (ratio - 1)
    return np.repeat(kept[..., None], 3, axis=2).astype(np.float32)
