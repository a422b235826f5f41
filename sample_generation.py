"""Paint defects on defect-free pictures: `python sample_generation.py --conf_path confs/demo.yml [key=value ...]`."""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from guided_diffusion.attention_mask import AttentionConfig, defect_attention
from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.ddim import Model, Result, Sampler, SamplerOptions, StepRecord, guided_steps
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.refinement import NonFiniteEnergy, Windows
from guided_diffusion.timesteps import check_chain_length, gradient_steps, noising_index, sampling_timesteps
from utils import images, jobs, labels, logger
from utils.checkpoint import SHAPE_KEYS, load_strict, missing_checkpoint
from utils.config import GenerationConfig, NetworkConfig, load_generation_config
from utils.device import resolve_device
from utils.errors import UserError, run_main
from utils.jobs import Job
from utils.outputs import Outputs, plan_batches
from utils.painted import painted_region
from utils.seeding import SampleNoise, sample_seed
from utils.visualize import AttentionRecorder, save_figure, save_gif

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_generation_config(args.conf_path, args.overrides)
    classes = labels.load_class_names(config.crop_class_json_path)
    diffusion, options = make_schedule(config)
    todo = jobs.plan_jobs(
        config.defect_free_dir, classes, make_geometry(config), config.n_samples, config.n_iter
    )
    check_class_ids(config, todo, classes)
    device = resolve_device(config.device, config.cuda, rank_on_host=local_rank())
    check_precision(config, device)
    outputs = Outputs(config.outdir, config.overwrite)
    config = outputs.with_seed(config)
    outputs.check(config)
    batches = make_batches(config, todo, outputs)
    if config.dry_run:
        show_plan(config, batches, len(todo), classes, options, device)
        return
    sampler = Sampler(*load_models(config, classes, device), diffusion, options) if batches else None
    outputs.prepare(config, replaced=[job for batch in batches for job in batch] if config.overwrite else ())
    log = logger.setup_logging(outputs.log_file, config.debug)
    tell_settings(config, outputs.strangers(todo) if config.overwrite else [], log)
    run = Run(config, diffusion, options.start_index, outputs, device, families(todo))
    if sampler is None:
        log.info("nothing to paint: the samples are all there; overwrite=true repaints them")
    else:
        paint(run, sampler, batches, log)
    finish_grids(run)
    log.info("results are in %s", outputs.root)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/demo.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(argv)


@dataclass(frozen=True)
class Run:
    """What painting needs beside the networks; the settings hold a seed by now."""

    config: GenerationConfig
    diffusion: GaussianDiffusion
    start_index: int  # of the chain, where the clean context is noised
    outputs: Outputs
    device: torch.device
    families: dict[str, list[Job]]  # all samples of an annotation, by the base of their names


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
            attention=AttentionConfig(**config.attention_features.model_dump()),
            **optimize.model_dump(),
        )
    except ValueError as error:
        raise UserError(f"the configuration's schedule cannot be walked: {error}") from error
    check_walk(config, options)
    return diffusion, options


def check_walk(config: GenerationConfig, options: SamplerOptions) -> None:
    """Raises UserError for a walk without a step, or values that do not fit the chain or the networks."""
    crop = config.crop.image_size
    if len(options.timesteps) < 2:
        raise UserError(
            f"ddim.start_step: got {config.ddim.schedule_params.start_step}, which with num_inference_steps "
            f"{config.ddim.schedule_params.num_inference_steps} leaves no step to denoise; expected larger numbers"
        )
    if options.attention.enabled:
        blank = torch.zeros(1, 3, crop, crop)
        try:
            defect_attention(blank, blank, options.attention)
        except ValueError as error:
            raise UserError(f"attention_features: {error}") from error
    divisor = 2 ** (len(config.network.resolved_channel_mult()) - 1)
    if config.prior_guidance > 0 and crop % divisor:
        raise UserError(
            f"prior_guidance: got {config.prior_guidance:g}, for which the contextual model must run on crops too; "
            f"expected crop.image_size ({crop}) to be a multiple of {divisor}, or prior_guidance 0"
        )


def make_geometry(config: GenerationConfig) -> jobs.Geometry:
    return jobs.Geometry(config.resize, config.scale, config.network.image_size, config.crop.image_size)


def count_classes(config: GenerationConfig, classes: dict[str, int]) -> int:
    return config.num_classes or max(classes.values()) + 1


def check_class_ids(config: GenerationConfig, todo: Sequence[Job], classes: dict[str, int]) -> None:
    """Raises UserError when an annotation's class is beyond the prior's `num_classes`."""
    worst = max(todo, key=lambda job: job.annotation.class_id).annotation
    count = count_classes(config, classes)
    if config.crop.class_cond and worst.class_id >= count:
        raise UserError(
            f"num_classes: got {count}, but annotations use class {worst.class_id} ({worst.class_name}); "
            f"expected at least {worst.class_id + 1}, as the prior was trained with"
        )


def check_precision(config: GenerationConfig, device: torch.device) -> None:
    if config.precision == "fp16" and device.type == "cpu":
        raise UserError(
            "precision: got fp16 (perhaps from use_fp16: true) on the CPU, which has no fast arithmetic for "
            "it; use bf16 or fp32"
        )


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def my_share(batches: list[list[Job]]) -> list[list[Job]]:
    """Under torchrun every process paints every n-th batch; alone, all of them."""
    return batches[int(os.environ.get("RANK", "0")) :: int(os.environ.get("WORLD_SIZE", "1"))]


def make_batches(config: GenerationConfig, todo: Sequence[Job], outputs: Outputs) -> list[list[Job]]:
    """This process's batches that hold a sample still to be made, each whole.

    Shared out first: what is missing changes while the other processes paint.
    """
    batches = my_share(plan_batches(todo, config.batch_size))
    return [batch for batch in batches if config.overwrite or any(map(outputs.missing, batch))]


def show_plan(
    config: GenerationConfig,
    batches: list[list[Job]],
    total: int,
    classes: dict[str, int],
    options: SamplerOptions,
    device: torch.device,
) -> None:
    """Print what would be painted and an estimate of the time, from one timed forward of each network."""
    for job in (job for batch in batches for job in batch):
        print(f"{job.name}: {job.annotation.class_name} at {job.centre}, scale {job.context.scale:g}")
    steps, count = guided_steps(options), count_jobs(batches)
    seconds = 0.0
    if batches:
        contextual, prior = (
            time_forward(config, net, count_classes(config, classes), device)
            for net in (config.network, config.crop)
        )
        # n gradient steps take n + 1 forwards and n backwards, each backward about a forward's work
        refining = sum(2 * options.gradient_steps[t] + 1 if options.optimize_xt else 1 for t in steps)
        if options.prior_guidance:  # the contextual model runs on the crop too
            prior += contextual * (config.crop.image_size / config.network.image_size) ** 2
        calls = refining if options.lr_crop else len(steps)
        seconds = count * (refining * options.mid_interval_num * contextual + calls * prior)
    print(
        f"{count} of {total} samples to paint in {len(batches)} batches, {len(steps)} steps each: "
        f"about {duration(seconds)} on {device} (reckoned one image at a time)"
    )
    for problem in filter(None, map(missing_checkpoint, (config.model_path, config.crop_model_path))):
        print(f"before that: {problem}")


def count_jobs(batches: Sequence[Sequence[Job]]) -> int:
    return sum(map(len, batches))


def duration(seconds: float) -> str:
    """Seconds in the unit people would use: '40 s', '12 min', '3.5 h'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
) -> tuple[Model, Model]:
    """The contextual model and the defect prior, frozen, in eval mode and the wanted precision."""
    paths = config.model_path, config.crop_model_path
    problems = list(filter(None, map(missing_checkpoint, paths)))
    if problems:
        raise UserError.from_problems("the weights are not there", problems)
    count = count_classes(config, classes)
    contextual = create_unet(**config.network.plain())
    metadata = load_strict(contextual, config.model_path, SHAPE_KEYS, "the contextual model (top-level keys)")
    check_metadata(metadata, config.model_path, config.network, "", {})
    prior = create_unet(**config.crop.plain(), num_classes=count)
    keys = [f"crop.{key}" for key in SHAPE_KEYS] + ["num_classes"]
    metadata = load_strict(prior, config.crop_model_path, keys, "the defect prior (keys under crop)")
    check_metadata(metadata, config.crop_model_path, config.crop, "crop.", classes)
    contextual, prior = prepare(contextual, config, device), prepare(prior, config, device)
    return contextual, prior if config.crop.class_cond else without_classes(prior)


def check_metadata(
    metadata: dict, path: str, network: NetworkConfig, prefix: str, classes: dict[str, int]
) -> None:
    """Raises UserError when weights of ours were trained with another network or other class ids than the
    configuration says, where the shapes alone would not tell."""
    trained, now = metadata.get("network", {}), network.plain()
    problems = [
        f"{prefix}{key}: got {now[key]}, but {path} was trained with {trained[key]}"
        for key in sorted(now.keys() & trained.keys() - {"image_size", "dropout", "use_checkpoint"})
        if json.loads(json.dumps(now[key])) != trained[key]
    ]
    named = {labels.normalise_class_name(name): i for name, i in metadata.get("classes", {}).items()}
    if named and classes and named != {labels.normalise_class_name(name): i for name, i in classes.items()}:
        problems.append(
            f"crop_class_json_path: got the classes {classes}, but {path} was trained with {metadata['classes']}; "
            "use the class file of the training"
        )
    if problems:
        raise UserError.from_problems("the weights do not fit the configuration", problems)


def prepare(model: nn.Module, config: GenerationConfig, device: torch.device) -> nn.Module:
    model.requires_grad_(False).eval().to(device)
    return model.set_precision(DTYPES[config.precision])


def without_classes(model: Model) -> Model:
    """A network that knows no classes, for a caller that names them."""
    return lambda x, t, y: model(x, t, None)


# Painting


def families(todo: Sequence[Job]) -> dict[str, list[Job]]:
    """All samples of each annotation in the order of their indices, by the base of their names."""
    found: dict[str, list[Job]] = {}
    for job in sorted(todo, key=lambda job: job.index):
        found.setdefault(job.base, []).append(job)
    return found


def tell_settings(config: GenerationConfig, strangers: Sequence[str], log: logging.Logger) -> None:
    """Log what a user may not expect; `strangers` are the samples in the folder that this run does not touch."""
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    if config.generate_gif and not config.visualize:
        log.warning("generate_gif: true does nothing without visualize: true")
    if strangers:
        log.warning(
            "%d samples in %s are not of this run and stay, whatever settings they were made with: %s%s",
            len(strangers), config.outdir, ", ".join(strangers[:3]), ", ..." if strangers[3:] else "",
        )  # fmt: skip


def paint(run: Run, sampler: Sampler, batches: list[list[Job]], log: logging.Logger) -> None:
    """Paint every batch that is not done, save its files as they come, and the grids of whole annotations."""
    log.info(
        "%d of %d samples to paint, seed %d, %s, %s",
        count_jobs(batches), count_jobs(list(run.families.values())), run.config.seed, run.device, run.config.precision,
    )  # fmt: skip
    started, steps = time.perf_counter(), len(guided_steps(sampler.options))
    total, hidden = steps * count_jobs(batches), not run.config.show_progress
    with tqdm(total=total, unit="step", disable=hidden, smoothing=0.05) as bar:
        for batch in batches:
            bar.set_description(batch[0].name)
            paint_batch(run, sampler, batch, bar)
            for base in dict.fromkeys(job.base for job in batch):
                save_grid(run, run.families[base])
    log.info("painted in %s", duration(time.perf_counter() - started))


def paint_batch(run: Run, sampler: Sampler, batch: list[Job], bar: tqdm) -> None:
    """Paint one batch and write its files; the samples last, since they say that a job is done."""
    contexts = np.stack([load_context(job, run.config) for job in batch])  # (N, S, S, 3) uint8
    clean = torch.cat([images.to_tensor(c) for c in contexts]).to(run.device)
    owner = list(range(len(batch)))
    windows = Windows(
        [job.context.window for job in batch],
        run.config.crop.image_size,
        torch.tensor(owner, device=run.device),
    )
    recorder = None
    if run.config.visualize:
        recorder = AttentionRecorder(clean, windows.corners, windows.size, owner)
    result = sample_batch(run, sampler, batch, clean, windows, step_callback(bar, len(batch), recorder))
    if recorder is not None:
        save_attention(run, batch, recorder)
    save_results(run, batch, contexts, result)


def sample_batch(
    run: Run,
    sampler: Sampler,
    batch: list[Job],
    clean: Tensor,
    windows: Windows,
    on_step: Callable[[StepRecord], None],
) -> Result:
    """The sampler's result; raises UserError when the numbers or the GPU's memory give out."""
    names = batch[0].name + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
    y = torch.tensor([job.annotation.class_id for job in batch], device=run.device)
    try:
        result = sampler.sample(clean, windows, y, job_noise(batch, run.config.seed), on_step)
    except NonFiniteEnergy as error:
        raise UserError(f"{names}: {error}") from error
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"batch_size: got {run.config.batch_size}, for which the memory of {run.device} is too small; "
            "set a smaller one, or precision=bf16"
        ) from error
    if not (torch.isfinite(result.sample).all() and torch.isfinite(result.crop).all()):
        raise UserError(
            f"{names}: the networks' output is not finite; check the weights, or use precision=fp32"
        )
    return result


def load_context(job: Job, config: GenerationConfig) -> np.ndarray:
    return jobs.cut_context(images.load_rgb(job.image), job.context, config.network.image_size)


def job_noise(batch: Sequence[Job], seed: int) -> SampleNoise:
    """Noise that depends on seed, picture, annotation and sample index alone."""
    return SampleNoise(
        [sample_seed(seed, job.image.name, job.base, job.index) for job in batch], range(len(batch))
    )


def step_callback(bar: tqdm, count: int, recorder: AttentionRecorder | None) -> Callable[[StepRecord], None]:
    log = logging.getLogger("crg")

    def on_step(record: StepRecord) -> None:
        bar.update(count)
        if recorder is not None:
            recorder(record)
        if log.isEnabledFor(logging.DEBUG):
            mask = record.accumulated
            share = "no attention" if mask is None else f"attention {float(mask.mean()):.3f} of the window"
            log.debug("t = %d: %s", record.t, share)

    return on_step


def save_results(run: Run, batch: list[Job], contexts: np.ndarray, result: Result) -> None:
    """Put each painted context back into its picture and write the files."""
    painted, crops = images.to_uint8(result.sample), images.to_uint8(result.crop)
    for n, (job, before, after) in enumerate(zip(batch, contexts, painted, strict=True)):
        picture = before if job.context.side is None else images.load_rgb(job.image)
        whole = jobs.paste_context(picture, before, after, job.context, alpha_of(job, run.config))
        left, top, side = jobs.native_window(job.context, run.config.crop.image_size)
        attention = None if result.attention is None else result.attention[n, 0].cpu().numpy()
        region = painted_region(picture, whole, (left, top), side, attention)
        if region.box is None:
            logging.getLogger("crg").warning("%s: nothing was painted; its label file is empty", job.name)
        run.outputs.save(job, whole, crops[n], region)


def alpha_of(job: Job, config: GenerationConfig) -> np.ndarray:
    """How much of the painted context is taken, per pixel: all of it, or the window with a soft edge."""
    size = config.network.image_size
    if config.background == "generated":
        return np.ones((size, size), np.float32)
    return jobs.feathered_window(size, job.context.window, config.crop.image_size, config.feather)


def save_attention(run: Run, batch: list[Job], recorder: AttentionRecorder) -> None:
    for n, job in enumerate(batch):
        save_figure(run.outputs.figure_path(job, ".png"), recorder.figure(n))
        if run.config.generate_gif:
            save_gif(run.outputs.figure_path(job, ".gif"), recorder.frames(n))


def save_grid(run: Run, family: Sequence[Job]) -> None:
    """When all samples of an annotation are there: clean, noised, and the samples side by side."""
    if any(map(run.outputs.missing, family)):
        return
    clean = load_context(family[0], run.config)
    tensor = images.to_tensor(clean)
    noise = job_noise(family[:1], run.config.seed).image(tensor)
    noised = run.diffusion.q_sample(tensor, run.start_index, noise)
    size = run.config.network.image_size
    samples = [
        jobs.cut_context(images.load_rgb(run.outputs.sample_path(job)), job.context, size) for job in family
    ]
    run.outputs.save_grid(family[0], [clean, images.to_uint8(noised)[0], *samples])


def finish_grids(run: Run) -> None:
    """Grids that a run stopped between sample and grid left out."""
    for family in run.families.values():
        if not run.outputs.grid_path(family[0]).exists():
            save_grid(run, family)


if __name__ == "__main__":
    sys.exit(run_main(main))
