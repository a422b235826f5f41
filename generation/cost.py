"""What painting costs, in seconds or operations: one model for the dry run and the benchmarks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from generation.jobs import Job, make_groups, nothing_to_paint
from generation.models import build, count_classes, prepare, weight_paths
from generation.setup import Run
from guided_diffusion.ddim import SamplerOptions, guided_steps
from guided_diffusion.unet import UNetModel
from utils.network_metadata import missing_checkpoint
from utils.processes.group import rank
from utils.schema.generation import GenerationConfig
from utils.schema.network import NetworkConfig


@dataclass(frozen=True)
class StepCost:
    """What guided steps cost, from the cost of one forward at batch 1 (seconds, operations): of the contextual
    model, of the prior, and of the contextual model on a crop, 0 without `prior_guidance`.

    A backward with frozen weights costs a forward. No trial of the line search is rejected.
    """

    contextual: float
    prior: float
    guidance: float

    def step(self, options: SamplerOptions, t: int, windows: int = 1) -> float:
        """One guided step at t on a context with so many `windows`.

        n gradient steps take n + 1 evaluations of the image, n of them with a backward. Where sub-steps draw noise,
        an accepted trial is evaluated anew. The crop is evaluated once for the attention, and with `lr_crop` as
        often as the image besides, but for the last point, which needs no gradient.
        """
        n, chain = gradient_count(options, t), options.estimate_chain(t)
        noisy = options.ddim_sigma > 0 and len(chain) > 1 and t > 0
        redrawn = n if noisy and options.use_adaptive_lr_xt else 0
        image_passes = (2 * n + 1 + redrawn) * max(len(chain) - 1, 1)
        crop_passes = 2 * n + 2 + max(redrawn - 1, 0) if options.lr_crop and n else 1
        return image_passes * self.contextual + windows * crop_passes * (self.prior + self.guidance)

    def sequence(self, options: SamplerOptions, windows: int = 1) -> float:
        """All guided steps of a context with so many `windows`."""
        return sum(self.step(options, t, windows) for t in guided_steps(options))


def gradient_count(options: SamplerOptions, t: int) -> int:
    """Gradient steps at t."""
    return options.gradient_steps[t] if options.optimize_xt else 0


# Cost of a forward


def random_network(network: NetworkConfig, num_classes: int = 6) -> UNetModel:
    """The network with random weights, in eval mode on the CPU; zero-initialized layers get some too, so that all
    take part."""
    torch.manual_seed(0)
    model = build(network, num_classes)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model.eval()


def operations(config: GenerationConfig) -> StepCost:
    """Operations (two per multiply-add)."""
    return _cost(config, forward_operations(config.network), forward_operations(config.crop))


def seconds(run: Run) -> StepCost:
    """Seconds on the run's device, from one timed forward of each network."""
    return _cost(run.config, time_forward(run, run.config.network), time_forward(run, run.config.crop))


def _cost(config: GenerationConfig, contextual: float, prior: float) -> StepCost:
    """With guidance the contextual model runs on the crop too, at a cost in proportion to the pixels, or the prior a
    second time, for its class clean."""
    if not config.model_path:
        contextual = 0.0
    if config.crop.condition == "surroundings":
        return StepCost(contextual, prior, prior if config.prior_guidance else 0.0)
    share = (config.crop.image_size / config.network.image_size) ** 2 if config.prior_guidance else 0.0
    return StepCost(contextual, prior, share * contextual)


@torch.no_grad()
def forward_operations(network: NetworkConfig) -> float:
    """Operations of one forward at batch 1."""
    model = random_network(network)
    x = torch.zeros(1, model.in_channels, network.image_size, network.image_size)
    y = torch.zeros(1, dtype=torch.long) if network.class_cond else None
    with FlopCounterMode(display=False) as counter:
        model(x, torch.zeros(1), y)
    return counter.get_total_flops()


@torch.no_grad()
def time_forward(run: Run, network: NetworkConfig) -> float:
    """Seconds of one forward at batch 1, with random weights."""
    classes, device = count_classes(run.config, run.classes), run.device
    model = prepare(random_network(network, classes), network, run.config, device)
    x = torch.zeros(1, model.in_channels, network.image_size, network.image_size, device=device)
    y = torch.zeros(1, dtype=torch.long, device=device) if network.class_cond else None
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(model(x, torch.zeros(1, device=device), y).sum())
    return time.perf_counter() - started


# The dry run


def print_plan(run: Run, jobs: Sequence[Job]) -> None:
    """Print what would be painted, by all processes together, and an estimate of the time, from one timed forward
    of each network."""
    if rank() > 0:
        return
    groups, total = (
        make_groups(jobs, run.config.resolved_batch_size, run.outputs.wanted, shared=False),
        len(jobs),
    )
    if not groups:
        print(nothing_to_paint(total, 0))
        return
    for job in (job for group in groups for job in group):
        print(f"{job.name}: {'; '.join(describe(job))}")
    steps = guided_steps(run.options)
    passes = [one for group in groups for job in group for one in job.passes]
    cost = seconds(run)
    once = sum(cost.sequence(run.options, len(one.defects)) for one in passes)
    total_seconds = once * run.config.candidates
    print(
        f"{sum(map(len, groups))} of {total} samples to paint in {len(groups)} groups, "
        f"{len(passes)} contexts of {len(steps)} steps each from {run.beginning}: "
        f"about {duration(total_seconds)} on {run.device} (reckoned one context at a time)"
    )
    for problem in filter(None, map(missing_checkpoint, weight_paths(run.config))):
        print(f"before that: {problem}")


def describe(job: Job) -> list[str]:
    """Class, place and scale of each defect of a job."""
    scales = {k: one.context.scale for one in job.passes for k in one.defects}
    return [
        f"{defect.annotation.class_name} at {defect.center}, scale {scales[k]:g}"
        for k, defect in enumerate(job.defects)
    ]


def count_contexts(groups: Sequence[Sequence[Job]]) -> int:
    return sum(len(job.passes) for group in groups for job in group)


def duration(seconds: float) -> str:
    """Seconds in the unit people would use: '40 s', '12 min', '3.5 h'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
