"""What a defect touches: how often along its rim the surroundings look like it.

A short touches two traces, a spur or a mouse bite one, copper that lies between traces none. Where the training
defects of a class agree about the number, a painted one that has another is of another kind, or ends short of what it
should reach.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from generation.scoring import EIGHT

RIM = 2  # px around a defect that are looked at
ALIKE = 0.5  # of its contrast, off its color by less than which a pixel looks like the defect
SHARE = 0.05  # of the rim, below which a stretch of it does not count
AGREED = 0.8  # of the training defects of a class, of which more must have one number,
FEWEST = 5  # of so many at least


def contacts(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> int:
    """On how many stretches of its rim a defect, visible in `mask` (h, w) bool, touches what looks like it.

    `before` and `after` (h, w, 3) uint8 are the place without and with it. 0 where nothing is visible.
    """
    if not mask.any():
        return 0
    inner = ndimage.binary_erosion(mask, EIGHT)
    inner = inner if inner.any() else mask
    color = np.median(after[inner], axis=0)
    contrast = float(np.median(np.abs(after[inner].astype(np.float32) - before[inner]).max(axis=1)))
    rim = ndimage.binary_dilation(mask, EIGHT, iterations=RIM) & ~mask
    alike = np.abs(after.astype(np.float32) - color).max(axis=2) < ALIKE * contrast
    labeled, _ = ndimage.label(rim & alike, EIGHT)
    return int((np.bincount(labeled.ravel())[1:] >= SHARE * rim.sum()).sum())


def usual_contacts(counts: Sequence[int]) -> int | None:
    """The number that nearly all training defects of a class have; None where they do not agree, or are few."""
    if len(counts) < FEWEST:
        return None
    ((number, agreeing),) = Counter(counts).most_common(1)
    return number if agreeing > AGREED * len(counts) else None
