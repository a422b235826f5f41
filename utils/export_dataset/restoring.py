"""Images without the defects that were rejected: there the clean image comes back.

Of a run with `background: masked`, whose images are the clean ones outside the defects' soft masks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from utils.manifest import mask_of

EDGE = 8  # px around a defect's mask that may be its soft edge

ManifestDefects = Sequence[Mapping[str, Any]]


def can_be_restored(rejected: ManifestDefects, kept: ManifestDefects) -> bool:
    """Whether the rejected defects lie apart from those that are kept."""
    near = _near(kept)
    return not any((mask_of(one["mask"]) & near).any() for one in rejected)


def restored(
    image: np.ndarray, clean: np.ndarray, rejected: ManifestDefects, kept: ManifestDefects
) -> np.ndarray:
    """An image (H, W, 3) uint8 with the clean one in the windows of the rejected defects, but for the others."""
    near, found = _near(kept), image.copy()
    for one in rejected:
        left, top, side = one["window"]
        part = np.s_[top : top + side, left : left + side]
        found[part] = np.where(near[part][..., None], image[part], clean[part])
    return found


def _near(defects: ManifestDefects) -> np.ndarray:
    """(H, W) bool: the defects, of which there is one at least, and EDGE px around them."""
    masks = np.logical_or.reduce([mask_of(one["mask"]) for one in defects])
    return ndimage.distance_transform_edt(~masks) <= EDGE
