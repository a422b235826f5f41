"""The training loop with its files, curves and messages."""

import errno
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from guided_diffusion.resample import create_sampler
from training.curves import draw_curves, loss_warning, read_log
from training.image_datasets import StepSampler, batches
from training.preview import Preview
from training.setup import TrainingRun
from training.train_loop import Hooks, NonFiniteLoss, TrainLoop, TrainOptions
from utils.checkpoint import load_training_state, save_atomic, save_safetensors
from utils.config import resolved_yaml
from utils.errors import UserError
from utils.files import SETTINGS, write_settings
from utils.manifest import VERSION
from utils.schema.training import TrainingConfig


def run_to_the_end(loop: TrainLoop, config: TrainingConfig) -> None:
    """Write down the settings, if they are still to be trained with, and train.

    Raises UserError when the loss is no number any more, and when the folder takes no more files.
    """
    folder = Path(config.checkpoint_dir)
    try:
        if loop.rank == 0 and loop.step < loop.last_step:
            write_settings(folder / SETTINGS, resolved_yaml(config))
        loop.run()
    except NonFiniteLoss as error:
        raise UserError(f"training stopped: {error}; lower lr, or use precision fp32 or bf16") from error
    except OSError as error:
        if not is_write_error_in(error, folder):
            raise
        raise UserError(
            f"training stopped after step {loop.step}: {error}; see to space and rights in checkpoint_dir {folder}, "
            "then the same command goes on from the last checkpoint"
        ) from error


def is_write_error_in(error: OSError, folder: Path) -> bool:
    """Whether the system refused a file in `folder`, or room for one that it does not name."""
    names = [
        name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)
    ]
    if not names:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    root = folder.resolve()
    return any(Path(os.fsdecode(name)).resolve().is_relative_to(root) for name in names)


def make_hooks(run: TrainingRun) -> Hooks:
    """Files, previews, curves and messages of a run."""
    config, log = run.config, run.log
    folder = Path(config.checkpoint_dir)
    metadata = weights_metadata(run)

    def export(path: Path, weights: dict[str, Tensor]) -> None:
        save_safetensors(path, weights, metadata, getattr(torch, config.export_dtype))

    board = SummaryWriter(folder / "tensorboard") if config.tensorboard and run.process.rank == 0 else None

    def scalars(values: dict[str, float], step: int) -> None:
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

    def report(step: int) -> None:
        if board is not None:
            board.flush()  # nothing else does at the end; a full disk shows here at the latest
        if (folder / "train_log.csv").is_file():
            rows = read_log(folder / "train_log.csv")
            draw_curves(rows, folder / "train_curves.png")
            if problem := loss_warning(rows, config.warmup_steps):
                log.warning("step %d: %s", step, problem)

    return Hooks(
        save=save_atomic,
        load=load_training_state,
        export=export,
        preview=Preview(run, board),
        scalars=scalars,
        report=report,
        message=log.info,
        note=partial(log.info, extra={"file_only": True}),
        warning=log.warning,
    )


def weights_metadata(run: TrainingRun) -> dict[str, Any]:
    """What the exported weights say of themselves: all that painting must agree with, and the versions."""
    config = run.config
    contrasts = {"contrasts": dict(run.contrasts)} if run.contrasts else {}
    return {
        "network": config.network.plain(),
        "diffusion": config.diffusion.agreed() | {"min_t": config.min_t, "max_t": config.resolved_max_t},
        "classes": run.names,
        **contrasts,
        "files": dict(run.files),
        "versions": {"crg_diffusion": VERSION, "torch": torch.__version__},
    }


def make_loop(run: TrainingRun, model: nn.Module, hooks: Hooks) -> TrainLoop:
    """Wire data, network and files into the training loop."""
    config, process = run.config, run.process
    own = {f.name for f in fields(TrainOptions)}
    values = {k: v for k, v in config.model_dump().items() if k in own}
    balanced = run.dataset.labels if config.class_balanced else None

    def data(first_step: int) -> Iterator[list[Tensor]]:
        sampler = StepSampler(
            len(run.dataset), config.batch_size, config.seed, first_step, balanced,
            process.rank, process.world_size, config.shuffle,
        )  # fmt: skip
        return batches(run.dataset, sampler, 0 if config.cache else config.num_workers)

    return TrainLoop(
        model=model,
        diffusion=run.diffusion,
        time_sampler=create_sampler(config.schedule_sampler, run.diffusion.num_timesteps, *run.span),
        data=data,
        folder=Path(config.checkpoint_dir),
        options=TrainOptions(**values),
        hooks=hooks,
        class_cond=config.network.class_cond,
        device=process.device,
        rank=process.rank,
        world_size=process.world_size,
    )
