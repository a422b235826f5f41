"""From jobs to painted images: contexts in batches through the sampler, and back into their images.

A group of jobs is painted together, turn by turn. Windows whose result is not good enough are painted again
with other noise, before the next turn sees them.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generation.canvas import Canvas, soft_windows
from generation.geometry import Context, Window, native_window
from generation.jobs import Job
from generation.scoring import (
    PaintedDefect,
    PaintedSample,
    outside_change,
    score_window,
)
from guided_diffusion.ddim import Result, Sampler, StepRecord
from guided_diffusion.refinement import NonFiniteEnergy
from guided_diffusion.windows import Windows
from utils import images
from utils.errors import UserError
from utils.images import ImageCache
from utils.seeding import SampleNoise, sample_seed

log = logging.getLogger(__name__)

STRIP = 6  # steps shown in the strip of a window's attention


@dataclass(frozen=True)
class PaintOptions:
    """How results are put together and judged; sizes in px.

    `generated`: the whole context is replaced, else the window alone, with a soft edge of `feather` model px.
    A window whose score is below `min_score` is painted again at most `max_rerolls` times. At most `batch_size`
    contexts go through the networks together. `strips`: keep the attention's evolution.
    """

    image_size: int
    crop_size: int
    seed: int
    batch_size: int = 1
    squash: bool = False
    generated: bool = True
    feather: int = 8
    min_score: float = 0.0
    max_rerolls: int = 0
    strips: bool = False


@dataclass(frozen=True)
class Entry:
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


class Watcher(Protocol):
    """Is told about every batch on its way through the sampler."""

    def start(self, batch: Sequence[tuple[Job, Entry]], clean: Tensor, windows: Windows) -> None:
        """A batch begins: contexts `clean` (N, 3, H, W) in [-1, 1] and their windows."""

    def step(self, record: StepRecord) -> None:
        """A refinement is done."""

    def finish(self) -> None:
        """The batch is through."""


@dataclass
class Painter:
    """The sampler, and what it needs to know about images; `paint` works group by group."""

    sampler: Sampler
    options: PaintOptions
    device: torch.device
    watcher: Watcher
    load: ImageCache = field(init=False)

    def __post_init__(self):
        self.load = ImageCache(self.options.image_size if self.options.squash else None)

    def paint(self, group: Sequence[Job]) -> Iterator[PaintedSample]:
        """Paint the jobs of a group together; samples come in the order of jobs, each image put together
        only when it is asked for. Raises UserError when the numbers or the memory give out."""
        canvases = [Canvas(job.image, self.load) for job in group]
        for job, canvas in zip(group, canvases, strict=True):
            canvas.keep(one.context for one in job.passes)
        done: list[dict[int, PaintedDefect]] = [{} for _ in group]
        for turn in range(max(len(job.turns) for job in group)):
            entries = turn_entries(group, turn)
            for _ in range(self.options.max_rerolls + 1):
                failed = []
                for i in range(0, len(entries), self.options.batch_size):
                    failed += self.paint_batch(
                        group, entries[i : i + self.options.batch_size], canvases, done
                    )
                entries = failed
                if not entries:
                    break
        for job, canvas, defects in zip(group, canvases, done, strict=True):
            yield PaintedSample(job, canvas.picture(), tuple(defects[k] for k in sorted(defects)))

    def paint_batch(
        self,
        group: Sequence[Job],
        batch: Sequence[Entry],
        canvases: Sequence[Canvas],
        done: list[dict[int, PaintedDefect]],
    ) -> list[Entry]:
        """Paint one batch onto the canvases; returns what is to be painted again."""
        contexts = [canvases[e.job].context(e.context, self.options.image_size) for e in batch]
        failed = []
        for entry, result in zip(batch, self.results(group, batch, contexts), strict=True):
            canvas, job = canvases[entry.job], group[entry.job]
            found = self.judge(entry, job, canvas, result)
            done[entry.job].update(zip(entry.defects, found, strict=True))
            self.put(entry, canvas, result, found)
            again = [k for k, defect in enumerate(found) if not defect.accepted]
            if again:
                failed.append(retry(entry, again))
        return failed

    def results(
        self, group: Sequence[Job], batch: Sequence[Entry], contexts: Sequence[np.ndarray]
    ) -> Iterator[ContextResult]:
        """`contexts` (S, S, 3) uint8 at model size through the sampler, one result each."""
        pairs = [(group[e.job], e) for e in batch]
        result, strips = self.sample(pairs, torch.cat([images.to_tensor(c) for c in contexts]))
        afters, crops = images.to_uint8(result.sample), images.to_uint8(result.crop)
        first = 0
        for entry, before, after in zip(batch, contexts, afters, strict=True):
            rows = slice(first, first + len(entry.defects))
            first = rows.stop
            attention = None if result.attention is None else result.attention[rows, 0].cpu().numpy()
            yield ContextResult(before, after, crops[rows], attention, strips[rows])

    # Sampling

    def sample(
        self, pairs: Sequence[tuple[Job, Entry]], clean: Tensor
    ) -> tuple[Result, list[np.ndarray | None]]:
        """The sampler's result for a batch, and the strips of its windows; in halves when the memory is short."""
        try:
            return self._sample(pairs, clean.to(self.device))
        except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            told = f"the memory of {self.device} is too small for {len(pairs)} contexts at once"
        if len(pairs) == 1:
            raise UserError(f"{told}; use precision=bf16, a smaller image_size, or another device")
        log.warning("%s: painting them in halves; a smaller batch_size saves the attempt", told)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(pairs) // 2
        parts = [self.sample(pairs[:half], clean[:half]), self.sample(pairs[half:], clean[half:])]
        return join_results([result for result, _ in parts]), [s for _, strips in parts for s in strips]

    def _sample(
        self, pairs: Sequence[tuple[Job, Entry]], clean: Tensor
    ) -> tuple[Result, list[np.ndarray | None]]:
        owner = [n for n, (_, entry) in enumerate(pairs) for _ in entry.defects]
        corners = [corner for _, entry in pairs for corner in entry.context.windows]
        windows = Windows(corners, self.options.crop_size, torch.tensor(owner, device=self.device))
        classes = [job.defects[k].annotation.class_id for job, entry in pairs for k in entry.defects]
        noise = SampleNoise([entry_seed(self.options.seed, job, entry) for job, entry in pairs], owner)
        masks: list[Tensor] = []
        self.watcher.start(pairs, clean, windows)

        def on_step(record: StepRecord) -> None:
            self.watcher.step(record)
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
        self.watcher.finish()
        return result, attention_strips(masks, len(owner))

    # Judging and putting back

    def judge(self, entry: Entry, job: Job, canvas: Canvas, result: ContextResult) -> list[PaintedDefect]:
        """What was painted in each window of a context, with its scores; nothing is put into the image yet."""
        o, context = self.options, entry.context
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
            seen = None if result.attention is None else result.attention[k]
            wanted = job.defects[entry.defects[k]].center
            region, scores = score_window(
                (native[part], painted[part]),
                (result.before[model], result.after[model]),
                result.crops[k],
                seen,
                (wanted[0] + 0.5 - window[0], wanted[1] + 0.5 - window[1]),
                outside,
            )
            found.append(
                PaintedDefect(
                    window,
                    context.scale,
                    region,
                    scores,
                    accepted=o.min_score == 0 or scores["score"] >= o.min_score,
                    attempt=entry.attempt,
                    crop=result.crops[k],
                    strip=result.strips[k],
                )
            )
        return found

    def put(
        self, entry: Entry, canvas: Canvas, result: ContextResult, found: Sequence[PaintedDefect]
    ) -> None:
        """Put the accepted windows of a painted context into the image."""
        good = [k for k, defect in enumerate(found) if defect.accepted]
        if good:
            alpha = self.alpha(entry.context, canvas.square(entry.context), good)
            canvas.put(entry.context, canvas.painted(entry.context, result.before, result.after, alpha))

    def alpha(self, context: Context, square: Window, accepted: Sequence[int]) -> np.ndarray:
        """How much of a painted context is taken, in px of its `square`: (side, side) in [0, 1], all of it, or the
        windows with a soft edge. Windows that are not among the `accepted` ones are left out either way.
        """
        o = self.options
        windows = [native_window(context, corner, o.crop_size) for corner in context.windows]
        rejected = [k for k in range(len(windows)) if k not in accepted]
        edged = [windows[k] for k in (rejected if o.generated else accepted)]
        soft = soft_windows(square, edged, o.feather * context.scale)
        return 1 - soft if o.generated else soft


def turn_entries(group: Sequence[Job], turn: int) -> list[Entry]:
    """The passes of all jobs of a group in one turn."""
    entries = []
    for n, job in enumerate(group):
        if turn < len(job.turns):
            first = sum(len(earlier) for earlier in job.turns[:turn])
            entries += [
                Entry(n, first + k, one.context, one.defects) for k, one in enumerate(job.turns[turn])
            ]
    return entries


def retry(entry: Entry, windows: Sequence[int]) -> Entry:
    """Some windows of an entry at the next attempt."""
    context = replace(entry.context, windows=tuple(entry.context.windows[k] for k in windows))
    defects = tuple(entry.defects[k] for k in windows)
    return replace(entry, context=context, defects=defects, attempt=entry.attempt + 1)


def entry_seed(seed: int, job: Job, entry: Entry) -> int:
    """Noise depends on the run's seed, image, annotation and sample index, and on pass and attempt beyond the
    first, not on company."""
    identity = [job.image.name, job.base, job.index]
    if entry.number or entry.attempt:
        identity += [entry.number, entry.attempt]
    return sample_seed(seed, *identity)


def names_of(pairs: Sequence[tuple[Job, Entry]]) -> str:
    return pairs[0][0].name + (f" and {len(pairs) - 1} more" if len(pairs) > 1 else "")


def attention_strips(masks: Sequence[Tensor], count: int) -> list[np.ndarray | None]:
    """For each of `count` windows its attention (h, n * w) uint8 at n steps spread over the walk, or None."""
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
    """Whether an error means that memory gave out, on a GPU or (by PyTorch's message) on the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return "not enough memory" in str(error)
