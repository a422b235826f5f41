"""What comes out of the sampler, context by context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from generation.exemplars.laying import Laid, Start
from generation.geometry import Corner
from generation.jobs import BatchItem, Job
from generation.scoring import Failure
from guided_diffusion.ddim import Result
from utils import images

STRIP = 6  # steps shown in the strip of a window's attention


@dataclass(frozen=True)
class ContextResult:
    """A context with m windows after sampling, at model size."""

    before: np.ndarray  # (S, S, 3) uint8
    after: np.ndarray  # (S, S, 3) uint8
    crops: np.ndarray  # (m, h, w, 3) uint8, the prior's own results
    attention: np.ndarray | None  # (m, h, w) in [0, 1]
    strips: Sequence[np.ndarray | None]  # (h, n * w) uint8 each, the attention at n steps
    laid: Sequence[Laid] = ()  # the training defects that the windows began with, if they did,
    misfits: Sequence[float | None] = ()  # how badly these fit,
    corners: Sequence[Corner] = ()  # and where the windows are

    @cached_property
    def begun(self) -> np.ndarray:
        """The context (S, S, 3) uint8 with the training defects that its windows began with."""
        pixels = self.before.copy()
        for laid, (x, y) in zip(self.laid, self.corners, strict=True):
            height, width = laid.pixels.shape[:2]
            pixels[y : y + height, x : x + width] = laid.pixels
        return pixels

    def kept_gray(self) -> "ContextResult":
        """The result without color, where the context has none."""
        if not images.is_gray(self.before):
            return self
        return replace(self, after=images.gray(self.after), crops=images.gray(self.crops))


@dataclass(frozen=True)
class Task:
    """One context on its way through the sampler: `before` (S, S, 3) uint8 at model size."""

    job: Job
    item: BatchItem
    before: np.ndarray


def separate(
    result: Result,
    tasks: Sequence[Task],
    strips: Sequence[np.ndarray | None],
    start: Start | None,
    last: int,
    keep_gray: bool,
) -> list[ContextResult | Failure]:
    """The result of a batch context by context, with `keep_gray` without color where the context has none; a failure at
    the step `last` where it is not finite. `start`: the training defects that it began with, if it did."""
    afters, crops = images.to_uint8(result.sample), images.to_uint8(result.crop)
    found: list[ContextResult | Failure] = []
    first = 0
    for n, task in enumerate(tasks):
        rows = slice(first, first + len(task.item.defects))
        first = rows.stop
        if not (torch.isfinite(result.sample[n]).all() and torch.isfinite(result.crop[rows]).all()):
            found.append(Failure(last, "the networks' output is not a number"))
            continue
        attention = None if result.attention is None else result.attention[rows, 0].cpu().numpy()
        made = ContextResult(task.before, afters[n], crops[rows], attention, strips[rows])
        if start is not None:
            windows = task.item.context.windows
            made = replace(made, laid=start.laid[rows], misfits=start.misfits[rows], corners=windows)
        found.append(made.kept_gray() if keep_gray else made)
    return found


def attention_strips(masks: Sequence[Tensor], count: int) -> list[np.ndarray | None]:
    """For each of `count` windows its attention (h, n * w) uint8 at n steps spread over the sampling run, or None."""
    if not masks:
        return [None] * count
    steps = np.unique(np.linspace(0, len(masks) - 1, STRIP).round().astype(int))
    chosen = torch.stack([masks[step] for step in steps], dim=1)[:, :, 0]  # (M, n, h, w)
    shown = (chosen.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [np.concatenate(list(frames), axis=1) for frames in shown]
