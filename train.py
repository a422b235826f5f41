"""Train the defect-free model or the defect prior: `python train.py --conf_path confs/train-64.yml [key=value ...]`.

The same command goes on where a stopped run ended. `torchrun --nproc-per-node=N train.py ...` trains on
several devices.
"""

import argparse
import errno
import logging
import os
import shutil
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.image_datasets import Augmentation, PatchDataset, StepSampler, batches
from guided_diffusion.resample import create_sampler
from guided_diffusion.respace import kept_timesteps
from guided_diffusion.train_util import Hooks, NonFiniteLoss, TrainLoop, TrainOptions
from utils import images, labels, logger
from utils.checkpoint import (
    SHAPE_KEYS,
    described,
    load_state_dict,
    load_strict,
    load_training_state,
    network_differences,
    save_atomic,
    save_safetensors,
)
from utils.config import NetworkConfig, TrainingConfig, differences, load_training_config, resolved_yaml
from utils.device import prefers_channels_last, resolve_device, resolve_precision, start_process_group
from utils.errors import UserError, run_main
from utils.files import replacing
from utils.training_report import draw_curves, loss_warning, preview_warning, read_log


@dataclass(frozen=True)
class Place:
    """Where this process computes, and which of how many it is."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/train-64.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_training_config(args.conf_path, args.overrides)
    place = join_processes(config)
    try:
        train(with_arithmetic(config, place.device), place)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def train(config: TrainingConfig, place: Place) -> None:
    """One run, from the configuration to the last checkpoint."""
    log = start_log(config, place)
    names = labels.load_class_names(config.class_json_path) if config.network.class_cond else {}
    dataset = load_dataset(config, names)
    diffusion, span = make_diffusion(config)
    torch.manual_seed(config.seed)
    model = create_unet(**config.network.plain(), num_classes=count_classes(config, names))
    if config.init_from:
        start_from(model, config.init_from, config.network, names, log)
    log.info(
        "%d images, %.2f M parameters, %s, %s",
        len(dataset), sum(p.numel() for p in model.parameters()) / 1e6, place.device, config.precision,
    )  # fmt: skip
    if unseen := [name for name, i in names.items() if i not in dataset.labels]:
        log.warning(
            "no images of %s in %s: such defects cannot be learnt", ", ".join(unseen), config.data_dir
        )
    hooks = make_hooks(config, diffusion, span, dataset, names, place, log)
    loop = make_loop(config, model, diffusion, span, dataset, hooks, place)
    resume(loop, config)
    run_to_the_end(loop, config)
    end = "stopped" if loop.interrupted else "finished"
    log.info("%s at step %d; weights are in %s", end, loop.step, config.checkpoint_dir)


def run_to_the_end(loop: TrainLoop, config: TrainingConfig) -> None:
    """Write down the settings, if they are still to be trained with, and train.

    Raises UserError when the loss is no number any more, and when the folder takes no more files.
    """
    folder = Path(config.checkpoint_dir)
    try:
        if loop.rank == 0 and loop.step < loop.last_step:
            with replacing(folder / "config.yml") as temporary:
                temporary.write_text(resolved_yaml(config))
        loop.run()
    except NonFiniteLoss as error:
        raise UserError(f"training stopped: {error}; lower lr, or use precision fp32 or bf16") from error
    except OSError as error:
        if not concerns(error, folder):
            raise
        raise UserError(
            f"training stopped after step {loop.step}: {error}; see to space and rights in checkpoint_dir {folder}, "
            "then the same command goes on from the last checkpoint"
        ) from error


def concerns(error: OSError, folder: Path) -> bool:
    """Whether the system refused a file in `folder`, or room for one that it does not name."""
    names = [
        name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)
    ]
    if not names:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    root = folder.resolve()
    return any(Path(os.fsdecode(name)).resolve().is_relative_to(root) for name in names)


def join_processes(config: TrainingConfig) -> Place:
    """The device of this process, and torchrun's process group, if there is one.

    Raises UserError for a device that is not there, and for `compile` where nothing can compile.
    """
    device = resolve_device(config.device, rank_on_host=int(os.environ.get("LOCAL_RANK", "0")))
    compiler = os.environ.get("CXX", "g++")
    if config.compile and device.type == "cpu" and not (shutil.which(compiler) or shutil.which("clang++")):
        raise UserError(
            "compile: torch.compile needs a C++ compiler on the CPU; install g++, or set compile=false"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Place(device, *start_process_group(device))


def with_arithmetic(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """The configuration with what `auto` means on this device; UserError for fp16 on a CPU."""
    precision, layout = resolve_precision(config.precision, device), config.channels_last
    if layout == "auto":
        layout = prefers_channels_last(precision, config.network.num_channels, device)
    return config.model_copy(update={"precision": precision, "channels_last": layout})


def start_log(config: TrainingConfig, place: Place) -> logging.Logger:
    """The log of the first process goes to the console and into the folder; the others say errors alone.

    Raises UserError when the folder cannot be made or written to.
    """
    try:
        log = logger.setup_logging(Path(config.checkpoint_dir) / "train.log" if place.rank == 0 else None)
    except OSError as error:
        raise UserError(
            f"checkpoint_dir {config.checkpoint_dir}: cannot be written to ({error}); choose another folder"
        ) from error
    if place.rank > 0:
        logging.disable(logging.WARNING)
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    return log


def make_diffusion(config: TrainingConfig) -> tuple[GaussianDiffusion, tuple[int, int]]:
    """The chain, and the indices first <= i < end of its steps with min_t <= t < max_t.

    Raises UserError when `timestep_respacing` is impossible, or keeps no step of that range.
    """
    steps, respacing = config.diffusion.diffusion_steps, config.diffusion.timestep_respacing
    try:
        kept = kept_timesteps(steps, respacing)
    except ValueError as error:
        raise UserError(f"timestep_respacing: {error}") from error
    end_t = steps if config.max_t is None else config.max_t
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


def start_from(
    model: nn.Module, path: str, network: NetworkConfig, names: dict[str, int], log: logging.Logger
) -> None:
    """Load the weights `init_from`; a class head of another size is left as it was drawn.

    Raises UserError for any other weight that differs in name or shape, and for weights that say that they
    were trained with another network.
    """
    head = "label_emb.weight"
    weights, metadata = load_state_dict(path)
    own, other = model.state_dict().get(head), weights.get(head)
    fresh = model.label_emb if own is not None and other is not None and len(own) != len(other) else None
    if fresh is not None:
        model.label_emb = nn.Embedding(len(other), own.shape[1])  # takes the file's head, then goes
    if differences := network_differences(metadata, network.plain(), path):
        raise UserError.from_problems("init_from does not fit the configuration", differences)
    load_strict(model, path, SHAPE_KEYS, "init_from")
    log.info("starting from the weights of %s", path)
    if fresh is not None:
        model.label_emb = fresh
        log.warning(
            "%s knows %d classes, this run has %d: the class head (%s) starts anew",
            *(path, len(other), len(own), head),
        )
    elif names and described(metadata, "classes") not in ({}, names):
        log.warning("%s was trained on other classes (%s)", path, ", ".join(metadata["classes"]))


def load_dataset(config: TrainingConfig, names: dict[str, int]) -> PatchDataset:
    """The training images and, with class_cond, their class ids; every problem of the folder in one error.

    The images stay in memory with `cache`, otherwise they are read at every visit. All are decoded here
    in either case: a file cut short must not end a run of hours.
    """
    paths = images.list_images(Path(config.data_dir))
    if not paths:
        raise UserError(
            f"data_dir {config.data_dir}: no images in it; expected files {', '.join(images.SUFFIXES)}"
        )
    size, pictures, classes, problems = config.network.image_size, [], [], []
    for path in paths:
        try:
            picture = images.load_rgb(path)
            if min(picture.shape[:2]) < size:
                height, width = picture.shape[:2]
                problems.append(f"{path}: got {width}x{height} px, expected at least {size}x{size}")
            pictures.append(picture if config.cache else path)
        except UserError as error:
            problems.append(str(error))
        if config.network.class_cond:
            try:
                classes.append(labels.match_class(labels.class_from_filename(path.name), names))
            except UserError as error:
                problems.append(
                    f"{path.parent}/{error}" if str(error).startswith(path.name) else f"{path}: {error}"
                )
    if problems:
        raise UserError.from_problems(f"data_dir {config.data_dir}", problems)
    own = {f.name for f in fields(Augmentation)}
    how = Augmentation(**{k: v for k, v in config.augment.model_dump().items() if k in own})
    ids = classes if config.network.class_cond else None
    return PatchDataset(pictures, ids, size, how, read=None if config.cache else images.load_rgb)


def resume(loop: TrainLoop, config: TrainingConfig) -> None:
    """Go on from `resume_checkpoint`, or where the last run in `checkpoint_dir` ended, if there was one.

    Warns of settings that the run did not have so far, and when it has taken all its steps. Raises UserError
    for a state that is missing or does not fit the network.
    """
    try:
        loop.resume(Path(config.resume_checkpoint) if config.resume_checkpoint else None)
    except UserError:
        raise
    except (RuntimeError, ValueError, LookupError) as error:
        reason = (
            "; ".join(changed_settings(config, what_shapes_the_state))
            or str(error).strip().partition("\n")[0]
        )
        where = (
            config.resume_checkpoint or f"the last training state in checkpoint_dir {config.checkpoint_dir}"
        )
        raise UserError(
            f"{where} does not fit this configuration: {reason}; use the settings that it was trained with "
            "(config.yml beside it), or another checkpoint_dir"
        ) from error
    if loop.step > 0:
        warn_of_resumption(loop, config)


def warn_of_resumption(loop: TrainLoop, config: TrainingConfig) -> None:
    """Say what a resumed run learns otherwise than before, and that it is over, if it is."""
    folder = state_folder(config)
    way_out = "choose another checkpoint_dir"
    if config.resume_checkpoint:
        way_out += " and leave resume_checkpoint out"
    if changes := changed_settings(config, what_is_learnt):
        loop.hooks.warning(
            f"the run in {folder} had other settings so far ({'; '.join(changes)}: then against now), and is "
            f"resumed all the same; to train anew, {way_out}"
        )
    if loop.step >= loop.last_step:
        key = "total_steps" if config.total_steps else "lr_anneal_steps"
        loop.hooks.warning(
            f"the run in {folder} has already taken its {loop.step} steps: nothing is left to do; raise {key} or "
            f"{way_out}"
        )


def state_folder(config: TrainingConfig) -> Path:
    """Where the training state to go on from lies, with the config.yml of its run beside it."""
    return Path(config.resume_checkpoint).parent if config.resume_checkpoint else Path(config.checkpoint_dir)


def changed_settings(
    config: TrainingConfig, settings: Callable[[TrainingConfig], dict[str, Any]]
) -> list[str]:
    """One line for each of the `settings` that is not as the config.yml beside the training state says."""
    try:
        before = load_training_config(state_folder(config) / "config.yml")
    except UserError:
        return []
    return differences(settings(before), settings(config))


def what_shapes_the_state(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide whether a training state fits."""
    return config.network.plain() | {key: getattr(config, key) for key in ("schedule_sampler", "num_classes")}


def what_is_learnt(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide what a run learns, but not the state's shape; paths in one spelling."""
    paths = {key: getattr(config, key) for key in ("data_dir", "class_json_path", "init_from")}
    values = {key: os.path.normpath(path) if path else "" for key, path in paths.items()}
    values |= {key: getattr(config, key) for key in ("min_t", "max_t", "class_balanced")}
    values |= {f"augment.{key}": value for key, value in config.augment.model_dump().items()}
    return values | config.diffusion.plain() | {"dropout": config.network.dropout}


def make_hooks(
    config: TrainingConfig,
    diffusion: GaussianDiffusion,
    span: tuple[int, int],
    dataset: PatchDataset,
    names: dict[str, int],
    place: Place,
    log: logging.Logger,
) -> Hooks:
    """Files, previews, curves and messages of a run."""
    folder = Path(config.checkpoint_dir)
    metadata = {"network": config.network.plain(), "classes": names}

    def export(path: Path, weights: dict[str, Tensor]) -> None:
        save_safetensors(path, weights, metadata, getattr(torch, config.export_dtype))

    board = SummaryWriter(folder / "tensorboard") if config.tensorboard and place.rank == 0 else None

    def scalars(values: dict[str, float], step: int) -> None:
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

    def report(step: int) -> None:
        if (folder / "train_log.csv").is_file():
            rows = read_log(folder / "train_log.csv")
            draw_curves(rows, folder / "train_curves.png")
            if problem := loss_warning(rows, config.warmup_steps):
                log.warning("step %d: %s", step, problem)

    return Hooks(
        save=save_atomic,
        load=load_training_state,
        export=export,
        preview=Preview(config, diffusion, span[1], dataset, place.device, log, board),
        scalars=scalars,
        report=report,
        message=log.info,
        warning=log.warning,
    )


def make_loop(
    config: TrainingConfig,
    model: nn.Module,
    diffusion: GaussianDiffusion,
    span: tuple[int, int],
    dataset: PatchDataset,
    hooks: Hooks,
    place: Place,
) -> TrainLoop:
    """Wire data, network and files into the training loop."""
    own = {f.name for f in fields(TrainOptions)}
    values = {k: v for k, v in config.model_dump().items() if k in own}
    balanced = dataset.labels if config.class_balanced else None

    def data(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        sampler = StepSampler(
            *(len(dataset), config.batch_size, config.seed, first_step, balanced),
            *(place.rank, place.world_size, config.shuffle),
        )
        return batches(dataset, sampler, 0 if config.cache else config.num_workers)

    return TrainLoop(
        model=model,
        diffusion=diffusion,
        time_sampler=create_sampler(config.schedule_sampler, diffusion.num_timesteps, *span),
        data=data,
        folder=Path(config.checkpoint_dir),
        options=TrainOptions(**values, ema_rates=tuple(config.ema_rate)),
        hooks=hooks,
        class_cond=config.network.class_cond,
        device=place.device,
        rank=place.rank,
        world_size=place.world_size,
    )


class Preview:
    """Saves and shows a sheet: training images, the same noised as far as training goes, and denoised.

    `end` is the end of the trained indices of the chain. Called with the averaged network (eval mode) and the
    step; warns when what was denoised is still noise.
    """

    STEPS = 25

    def __init__(
        self,
        config: TrainingConfig,
        diffusion: GaussianDiffusion,
        end: int,
        dataset: PatchDataset,
        device: torch.device,
        log: logging.Logger,
        board: SummaryWriter | None = None,
    ):
        self.diffusion, self.start, self.device = diffusion, end - 1, device
        self.log, self.board = log, board
        self.folder = Path(config.checkpoint_dir) / "previews"
        items = [dataset[i, 0] for i in self._choose(len(dataset), dataset.labels, config.sample_num)]
        self.clean = torch.stack([x for x, _ in items]) if items else None
        self.labels = torch.tensor([y for _, y in items], device=device) if dataset.labels else None

    @staticmethod
    def _choose(count: int, classes: list[int] | None, number: int) -> list[int]:
        """`number` images, or as many of every class."""
        if classes is None:
            return list(range(min(number, count)))
        return [
            i for c in sorted(set(classes)) for i in [j for j, k in enumerate(classes) if k == c][:number]
        ]

    def __call__(self, model: nn.Module, step: int) -> None:
        if self.clean is None:
            return
        noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))
        noised = self.diffusion.q_sample(self.clean, self.start, noise)
        x = noised.to(self.device)
        count = min(self.STEPS, self.start + 1)
        walk = torch.linspace(self.start, 0, count).round().long().tolist()
        for t, s in zip(walk, [*walk[1:], 0], strict=True):
            times = self.diffusion.network_times(t, self.device).expand(len(x))
            prediction = self.diffusion.predict(model(x, times, self.labels), x, t, clip=True)
            x = self.diffusion.ddim_step(prediction, s)
        denoised = prediction.x0.cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = torch.cat([self.clean, noised, denoised])
        sheet = images.grid(list(images.to_uint8(rows)), columns=len(self.clean), pad=2)
        images.save_png(self.folder / f"preview_{step:07d}.png", sheet)
        if self.board is not None:
            self.board.add_image("previews", sheet, step, dataformats="HWC")
        if problem := preview_warning(denoised, self.clean):
            self.log.warning("step %d: %s", step, problem)


if __name__ == "__main__":
    sys.exit(run_main(main))
