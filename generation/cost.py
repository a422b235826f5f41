"""What a run costs, and the plan that `dry_run` prints."""

import time
from collections.abc import Sequence

import torch

from generation.jobs import Job, nothing_to_paint
from generation.models import count_classes, prepare
from generation.setup import Run
from guided_diffusion.create import create_unet
from guided_diffusion.ddim import guided_steps
from utils.network_metadata import missing_checkpoint
from utils.schema.generation import GenerationConfig
from utils.schema.network import NetworkConfig


def print_plan(run: Run, groups: list[list[Job]], total: int) -> None:
    """Print what would be painted and an estimate of the time, from one timed forward of each network."""
    if not groups:
        print(nothing_to_paint(total))
        return
    for job in (job for group in groups for job in group):
        print(f"{job.name}: {'; '.join(describe(job))}")
    steps = guided_steps(run.options)
    seconds = estimate(run, groups) if groups else 0.0
    print(
        f"{sum(map(len, groups))} of {total} samples to paint in {len(groups)} groups, "
        f"{count_contexts(groups)} contexts of {len(steps)} steps each: "
        f"about {duration(seconds)} on {run.device} (reckoned one context at a time)"
    )
    for problem in filter(None, map(missing_checkpoint, (run.config.model_path, run.config.crop_model_path))):
        print(f"before that: {problem}")


def describe(job: Job) -> list[str]:
    """Class, place and scale of each defect of a job."""
    scales = {k: one.context.scale for one in job.passes for k in one.defects}
    return [
        f"{defect.annotation.class_name} at {defect.centre}, scale {scales[k]:g}"
        for k, defect in enumerate(job.defects)
    ]


def estimate(run: Run, groups: list[list[Job]]) -> float:
    """Seconds of painting, from one timed forward of each network."""
    config, options = run.config, run.options
    steps, count = guided_steps(options), count_contexts(groups)
    contextual, prior = (
        time_forward(config, net, count_classes(config, run.classes), run.device)
        for net in (config.network, config.crop)
    )
    # n gradient steps take n + 1 forwards and n backwards, each backward about a forward's work
    refining = sum(2 * options.gradient_steps[t] + 1 if options.optimize_xt else 1 for t in steps)
    if options.prior_guidance:  # the contextual model runs on the crop too
        prior += contextual * (config.crop.image_size / config.network.image_size) ** 2
    calls = refining if options.lr_crop else len(steps)
    return count * (refining * options.mid_interval_num * contextual + calls * prior)


@torch.no_grad()
def time_forward(
    config: GenerationConfig, network: NetworkConfig, classes: int, device: torch.device
) -> float:
    """Seconds of one forward at batch 1, with random weights."""
    model = prepare(create_unet(**network.plain(), num_classes=classes), network, config, device)
    x = torch.zeros(1, 3, network.image_size, network.image_size, device=device)
    y = torch.zeros(1, dtype=torch.long, device=device) if network.class_cond else None
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(model(x, torch.zeros(1, device=device), y).sum())
    return time.perf_counter() - started


def count_contexts(groups: Sequence[Sequence[Job]]) -> int:
    return sum(len(job.passes) for group in groups for job in group)


def duration(seconds: float) -> str:
    """Seconds in the unit people would use: '40 s', '12 min', '3.5 h'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
