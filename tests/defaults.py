"""The library's options as the schema's defaults have them, but for what a test changes."""

from generation.jobs import JobOptions
from guided_diffusion.attention_mask import AttentionOptions
from guided_diffusion.create import create_diffusion
from guided_diffusion.ddim import SamplerOptions
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.timesteps import sampling_timesteps
from training.image_datasets import Augmentation
from training.train_loop import TrainOptions
from utils.schema.generation import GenerationConfig
from utils.schema.network import DiffusionConfig
from utils.schema.sampling import AttentionConfig, ScheduleConfig
from utils.schema.training import AugmentConfig, TrainingConfig


def attention_options(**changes) -> AttentionOptions:
    return AttentionOptions(**AttentionConfig(**changes).model_dump())


def sampler_options(timesteps, start_index, gradient_steps, **changes) -> SamplerOptions:
    config = GenerationConfig()
    values = {
        "ddim_sigma": config.ddim.ddim_sigma,
        "clip_denoised": config.diffusion.clip_denoised,
        "prior_guidance": config.prior_guidance,
        "attention": attention_options(),
        **config.optimize_xt.model_dump(),
    }
    return SamplerOptions(timesteps, start_index, gradient_steps, **values | changes)


def timesteps(**changes) -> list[int]:
    """The timestep sequence; the values are not checked by the schema first."""
    return sampling_timesteps(**ScheduleConfig().model_dump() | changes)


def diffusion(**changes) -> GaussianDiffusion:
    """A chain of all its steps, without learned variances."""
    values = {"timestep_respacing": "", "learn_sigma": False} | changes
    return create_diffusion(**DiffusionConfig().plain() | values)


def augmentation(**changes) -> Augmentation:
    return Augmentation(**AugmentConfig(**changes).model_dump())


def job_options(
    n_samples: int = 1,
    n_iter: int = 1,
    together: bool = False,
    whole_contexts: bool = False,
    boxes: bool = False,
) -> JobOptions:
    return JobOptions(n_samples, n_iter, together, whole_contexts, boxes)


def train_options(**changes) -> TrainOptions:
    values = TrainingConfig().model_dump() | {"precision": "fp32"} | changes
    return TrainOptions(**{name: values[name] for name in TrainOptions.__annotations__})
