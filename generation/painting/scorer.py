"""What is seen of painted contexts, its scores, and the way into the image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from generation.geometry import Context, PixelBox, Window, box_in_window, native_window
from generation.jobs import BatchItem, Defect, Job
from generation.painting.canvas import Canvas, PaintedContext, placed_masks, soft_windows
from generation.painting.compositing import Beginning, Seen, seen_by_mask
from generation.painting.detail import with_detail
from generation.painting.options import PaintOptions
from generation.painting.results import ContextResult
from generation.quality.assessment import Assessor
from generation.quality.checks import PaintedWindow
from generation.quality.contacts import contacts
from generation.scoring import PaintedDefect, outside_change, painted_region, score_window


@dataclass(frozen=True)
class _Part:
    """The k-th window of a painted context: its place in px of the image, its pixels (h, w, 3) uint8 there before and
    after painting, and as painting began, if it did with a training defect, and the defect that was `wanted`."""

    k: int
    window: Window
    before: np.ndarray
    after: np.ndarray
    begun: np.ndarray | None
    wanted: Defect

    @property
    def box(self) -> PixelBox | None:
        """The requested box in px of the window."""
        wanted = self.wanted.box
        return None if wanted is None else box_in_window(wanted, self.window, self.window[2])


@dataclass(frozen=True)
class Scorer:
    """Scores what was painted, by a judge too if there is one, and puts into the image what is to stay.

    `contacts`: class id -> how often a defect of it touches what looks like it, for the classes where that is known.
    """

    options: PaintOptions
    assessor: Assessor | None = None
    contacts: Mapping[int, int] = field(default_factory=dict)

    def judge(self, item: BatchItem, job: Job, canvas: Canvas, result: ContextResult) -> list[PaintedDefect]:
        """What was painted in each window of a context, with its scores; nothing is put into the image yet."""
        size, context = self.options.crop_size, item.context
        outside = outside_change(result.before, result.after, context, size)
        found = []
        for part in self._parts(item, job, canvas, result):
            k, (x, y) = part.k, context.windows[part.k]
            seen = self._seen(part, result, hard=canvas.tones is not None)
            model = np.s_[y : y + size, x : x + size]
            pair = result.before[model], result.after[model]
            scores = score_window(seen.region, pair, result.crops[k], outside)
            if self.assessor is not None:
                scores |= self._assessed(self.assessor, part, seen, result)
            defect = PaintedDefect(
                part.window,
                context.scale,
                seen.region,
                scores,
                accepted=self.options.min_score == 0 or scores["score"] >= self.options.min_score,
                attempt=item.attempt,
                crop=result.crops[k],
                strip=result.strips[k],
                alpha=seen.alpha,
                drawn=seen.drawn,
            )
            found.append(defect)
        return found

    def _parts(self, item: BatchItem, job: Job, canvas: Canvas, result: ContextResult) -> Iterator[_Part]:
        context = item.context
        left, top, _ = square = canvas.square(context)
        alpha, before = self.alpha(context, square, range(len(result.crops))), canvas.region(*square)
        after, begun = self.native(context, canvas, result, result.after, alpha), None
        if self.options.masked and result.laid:
            begun = self.native(context, canvas, result, result.begun, alpha)
        for k, corner in enumerate(context.windows):
            x, y, side = window = native_window(context, corner, self.options.crop_size)
            part = np.s_[y - top : y - top + side, x - left : x - left + side]
            first = None if begun is None else begun[part]
            yield _Part(k, window, before[part], after[part], first, job.defects[item.defects[k]])

    def _seen(self, part: _Part, result: ContextResult, hard: bool) -> Seen:
        """What is seen of a window: the defect alone, or all of it; `hard` as in `defect_region`."""
        if self.options.masked:
            begun = None
            if part.begun is not None:
                begun = Beginning(part.begun, result.laid[part.k], self.options.label_margin)
            return seen_by_mask(part.before, part.after, part.box, begun, hard)
        attention = None if result.attention is None else result.attention[part.k]
        (x, y), (left, top, _) = part.wanted.center, part.window
        region = painted_region(part.before, part.after, attention, (x + 0.5 - left, y + 0.5 - top))
        return Seen(region, part.after)

    def _assessed(
        self, assessor: Assessor, part: _Part, seen: Seen, result: ContextResult
    ) -> dict[str, float]:
        """The scores of a window by the judge and the checks."""
        usual, mask = self.contacts.get(part.wanted.annotation.class_id), seen.region.mask
        shown = PaintedWindow(
            part.before,
            seen.after,
            mask,
            seen.region.box,
            part.box,
            margin=self.options.label_margin,
            misfit=result.misfits[part.k] if result.misfits else None,
            drawn=seen.drawn,
            whole=seen.whole,
            contacts=None if usual is None else abs(contacts(part.before, seen.after, mask) - usual),
        )
        return assessor.scores(shown, part.wanted.annotation.class_name)

    def put(
        self,
        context: Context,
        canvas: Canvas,
        result: ContextResult,
        accepted: Mapping[int, PaintedDefect],
        others: Sequence[Window],
    ) -> None:
        """Put the `accepted` windows of a painted context, by their numbers, into the image; `others` as in `alpha`."""
        square = canvas.square(context)
        if self.options.masked:
            masks = [(one.window, one.alpha) for one in accepted.values() if one.alpha is not None]
            alpha = placed_masks(square, masks)
        else:
            alpha = self.alpha(context, square, list(accepted), others)
        canvas.put(context, self.native(context, canvas, result, result.after, alpha))

    def native(
        self, context: Context, canvas: Canvas, result: ContextResult, shown: np.ndarray, alpha: np.ndarray
    ) -> np.ndarray:
        """A context's square, native, with what is `shown` (S, S, 3) uint8 at model size put in by `alpha`."""
        fine = None
        if canvas.tones is None:  # tones have edges of their own
            windows = [native_window(context, corner, self.options.crop_size) for corner in context.windows]
            square = canvas.square(context)
            fine = with_detail(result, shown, canvas.region(*square), square, windows)
        return canvas.painted(context, PaintedContext(result.before, shown, fine), alpha)

    def alpha(
        self, context: Context, square: Window, accepted: Sequence[int], others: Sequence[Window] = ()
    ) -> np.ndarray:
        """How much of a painted context is taken, in px of its `square`: (side, side) in [0, 1], all of it, or the
        windows, with a soft edge unless they are to be masked. Windows that are not among the `accepted` ones are left
        out either way, and so is what of the windows `others`, painted before, lies outside them.
        """
        o = self.options
        windows = [native_window(context, corner, o.crop_size) for corner in context.windows]
        rejected = [k for k in range(len(windows)) if k not in accepted]
        feather = 0 if o.masked else o.feather * context.scale
        taken = soft_windows(square, [windows[k] for k in accepted], feather)
        if not o.generated:
            return taken
        left_out = soft_windows(square, [windows[k] for k in rejected], feather)
        return 1 - np.maximum(left_out, soft_windows(square, others, feather) * (1 - taken))
