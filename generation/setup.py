"""From settings to what a run works with: noise schedule, sampler options, geometry, device, output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from generation.exemplars.laying import Exemplars
from generation.exemplars.reading import read_exemplars
from generation.geometry import Geometry
from generation.jobs import JobOptions
from generation.models import count_classes, load_models, weight_paths, with_arithmetic
from generation.outputs import Outputs
from generation.painting.options import PaintOptions
from generation.painting.painter import Painter, ProgressCallback
from generation.quality.assessment import Assessor, load_assessor
from generation.records import LabelRule
from guided_diffusion.attention_mask import AttentionOptions, defect_attention
from guided_diffusion.create import create_diffusion, noise_to_signal
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.prior_sampler import PriorSampler
from guided_diffusion.respace import kept_timesteps
from guided_diffusion.timesteps import check_chain_length, gradient_steps, noising_index, sampling_timesteps
from utils.device import resolve_device
from utils.errors import UserError
from utils.network_metadata import (
    class_names,
    load_metadata,
    missing_checkpoint,
    trained_contrasts,
    trained_diffusion,
)
from utils.processes.exclusive import only_run_in
from utils.processes.group import PATIENCE, decided, local_rank, process_group
from utils.schema.generation import GenerationConfig
from utils.strength.rule import strength_for


@dataclass(frozen=True)
class Run:
    """What a run works with; its configuration leaves nothing open."""

    config: GenerationConfig
    classes: dict[str, int]
    diffusion: GaussianDiffusion
    options: SamplerOptions
    device: torch.device
    outputs: Outputs

    @property
    def beginning(self) -> str:
        """The step of the chain at which images are noised, for messages."""
        return f"step {self.options.start_index} of {self.diffusion.num_timesteps}"

    @cached_property
    def assessor(self) -> Assessor | None:
        """Scores what is painted, by the judge of `judge_path`; None without one. Raises UserError for weights."""
        return load_assessor(self.config.judge_path, list(self.classes))

    @cached_property
    def exemplars(self) -> Exemplars | None:
        """The training defects that painting starts from; None without any. Raises UserError."""
        wanted = self.config.exemplars
        if wanted.folder is None:
            return None
        turns, margin = (wanted.rotate90, wanted.flip), self.config.label_margin
        return read_exemplars(Path(wanted.folder), self.classes, *turns, margin)

    @cached_property
    def sampler(self) -> Sampler:
        """The networks on the noise schedule, loaded on first use. Raises UserError for weights."""
        return self._sampler(self.config)

    @cached_property
    def exact_sampler(self) -> Sampler:
        """The same in float32, for what overflows in lower precision."""
        return self._sampler(self.config.model_copy(update={"precision": "fp32"}))

    def _sampler(self, config: GenerationConfig) -> Sampler:
        contextual, prior = load_models(config, self.classes, self.device)
        clean_class = count_classes(self.config, self.classes)  # follows the classes of defects
        if contextual is None:
            return PriorSampler(prior, self.diffusion, self.options, clean_class)
        return Sampler(contextual, prior, self.diffusion, self.options, clean_class)


@contextmanager
def joined_processes(config: GenerationConfig) -> Iterator[None]:
    """Within it torchrun's processes, if there are several, can agree, and no other run works in the output folder.

    A dry run, which writes nothing, needs neither. Raises UserError.
    """
    if config.dry_run:
        yield
        return
    with process_group(patience=PATIENCE), only_run_in(Path(config.outdir), "outdir"):
        yield


def setup_run(config: GenerationConfig) -> Run:
    """Check the configuration against data and output folder, and resolve what it leaves open, for all processes
    alike; writes nothing.

    Raises UserError.
    """

    def complete() -> GenerationConfig:
        run = make_run(
            Outputs(config.outdir, config.overwrite, LabelRule.of(config)).with_earlier_choices(config)
        )
        run.outputs.check(run.config)
        return run.config

    return make_run(decided(complete))


def make_run(config: GenerationConfig) -> Run:
    """As `setup_run`, but whatever the output folder may hold."""
    classes = class_names(config.crop_class_json_path, config.crop_model_path)
    config = with_strength(config)
    diffusion, options = make_schedule(config)
    device = resolve_device(config.device, config.cuda, rank_on_host=local_rank())
    if config.seed is None:
        config = config.model_copy(update={"seed": int.from_bytes(os.urandom(4), "big")})
    config = with_arithmetic(config, device)
    outputs = Outputs(config.outdir, config.overwrite, LabelRule.of(config))
    return Run(config, classes, diffusion, options, device, outputs)


def with_strength(config: GenerationConfig) -> GenerationConfig:
    """The configuration with what `start_step: auto` means for the prior's weights.

    Raises UserError for weights that do not tell the contrast of the defects that they were trained on.
    """
    schedule, path = config.ddim.schedule_params, config.crop_model_path
    if schedule.start_step != "auto":
        return config
    contrasts = trained_contrasts(load_metadata(path), path)
    if not contrasts:
        missing = (
            missing_checkpoint(path) or f"{path} does not tell the contrast of the defects it was trained on"
        )
        raise UserError(
            f"ddim.schedule_params.start_step: got auto, but {missing}; expected a number, or a prior that train.py "
            "has trained with condition: surroundings"
        )
    process = config.diffusion
    try:
        noise = noise_to_signal(process.noise_schedule, process.diffusion_steps)
    except ValueError as error:
        raise UserError(f"invalid sampling schedule: {error}") from error
    exemplars = config.exemplars.folder is not None
    start = strength_for(contrasts, noise).start_step(schedule.ddpm_num_steps, exemplars)
    ddim = config.ddim.model_copy(
        update={"schedule_params": schedule.model_copy(update={"start_step": start})}
    )
    return config.model_copy(update={"ddim": ddim})


def make_schedule(config: GenerationConfig) -> tuple[GaussianDiffusion, SamplerOptions]:
    """The respaced chain and the sampler's options. ValueErrors become UserErrors."""
    config = with_strength(config)
    schedule, optimize = config.ddim.schedule_params, config.optimize_xt
    if not config.model_path:  # there is nothing to refine
        optimize = optimize.model_copy(update={"optimize_xt": False})
    try:
        diffusion = create_diffusion(**config.diffusion.plain(), learn_sigma=config.network.learn_sigma)
        check_chain_length(schedule.ddpm_num_steps, diffusion.num_timesteps)
        options = SamplerOptions(
            timesteps=sampling_timesteps(**schedule.model_dump()),
            start_index=noising_index(schedule.resolved_start_step, schedule.ddpm_num_steps),
            gradient_steps=gradient_steps(schedule.ddpm_num_steps, **config.g_scha.model_dump()),
            ddim_sigma=config.ddim.ddim_sigma,
            clip_denoised=config.diffusion.clip_denoised,
            prior_guidance=config.prior_guidance,
            attention=AttentionOptions(**config.attention_features.model_dump()),
            **optimize.model_dump(),
        )
    except ValueError as error:
        raise UserError(f"invalid sampling schedule: {error}") from error
    check_schedule(config, options)
    check_trained_range(config)
    return diffusion, options


def check_schedule(config: GenerationConfig, options: SamplerOptions) -> None:
    """Raises UserError for a schedule without a step, or values that do not fit the chain or the networks."""
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


def check_trained_range(config: GenerationConfig) -> None:
    """Raises UserError when the networks would be asked at timesteps that they were not trained on.

    Timesteps are those of the original process. Weights that do not say their range pass.
    """
    schedule, steps = config.ddim.schedule_params, config.diffusion.diffusion_steps
    lowest, highest = visited_timesteps(config, schedule.resolved_start_step)
    problems = []
    for path, trained in trained_timesteps(config):
        if lowest < trained.start:
            problems.append(
                f"{path} was trained on t >= {trained.start} only, but painting goes down to t = {lowest} of {steps}; "
                "use weights trained with min_t 0"
            )
        if highest >= trained.stop:
            limit = highest_start_step(config, trained.stop)
            advice = "use other weights" if limit is None else f"expected at most {limit}"
            problems.append(
                f"ddim.schedule_params.start_step: got {schedule.start_step}, from which the networks are asked at "
                f"t = {highest} of {steps}, but {path} was trained on t < {trained.stop} only; {advice}"
            )
    if problems:
        raise UserError.from_problems("the weights were not trained on all timesteps needed", problems)


def trained_timesteps(config: GenerationConfig) -> Iterator[tuple[str, range]]:
    """The weights that are asked, each with the timesteps of the original process that it was trained on: all of them,
    unless it tells otherwise. Those for a process of another length are left out; they are refused when they are
    loaded."""
    steps = config.diffusion.diffusion_steps
    for path in weight_paths(config):
        trained = trained_diffusion(load_metadata(path), path)
        if trained.get("diffusion_steps", steps) == steps:
            yield path, range(trained.get("min_t", 0), trained.get("max_t") or steps)


def visited_timesteps(config: GenerationConfig, start_step: int | None) -> tuple[int, int]:
    """Lowest and highest timestep of the original process at which the networks are asked; (0, -1) for none."""
    kept = kept_timesteps(config.diffusion.diffusion_steps, config.diffusion.timestep_respacing)
    schedule = config.ddim.schedule_params.model_dump() | {"start_step": start_step}
    asked = sampling_timesteps(**schedule)[:-1]  # at the last one nothing is left to denoise
    return (kept[min(asked)], kept[max(asked)]) if asked else (0, -1)


def highest_start_step(config: GenerationConfig, max_t: int) -> int | None:
    """The highest `start_step` with which painting stays below the timestep `max_t`; None if there is none."""
    for start_step in range(config.ddim.schedule_params.ddpm_num_steps - 1, 0, -1):
        if 0 <= visited_timesteps(config, start_step)[1] < max_t:
            return start_step
    return None


def make_geometry(config: GenerationConfig) -> Geometry:
    return Geometry(config.resize, config.scale, config.network.image_size, config.crop.image_size)


def job_options(config: GenerationConfig) -> JobOptions:
    return JobOptions(
        config.n_samples,
        config.n_iter,
        together=config.paint == "all",
        whole_contexts=config.background == "generated",
        boxes=config.label_box == "annotation"
        or config.crop.condition == "surroundings"
        or config.exemplars.folder is not None,
    )


def make_painter(run: Run, callback: ProgressCallback) -> Painter:
    """The run's sampler with its options, and in lower precision the one in float32 behind it."""
    exact = None if run.config.precision == "fp32" else lambda: run.exact_sampler
    options = paint_options(run.config)
    return Painter(run.sampler, options, run.device, callback, run.assessor, exact, run.exemplars)


def paint_options(config: GenerationConfig) -> PaintOptions:
    return PaintOptions(
        image_size=config.network.image_size,
        crop_size=config.crop.image_size,
        seed=config.resolved_seed,
        batch_size=config.resolved_batch_size,
        squash=config.resize == "squash",
        generated=config.background == "generated",
        masked=config.background == "masked",
        sees_surroundings=config.crop.condition == "surroundings",
        feather=config.feather,
        label_margin=config.label_margin,
        candidates=config.candidates,
        min_score=config.min_score,
        max_rerolls=config.max_rerolls,
        strips=config.report,
    )
