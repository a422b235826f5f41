"""Paint defects on defect-free pictures: `python sample_generation.py --conf_path confs/demo.yml [key=value ...]`."""

import argparse
import atexit
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from generation import jobs
from generation.canvas import Canvas
from generation.geometry import Geometry
from generation.jobs import Job
from generation.memory import fitting_batch_size
from generation.outputs import Outputs, Provenance, plan_groups
from generation.painter import Entry, Painter, PaintOptions, entry_seed
from generation.passes import Pass
from generation.placement.plan import PLAN_FILE, make_plan
from generation.placement.score import class_appeal
from generation.scoring import PaintedSample
from generation.visualize import AttentionRecorder, save_figure, save_gif
from guided_diffusion.attention_mask import AttentionConfig, defect_attention
from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.ddim import Model, Sampler, SamplerOptions, StepRecord, guided_steps
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.timesteps import check_chain_length, gradient_steps, noising_index, sampling_timesteps
from guided_diffusion.windows import Windows
from utils import images, labels, logger
from utils.checkpoint import load_strict
from utils.config import load_generation_config
from utils.device import DTYPES, prefers_channels_last, resolve_device, resolve_precision
from utils.errors import UserError, run_main
from utils.export_dataset import ExportOptions, export_dataset
from utils.images import Loader, PictureCache
from utils.network_metadata import (
    SHAPE_KEYS,
    described,
    load_metadata,
    missing_checkpoint,
    network_differences,
)
from utils.report import write_report
from utils.schema.generation import GenerationConfig
from utils.schema.network import NetworkConfig
from utils.seeding import SampleNoise


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_generation_config(args.conf_path, args.overrides)
    classes = labels.load_class_names(config.crop_class_json_path)
    diffusion, options = make_schedule(config)
    device = resolve_device(config.device, config.cuda, rank_on_host=local_rank())
    outputs = Outputs(config.outdir, config.overwrite, config.label_box)
    config = with_arithmetic(outputs.with_earlier_choices(config), device)
    outputs.check(config)
    load_sampler = cache(lambda: Sampler(*load_models(config, classes, device), diffusion, options))
    label_folder = (
        place_defects(config, classes, outputs, load_sampler, device) if config.plan.counts else None
    )
    todo = jobs.plan_jobs(
        config.defect_free_dir, classes, make_geometry(config), make_wish(config), label_folder
    )
    check_class_ids(config, todo, classes)
    groups = make_groups(config, todo, outputs)
    if config.dry_run:
        show_plan(config, groups, len(todo), classes, options, device)
        return
    sampler = load_sampler() if groups else None
    outputs.prepare(config, replaced=[job for group in groups for job in group] if config.overwrite else ())
    log = logger.setup_logging(outputs.log_file, config.debug)
    tell_settings(config, todo, outputs.strangers(todo) if config.overwrite else [], log)
    run = Run(config, diffusion, options.start_index, outputs, device, families(todo))
    if sampler is None:
        log.info("nothing to paint: the samples are all there; overwrite=true repaints them")
    else:
        paint(run, sampler, groups, log)
    finish(run, todo, log)
    log.info("results are in %s", outputs.root)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/demo.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(argv)


@dataclass(frozen=True)
class Run:
    """What painting needs beside the networks; the settings leave nothing open by now."""

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


def make_geometry(config: GenerationConfig) -> Geometry:
    return Geometry(config.resize, config.scale, config.network.image_size, config.crop.image_size)


def make_wish(config: GenerationConfig) -> jobs.Wish:
    return jobs.Wish(
        config.n_samples,
        config.n_iter,
        together=config.paint == "all",
        whole_contexts=config.background == "generated",
        boxes=config.label_box == "annotation",
    )


def count_classes(config: GenerationConfig, classes: dict[str, int]) -> int:
    return config.num_classes or max(classes.values()) + 1


def check_class_ids(config: GenerationConfig, todo: Sequence[Job], classes: dict[str, int]) -> None:
    """Raises UserError when an annotation's class is beyond the prior's `num_classes`."""
    annotations = (defect.annotation for job in todo for defect in job.defects)
    worst = max(annotations, key=lambda annotation: annotation.class_id)
    count = count_classes(config, classes)
    if config.crop.class_cond and worst.class_id >= count:
        raise UserError(
            f"num_classes: got {count}, but annotations use class {worst.class_id} ({worst.class_name}); "
            f"expected at least {worst.class_id + 1}, as the prior was trained with"
        )


def with_arithmetic(config: GenerationConfig, device: torch.device) -> GenerationConfig:
    """The configuration with what `auto` means on this device; UserError for fp16 on a CPU."""
    config = config.model_copy(update={"precision": resolve_precision(config.precision, device)})
    if config.batch_size != "auto":
        return config
    contextual = prepare(create_unet(**config.network.plain()), config.network, config, device)
    size = fitting_batch_size(contextual, config.network.image_size, device)
    return config.model_copy(update={"batch_size": size})


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def my_share(groups: list[list[Job]]) -> list[list[Job]]:
    """Under torchrun every process paints every n-th group; alone, all of them."""
    return groups[int(os.environ.get("RANK", "0")) :: int(os.environ.get("WORLD_SIZE", "1"))]


def make_groups(config: GenerationConfig, todo: Sequence[Job], outputs: Outputs) -> list[list[Job]]:
    """This process's groups that hold a sample still to be made, each whole.

    Shared out first: what is missing changes while the other processes paint.
    """
    groups = my_share(plan_groups(todo, config.batch_size))
    return [group for group in groups if config.overwrite or any(map(outputs.missing, group))]


def show_plan(
    config: GenerationConfig,
    groups: list[list[Job]],
    total: int,
    classes: dict[str, int],
    options: SamplerOptions,
    device: torch.device,
) -> None:
    """Print what would be painted and an estimate of the time, from one timed forward of each network."""
    for job in (job for group in groups for job in group):
        print(f"{job.name}: {'; '.join(describe(job))}")
    steps = guided_steps(options)
    seconds = estimate(config, groups, classes, options, device) if groups else 0.0
    print(
        f"{sum(map(len, groups))} of {total} samples to paint in {len(groups)} groups, "
        f"{count_contexts(groups)} contexts of {len(steps)} steps each: "
        f"about {duration(seconds)} on {device} (reckoned one context at a time)"
    )
    for problem in filter(None, map(missing_checkpoint, (config.model_path, config.crop_model_path))):
        print(f"before that: {problem}")


def describe(job: Job) -> list[str]:
    """Class, place and scale of each defect of a job."""
    scales = {k: one.context.scale for one in job.passes for k in one.defects}
    return [
        f"{defect.annotation.class_name} at {defect.centre}, scale {scales[k]:g}"
        for k, defect in enumerate(job.defects)
    ]


def estimate(
    config: GenerationConfig,
    groups: list[list[Job]],
    classes: dict[str, int],
    options: SamplerOptions,
    device: torch.device,
) -> float:
    """Seconds of painting, from one timed forward of each network."""
    steps, count = guided_steps(options), count_contexts(groups)
    contextual, prior = (
        time_forward(config, net, count_classes(config, classes), device)
        for net in (config.network, config.crop)
    )
    # n gradient steps take n + 1 forwards and n backwards, each backward about a forward's work
    refining = sum(2 * options.gradient_steps[t] + 1 if options.optimize_xt else 1 for t in steps)
    if options.prior_guidance:  # the contextual model runs on the crop too
        prior += contextual * (config.crop.image_size / config.network.image_size) ** 2
    calls = refining if options.lr_crop else len(steps)
    return count * (refining * options.mid_interval_num * contextual + calls * prior)


def count_contexts(groups: Sequence[Sequence[Job]]) -> int:
    return sum(len(job.passes) for group in groups for job in group)


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
    model = prepare(create_unet(**network.plain(), num_classes=classes), network, config, device)
    x = torch.zeros(1, 3, network.image_size, network.image_size, device=device)
    y = torch.zeros(1, dtype=torch.long, device=device) if network.class_cond else None
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        float(model(x, torch.zeros(1, device=device), y).sum())
    return time.perf_counter() - started


def place_defects(
    config: GenerationConfig,
    classes: dict[str, int],
    outputs: Outputs,
    load_sampler: Callable[[], Sampler],
    device: torch.device,
) -> Path:
    """The folder of annotation files that `plan` asks for, made when it is not there; a dry run's goes again."""
    logger.setup_logging(None, config.debug)
    if config.crop.class_cond:  # the prior knows no others
        classes = {name: i for name, i in classes.items() if i < count_classes(config, classes)}

    def score(windows: np.ndarray, class_id: int) -> np.ndarray:
        clean = torch.cat([images.to_tensor(window) for window in windows]).to(device)
        others = sorted(set(classes.values()) - {class_id}) if config.crop.class_cond else []
        return class_appeal(load_sampler(), clean, class_id, others).cpu().numpy()

    pictures = images.picture_files(Path(config.defect_free_dir))
    folder = outputs.root / "plan"
    if config.dry_run and (config.overwrite or not (folder / PLAN_FILE).exists()):
        folder = Path(tempfile.mkdtemp(prefix="plan-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with nullcontext() if config.dry_run else outputs.locked("plan"):
        return make_plan(
            pictures,
            classes,
            config.plan,
            make_geometry(config),
            score,
            config.seed,
            folder,
            identity={"weights": dict(Provenance.of(config).weights)} if config.plan.rank == "appeal" else {},
            overwrite=config.overwrite,
        )


# Models


def load_models(
    config: GenerationConfig, classes: dict[str, int], device: torch.device
) -> tuple[Model, Model]:
    """The contextual model and the defect prior, frozen, in eval mode and the wanted precision."""
    paths = config.model_path, config.crop_model_path
    problems = list(filter(None, map(missing_checkpoint, paths)))
    if problems:
        raise UserError.from_problems("the weights are not there", problems)
    check_metadata(config, classes)
    count = count_classes(config, classes)
    contextual = create_unet(**config.network.plain())
    load_strict(contextual, config.model_path, SHAPE_KEYS, "the contextual model (top-level keys)")
    prior = create_unet(**config.crop.plain(), num_classes=count)
    keys = [f"crop.{key}" for key in SHAPE_KEYS] + ["num_classes"]
    load_strict(prior, config.crop_model_path, keys, "the defect prior (keys under crop)")
    contextual = prepare(contextual, config.network, config, device)
    prior = prepare(prior, config.crop, config, device)
    return contextual, prior if config.crop.class_cond else without_classes(prior)


def check_metadata(config: GenerationConfig, classes: dict[str, int]) -> None:
    """Raises UserError when weights of ours were trained with another network or other class ids than the
    configuration says: before they are loaded, since shapes alone say less, or nothing."""
    path, prior_path = config.model_path, config.crop_model_path
    metadata = load_metadata(prior_path)
    problems = network_differences(load_metadata(path), config.network.plain(), path)
    problems += network_differences(metadata, config.crop.plain(), prior_path, "crop.")
    trained = described(metadata, "classes")
    if trained and classes and not labels.same_classes(trained, classes):
        problems.append(
            f"crop_class_json_path: got the classes {classes}, but {prior_path} was trained with {trained}; "
            "use the class file of the training"
        )
    if problems:
        raise UserError.from_problems("the weights do not fit the configuration", problems)


def prepare(
    model: nn.Module, network: NetworkConfig, config: GenerationConfig, device: torch.device
) -> nn.Module:
    """Frozen, in eval mode, in the wanted precision and the memory layout that suits it."""
    model.requires_grad_(False).eval().to(device)
    if prefers_channels_last(config.precision, network.num_channels, device):
        model.to(memory_format=torch.channels_last)
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


def tell_settings(
    config: GenerationConfig, todo: Sequence[Job], strangers: Sequence[str], log: logging.Logger
) -> None:
    """Log what a user may not expect; `strangers` are the samples in the folder that this run does not touch."""
    if config.ignored_keys:
        log.info("ignored keys: %s", ", ".join(config.ignored_keys))
    if config.generate_gif and not config.visualize:
        log.warning("generate_gif: true does nothing without visualize: true")
    used = {job.image for job in todo}
    if idle := [path.name for path in images.picture_files(Path(config.defect_free_dir)) if path not in used]:
        log.info("%d pictures have no annotations and are left alone: %s", len(idle), some_of(idle))
    if strangers:
        log.warning(
            "%d samples in %s are not of this run and stay, whatever settings they were made with: %s",
            *(len(strangers), config.outdir, some_of(strangers)),
        )


def some_of(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join([*names[:shown], *(["..."] if len(names) > shown else [])])


def paint(run: Run, sampler: Sampler, groups: list[list[Job]], log: logging.Logger) -> None:
    """Paint every group that is not done, save its files as they come, and the grids of whole annotations."""
    log.info(
        "%d of %d samples to paint, seed %d, %s, %s, %d contexts at a time",
        *(sum(map(len, groups)), sum(map(len, run.families.values())), run.config.seed),
        *(run.device, run.config.precision, run.config.batch_size),
    )
    started, steps = time.perf_counter(), len(guided_steps(sampler.options))
    provenance = Provenance.of(run.config)
    hidden = not run.config.show_progress
    with tqdm(total=steps * count_contexts(groups), unit="step", disable=hidden, smoothing=0.05) as bar:
        watcher = Watcher(run, bar, steps)
        painter = Painter(sampler, paint_options(run.config), run.device, watcher)
        for group in groups:
            group_started = time.perf_counter()
            last = {job.base: job.name for job in group}
            for sample in painter.paint(group):
                seconds = (time.perf_counter() - group_started) / len(group)
                run.outputs.save(sample, provenance, seconds)
                tell_sample(sample, log)
                if last[sample.job.base] == sample.job.name:  # now, while the clean picture is at hand
                    save_grid(run, run.families[sample.job.base], painter.load)
    log.info("painted in %s", duration(time.perf_counter() - started))


def paint_options(config: GenerationConfig) -> PaintOptions:
    return PaintOptions(
        image_size=config.network.image_size,
        crop_size=config.crop.image_size,
        seed=config.seed,
        batch_size=config.batch_size,
        squash=config.resize == "squash",
        generated=config.background == "generated",
        feather=config.feather,
        min_score=config.min_score,
        max_rerolls=config.max_rerolls,
        strips=config.report,
    )


def tell_sample(sample: PaintedSample, log: logging.Logger) -> None:
    """Log the defects of a sample that are not what was asked for."""
    for wanted, defect in zip(sample.job.defects, sample.defects, strict=True):
        if not defect.accepted:
            log.warning(
                "%s: %s at %s fails min_score with %.2f after %d attempts and is left out",
                *(sample.job.name, wanted.annotation.class_name, wanted.centre),
                *(defect.scores["score"], defect.attempt + 1),
            )
        elif defect.box is None:
            log.warning(
                "%s: nothing was painted of %s at %s; it has no label",
                *(sample.job.name, wanted.annotation.class_name, wanted.centre),
            )


class Watcher:
    """Progress, the debug log and the attention's pictures of every batch."""

    def __init__(self, run: Run, bar: tqdm, steps: int):
        self.run, self.bar, self.steps, self.log = run, bar, steps, logging.getLogger("crg")
        self.batch: Sequence[tuple[Job, Entry]] = ()
        self.recorder: AttentionRecorder | None = None

    def start(self, batch: Sequence[tuple[Job, Entry]], clean: Tensor, windows: Windows) -> None:
        self.batch = batch
        self.bar.set_description(batch[0][0].name)
        again = sum(entry.attempt > 0 for _, entry in batch)
        self.bar.total += again * self.steps
        if self.run.config.visualize:
            self.recorder = AttentionRecorder(clean, windows.corners, windows.size, windows.owner.tolist())

    def step(self, record: StepRecord) -> None:
        self.bar.update(len(self.batch))
        if self.recorder is not None:
            self.recorder(record)
        if self.log.isEnabledFor(logging.DEBUG):
            mask = record.accumulated
            share = "no attention" if mask is None else f"attention {float(mask.mean()):.3f} of the window"
            self.log.debug("t = %d: %s", record.t, share)

    def finish(self) -> None:
        """Save the attention's pictures; those of a later attempt replace the earlier one's."""
        if self.recorder is None:
            return
        defects = [(job, k) for job, entry in self.batch for k in entry.defects]
        for row, (job, k) in enumerate(defects):
            save_figure(self.run.outputs.figure_path(job, k, ".png"), self.recorder.figure(row))
            if self.run.config.generate_gif:
                save_gif(self.run.outputs.figure_path(job, k, ".gif"), self.recorder.frames(row))


# What belongs to the whole run


def finish(run: Run, todo: Sequence[Job], log: logging.Logger) -> None:
    """When every sample is there: grids left out, the manifest's order, data set and report.

    Several processes may come here; each looks for itself whether it is the last one.
    """
    with run.outputs.locked("finish"):
        run.outputs.reread()
        clean = PictureCache(run.config.network.image_size if run.config.resize == "squash" else None)
        for family in run.families.values():
            if not run.outputs.grid_path(family[0]).exists():
                save_grid(run, family, clean)
        if any(map(run.outputs.missing, todo)):
            return
        run.outputs.finish_manifest(todo)
        if rejected := [job.name for job in todo if not run.outputs.shipped(job)]:
            log.warning(
                "%d of %d samples fail min_score and were not saved: %s",
                *(len(rejected), len(todo), some_of(rejected)),
            )
        dataset = run.config.dataset
        if dataset.export:
            options = ExportOptions(**dataset.model_dump())
            report = export_dataset(run.outputs.root, options=options, overwrite=True)
            log.info("data set: %s", report)
        if run.config.report:
            log.info("page to look through the results: %s", write_report(run.outputs.root, overwrite=True))


def save_grid(run: Run, family: Sequence[Job], load: Loader) -> None:
    """When all samples of an annotation are there: clean (which `load` gives), noised, and the samples side by
    side; a row for every context of pictures with several."""
    if any(map(run.outputs.missing, family)):
        return
    size, first = run.config.network.image_size, family[0]
    clean = Canvas(first.image, load)
    painted = [
        Canvas(run.outputs.sample_path(job), PictureCache()) if run.outputs.shipped(job) else None
        for job in family
    ]
    rows = []
    for number, one in enumerate(first.passes):
        before = clean.context(one.context, size)
        white = np.full_like(before, 255)
        rows.append([before, noised(run, first, number, one, before)])
        rows[-1] += [white if p is None else p.context(one.context, size) for p in painted]
    run.outputs.save_grid(first, rows)


def noised(run: Run, job: Job, number: int, one: Pass, clean: np.ndarray) -> np.ndarray:
    """What the sampler began with, at the first attempt: (S, S, 3) uint8."""
    tensor, entry = images.to_tensor(clean), Entry(0, number, one.context, one.defects)
    noise = SampleNoise([entry_seed(run.config.seed, job, entry)], [0]).image(tensor)
    return images.to_uint8(run.diffusion.q_sample(tensor, run.start_index, noise))[0]


if __name__ == "__main__":
    sys.exit(run_main(main))
