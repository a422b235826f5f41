"""From jobs to painted images: contexts go through the sampler in batches, and back into their images.

A group of jobs is painted together, turn by turn. Windows that score too low are re-sampled with other noise before
the next turn begins.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generation.exemplars.laying import Exemplars, Start
from generation.geometry import PixelBox, Window, box_in_window, native_window
from generation.jobs import BatchItem, Job, candidates, item_seed, retry, turn_items
from generation.painting.canvas import Canvas
from generation.painting.compositing import annotated_box
from generation.painting.options import PaintOptions
from generation.painting.results import ContextResult, Task, attention_strips, separate
from generation.painting.scorer import Scorer
from generation.painting.touching import contacts_of_classes
from generation.quality.assessment import Assessor
from generation.scoring import (
    Failure,
    PaintedDefect,
    PaintedSample,
    best_candidates,
)
from guided_diffusion.ddim import Sampler, StepRecord
from guided_diffusion.refinement import NonFiniteEnergy
from guided_diffusion.surroundings import box_masks
from guided_diffusion.windows import Windows
from utils import images
from utils.errors import UserError
from utils.images import ImageCache, Loader
from utils.seeding import SampleNoise

log = logging.getLogger(__name__)


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
class Work:
    """A job while it is painted: its image so far, and what is known of its defects by their place in the job."""

    job: Job
    canvas: Canvas
    defects: dict[int, PaintedDefect] = field(default_factory=dict)
    failure: Failure | None = None

    def others(self, item: BatchItem) -> list[Window]:
        """The windows of the defects that were put into the image by other items."""
        painted = self.defects.items()
        return [one.window for k, one in painted if k not in item.defects and one.accepted]

    def sample(self) -> PaintedSample:
        """The result; what was painted of a failed job does not count."""
        found = [] if self.failure else [self.defects[k] for k in sorted(self.defects)]
        return PaintedSample(self.job, self.canvas.picture(), tuple(found), self.failure)


@dataclass
class Painter:
    """The sampler with what it needs to paint images; `paint` works group by group.

    `exact`: the same sampler in float32, for what overflows; None: it is so already. `exemplars`: where it starts.
    """

    sampler: Sampler
    options: PaintOptions
    device: torch.device
    callback: ProgressCallback
    assessor: Assessor | None = None
    exact: Callable[[], Sampler] | None = None
    exemplars: Exemplars | None = None
    load: ImageCache = field(init=False)
    scorer: Scorer = field(init=False)

    def __post_init__(self) -> None:
        self.load = ImageCache(self.options.image_size if self.options.squash else None)
        touching = contacts_of_classes(self.exemplars) if self.exemplars and self.assessor else {}
        self.scorer = Scorer(self.options, self.assessor, touching)

    def paint(self, group: Sequence[Job], load: Loader | None = None) -> Iterator[PaintedSample]:
        """Paint the jobs of a group together; samples come in the order of jobs, each image
        assembled only when requested. `load` gives the images (default: from their files).

        A job whose numbers overflow ends with a failure, the others go on. Raises UserError when memory runs out.
        """
        works = [Work(job, Canvas(job.image, load or self.load, self.options.masked)) for job in group]
        for work in works:
            work.canvas.keep(one.context for one in work.job.passes)
        for turn in range(max(len(job.turns) for job in group)):
            items = turn_items(group, turn)
            for _ in range(self.options.max_rerolls + 1):
                items = [item for item in items if works[item.job].failure is None]
                size = self.options.batch_size
                batches = [items[i : i + size] for i in range(0, len(items), size)]
                items = [item for batch in batches for item in self.paint_batch(works, batch)]
        for work in works:
            yield work.sample()

    def paint_batch(self, works: Sequence[Work], batch: Sequence[BatchItem]) -> list[BatchItem]:
        """Paint one batch onto the canvases, each item by the best of its candidates; returns what has to be
        re-sampled."""
        count, size = self.options.candidates, self.options.batch_size
        tries = [one for item in batch for one in candidates(item, count)]
        results: list[ContextResult | Failure] = []
        for part in (tries[i : i + size] for i in range(0, len(tries), size)):
            found = [works[one.job].canvas.context(one.context, self.options.image_size) for one in part]
            results += self.results(works, part, found)
        rejected = []
        for n, item in enumerate(batch):
            work, own = works[item.job], slice(n * count, (n + 1) * count)
            again = self.take(work, item, list(zip(tries[own], results[own], strict=True)))
            if again:
                rejected.append(retry(item, again))
        return rejected

    def take(
        self, work: Work, item: BatchItem, painted: Sequence[tuple[BatchItem, ContextResult | Failure]]
    ) -> list[int]:
        """Put the best of an item's candidates into the image; returns the windows that none was good enough for."""
        good = [(one, result) for one, result in painted if isinstance(result, ContextResult)]
        if not good:
            work.failure = next(result for _, result in painted if isinstance(result, Failure))
            return []
        found = [self.scorer.judge(one, work.job, work.canvas, result) for one, result in good]
        best = best_candidates(found, together=self.options.generated)
        last = painted[-1][0].attempt
        for window, (k, place) in enumerate(zip(item.defects, best, strict=True)):
            chosen = found[place][window]
            work.defects[k] = chosen if chosen.accepted else replace(chosen, attempt=last)
        for place, (one, result) in enumerate(good):
            taken = [w for w, chosen in enumerate(best) if chosen == place and found[place][w].accepted]
            if taken:
                accepted = {w: found[place][w] for w in taken}
                self.scorer.put(one.context, work.canvas, result, accepted, work.others(one))
        return [w for w, place in enumerate(best) if not found[place][w].accepted]

    # Sampling

    def results(
        self, works: Sequence[Work], batch: Sequence[BatchItem], contexts: Sequence[np.ndarray]
    ) -> list[ContextResult | Failure]:
        """`contexts` (S, S, 3) uint8 at model size through the sampler; what overflows once more in float32."""
        pairs = zip(batch, contexts, strict=True)
        tasks = [Task(works[item.job].job, item, before) for item, before in pairs]
        found = self.sample(self.sampler, tasks)
        failed = [n for n, result in enumerate(found) if isinstance(result, Failure)]
        if failed and self.exact is not None:
            names = ", ".join(sorted({tasks[n].job.name for n in failed}))
            log.warning("%s: numbers overflow; once more in float32", names)
            again = self.sample(self.exact(), [tasks[n] for n in failed])
            for n, result in zip(failed, again, strict=True):
                found[n] = result
        return found

    def sample(self, sampler: Sampler, tasks: Sequence[Task]) -> list[ContextResult | Failure]:
        """A result per task; in halves when memory runs out, and anew without those whose
        numbers overflow."""
        if not tasks:
            return []
        try:
            return self._sample(sampler, tasks)
        except NonFiniteEnergy as error:
            failures = {n: Failure(error.t, "the refinement's loss is not a number") for n in error.images}
        except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failures = {}
        if failures:
            rest = iter(self.sample(sampler, [task for n, task in enumerate(tasks) if n not in failures]))
            return [failures[n] if n in failures else next(rest) for n in range(len(tasks))]
        told = f"the memory of {self.device} is too small for {len(tasks)} contexts at once"
        if len(tasks) == 1:
            raise UserError(f"{told}; use precision=bf16, a smaller image_size, or another device")
        log.warning("%s: painting them in halves; a smaller batch_size avoids the attempt", told)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(tasks) // 2
        return self.sample(sampler, tasks[:half]) + self.sample(sampler, tasks[half:])

    def _sample(self, sampler: Sampler, tasks: Sequence[Task]) -> list[ContextResult | Failure]:
        pairs = [(task.job, task.item) for task in tasks]
        clean = torch.cat([images.to_tensor(task.before) for task in tasks]).to(self.device)
        owner = [n for n, (_, item) in enumerate(pairs) for _ in item.defects]
        corners = [corner for _, item in pairs for corner in item.context.windows]
        size = self.options.crop_size
        begin, support, known, start = clean, None, None, None
        if self.exemplars is not None:
            start = self.exemplars.starts(
                pairs, [task.before for task in tasks], size, self.options.candidates
            )
            begin, support, known = (
                one.to(self.device) for one in (start.contexts, start.support, start.known)
            )
        boxes = self.boxes(pairs, start)
        windows = Windows(corners, size, torch.tensor(owner, device=self.device), boxes, support, known)
        classes = [job.defects[k].annotation.class_id for job, item in pairs for k in item.defects]
        noise = SampleNoise([item_seed(self.options.seed, job, item) for job, item in pairs], owner)
        masks: list[Tensor] = []
        self.callback.start(pairs, clean, windows)

        def on_step(record: StepRecord) -> None:
            self.callback.step(record)
            if self.options.strips and record.accumulated is not None:
                masks.append(record.accumulated)

        result = sampler.sample(
            clean, windows, torch.tensor(classes, device=self.device), noise, on_step, begin
        )
        self.callback.finish()
        strips = attention_strips(masks, len(owner))
        last, masked = sampler.options.timesteps[-1], self.options.masked
        return separate(result, tasks, strips, start, last, masked)

    def boxes(self, pairs: Sequence[tuple[Job, BatchItem]], start: Start | None) -> Tensor | None:
        """Masks (M, 1, h, w) of the boxes of the defects in their windows, for a prior that sees its surroundings:
        those of the training defects where they were laid, else the requested ones."""
        if not self.options.sees_surroundings:
            return None
        size = self.options.crop_size
        boxes: list[PixelBox] = []
        for job, item in pairs:
            for k, corner in zip(item.defects, item.context.windows, strict=True):
                box = job.defects[k].box
                assert box is not None  # every defect has one: `JobOptions.boxes`
                window = native_window(item.context, corner, size)
                own = start.laid[len(boxes)] if start is not None else None
                if own is not None and own.shaped and own.box is not None:
                    scale, margin = window[2] / size, self.options.label_margin
                    left, top, right, bottom = annotated_box(own.box, scale, margin)
                    box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
                    window = 0, 0, window[2]
                boxes.append(box_in_window(box, window, size))
        return box_masks(boxes, size).to(self.device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, on a GPU or (by PyTorch's message) on the CPU."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)
