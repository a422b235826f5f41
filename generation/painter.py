"""From jobs to painted images: contexts go through the sampler in batches, and back into their images.

A group of jobs is painted together, turn by turn. Windows that score too low are re-sampled with other noise before
the next turn begins.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generation.canvas import Canvas, placed_masks, soft_windows
from generation.compositing import composite, defect_region
from generation.geometry import Context, Window, box_in_window, native_window
from generation.jobs import Job
from generation.quality.assessment import Assessor
from generation.quality.checks import PaintedWindow
from generation.scoring import (
    PaintedDefect,
    PaintedSample,
    outside_change,
    painted_region,
    score_window,
)
from guided_diffusion.ddim import Result, Sampler, StepRecord
from guided_diffusion.refinement import NonFiniteEnergy
from guided_diffusion.surroundings import box_masks
from guided_diffusion.windows import Windows
from utils import images
from utils.errors import UserError
from utils.images import ImageCache, Loader
from utils.seeding import SampleNoise
from utils.seeds import sample_seed

log = logging.getLogger(__name__)

STRIP = 6  # steps shown in the strip of a window's attention


@dataclass(frozen=True)
class PaintOptions:
    """How results are pasted and scored; sizes in px.

    `generated`: the whole context is replaced, else the window alone, with a soft edge of `feather` model px, or with
    `masked` the defect alone, by its soft mask. `sees_surroundings`: the prior is told the boxes of the defects.
    A window whose score is below `min_score` is re-sampled at most `max_rerolls` times. At most `batch_size`
    contexts go through the networks together. `strips`: keep the attention's evolution.
    """

    image_size: int
    crop_size: int
    seed: int
    batch_size: int
    squash: bool
    generated: bool
    feather: int
    min_score: float
    max_rerolls: int
    strips: bool
    masked: bool
    sees_surroundings: bool


@dataclass(frozen=True)
class BatchItem:
    """One context of a batch: windows of one pass of a job, at one attempt."""

    job: int  # place in the group
    number: int  # of the pass in the job
    context: Context
    defects: tuple[int, ...]
    attempt: int = 0


@dataclass(frozen=True)
class ContextResult:
    """A context with m windows after sampling, at model size."""

    before: np.ndarray  # (S, S, 3) uint8
    after: np.ndarray  # (S, S, 3) uint8
    crops: np.ndarray  # (m, h, w, 3) uint8, the prior's own results
    attention: np.ndarray | None  # (m, h, w) in [0, 1]
    strips: Sequence[np.ndarray | None]  # (h, n * w) uint8 each, the attention at n steps


class ProgressCallback(Protocol):
    """Called for every batch on its way through the sampler."""

    def start(self, batch: Sequence[tuple[Job, BatchItem]], clean: Tensor, windows: Windows) -> None:
        """A batch begins: contexts `clean` (N, 3, H, W) in [-1, 1] and their windows."""

    def step(self, record: StepRecord) -> None:
        """A refinement is done."""

    def finish(self) -> None:
        """The batch is done."""


class SilentCallback:
    """Tells nobody."""

    def start(self, batch: Sequence[tuple[Job, BatchItem]], clean: Tensor, windows: Windows) -> None: ...

    def step(self, record: StepRecord) -> None: ...

    def finish(self) -> None: ...


@dataclass
class Painter:
    """The sampler with what it needs to paint images; `paint` works group by group."""

    sampler: Sampler
    options: PaintOptions
    device: torch.device
    callback: ProgressCallback
    assessor: Assessor | None = None
    load: ImageCache = field(init=False)

    def __post_init__(self) -> None:
        self.load = ImageCache(self.options.image_size if self.options.squash else None)

    def paint(self, group: Sequence[Job], load: Loader | None = None) -> Iterator[PaintedSample]:
        """Paint the jobs of a group together; samples come in the order of jobs, each image
        assembled only when requested. `load` gives the images (default: from their files). Raises UserError for
        output that is not finite, and when memory runs out."""
        canvases = [Canvas(job.image, load or self.load) for job in group]
        for job, canvas in zip(group, canvases, strict=True):
            canvas.keep(one.context for one in job.passes)
        done: list[dict[int, PaintedDefect]] = [{} for _ in group]
        for turn in range(max(len(job.turns) for job in group)):
            items = turn_items(group, turn)
            for _ in range(self.options.max_rerolls + 1):
                failed = []
                for i in range(0, len(items), self.options.batch_size):
                    failed += self.paint_batch(group, items[i : i + self.options.batch_size], canvases, done)
                items = failed
                if not items:
                    break
        for job, canvas, defects in zip(group, canvases, done, strict=True):
            yield PaintedSample(job, canvas.picture(), tuple(defects[k] for k in sorted(defects)))

    def paint_batch(
        self,
        group: Sequence[Job],
        batch: Sequence[BatchItem],
        canvases: Sequence[Canvas],
        done: list[dict[int, PaintedDefect]],
    ) -> list[BatchItem]:
        """Paint one batch onto the canvases; returns what has to be re-sampled."""
        contexts = [canvases[e.job].context(e.context, self.options.image_size) for e in batch]
        failed = []
        for item, result in zip(batch, self.results(group, batch, contexts), strict=True):
            canvas, job = canvases[item.job], group[item.job]
            found = self.judge(item, job, canvas, result)
            done[item.job].update(zip(item.defects, found, strict=True))
            self.put(item, canvas, result, found)
            again = [k for k, defect in enumerate(found) if not defect.accepted]
            if again:
                failed.append(retry(item, again))
        return failed

    def results(
        self, group: Sequence[Job], batch: Sequence[BatchItem], contexts: Sequence[np.ndarray]
    ) -> Iterator[ContextResult]:
        """`contexts` (S, S, 3) uint8 at model size through the sampler, one result each."""
        pairs = [(group[e.job], e) for e in batch]
        result, strips = self.sample(pairs, torch.cat([images.to_tensor(c) for c in contexts]))
        afters, crops = images.to_uint8(result.sample), images.to_uint8(result.crop)
        first = 0
        for item, before, after in zip(batch, contexts, afters, strict=True):
            rows = slice(first, first + len(item.defects))
            first = rows.stop
            attention = None if result.attention is None else result.attention[rows, 0].cpu().numpy()
            yield ContextResult(before, after, crops[rows], attention, strips[rows])

    # Sampling

    def sample(
        self, pairs: Sequence[tuple[Job, BatchItem]], clean: Tensor
    ) -> tuple[Result, list[np.ndarray | None]]:
        """The sampler's result for a batch, and the strips of its windows; in halves when memory runs out."""
        try:
            return self._sample(pairs, clean.to(self.device))
        except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            told = f"the memory of {self.device} is too small for {len(pairs)} contexts at once"
        if len(pairs) == 1:
            raise UserError(f"{told}; use precision=bf16, a smaller image_size, or another device")
        log.warning("%s: painting them in halves; a smaller batch_size avoids the attempt", told)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(pairs) // 2
        parts = [self.sample(pairs[:half], clean[:half]), self.sample(pairs[half:], clean[half:])]
        return join_results([result for result, _ in parts]), [s for _, strips in parts for s in strips]

    def _sample(
        self, pairs: Sequence[tuple[Job, BatchItem]], clean: Tensor
    ) -> tuple[Result, list[np.ndarray | None]]:
        owner = [n for n, (_, item) in enumerate(pairs) for _ in item.defects]
        corners = [corner for _, item in pairs for corner in item.context.windows]
        size, boxes = self.options.crop_size, self.boxes(pairs)
        windows = Windows(corners, size, torch.tensor(owner, device=self.device), boxes)
        classes = [job.defects[k].annotation.class_id for job, item in pairs for k in item.defects]
        noise = SampleNoise([item_seed(self.options.seed, job, item) for job, item in pairs], owner)
        masks: list[Tensor] = []
        self.callback.start(pairs, clean, windows)

        def on_step(record: StepRecord) -> None:
            self.callback.step(record)
            if self.options.strips and record.accumulated is not None:
                masks.append(record.accumulated)

        try:
            result = self.sampler.sample(
                clean, windows, torch.tensor(classes, device=self.device), noise, on_step
            )
        except NonFiniteEnergy as error:
            raise UserError(f"{names_of(pairs)}: {error}") from error
        if not (torch.isfinite(result.sample).all() and torch.isfinite(result.crop).all()):
            raise UserError(
                f"{names_of(pairs)}: the networks' output is not finite; check the weights, or use precision=fp32"
            )
        self.callback.finish()
        return result, attention_strips(masks, len(owner))

    def boxes(self, pairs: Sequence[tuple[Job, BatchItem]]) -> Tensor | None:
        """Masks (M, 1, h, w) of the boxes of the defects in their windows, for a prior that sees its surroundings."""
        if not self.options.sees_surroundings:
            return None
        size, boxes = self.options.crop_size, []
        for job, item in pairs:
            for k, corner in zip(item.defects, item.context.windows, strict=True):
                window = native_window(item.context, corner, size)
                boxes.append(box_in_window(job.defects[k].box, window, size))
        return box_masks(boxes, size).to(self.device)

    # Scoring and pasting

    def judge(self, item: BatchItem, job: Job, canvas: Canvas, result: ContextResult) -> list[PaintedDefect]:
        """What was painted in each window of a context, with its scores; nothing is put into the image yet."""
        o, context = self.options, item.context
        left, top, side = square = canvas.square(context)
        native = canvas.region(*square)
        alpha = self.alpha(context, square, range(len(result.crops)))
        painted = canvas.painted(context, result.before, result.after, alpha)
        outside = outside_change(result.before, result.after, context, o.crop_size)
        found = []
        for k, (x, y) in enumerate(context.windows):
            window = native_window(context, (x, y), o.crop_size)
            row, column = window[1] - top, window[0] - left
            part = np.s_[row : row + window[2], column : column + window[2]]
            model = np.s_[y : y + o.crop_size, x : x + o.crop_size]
            wanted = job.defects[item.defects[k]]
            box = None if wanted.box is None else box_in_window(wanted.box, window, window[2])
            if o.masked:
                alpha, region = defect_region(native[part], painted[part], box)
            else:
                seen = None if result.attention is None else result.attention[k]
                center = (wanted.center[0] + 0.5 - window[0], wanted.center[1] + 0.5 - window[1])
                alpha, region = None, painted_region(native[part], painted[part], seen, center)
            scores = score_window(
                region, (result.before[model], result.after[model]), result.crops[k], outside
            )
            if self.assessor is not None:
                after = painted[part] if alpha is None else composite(native[part], painted[part], alpha)
                seen = PaintedWindow(native[part], after, region.mask, region.box, box)
                scores |= self.assessor.scores(seen, wanted.annotation.class_name)
            found.append(
                PaintedDefect(
                    window,
                    context.scale,
                    region,
                    scores,
                    accepted=o.min_score == 0 or scores["score"] >= o.min_score,
                    attempt=item.attempt,
                    crop=result.crops[k],
                    strip=result.strips[k],
                    alpha=alpha,
                )
            )
        return found

    def put(
        self, item: BatchItem, canvas: Canvas, result: ContextResult, found: Sequence[PaintedDefect]
    ) -> None:
        """Put the accepted windows of a painted context into the image."""
        good = [k for k, defect in enumerate(found) if defect.accepted]
        if good:
            square = canvas.square(item.context)
            if self.options.masked:
                alpha = placed_masks(square, [(found[k].window, found[k].alpha) for k in good])
            else:
                alpha = self.alpha(item.context, square, good)
            canvas.put(item.context, canvas.painted(item.context, result.before, result.after, alpha))

    def alpha(self, context: Context, square: Window, accepted: Sequence[int]) -> np.ndarray:
        """How much of a painted context is taken, in px of its `square`: (side, side) in [0, 1], all of it, or the
        windows, with a soft edge unless they are to be masked. Windows that are not among the `accepted` ones are left
        out either way.
        """
        o = self.options
        windows = [native_window(context, corner, o.crop_size) for corner in context.windows]
        rejected = [k for k in range(len(windows)) if k not in accepted]
        edged = [windows[k] for k in (rejected if o.generated else accepted)]
        soft = soft_windows(square, edged, 0 if o.masked else o.feather * context.scale)
        return 1 - soft if o.generated else soft


def turn_items(group: Sequence[Job], turn: int) -> list[BatchItem]:
    """The passes of all jobs of a group in one turn."""
    items = []
    for n, job in enumerate(group):
        if turn < len(job.turns):
            first = sum(len(earlier) for earlier in job.turns[:turn])
            items += [
                BatchItem(n, first + k, one.context, one.defects) for k, one in enumerate(job.turns[turn])
            ]
    return items


def retry(item: BatchItem, windows: Sequence[int]) -> BatchItem:
    """Some windows of an item at the next attempt."""
    context = replace(item.context, windows=tuple(item.context.windows[k] for k in windows))
    defects = tuple(item.defects[k] for k in windows)
    return replace(item, context=context, defects=defects, attempt=item.attempt + 1)


def item_seed(seed: int, job: Job, item: BatchItem) -> int:
    """Noise depends on the run's seed, image, annotation and sample index, and on pass and attempt beyond the
    first; not on what else is in the batch."""
    identity = [job.image.name, job.base, job.index]
    if item.number or item.attempt:
        identity += [item.number, item.attempt]
    return sample_seed(seed, *identity)


def names_of(pairs: Sequence[tuple[Job, BatchItem]]) -> str:
    return pairs[0][0].name + (f" and {len(pairs) - 1} more" if len(pairs) > 1 else "")


def attention_strips(masks: Sequence[Tensor], count: int) -> list[np.ndarray | None]:
    """For each of `count` windows its attention (h, n * w) uint8 at n steps spread over the sampling run, or None."""
    if not masks:
        return [None] * count
    steps = np.unique(np.linspace(0, len(masks) - 1, STRIP).round().astype(int))
    chosen = torch.stack([masks[step] for step in steps], dim=1)[:, :, 0]  # (M, n, h, w)
    shown = (chosen.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [np.concatenate(list(frames), axis=1) for frames in shown]


def join_results(parts: Sequence[Result]) -> Result:
    """The results of two halves of a batch as one."""
    attention = None if parts[0].attention is None else torch.cat([p.attention for p in parts])
    return Result(
        torch.cat([p.sample for p in parts]),
        torch.cat([p.crop for p in parts]),
        torch.cat([p.noised for p in parts]),
        attention,
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on a GPU or (by PyTorch's message) on the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return "not enough memory" in str(error)
