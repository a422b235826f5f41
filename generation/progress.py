"""What a run reports while it paints: progress bar, log lines, attention figures."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from tqdm import tqdm

from generation.jobs import BatchItem, Job
from generation.outputs import Outputs
from generation.scoring import PaintedSample
from guided_diffusion.ddim import StepRecord
from guided_diffusion.windows import Windows
from utils.images import image_files
from utils.schema.generation import GenerationConfig

if TYPE_CHECKING:
    from generation.visualize import AttentionRecorder

log = logging.getLogger(__name__)


class Progress:
    """Progress bar, debug log and attention figures of every batch: the painter's callback.

    `bar` counts steps of contexts, `steps` are those of one context.
    """

    def __init__(self, config: GenerationConfig, outputs: Outputs, bar: tqdm, steps: int):
        self.config, self.outputs, self.bar, self.steps = config, outputs, bar, steps
        self.batch: Sequence[tuple[Job, BatchItem]] = ()
        self.recorder: AttentionRecorder | None = None

    def start(self, batch: Sequence[tuple[Job, BatchItem]], clean: Tensor, windows: Windows) -> None:
        self.batch = batch
        self.bar.set_description(batch[0][0].name)
        again = sum(item.attempt >= self.config.candidates for _, item in batch)
        self.bar.total = max(self.bar.total + again * self.steps, self.bar.n + len(batch) * self.steps)
        if self.config.visualize:
            from generation.visualize import AttentionRecorder  # Matplotlib, which nothing else here needs

            self.recorder = AttentionRecorder(clean, windows.corners, windows.size, windows.owner.tolist())

    def step(self, record: StepRecord) -> None:
        self.bar.update(len(self.batch))
        if self.recorder is not None:
            self.recorder(record)
        if log.isEnabledFor(logging.DEBUG):
            mask = record.accumulated
            share = "no attention" if mask is None else f"attention {float(mask.mean()):.3f} of the window"
            log.debug("t = %d: %s", record.t, share)

    def finish(self) -> None:
        """Save the attention figures; those of a later attempt replace the earlier one's."""
        if self.recorder is None:
            return
        defects = [(job, k) for job, item in self.batch for k in item.defects]
        for row, (job, k) in enumerate(defects):
            frames = self.recorder.frames(row) if self.config.generate_gif else []
            self.outputs.save_attention(job, k, self.recorder.figure(row), frames)


def log_settings(config: GenerationConfig, jobs: Sequence[Job], unrelated: Sequence[str]) -> None:
    """Log what a user may not expect; `unrelated` are the samples in the folder that this run does not touch."""
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    if (config.network.use_fp16 or config.crop.use_fp16) and config.precision != "fp16":
        log.info("use_fp16: true has no effect here; computing in %s", config.precision)
    if config.generate_gif and not config.visualize:
        log.warning("generate_gif: true does nothing without visualize: true")
    used = {job.image for job in jobs}
    if idle := [path.name for path in image_files(Path(config.defect_free_dir)) if path not in used]:
        images = "image" if len(idle) == 1 else "images"
        what = "planned defects" if config.plan.counts else "annotations"
        log.info("%d %s without %s left alone: %s", len(idle), images, what, some_of(idle))
    if unrelated:
        where = f"{len(unrelated)} samples in {config.outdir}"
        told = "are not of this run and stay, whatever settings they were made with"
        log.warning("%s %s: %s", where, told, some_of(unrelated))


def log_sample(sample: PaintedSample) -> None:
    """Log the defects of a sample that are not what was requested, or why it failed."""
    if sample.failure is not None:
        told = "not painted, in float32 either: %s, at t = %d"
        log.warning(f"%s: {told}", sample.job.name, sample.failure.reason, sample.failure.t)
        return
    for wanted, defect in zip(sample.job.defects, sample.defects, strict=True):
        name, what = sample.job.name, f"{wanted.annotation.class_name} at {wanted.center}"
        if not defect.accepted:
            score, attempts = defect.scores["score"], defect.attempt + 1
            told = f"fails min_score with {score:.2f} after {attempts} attempts and is left out"
            log.warning("%s: %s %s", name, what, told)
        elif defect.box is None:
            log.warning("%s: nothing was painted of %s; it has no label", name, what)


def some_of(names: Sequence[str]) -> str:
    """The first three names, for a message."""
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
