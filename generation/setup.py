"""From settings to what a run works with: noise schedule, sampler options, geometry, device, output folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from generation.geometry import Geometry
from generation.jobs import Wish
from generation.models import load_models, with_arithmetic
from generation.outputs import Outputs
from generation.painter import PaintOptions
from guided_diffusion.attention_mask import AttentionConfig, defect_attention
from guided_diffusion.create import create_diffusion
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.timesteps import check_chain_length, gradient_steps, noising_index, sampling_timesteps
from utils import labels
from utils.config import load_generation_config
from utils.device import resolve_device
from utils.errors import UserError
from utils.schema.generation import GenerationConfig


@dataclass(frozen=True)
class Run:
    """What a run works with; its configuration leaves nothing open."""

    config: GenerationConfig
    classes: dict[str, int]
    diffusion: GaussianDiffusion
    options: SamplerOptions
    device: torch.device
    outputs: Outputs

    @cached_property
    def sampler(self) -> Sampler:
        """Both networks on the noise schedule, loaded when first asked for. Raises UserError for weights."""
        contextual, prior = load_models(self.config, self.classes, self.device)
        return Sampler(contextual, prior, self.diffusion, self.options)


def setup_run(conf_path: str | Path, overrides: Sequence[str]) -> Run:
    """Read and check the configuration, and resolve what it leaves open; writes nothing. Raises UserError."""
    config = load_generation_config(conf_path, overrides)
    classes = labels.load_class_names(config.crop_class_json_path)
    diffusion, options = make_schedule(config)
    device = resolve_device(config.device, config.cuda, rank_on_host=local_rank())
    outputs = Outputs(config.outdir, config.overwrite, config.label_box)
    config = with_arithmetic(outputs.with_earlier_choices(config), device)
    outputs.check(config)
    return Run(config, classes, diffusion, options, device, outputs)


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


def make_wish(config: GenerationConfig) -> Wish:
    return Wish(
        config.n_samples,
        config.n_iter,
        together=config.paint == "all",
        whole_contexts=config.background == "generated",
        boxes=config.label_box == "annotation",
    )


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


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))
