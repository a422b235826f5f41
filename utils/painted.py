"""Where a defect really was painted: mask and box from the picture itself, not from what was asked for."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMOOTHING = 0.8  # px, of the difference before thresholding
NOISE_FACTOR = 3.0  # the threshold in units of the difference's noise
PEAK_SHARE = 0.3  # and at least this share of the strongest change
RELEVANT_SHARE = 0.15  # components with less of the largest one's change are left out
EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """A painted defect: `mask` (H, W) bool, `box` (left, top, right, bottom) in px, right and bottom
    exclusive, None when nothing was painted, and `contrast`, the mean change in it in grey levels."""

    mask: np.ndarray
    box: tuple[int, int, int, int] | None
    contrast: float


def painted_region(
    before: np.ndarray,
    after: np.ndarray,
    window: tuple[int, int],
    size: int,
    attention: np.ndarray | None = None,
) -> Region:
    """The painted defect inside a window of `size` px at corner `window` (left, top).

    `before` and `after` (H, W, 3) uint8. `attention` (h, w) in [0, 1], the sampler's accumulated defect mask
    of the window at any resolution, leaves out what the sampler counted as background (below 0.01). Changes
    count from the larger of a multiple of the noise (median absolute deviation over the window) and a share
    of the strongest one; of the connected components, those with a relevant share of the change are kept.
    """
    left, top = window
    part = np.s_[top : top + size, left : left + size]
    change = np.abs(after[part].astype(np.float32) - before[part]).mean(axis=2)  # (size, size)
    smooth = ndimage.gaussian_filter(change, SMOOTHING)
    middle = float(np.median(smooth))
    noise = 1.4826 * float(np.median(np.abs(smooth - middle)))
    if attention is not None:
        nearest = [np.arange(size) * n // size for n in attention.shape]
        smooth = np.where(attention[np.ix_(*nearest)] >= 0.01, smooth, 0.0)
    threshold = max(middle + NOISE_FACTOR * noise, PEAK_SHARE * float(smooth.max()), 1.0)
    inner = _relevant(smooth > threshold, smooth)
    mask = np.zeros(before.shape[:2], dtype=bool)
    mask[part] = inner
    return Region(mask, box_of(mask), float(change[inner].mean()) if inner.any() else 0.0)


def _relevant(mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The components (8-connected) of `mask` that hold a relevant share of the largest one's `weight`."""
    labelled, count = ndimage.label(mask, structure=EIGHT)
    if count == 0:
        return mask
    sums = ndimage.sum_labels(weight, labelled, np.arange(1, count + 1))
    kept = np.flatnonzero(sums >= RELEVANT_SHARE * sums.max()) + 1
    return np.isin(labelled, kept)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Tight box (left, top, right, bottom) around a mask (H, W), right and bottom exclusive; None if empty."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
