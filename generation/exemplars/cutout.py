"""A training defect cut out of its image with a soft mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from generation.quality.checks import visible_pixels
from utils.shapes.boxes import Sides, turned
from utils.shapes.changed import above_noise, change_of_twin, relit, sure_change
from utils.shapes.solid import solid

REACH = 8  # px around a box that are cut out with it, at most
VISIBLE, CERTAIN = 8.0, 24.0  # gray levels off the clean twin where a defect begins, and is whole,
SHARE = 0.1  # of its contrast, where it begins if that is more
PART = 0.2  # of its largest piece that another piece has at least; the rest is not of the defect
ALIKE = 0.5  # of its contrast, up to which a pixel may be off its usual color and look like it
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


def of_defect(cutout: Cutout, twin: np.ndarray) -> Cutout:
    """The cutout with all that is of the defect, and no more: what it changes of `twin` (h, w, 3) uint8, and those
    pixels beside and between that which look like it, as a defect that crosses a trace does not change that. What lies
    between is in the convex hull, unless that is much larger than the changed pixels.

    What does not look like it is the ground of its own place, which may be another where it is pasted.
    """
    left, top, right, bottom = cutout.box
    inside = np.zeros(cutout.alpha.shape, bool)
    inside[top:bottom, left:right] = True
    change = sure_change(cutout.pixels, twin, inside)
    visible = visible_pixels(np.where(cutout.alpha > 0, change, 0))  # beyond the box, too
    changed = _large_pieces(np.where(visible, change, 0), inside) > 0
    if not changed.any():
        return cutout
    hull = solid(changed & inside)
    off = np.abs(cutout.pixels - np.median(cutout.pixels[changed], axis=0)).max(axis=2)
    alike = off < ALIKE * float(np.median(change[changed]))
    alpha, shape = cutout.alpha, changed | (ndimage.binary_dilation(changed, np.ones((3, 3))) & alike)
    if hull is not None:
        shape |= hull & alike
        alpha = np.maximum(np.maximum(alpha, _soft(hull)), np.where(changed, 0, hull & alike))
    return replace(cutout, alpha=np.minimum(alpha, _soft(shape)).astype(np.float32))


def _soft(shape: np.ndarray) -> np.ndarray:
    """A shape (h, w) bool, 1 all over, with a soft edge around it: float32 in 0..1."""
    return np.maximum(ndimage.gaussian_filter(shape.astype(np.float32), 0.7), shape)


def outlined(cutout: Cutout, shape: np.ndarray) -> Cutout:
    """The cutout by the defect's shape (h, w) bool with a soft edge around it; as it is, if the shape is empty."""
    if not shape.any():
        return cutout
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(shape, iterations=AROUND).astype(np.float32), 1)
    return replace(cutout, alpha=np.maximum(soft, shape))


def _changed(pixels: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(h, w) in 0..1: how surely each pixel differs from the twin; 1 everywhere where that shows another place."""
    difference = change_of_twin(pixels, relit(pixels, twin, inside), inside)
    if (~inside).any() and difference[~inside].mean() > ALIGNED:
        return np.ones(inside.shape, np.float32)
    difference = above_noise(difference, inside)
    begins = max(VISIBLE, SHARE * float(np.percentile(difference[inside], 95)))
    sure = np.clip((ndimage.gaussian_filter(difference, 1) / begins - 1) / (CERTAIN / VISIBLE - 1), 0, 1)
    if not sure[inside].any():
        return np.ones(inside.shape, np.float32)
    return ndimage.gaussian_filter(ndimage.maximum_filter(_large_pieces(sure, inside), 3), 0.7)


def _large_pieces(sure: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """`sure` (h, w), 0 where nothing is, without the pieces of which little lies inside the box."""
    labeled, _ = ndimage.label(sure > 0, structure=np.ones((3, 3)))
    sizes = np.bincount(labeled.ravel(), np.where(inside, sure, 0).ravel())
    return np.where((sizes >= PART * sizes.max())[labeled], sure, 0)
