"""What of a painted window is the defect: its soft mask, by which it is put into the photograph, and its region.

For `background: masked`. Outside the soft mask the image stays the photograph, byte for byte, so that mask and
change are the same thing.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from generation.exemplars.laying import Laid
from generation.quality.checks import box_iou, wholeness
from generation.scoring import EIGHT, SPECK, PixelBox, Region, box_of
from utils.images import blend
from utils.shapes.boxes import Sides

SMOOTHING = 0.8  # px, of the change before thresholding, in which the noise of resynthesized texture cancels
PEAK_FRACTION = 0.25  # the threshold in units of the strongest change (95th percentile inside the box)
THRESHOLDS = (6.0, 20.0)  # gray levels, its lowest and highest value
MINOR = 0.02  # components smaller than this fraction of the largest one are left out
CLOSING, GROWTH = 2, 2  # px, radius of the gaps that are closed, and of the growth around the visible change
SOFTNESS = 1.0  # px, sigma of the mask's soft edge
ALIKE = 0.5  # IoU of painted and laid change from which on they are one defect
VISIBLE = 8.0  # gray levels from which on a change counts as visible, with a reserve for rounding below 10


@dataclass(frozen=True)
class Seen:
    """What is seen of a painted window: its `region`, the window (h, w, 3) uint8 `after` it was put into the image, by
    the soft mask `alpha` (h, w) in [0, 1], None for all of it, the box that an annotator would draw, `drawn`, as in
    PaintedDefect, and how `whole` it is beside the training defect that was laid there (see `wholeness`), None without
    one."""

    region: Region
    after: np.ndarray
    alpha: np.ndarray | None = None
    drawn: PixelBox | None = None
    whole: float | None = None


@dataclass(frozen=True)
class Beginning:
    """A window as painting began, `pixels` (h, w, 3) uint8: with the training defect that was `laid` over it. Training
    boxes keep `margin` px from their defects."""

    pixels: np.ndarray
    laid: Laid
    margin: float = 0.0

    @property
    def own(self) -> Sides | None:
        """The training defect's own box in px of the window, as annotators drew it; None where no defect is known."""
        box = self.laid.box
        return (
            None if box is None else annotated_box(box, len(self.pixels) / len(self.laid.pixels), self.margin)
        )


def annotated_box(box: Sides, scale: float, margin: float) -> Sides:
    """A training defect's box in px of a window, each `scale` native ones, as annotators drew it around `margin`: in
    native px."""
    left, top, right, bottom = (side * scale for side in box)
    return left - margin, top - margin, right + margin, bottom + margin


def seen_by_mask(
    before: np.ndarray, after: np.ndarray, box: PixelBox | None, begun: Beginning | None, hard: bool
) -> Seen:
    """The defect alone in a window `before` (h, w, 3) uint8 that was painted, `after`: inside the requested `box` or,
    with a shape, inside the edge of the training defect that painting `begun` with. `hard` as in `defect_region`."""
    support = None if begun is None else at_size(begun.laid.support, len(before))
    inside = None if begun is not None and begun.laid.shaped else box
    seen = defect_region(before, after, inside, hard, support)
    if begun is None or (own := begun.own) is None:
        return seen
    known = defect_region(before, begun.pixels, inside, hard, support).region
    drawn = drawn_box(seen.region.box, known.box, own)
    return replace(seen, drawn=drawn, whole=wholeness(seen.region.mask, known.mask))


def defect_region(
    before: np.ndarray,
    after: np.ndarray,
    box: PixelBox | None,
    hard: bool = False,
    support: np.ndarray | None = None,
) -> Seen:
    """What is seen of the defect in a painted window: its soft mask, and its region after compositing by that.

    `before` and `after` are (h, w, 3) uint8; `box` (left, top, right, bottom) in px of the window is where the defect
    was requested, None: anywhere; `support` (h, w) bool is where in it the defect may be. With `hard` the mask is of 0
    and 1, for images of few tones, which a soft edge would mix. The region's mask covers every visible change that
    compositing by the soft mask leaves.
    """
    alpha = soft_mask(before, after, box, support)
    if hard:
        alpha = (alpha >= 0.5).astype(np.float32)
    done = blend(before, after, alpha)
    change = np.abs(done.astype(np.float32) - before).max(axis=2)
    mask = ndimage.binary_closing(np.pad(change >= VISIBLE, CLOSING), _disk(CLOSING))
    mask = mask[CLOSING:-CLOSING, CLOSING:-CLOSING]
    contrast = float(change[mask].mean()) if mask.any() else 0.0
    return Seen(Region(mask, box_of(mask), contrast), done, alpha)


def drawn_box(painted: PixelBox | None, laid: PixelBox | None, own: Sides) -> PixelBox | None:
    """The box that an annotator would draw around what was painted, px of the window: as far from what is visible of
    it, side by side, as the training defect's `own` box is from what is visible of that where it was laid.

    Annotators draw boxes of another kind around a hole and around a gap, which one margin for all does not tell. None
    where nothing is visible, or the painted defect is not the one that was laid.
    """
    if painted is None or laid is None or box_iou(painted, laid) < ALIKE:
        return None
    left, top, right, bottom = (
        round(side + drawn - seen) for side, drawn, seen in zip(painted, own, laid, strict=True)
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


def soft_mask(
    before: np.ndarray, after: np.ndarray, box: PixelBox | None, support: np.ndarray | None = None
) -> np.ndarray:
    """The soft mask (h, w) float32 of `defect_region`: 1 on the defect, falling to 0 around it."""
    difference = after.astype(np.float32) - before
    change = np.abs(ndimage.gaussian_filter(difference, (SMOOTHING, SMOOTHING, 0))).max(axis=2)  # (h, w)
    allowed = np.ones(change.shape, dtype=bool)
    if box is not None:
        left, top, right, bottom = (max(side, 0) for side in box)
        allowed[:] = False
        allowed[top:bottom, left:right] = True
    if support is not None:
        allowed &= support
    if not allowed.any():
        return np.zeros(change.shape, np.float32)
    peak = float(np.percentile(change[allowed], 95))
    mask = (change > np.clip(PEAK_FRACTION * peak, *THRESHOLDS)) & allowed
    mask = _without_minor(ndimage.binary_fill_holes(ndimage.binary_closing(mask, _disk(CLOSING)) | mask))
    if not mask.any():
        return np.zeros(change.shape, np.float32)
    grown = ndimage.binary_dilation(mask, _disk(GROWTH))
    soft = ndimage.gaussian_filter(grown.astype(np.float32), SOFTNESS)
    return np.where(mask, 1.0, soft).astype(np.float32)


def at_size(mask: np.ndarray, side: int) -> np.ndarray:
    """A square mask (h, h) bool with a side of `side` px."""
    rows = (np.arange(side) + 0.5) * len(mask) // side
    return mask[np.ix_(rows.astype(int), rows.astype(int))]


def _without_minor(mask: np.ndarray) -> np.ndarray:
    """`mask` without specks and components that are minor beside the largest one."""
    labeled, count = ndimage.label(mask, structure=EIGHT)
    if count == 0:
        return mask
    sizes = np.bincount(labeled.ravel())
    sizes[0] = 0
    return (sizes >= max(SPECK, MINOR * sizes.max()))[labeled]


def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2 + 0.5
