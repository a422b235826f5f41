"""Where a defect really was painted: mask and box from the image itself, not from what was requested."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generation.geometry import Context, PixelBox, Window
from generation.jobs import Job

SMOOTHING = 0.8  # px, of the difference before thresholding
NOISE_FACTOR = 4.0  # the threshold in units of the difference's noise
PEAK_SHARE = 0.3  # and at least this share of the strongest change
EDGE_SHARE = 0.4  # of a component's upper quartile, below which a pixel belongs to its blurred edge
CENTRAL = 0.2  # sigma of the Gaussian around the wanted center, share of the window's side
RELEVANT_SHARE = 0.3  # components with less of the largest one's central change are left out
SPECK = 6  # px; smaller components are noise, as a single pixel is, smoothed
FULL_CONTRAST = 16.0  # gray levels of change from which on a defect counts as fully visible
Pair = tuple[np.ndarray, np.ndarray]  # before and after painting, (h, w, 3) uint8
EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """A painted defect in its window: `mask` (h, w) bool, `box` (left, top, right, bottom) in px of the window,
    right and bottom exclusive, None when nothing was painted, and `contrast`, the mean change in the mask in
    gray levels."""

    mask: np.ndarray
    box: PixelBox | None
    contrast: float


@dataclass(frozen=True)
class PaintedDefect:
    """One window after painting.

    `window` (left, top, side) in px of the output image; `region` in px of the window; `crop` (h, w, 3) uint8,
    the prior's own result; `strip` (h, n * w) uint8, its attention at n steps, or None; `attempt` counts rerolls;
    `alpha` (h, w) in [0, 1], the soft mask by which the defect alone is put into the image, None without one;
    `drawn` the box that an annotator would draw, in px of the window, None where no training defect tells it.
    Without `accepted` the image does not hold it.
    """

    window: Window
    scale: float
    region: Region
    scores: dict[str, float]
    accepted: bool
    attempt: int
    crop: np.ndarray
    strip: np.ndarray | None
    alpha: np.ndarray | None = None
    drawn: PixelBox | None = None

    @property
    def box(self) -> PixelBox | None:
        """The region's box in px of the image."""
        return None if self.region.box is None else self.in_image(self.region.box)

    def in_image(self, box: PixelBox) -> PixelBox:
        """A box in px of the window in px of the image."""
        left, top, _ = self.window
        x0, y0, x1, y1 = box
        return x0 + left, y0 + top, x1 + left, y1 + top


@dataclass(frozen=True)
class Failure:
    """Why a sample could not be computed: `reason`, and the index `t` of the step where it showed."""

    t: int
    reason: str


@dataclass(frozen=True)
class PaintedSample:
    """A finished job: `image` (H, W, 3) uint8, and one painted defect per defect of the job; none after a
    `failure`."""

    job: Job
    image: np.ndarray
    defects: tuple[PaintedDefect, ...]
    failure: Failure | None = None

    @property
    def status(self) -> str:
        """As manifests have it: painted, when the image holds any of the defects, rejected or failed."""
        if self.failure is not None:
            return "failed"
        return "painted" if self.accepted else "rejected"

    @property
    def boxes(self) -> list[PixelBox | None]:
        """Of each defect, tight around what was painted; None where nothing was, or nothing good enough."""
        return [defect.box if defect.accepted else None for defect in self.defects]

    @property
    def scores(self) -> list[float]:
        """Of each defect, in [0, 1]: agreement with the prior, less where the change is faint."""
        return [defect.scores["score"] for defect in self.defects]

    @property
    def accepted(self) -> bool:
        """Whether the image holds any of its defects."""
        return any(defect.accepted for defect in self.defects)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: where an accepted defect was painted."""
        mask = np.zeros(self.image.shape[:2], dtype=bool)
        for defect in self.defects:
            if defect.accepted:
                left, top, side = defect.window
                mask[top : top + side, left : left + side] |= defect.region.mask
        return mask


def painted_region(
    before: np.ndarray,
    after: np.ndarray,
    attention: np.ndarray | None = None,
    center: tuple[float, float] | None = None,
) -> Region:
    """The painted defect in a window, `before` and `after` (h, w, 3) uint8; `center` (x, y) in px of the window is
    where it was wanted (None: in the middle).

    `attention` in [0, 1], the sampler's accumulated defect mask of the window at any resolution, leaves out
    what the sampler counted as background (below 0.01). Changes count from the larger of a multiple of the
    noise (median absolute deviation over the window) and a share of the strongest one. Each connected component
    is then trimmed to a share of its own usual change, as the border of a softly edged shape has about half of
    its inside's; those with a relevant share of the change around the wanted center are kept: a prior that
    draws the surroundings a little brighter has not painted a defect there. So a second piece of a defect far from
    the center is left out as well.
    """
    difference = after.astype(np.float32) - before
    # Smoothed with its sign, in which noise cancels; (h, w)
    smooth = np.sqrt((ndimage.gaussian_filter(difference, (SMOOTHING, SMOOTHING, 0)) ** 2).mean(axis=2))
    middle = float(np.median(smooth))
    noise = 1.4826 * float(np.median(np.abs(smooth - middle)))
    if attention is not None:
        # Widened, since its edge runs inside the defect's
        seen = ndimage.binary_dilation(attention >= 0.01, structure=EIGHT)
        rows, columns = (np.arange(n) * m // n for n, m in zip(smooth.shape, seen.shape, strict=True))
        smooth = np.where(seen[np.ix_(rows, columns)], smooth, 0.0)
    threshold = max(middle + NOISE_FACTOR * noise, PEAK_SHARE * float(smooth.max()), 1.0)
    mask = _relevant(_trimmed(smooth > threshold, smooth), smooth * _central(smooth.shape, center))
    return Region(mask, box_of(mask), float(np.abs(difference[mask]).mean()) if mask.any() else 0.0)


def _trimmed(mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The components of `mask` without what has less than a share of the component's usual `weight`."""
    labeled, count = ndimage.label(mask, structure=EIGHT)
    usual = [0.0, *(float(np.percentile(weight[labeled == k], 75)) for k in range(1, count + 1))]
    return mask & (weight > EDGE_SHARE * np.array(usual)[labeled])


def _central(shape: tuple[int, int], center: tuple[float, float] | None) -> np.ndarray:
    """A Gaussian around the center (x, y), (h, w) in (0, 1]."""
    height, width = shape
    x, y = center or (width / 2, height / 2)
    columns, rows = np.arange(width) + 0.5 - x, np.arange(height)[:, None] + 0.5 - y
    return np.exp(-0.5 * (columns**2 + rows**2) / (CENTRAL * height) ** 2)


def agreement(before: np.ndarray, after: np.ndarray, prior: np.ndarray) -> float:
    """How alike the change that was painted and the change that the prior wanted are: their cosine, at least 0.

    All (h, w, 3) uint8, the window before and after painting and the prior's own result for it.
    """
    painted, wanted = (part.astype(np.float64) - before for part in (after, prior))
    length = np.linalg.norm(painted) * np.linalg.norm(wanted)
    return max(0.0, float((painted * wanted).sum() / length)) if length > 0 else 0.0


def _relevant(mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The components (8-connected) of `mask` that are no specks and hold a relevant share of the largest one's
    `weight`."""
    labeled, count = ndimage.label(mask, structure=EIGHT)
    if count == 0:
        return mask
    sums = ndimage.sum_labels(weight, labeled, np.arange(1, count + 1))
    sizes = np.bincount(labeled.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero((sums >= RELEVANT_SHARE * sums.max()) & (sizes >= SPECK)) + 1
    return np.isin(labeled, kept)


def box_of(mask: np.ndarray) -> PixelBox | None:
    """Tight box (left, top, right, bottom) around a mask (H, W), right and bottom exclusive; None if empty."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def score_window(region: Region, model: Pair, prior: np.ndarray, outside: float) -> dict[str, float]:
    """The scores of the manifest for what was painted in a window.

    `model` is the window before and after painting at model size; `prior` (h, w, 3) uint8 is the prior's own result,
    and `outside` the change off the windows.
    """
    agrees = agreement(*model, prior)
    return {
        "score": agrees * min(region.contrast / FULL_CONTRAST, 1.0),
        "area": int(region.mask.sum()),
        "contrast": region.contrast,
        "outside": outside,
        "agreement": agrees,
    }


def best_candidates(tries: Sequence[Sequence[PaintedDefect]], together: bool) -> list[int]:
    """For each window the number of the candidate that shows it best: `tries` are the candidates' windows.

    `together`: all windows are of one candidate, the one with the most accepted windows, then the best mean score.
    """
    windows = range(len(tries[0]))
    if together:
        ranks = [(sum(d.accepted for d in found), sum(d.scores["score"] for d in found)) for found in tries]
        return [ranks.index(max(ranks)) for _ in windows]
    scores = [[found[k].scores["score"] for found in tries] for k in windows]
    return [values.index(max(values)) for values in scores]


def outside_change(before: np.ndarray, after: np.ndarray, context: Context, crop_size: int) -> float:
    """Mean absolute change off the windows in gray levels: what the contextual model did to the rest."""
    off = np.ones(before.shape[:2], dtype=bool)
    for x, y in context.windows:
        off[y : y + crop_size, x : x + crop_size] = False
    if not off.any():
        return 0.0
    return float(np.abs(after[off].astype(np.float32) - before[off]).mean())
