"""A training defect cut out of its image with a soft mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from generation.quality.checks import visible_pixels
from utils.shapes.boxes import Sides, turned
from utils.shapes.changed import change_of_twin
from utils.shapes.solid import solid

REACH = 8  # px around a box that are cut out with it, at most
VISIBLE, CERTAIN = 8.0, 24.0  # gray levels off the clean twin where a defect begins, and is whole,
SHARE = 0.1  # of its contrast, where it begins if that is more
PART = 0.2  # of its largest piece that another piece has at least; the rest is not of the defect
AROUND = 2  # px around an outline that are pasted with the defect: annotators cut its edge off
ALIGNED = 10.0  # mean difference around the box, gray levels, up to which a twin shows the same place


@dataclass(frozen=True)
class Cutout:
    """A training defect: pixels (h, w, 3) uint8, how much of each is pasted (h, w) in 0..1, and its box there in px."""

    pixels: np.ndarray
    alpha: np.ndarray
    box: Sides

    def turned(self, quarters: int, mirrored: bool) -> "Cutout":
        """Turned by quarters counterclockwise, then mirrored left to right."""
        box, (pixels, alpha) = turned(self.box, (self.pixels, self.alpha), quarters, mirrored)
        return Cutout(pixels, alpha, box)


def cut_out(image: np.ndarray, box: Sequence[float], twin: np.ndarray | None) -> Cutout:
    """The defect in `box` with a soft mask: where it differs from the clean twin, else its box with a soft edge."""
    height, width = image.shape[:2]
    left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    x0, y0 = max(left - REACH, 0), max(top - REACH, 0)
    window = (slice(y0, min(bottom + REACH, height)), slice(x0, min(right + REACH, width)))
    pixels = image[window]
    inner = (left - x0, top - y0, min(right, width) - x0, min(bottom, height) - y0)
    inside = np.zeros(pixels.shape[:2], bool)
    inside[inner[1] : inner[3], inner[0] : inner[2]] = True
    edge = np.clip(1 - ndimage.distance_transform_edt(~inside) / REACH, 0, 1)
    alpha = edge if twin is None else edge * _changed(pixels, twin[window], inside)
    return Cutout(pixels, alpha.astype(np.float32), inner)


def filled(cutout: Cutout, twin: np.ndarray) -> Cutout:
    """The cutout with all that lies between its changed pixels, which a defect that crosses a trace does not change:
    their convex hull, unless that is much larger than they are. `twin` (h, w, 3) uint8 is what it hides."""
    left, top, right, bottom = cutout.box
    inside = np.zeros(cutout.alpha.shape, bool)
    inside[top:bottom, left:right] = True
    hull = solid(visible_pixels(np.where(inside, change_of_twin(cutout.pixels, twin, inside), 0)))
    if hull is None:
        return cutout
    soft = ndimage.gaussian_filter(hull.astype(np.float32), 0.7)
    return replace(cutout, alpha=np.maximum(cutout.alpha, soft))


def outlined(cutout: Cutout, shape: np.ndarray) -> Cutout:
    """The cutout by the defect's shape (h, w) bool with a soft edge around it; as it is, if the shape is empty."""
    if not shape.any():
        return cutout
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(shape, iterations=AROUND).astype(np.float32), 1)
    return replace(cutout, alpha=np.maximum(soft, shape))


def _changed(pixels: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(h, w) in 0..1: how surely each pixel differs from the twin; 1 everywhere where that shows another place."""
    difference = change_of_twin(pixels, twin, inside)
    if (~inside).any() and difference[~inside].mean() > ALIGNED:
        return np.ones(inside.shape, np.float32)
    begins = max(VISIBLE, SHARE * float(np.percentile(difference[inside], 95)))
    sure = np.clip((ndimage.gaussian_filter(difference, 1) / begins - 1) / (CERTAIN / VISIBLE - 1), 0, 1)
    if not sure[inside].any():
        return np.ones(inside.shape, np.float32)
    return ndimage.gaussian_filter(ndimage.maximum_filter(_large_pieces(sure, inside), 3), 0.7)


def _large_pieces(sure: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`sure` (h, w) without the pieces of which little lies inside the box."""
    labeled, _ = ndimage.label(sure > 0, structure=np.ones((3, 3)))
    sizes = np.bincount(labeled.ravel(), np.where(inside, sure, 0).ravel())
    return np.where((sizes >= PART * sizes.max())[labeled], sure, 0)
