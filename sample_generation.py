"""Paint defects on defect-free pictures: `python sample_generation.py --conf_path confs/demo.yml [key=value ...]`."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from guided_diffusion.attention_mask import AttentionConfig
from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.ddim import Result, Sampler, SamplerOptions, StepRecord
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.refinement import NonFiniteEnergy, Windows
from guided_diffusion.timesteps import check_chain_length, gradient_steps, noising_index, sampling_timesteps
from utils import images, jobs, labels, logger
from utils.checkpoint import load_strict
from utils.config import GenerationConfig, NetworkConfig, load_generation_config
from utils.device import resolve_device
from utils.errors import UserError, run_main
from utils.jobs import Job
from utils.outputs import Outputs, plan_batches
from utils.seeding import SampleNoise, sample_seed
from utils.visualize import AttentionRecorder, save_figure, save_gif

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What decides the shape of the weights, for the message when they do not fit
NETWORK_KEYS = ["image_size", "num_channels", "num_res_blocks", "channel_mult", "attention_resolutions",
                "num_head_channels", "resblock_updown", "class_cond", "learn_sigma"]  # fmt: skip


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_generation_config(args.conf_path, args.overrides)
    classes = labels.load_class_names(config.crop_class_json_path)
    diffusion, options = make_schedule(config)
    todo = jobs.plan_jobs(
        config.defect_free_dir, classes, make_geometry(config), config.n_samples, config.n_iter
    )
    check_class_ids(config, todo, classes)
    outputs = Outputs(config.outdir, config.overwrite)
    outputs.check(config)
    device = resolve_device(config.device, config.cuda, rank_on_host=local_rank())
    if config.dry_run:
        show_plan(config, todo, classes, outputs, options, device)
        return
    models = load_models(config, classes, device)
    outputs.prepare(config)
    log = logger.setup_logging(outputs.log_file, config.debug)
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    sampler = Sampler(*models, diffusion, options)
    run(config, sampler, todo, outputs, device)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/demo.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_args(argv)


# Planning


def make_schedule(config: GenerationConfig) -> tuple[GaussianDiffusion, SamplerOptions]:
    """The respaced chain, and what the sampler needs to know; ValueErrors of theirs are the user's."""
    schedule, optimize = config.ddim.schedule_params, config.optimize_xt
    try:
        diffusion = create_diffusion(**config.diffusion.plain(), learn_sigma=config.network.learn_sigma)
        check_chain_length(schedule.ddpm_num_steps, diffusion.num_timesteps)
        options = SamplerOptions(
            timesteps=sampling_timesteps(**schedule.model_dump()),
            start_index=noising_index(schedule.start_step, schedule.ddpm_num_steps),
            gradient_steps=gradient_steps(schedule.ddpm_num_steps, **config.g_scha.model_dump()),
            ddim_sigma=config.ddim.ddim_sigma,
            clip_denoised=config.diffusion.clip_denoised,
            prior_guidance=config.prior_guidance,
            prior_start_index=config.prior_start_step,
            attention=AttentionConfig(**config.attention_features.model_dump()),
            **optimize.model_dump(),
        )
    except ValueError as error:
        raise UserError(f"the configuration's schedule cannot be walked: {error}") from error
    return diffusion, options


def make_geometry(config: GenerationConfig) -> jobs.Geometry:
    return jobs.Geometry(config.resize, config.scale, config.network.image_size, config.crop.image_size)


def count_classes(config: GenerationConfig, classes: dict[str, int]) -> int:
    return config.num_classes or max(classes.values()) + 1


def check_class_ids(config: GenerationConfig, todo: Sequence[Job], classes: dict[str, int]) -> None:
    """Raises UserError when an annotation's class is beyond the prior's `num_classes`."""
    highest, count = max(job.annotation.class_id for job in todo), count_classes(config, classes)
    if highest >= count:
        raise UserError(f"num_classes: got {count}, but the annotations use class {highest}; expected more")


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def my_share(batches: list[list[Job]]) -> list[list[Job]]:
    """Under torchrun every process paints every n-th batch; alone, all of them."""
    return batches[int(os.environ.get("RANK", "0")) :: int(os.environ.get("WORLD_SIZE", "1"))]


def make_batches(config: GenerationConfig, todo: Sequence[Job], outputs: Outputs) -> list[list[Job]]:
    """The batches that hold a sample still to be made, each whole."""
    batches = plan_batches(todo, config.batch_size)
    return [batch for batch in batches if config.overwrite or any(map(outputs.missing, batch))]


def show_plan(
    config: GenerationConfig,
    todo: Sequence[Job],
    classes: dict[str, int],
    outputs: Outputs,
    options: SamplerOptions,
    device: torch.device,
) -> None:
    """Print what would be painted and an estimate of the time, from one timed forward of each network."""
    batches = make_batches(config, todo, outputs)
    for job in (job for batch in batches for job in batch):
        print(f"{job.name}: {job.annotation.class_name} at {job.centre}, scale {job.context.scale:g}")
    down = sum(s < t for t, s in zip(options.timesteps, options.timesteps[1:], strict=False))
    contextual, prior = (
        time_forward(config, net, count_classes(config, classes), device)
        for net in (config.network, config.crop)
    )
    steps = config.g_scha.end if config.optimize_xt.optimize_xt else 0
    # n gradient steps take n + 1 forwards and n backwards, each backward about a forward's work
    seconds = down * ((2 * steps + 1) * contextual + prior) * sum(map(len, batches))
    print(
        f"{sum(map(len, batches))} of {len(todo)} samples to paint in {len(batches)} batches, {down} steps each: "
        f"about {seconds:.0f} s on {device} (one image at a time)"
    )


@torch.no_grad()
def time_forward(
    config: GenerationConfig, network: NetworkConfig, classes: int, device: torch.device
) -> float:
    """Seconds of one forward at batch 1, with random weights."""
    model = prepare(create_unet(**network.plain(), num_classes=classes), config, device)
    x = torch.zeros(1, 3, network.image_size, network.image_size, device=device)
    y = torch.zeros(1, dtype=torch.long, device=device) if network.class_cond else None
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(model(x, torch.zeros(1, device=device), y).sum())
    return time.perf_counter() - started


# Models


def load_models(
    config: GenerationConfig, classes: dict[str, int], device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """The contextual model and the defect prior, frozen, in eval mode and the wanted precision."""
    count = count_classes(config, classes)
    contextual = create_unet(**config.network.plain())
    load_strict(contextual, config.model_path, NETWORK_KEYS, "the contextual model (top-level keys)")
    prior = create_unet(**config.crop.plain(), num_classes=count)
    keys = [f"crop.{key}" for key in NETWORK_KEYS] + ["num_classes"]
    load_strict(prior, config.crop_model_path, keys, "the defect prior (keys under crop)")
    return prepare(contextual, config, device), prepare(prior, config, device)


def prepare(model: nn.Module, config: GenerationConfig, device: torch.device) -> nn.Module:
    if config.precision == "fp16" and device.type == "cpu":
        raise UserError(
            "precision: got fp16 on the CPU, which has no fast arithmetic for it; use bf16 or fp32"
        )
    model.requires_grad_(False).eval().to(device)
    return model.set_precision(DTYPES[config.precision])


# Painting


def run(
    config: GenerationConfig, sampler: Sampler, todo: Sequence[Job], outputs: Outputs, device: torch.device
) -> None:
    """Paint every batch that is not done, save its files as they come, and the grids of whole annotations."""
    log = logger.setup_logging(outputs.log_file, config.debug)
    batches = my_share(make_batches(config, todo, outputs))
    seed = int.from_bytes(os.urandom(4), "big") if config.seed is None else config.seed
    log.info(
        "%d of %d samples to paint, seed %d, %s, %s",
        sum(map(len, batches)), len(todo), seed, device, config.precision,
    )  # fmt: skip
    started, walk = time.perf_counter(), sampler.options.timesteps
    steps = sum(s < t for t, s in zip(walk, walk[1:], strict=False))
    with tqdm(
        total=steps * sum(map(len, batches)), unit="step", disable=not config.show_progress, smoothing=0.05
    ) as bar:
        for batch in batches:
            bar.set_description(batch[0].name)
            paint_batch(config, sampler, batch, seed, outputs, device, bar)
            save_grids(config, sampler, batch, todo, seed, outputs)
    log.info("painted in %.1f s; results are in %s", time.perf_counter() - started, outputs.root)


def paint_batch(
    config: GenerationConfig,
    sampler: Sampler,
    batch: list[Job],
    seed: int,
    outputs: Outputs,
    device: torch.device,
    bar: tqdm,
) -> None:
    """Paint one batch and write its samples and crops."""
    contexts = np.stack([load_context(job, config) for job in batch])  # (N, S, S, 3) uint8
    clean = torch.cat([images.to_tensor(c) for c in contexts]).to(device)
    owner = list(range(len(batch)))
    windows = Windows(
        [job.context.window for job in batch], config.crop.image_size, torch.tensor(owner, device=device)
    )
    y = torch.tensor([job.annotation.class_id for job in batch], device=device)
    recorder = None
    if config.visualize:
        recorder = AttentionRecorder(clean, windows.corners, windows.size, owner)
    try:
        result = sampler.sample(
            clean, windows, y, job_noise(batch, seed), step_callback(bar, len(batch), recorder)
        )
    except NonFiniteEnergy as error:
        raise UserError(f"{batch[0].name}: {error}") from error
    save_results(config, batch, contexts, result, outputs)
    if recorder is not None:
        save_attention(config, batch, recorder, outputs)


def load_context(job: Job, config: GenerationConfig) -> np.ndarray:
    return jobs.cut_context(images.load_rgb(job.image), job.context, config.network.image_size)


def job_noise(batch: Sequence[Job], seed: int) -> SampleNoise:
    """Noise that depends on seed, picture, annotation and sample index alone."""
    return SampleNoise(
        [sample_seed(seed, job.image.name, job.base, job.index) for job in batch], range(len(batch))
    )


def step_callback(bar: tqdm, count: int, recorder: AttentionRecorder | None) -> Callable[[StepRecord], None]:
    def on_step(record: StepRecord) -> None:
        bar.update(min(count, bar.total - bar.n))
        if recorder is not None:
            recorder(record)

    return on_step


def save_results(
    config: GenerationConfig, batch: list[Job], contexts: np.ndarray, result: Result, outputs: Outputs
) -> None:
    """Put each painted context back into its picture and write the files."""
    painted, crops = images.to_uint8(result.sample), images.to_uint8(result.crop)
    for job, before, after, crop in zip(batch, contexts, painted, crops, strict=True):
        picture = before if job.context.side is None else images.load_rgb(job.image)
        outputs.save(
            job, jobs.paste_context(picture, before, after, job.context, alpha_of(job, config)), crop
        )


def alpha_of(job: Job, config: GenerationConfig) -> np.ndarray:
    """How much of the painted context is taken, per pixel: all of it, or the window with a soft edge."""
    size = config.network.image_size
    if config.background == "generated":
        return np.ones((size, size), np.float32)
    return jobs.feathered_window(size, job.context.window, config.crop.image_size, config.feather)


def save_attention(
    config: GenerationConfig, batch: list[Job], recorder: AttentionRecorder, outputs: Outputs
) -> None:
    for n, job in enumerate(batch):
        save_figure(outputs.figure_path(job, ".png"), recorder.figure(n))
        if config.generate_gif:
            save_gif(outputs.figure_path(job, ".gif"), recorder.frames(n))


def save_grids(
    config: GenerationConfig,
    sampler: Sampler,
    batch: list[Job],
    todo: Sequence[Job],
    seed: int,
    outputs: Outputs,
) -> None:
    """For every annotation that this batch completed: clean, noised, and all its samples side by side."""
    for base in dict.fromkeys(job.base for job in batch):
        family = sorted((job for job in todo if job.base == base), key=lambda job: job.index)
        if any(map(outputs.missing, family)):
            continue
        clean = load_context(family[0], config)
        tensor: Tensor = images.to_tensor(clean)
        noise = job_noise(family[:1], seed).image(tensor)
        noised = sampler.diffusion.q_sample(tensor, sampler.options.start_index, noise)
        samples = [
            jobs.cut_context(
                images.load_rgb(outputs.sample_path(job)), job.context, config.network.image_size
            )
            if job.context.side is not None
            else images.load_rgb(outputs.sample_path(job))
            for job in family
        ]
        outputs.save_grid(family[0], [clean, images.to_uint8(noised)[0], *samples])


if __name__ == "__main__":
    sys.exit(run_main(main))
