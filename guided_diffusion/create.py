"""Networks and diffusion chains from the plain values of a configuration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, beta_schedule
from guided_diffusion.respace import kept_timesteps
from guided_diffusion.surroundings import CHANNELS
from guided_diffusion.unet import UNetModel


def create_unet(
    *,
    image_size: int,
    num_channels: int,
    num_res_blocks: int,
    channel_mult: Sequence[float],
    attention_resolutions: Sequence[int],
    num_heads: int,
    num_head_channels: int,
    num_heads_upsample: int,
    class_cond: bool,
    learn_sigma: bool,
    use_scale_shift_norm: bool,
    resblock_updown: bool,
    use_new_attention_order: bool,
    dropout: float,
    use_checkpoint: bool,
    num_classes: int | None = None,
    condition: str = "none",
) -> UNetModel:
    """The U-Net of a configuration; `attention_resolutions` are feature-map sizes at `image_size`.

    With `condition` "surroundings" it takes the channels of surroundings.py and knows one class more, the last:
    "clean".

    Raises ValueError when `class_cond` comes without a number of classes.
    """
    if class_cond and not num_classes:
        raise ValueError(f"a class-conditional network needs num_classes, got {num_classes}")
    sees_surroundings = condition == "surroundings"
    if num_classes and class_cond and sees_surroundings:
        num_classes += 1
    return UNetModel(
        num_channels,
        num_res_blocks,
        channel_mult,
        attention_factors=[image_size // r for r in attention_resolutions],
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        num_heads_upsample=num_heads_upsample,
        num_classes=num_classes if class_cond else None,
        learn_sigma=learn_sigma,
        dropout=dropout,
        use_scale_shift_norm=use_scale_shift_norm,
        resblock_updown=resblock_updown,
        use_new_attention_order=use_new_attention_order,
        use_checkpoint=use_checkpoint,
        in_channels=3 + (CHANNELS if sees_surroundings else 0),
    )


def unet_bytes(**options: Any) -> int:
    """Bytes of the float32 weights of `create_unet(**options)`, which is built without memory for them."""
    with torch.device("meta"):
        return sum(p.numel() * p.element_size() for p in create_unet(**options).parameters())


def create_diffusion(
    *,
    diffusion_steps: int,
    noise_schedule: str,
    timestep_respacing: str | int,
    learn_sigma: bool,
    predict_xstart: bool,
    use_kl: bool,
    rescale_timesteps: bool,
    rescale_learned_sigmas: bool,
) -> GaussianDiffusion:
    """The respaced chain of a configuration. Raises ValueError for an unknown schedule or respacing."""
    return GaussianDiffusion(
        _betas(noise_schedule, diffusion_steps),
        kept_timesteps(diffusion_steps, timestep_respacing),
        learn_sigma=learn_sigma,
        predict_xstart=predict_xstart,
        use_kl=use_kl,
        rescale_timesteps=rescale_timesteps,
        rescale_learned_sigmas=rescale_learned_sigmas,
    )


def noise_to_signal(noise_schedule: str, diffusion_steps: int) -> np.ndarray:
    """sqrt((1 - abar) / abar) at every t of the whole chain, (diffusion_steps,) float64, ascending.

    Raises ValueError as `create_diffusion` does.
    """
    return GaussianDiffusion(_betas(noise_schedule, diffusion_steps)).noise_ratio


def _betas(noise_schedule: str, diffusion_steps: int) -> np.ndarray:
    betas = beta_schedule(noise_schedule, diffusion_steps)
    if betas.max() >= 1:
        raise ValueError(
            f"diffusion_steps: got {diffusion_steps}, for which the {noise_schedule} schedule leaves no signal at "
            "the end; expected more than 20, or noise_schedule cosine"
        )
    return betas
