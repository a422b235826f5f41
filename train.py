"""Train the defect-free model or the defect prior: `python train.py --conf_path confs/train-64.yml [key=value ...]`.

The same command goes on where a stopped run ended. `torchrun --nproc-per-node=N train.py ...` trains on
several devices.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.image_datasets import Augmentation, PatchDataset, StepSampler, batches
from guided_diffusion.resample import create_sampler
from guided_diffusion.train_util import Hooks, NonFiniteLoss, TrainLoop, TrainOptions
from utils import images, labels, logger
from utils.checkpoint import load_strict, load_training_state, save_atomic, save_safetensors
from utils.config import TrainingConfig, load_training_config, resolved_yaml
from utils.device import resolve_device, start_process_group
from utils.errors import UserError, run_main

# What decides the shape of the weights
NETWORK_KEYS = ["num_channels", "num_res_blocks", "channel_mult", "attention_resolutions", "learn_sigma"]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/train-64.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_training_config(args.conf_path, args.overrides)
    rank, world_size = start_process_group()
    device = resolve_device(config.device, rank_on_host=rank)
    folder = Path(config.checkpoint_dir)
    log = logger.setup_logging(folder / "train.log" if rank == 0 else None, debug=False)
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))

    names = labels.load_class_names(config.class_json_path) if config.network.class_cond else {}
    dataset, classes = load_dataset(config, names)
    torch.manual_seed(config.seed)
    model = create_unet(**config.network.plain(), num_classes=config.num_classes or len(names))
    if config.init_from:
        load_strict(model, config.init_from, NETWORK_KEYS, "init_from")
    diffusion = create_diffusion(**config.diffusion.plain(), learn_sigma=config.network.learn_sigma)
    log.info(
        "%d images, %.2f M parameters, %s, %s",
        len(dataset), sum(p.numel() for p in model.parameters()) / 1e6, device, config.precision,
    )  # fmt: skip
    loop = make_loop(config, model, diffusion, dataset, classes, names, device, rank, world_size)
    loop.hooks.message = log.info
    resume(loop, config)
    if rank == 0:
        (folder / "config.yml").write_text(resolved_yaml(config))
    try:
        loop.run()
    except NonFiniteLoss as error:
        raise UserError(f"training stopped: {error}; lower lr, or use precision fp32 or bf16") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    log.info("finished at step %d; weights are in %s", loop.step, folder)


def load_dataset(config: TrainingConfig, names: dict[str, int]) -> tuple[PatchDataset, list[int] | None]:
    """The training images and, with class_cond, their class ids; every problem of the folder in one error.

    The images stay in memory with `cache`, otherwise they are read at every visit. All are decoded here
    in either case: a file cut short must not end a run of hours.
    """
    paths = images.list_images(Path(config.data_dir))
    if not paths:
        raise UserError(f"data_dir {config.data_dir}: no images in it; expected PNG, JPEG, BMP or TIFF files")
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
                problems.append(f"{path}: {error}")
    if problems:
        raise UserError.from_problems(f"data_dir {config.data_dir}", problems)
    own = {f.name for f in fields(Augmentation)}
    how = Augmentation(**{k: v for k, v in config.augment.model_dump().items() if k in own})
    ids = classes if config.network.class_cond else None
    return PatchDataset(pictures, ids, size, how, read=None if config.cache else images.load_rgb), ids


def resume(loop: TrainLoop, config: TrainingConfig) -> None:
    """Go on from `resume_checkpoint`, or where the last run in `checkpoint_dir` ended, if there was one."""
    try:
        loop.resume(Path(config.resume_checkpoint) if config.resume_checkpoint else None)
    except UserError:
        raise
    except (RuntimeError, ValueError, LookupError) as error:
        reason = str(error).strip().replace("\n\t", " ")[:300]
        where = (
            config.resume_checkpoint or f"the last training state in checkpoint_dir {config.checkpoint_dir}"
        )
        raise UserError(
            f"{where} does not fit this configuration: {reason}; use the settings that it was trained with "
            "(config.yml beside it), or another checkpoint_dir"
        ) from error


def make_loop(
    config: TrainingConfig,
    model: nn.Module,
    diffusion: GaussianDiffusion,
    dataset: PatchDataset,
    classes: list[int] | None,
    names: dict[str, int],
    device: torch.device,
    rank: int,
    world_size: int,
) -> TrainLoop:
    """Wire data, files and previews into the training loop."""
    own = {f.name for f in fields(TrainOptions)}
    values = {k: v for k, v in config.model_dump().items() if k in own}
    options = TrainOptions(**values, ema_rates=tuple(config.ema_rate))
    folder = Path(config.checkpoint_dir)

    def data(first_step: int):
        balanced = classes if config.class_balanced else None
        sampler = StepSampler(
            len(dataset),
            config.batch_size,
            config.seed,
            first_step,
            balanced,
            rank,
            world_size,
            config.shuffle,
        )
        return batches(dataset, sampler, 0 if config.cache else config.num_workers)

    metadata = {"network": config.network.plain(), "classes": names}

    def export(path: Path, weights: dict[str, Tensor]) -> None:
        save_safetensors(path, weights, metadata, getattr(torch, config.export_dtype))

    board = SummaryWriter(folder / "tensorboard") if config.tensorboard and rank == 0 else None

    def scalars(values: dict[str, float], step: int) -> None:
        if board is not None:
            for name, value in values.items():
                board.add_scalar(name, value, step)

    return TrainLoop(
        model=model,
        diffusion=diffusion,
        time_sampler=create_sampler(
            config.schedule_sampler, diffusion.num_timesteps, config.min_t, config.max_t
        ),
        data=data,
        folder=folder,
        options=options,
        hooks=Hooks(
            save=save_atomic,
            load=load_training_state,
            export=export,
            preview=Preview(config, diffusion, dataset, classes, device),
            scalars=scalars,
        ),
        class_cond=config.network.class_cond,
        device=device,
        rank=rank,
        world_size=world_size,
    )


class Preview:
    """Saves a sheet per checkpoint: training images, the same noised as far as training goes, and denoised.

    Called with the averaged network (eval mode) and the step.
    """

    STEPS = 25

    def __init__(self, config: TrainingConfig, diffusion: GaussianDiffusion, dataset, classes, device):
        self.config, self.diffusion, self.device = config, diffusion, device
        self.folder = Path(config.checkpoint_dir) / "previews"
        indices = self._choose(len(dataset), classes, config.sample_num)
        items = [dataset[i, 0] for i in indices]
        self.clean = torch.stack([x for x, _ in items]) if items else None
        self.labels = torch.tensor([y for _, y in items], device=device) if classes else None

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
        start = (self.config.max_t or self.diffusion.num_timesteps) - 1
        noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))
        noised = self.diffusion.q_sample(self.clean, start, noise)
        x = noised.to(self.device)
        walk = torch.linspace(start, 0, self.STEPS).round().long().tolist()
        for t, s in zip(walk, [*walk[1:], 0], strict=True):
            times = self.diffusion.network_times(t, self.device).expand(len(x))
            prediction = self.diffusion.predict(model(x, times, self.labels), x, t, clip=True)
            x = self.diffusion.ddim_step(prediction, s)
        rows = torch.cat([self.clean, noised, prediction.x0.cpu()])
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = images.grid(list(images.to_uint8(rows)), columns=len(self.clean), pad=2)
        images.save_png(self.folder / f"preview_{step:07d}.png", sheet)


if __name__ == "__main__":
    sys.exit(run_main(main))
