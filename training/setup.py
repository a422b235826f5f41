"""What a run is made of, from its configuration: process and device, log, data, diffusion, first weights."""

import logging
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guided_diffusion.create import create_diffusion, create_unet, noise_to_signal, unet_bytes
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.respace import kept_timesteps
from training.boxed_patches import BoxedPatchDataset
from training.data import load_dataset, measure_contrasts, read_files
from training.image_datasets import PatchDataset
from utils import labels, logger
from utils.device import (
    check_memory,
    prefers_channels_last,
    resolve_device,
    resolve_precision,
)
from utils.errors import UserError
from utils.files import check_begun_by_us, state_files, sweep
from utils.processes.exclusive import only_run_in
from utils.processes.group import decided, local_rank, process_group, rank, world_size
from utils.schema.training import TrainingConfig
from utils.strength.rule import strength_for


@dataclass(frozen=True)
class ProcessInfo:
    """The device of this process, its rank and the number of processes."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class TrainingRun:
    """What a run trains with, beside the network: settings, images, diffusion process, log.

    `names` maps class names to ids ({} without class_cond); `span` are the indices first <= i < end of the
    timesteps trained on; `contrasts` maps class names to gray levels ({} for patches without boxes); `files` tells
    which images they are (`read_files`).
    """

    config: TrainingConfig
    process: ProcessInfo
    log: logging.Logger
    names: dict[str, int]
    dataset: PatchDataset | BoxedPatchDataset
    diffusion: GaussianDiffusion
    span: tuple[int, int]
    contrasts: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)


def setup_run(config: TrainingConfig, process: ProcessInfo) -> TrainingRun:
    """Open the log, read the images and build the diffusion process; UserError for what cannot be used."""
    folder, requested = Path(config.checkpoint_dir), config.precision
    if not state_files(folder):
        check_begun_by_us(folder, "checkpoint_dir")
    config = resolve_precision_and_layout(config, process.device)
    log = start_log(config, process)
    if requested == "fp16" != config.precision:
        log.info("use_fp16: true needs a GPU; computing in %s", config.precision)
    names = labels.load_class_names(config.class_json_path) if config.network.class_cond else {}
    dataset = load_dataset(config, names)
    contrasts = measure_contrasts(config, names)
    config = with_range(config, contrasts)
    if contrasts:
        told = ", ".join(f"{name} {levels:.0f}" for name, levels in contrasts.items())
        log.info("contrast of the defects in gray levels: %s; trained on t < %d", told, config.resolved_max_t)
    files = decided(lambda: read_files(config))  # once for all processes
    run = TrainingRun(config, process, log, names, dataset, *make_diffusion(config), contrasts, files)
    if unseen := [name for name, i in names.items() if i not in (dataset.labels or ())]:
        log.warning(
            "no images of %s in %s: such defects cannot be learned", ", ".join(unseen), config.data_dir
        )
    return run


def make_model(run: TrainingRun) -> nn.Module:
    """The network with the initial weights of `seed`; logs what is trained on."""
    config = run.config
    torch.manual_seed(config.seed)
    options = {**config.network.plain(), "num_classes": count_classes(config, run.names)}
    # AdamW keeps two numbers per weight, the gradient is one, an average one for each rate
    check_memory((4 + len(config.ema_rate)) * unet_bytes(**options), "training this network (num_channels)")
    check_memory(
        config.batch_size * 24 * config.network.image_size**2, "a batch (batch_size)"
    )  # images and noise
    model = create_unet(**options)
    images_count, millions = len(run.dataset), sum(p.numel() for p in model.parameters()) / 1e6
    device = run.process.device
    run.log.info("%d images, %.2f M parameters, %s, %s", images_count, millions, device, config.precision)
    return model


@contextmanager
def joined_processes(config: TrainingConfig) -> Iterator[ProcessInfo]:
    """The device of this process; torchrun's processes are joined, and no other run works in `checkpoint_dir`.

    Raises UserError for a device that is not there, and for `compile` where nothing can compile.
    """
    device = resolve_device(config.device, rank_on_host=local_rank())
    compiler = os.environ.get("CXX", "g++")
    if config.compile and device.type == "cpu" and not (shutil.which(compiler) or shutil.which("clang++")):
        raise UserError(
            "compile: torch.compile needs a C++ compiler on the CPU; install g++, or set compile=false"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    with process_group(backend), only_run_in(Path(config.checkpoint_dir), "checkpoint_dir"):
        yield ProcessInfo(device, rank(), world_size())


def resolve_precision_and_layout(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The configuration with what `auto` means on this device; UserError for an explicit fp16 on a CPU."""
    explicit = "precision" in config.model_fields_set
    precision, layout = resolve_precision(config.precision, device, explicit), config.channels_last
    if layout == "auto":
        layout = prefers_channels_last(precision, config.network.num_channels, device)
    return config.model_copy(update={"precision": precision, "channels_last": layout})


def start_log(config: TrainingConfig, process: ProcessInfo) -> logging.Logger:
    """The log of the first process goes to the console and into the folder; the others say errors alone.

    Raises UserError when the folder cannot be made or written to.
    """
    try:
        log = logger.setup_logging(Path(config.checkpoint_dir) / "train.log" if process.rank == 0 else None)
        if process.rank == 0:
            sweep(Path(config.checkpoint_dir))
    except OSError as error:
        raise UserError(
            f"checkpoint_dir {config.checkpoint_dir}: cannot be written to ({error}); choose another folder"
        ) from error
    if process.rank > 0:
        logging.disable(logging.WARNING)
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    return log


def with_range(config: TrainingConfig, contrasts: Mapping[str, float]) -> TrainingConfig:
    """The configuration with what `max_t: auto` means at these contrasts; UserError where it leaves no step."""
    if config.max_t != "auto":
        return config
    process = config.diffusion
    try:
        noise = noise_to_signal(process.noise_schedule, process.diffusion_steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    max_t = strength_for(contrasts, noise).max_t(process.diffusion_steps)
    if config.min_t >= max_t:
        raise UserError(f"min_t: got {config.min_t}, expected less than max_t, which is {max_t} (auto)")
    return config.model_copy(update={"max_t": max_t})


def make_diffusion(config: TrainingConfig) -> tuple[GaussianDiffusion, tuple[int, int]]:
    """The chain, and the indices first <= i < end of its steps with min_t <= t < max_t.

    Raises UserError when `timestep_respacing` is impossible, or keeps no step of that range.
    """
    steps, respacing = config.diffusion.diffusion_steps, config.diffusion.timestep_respacing
    try:
        kept = kept_timesteps(steps, respacing)
    except ValueError as error:
        raise UserError(f"timestep_respacing: {error}") from error
    end_t = config.resolved_max_t
    first, end = bisect_left(kept, config.min_t), bisect_left(kept, end_t)
    if first == end:
        below, above = kept[:first][-1:], kept[first:][:1]
        nearest = " and ".join(str(t) for t in [*below, *above])
        raise UserError(
            f"min_t, max_t: timestep_respacing {respacing!r} keeps no step t with {config.min_t} <= t < {end_t}; "
            f"the nearest ones it keeps are {nearest}; widen the range"
        )
    try:
        diffusion = create_diffusion(**config.diffusion.plain(), learn_sigma=config.network.learn_sigma)
    except ValueError as error:
        raise UserError(str(error)) from error
    return diffusion, (first, end)


def count_classes(config: TrainingConfig, names: dict[str, int]) -> int:
    """`num_classes`, or as many as the class file has; UserError when an id of the file is beyond it."""
    count = config.num_classes or len(names)
    if names and max(names.values()) >= count:
        raise UserError(
            f"{config.class_json_path}: got the class id {max(names.values())}, expected ids below {count}; "
            "number the classes from 0, or set num_classes"
        )
    return count
