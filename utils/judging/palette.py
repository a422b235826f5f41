"""The colors of real defects and of photographs, as chroma: whether what was painted has a color that neither has.

Chroma is (R - G, (R + G) / 2 - B) in gray levels, so that what is darker or brighter has the same one.
"""

import numpy as np
from scipy import ndimage

LEVELS = 4  # of a bin
BINS = 128  # in each direction, which hold all chromas
SMOOTHING = 1.0  # px, sigma of the Gaussian that takes the noise of color
DEFECT_SHARE, PHOTOGRAPH_SHARE = (
    0.01,
    0.002,
)  # of the pixels that a color of a defect's box, and of a photograph, has


def chroma(image: np.ndarray) -> np.ndarray:
    """The bins (h, w, 2) of the chroma of (h, w, 3) uint8, smoothed."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (SMOOTHING, SMOOTHING, 0))
    red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    both = np.stack([red - green, (red + green) / 2 - blue], axis=2)
    return np.clip(np.rint(both / LEVELS).astype(int) + BINS // 2, 0, BINS - 1)


def palette_of(bins: np.ndarray, share: float) -> np.ndarray:
    """(BINS, BINS) bool: the bins that hold a `share` or more of the pixels (..., 2)."""
    flat = bins.reshape(-1, 2) @ np.array([BINS, 1])
    counts = np.bincount(flat, minlength=BINS * BINS).reshape(BINS, BINS)
    return (counts > 0) & (counts >= share * len(flat))


def foreign_color(before: np.ndarray, after: np.ndarray, mask: np.ndarray, known: np.ndarray) -> float:
    """Mean distance in gray levels between the chroma in `mask` (h, w) bool after painting and the nearest one that the
    clean window or the `known` palette (BINS, BINS) bool has; 0 without a mask. Both windows are (h, w, 3) uint8."""
    if not mask.any():
        return 0.0
    own = palette_of(chroma(before), PHOTOGRAPH_SHARE)
    distance = ndimage.distance_transform_edt(~(own | known)) * LEVELS
    rows, columns = chroma(after)[mask].T
    return float(distance[rows, columns].mean())
