"""Plain checks of a painted defect: numbers with units that need no network, and how much of a score each leaves.

All images are windows (h, w, 3) uint8 before and after painting, all masks (h, w) bool, all boxes (left, top, right,
bottom) in px of the window, right and bottom exclusive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from scipy import ndimage

from generation.scoring import EIGHT, SPECK, PixelBox, box_of
from utils.images import is_gray

VISIBLE = 10.0  # gray levels from which on a change is seen
TOLERANCE = 2  # px around a mask in which a change counts as covered
SOFT_EDGE = 6  # px around a mask in which a composite by the mask may change pixels
FINE = 1.0  # px, sigma of the Gaussian that fine texture is what remains of
FLOOR = 0.25  # gray levels added to both sides of a ratio of textures: 8 bits show no finer ones
SURROUNDINGS = 8  # px around a mask whose texture the painted region should have

# Of each check the value that leaves nothing of a score, and the value from which on it leaves all
RAMPS = {
    "coverage": (0.5, 0.95),
    "size_iou": (0.1, 0.6),
    # Smooth holes and bites are real; a surplus is edges, of which a flat ground has none
    "grain": (0.1, 0.2),
    "tint": (12.0, 3.0),
    "color": (6.0, 3.0),  # gray levels of chroma: 95 % of held-out real defects are below 2
    "spill": (0.5, 0.02),
    "domain": (2.0, 1.2),  # 1 in 20 windows of the training images exceeds 1
    "misfit": (0.5, 0.0),  # likeness; 3 in 4 training defects have none at the places of others
    "contacts": (1.0, 0.0),
    "whole": (0.6, 0.95),  # of two equal pieces, where one was laid, the larger one is half
}


@dataclass(frozen=True)
class PaintedWindow:
    """A window before and after painting, the defect's mask, its box, and the box that was requested (None: only a
    center was) with `margin` px around the defect; `box` None: nothing was painted. `misfit`: how badly the training
    defect fits there that it was painted from, None without one; `drawn`: the box that its annotator would draw, None
    where that is not known; `whole`: how much of it is in one piece, see `wholeness`, None where no one was laid;
    `contacts`: by how many it touches more or less of what looks like it than the training defects of its class, None
    where these do not agree."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    box: PixelBox | None
    wanted: PixelBox | None
    _: KW_ONLY
    margin: float = 0.0
    misfit: float | None = None
    drawn: PixelBox | None = None
    whole: float | None = None
    contacts: int | None = None

    @property
    def change(self) -> np.ndarray:
        """Largest change of a channel, (h, w) float32 in gray levels."""
        return np.abs(self.after.astype(np.float32) - self.before).max(axis=2)


def quality_checks(painted: PaintedWindow) -> dict[str, float]:
    """The checks by name.

    coverage: fraction of the visible change (above 10 gray levels) inside the mask, with 2 px of tolerance. size_iou:
    intersection over union of the painted box, as an annotator would draw it where that is known, and the likest one
    between the requested box and that without its margin, since annotators do not keep it to the pixel. grain: fine
    texture of the painted region as a ratio to that of its clean surroundings. tint: mean difference of the channels
    where a gray image was painted, in gray levels; 0 for color images. spill: pixels changed beyond the mask's soft
    edge, as a ratio to the mask's. misfit: how much less like its own the place is for the training defect that was
    laid there than is usual among training defects, in likeness (1: the same), with what another ground under it and
    its stretch cost; absent where none was. whole: see `wholeness`; absent where no training defect was laid. contacts:
    by how many stretches of its rim it touches more or less of what looks like it than the training defects of its
    class; absent where these do not agree.
    """
    change, mask = painted.change, painted.mask
    box, wanted = painted.drawn or painted.box, painted.wanted
    checks = {
        "coverage": coverage(change, mask),
        "size_iou": 1.0 if wanted is None else size_iou(box, wanted, painted.margin),
        "grain": grain(painted),
        "tint": tint(painted.before, painted.after, mask),
        "spill": float((change > 0)[~grown(mask, SOFT_EDGE)].sum() / max(mask.sum(), 1)),
    }
    known = {"misfit": painted.misfit, "whole": painted.whole, "contacts": painted.contacts}
    return checks | {name: float(value) for name, value in known.items() if value is not None}


def score_factor(checks: Mapping[str, float]) -> float:
    """What the checks leave of a score: the product of their ramps, in [0, 1]."""
    factor = 1.0
    for name, (nothing, everything) in RAMPS.items():
        if name in checks:
            factor *= _ramp(checks[name], nothing, everything)
    return factor


def _ramp(value: float, nothing: float, everything: float) -> float:
    """0 at `nothing`, 1 at `everything`, linear between them."""
    return float(np.clip((value - nothing) / (everything - nothing), 0, 1)) + 0.0  # never -0.0


def coverage(change: np.ndarray, mask: np.ndarray) -> float:
    """Fraction of the visible pixels of a change (h, w), in gray levels, inside the mask or close to it; 1 where
    nothing is visible."""
    visible = change > VISIBLE
    return float(grown(mask, TOLERANCE)[visible].mean()) if visible.any() else 1.0


def visible_pixels(change: np.ndarray) -> np.ndarray:
    """The visible pixels (h, w) bool of a change (h, w) in gray levels; specks are left out."""
    labeled, _ = ndimage.label(change > VISIBLE, structure=EIGHT)
    sizes = np.bincount(labeled.ravel())
    sizes[0] = 0  # what does not change
    return (sizes >= SPECK)[labeled]


def visible_box(change: np.ndarray) -> PixelBox | None:
    """The box around the visible pixels of a change (h, w) in gray levels."""
    return box_of(visible_pixels(change))


def inset(box: Sequence[float], margin: float) -> tuple[float, float, float, float]:
    """The box without a margin in px, but at least a third of each side."""
    x, y = (min(margin, (box[k + 2] - box[k]) / 3) for k in (0, 1))
    return box[0] + x, box[1] + y, box[2] - x, box[3] - y


def size_iou(box: PixelBox | None, wanted: PixelBox, margin: float) -> float:
    """Intersection over union of a box with the likest one between `wanted` and that without a margin in px; 0 for
    None."""
    if box is None:
        return 0.0
    inner = inset(wanted, margin)
    return box_iou(box, np.clip(box, np.minimum(wanted, inner), np.maximum(wanted, inner)).tolist())


def wholeness(mask: np.ndarray, laid: np.ndarray) -> float:
    """The largest piece of a painted defect's mask (h, w) bool as a share of it, as a ratio to that of the training
    defect that was `laid` there, at most 1: where this was in one piece, that is to be so. 1 where a mask is empty."""
    if not (mask.any() and laid.any()):
        return 1.0
    return min(1.0, _largest_share(mask) / _largest_share(laid))


def _largest_share(mask: np.ndarray) -> float:
    labeled, _ = ndimage.label(mask, structure=EIGHT)
    return float(np.bincount(labeled[mask]).max() / mask.sum())


def box_iou(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """Intersection over union of two boxes, 0 where one is missing."""
    if one is None or other is None:
        return 0.0
    sides = [min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
    both = max(0, sides[0]) * max(0, sides[1])
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return both / (areas - both) if areas > both else 0.0


def grain(painted: PaintedWindow) -> float:
    """Fine texture of the painted region as a ratio to that of the clean pixels around it; 1 without a mask."""
    inside = ndimage.binary_erosion(painted.mask) if painted.mask.sum() > 30 else painted.mask
    around = grown(painted.mask, SURROUNDINGS) & ~painted.mask
    if not inside.any() or not around.any():
        return 1.0
    return _ratio(fine_texture(painted.after)[inside], fine_texture(painted.before)[around])


def texture_ratio(before: np.ndarray, after: np.ndarray) -> float:
    """Fine texture of a whole window after painting as a ratio to the one before."""
    return _ratio(fine_texture(after), fine_texture(before))


def fine_texture(image: np.ndarray) -> np.ndarray:
    """What a Gaussian of 1 px takes from the mean of the channels, its magnitude (h, w) in gray levels."""
    gray = image.astype(np.float32).mean(axis=2)
    return np.abs(gray - ndimage.gaussian_filter(gray, FINE))


def _ratio(one: np.ndarray, other: np.ndarray) -> float:
    """Of the medians, which edges do not move."""
    return float((np.median(one) + FLOOR) / (np.median(other) + FLOOR))


def tint(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference between the largest and the smallest channel in the mask after painting, gray levels; 0 unless
    the image was gray before."""
    if not mask.any() or not is_gray(before):
        return 0.0
    return float(np.ptp(after, axis=2)[mask].mean())


def grown(mask: np.ndarray, px: int) -> np.ndarray:
    """The mask and everything within `px` of it, Euclidean."""
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask) <= px
