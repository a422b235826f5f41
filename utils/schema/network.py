"""Keys shared by generation and training: the network (Dhariwal & Nichol 2021) and the diffusion process
(Ho et al. 2020, Nichol & Dhariwal 2021)."""

from typing import Any, Literal

from pydantic import Field, model_validator

from utils.schema.fields import (
    Float,
    FloatList,
    Int,
    IntList,
    Respacing,
    Section,
)

# Channel multipliers of ADM by image size, for an empty `channel_mult`.
SIZE_CHANNEL_MULT: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    192: (1, 1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
    32: (1, 2, 3, 4),
}

GROUPS = 32  # of every GroupNorm


class NetworkConfig(Section):
    """One ADM U-Net (Dhariwal & Nichol 2021). The defaults are the published 256x256 network's."""

    image_size: Int = Field(
        256, ge=1, le=8192, description="side of the square images the network works on, px"
    )
    num_channels: Int = Field(128, ge=1, le=4096, description="base width of the network")
    num_res_blocks: Int = Field(2, ge=1, le=64, description="residual blocks per level")
    channel_mult: FloatList = Field(
        (1, 1, 2, 3, 4, 4), description="width of each level in units of num_channels; '' = by image size"
    )
    attention_resolutions: IntList = Field(
        (16, 8), description="feature-map sizes, in px, that get self-attention"
    )
    num_heads: Int = Field(4, ge=1, le=4096, description="attention heads, where num_head_channels is -1")
    num_head_channels: Int = Field(32, ge=-1, description="channels of one head; -1 = use num_heads")
    num_heads_upsample: Int = Field(-1, ge=-1, description="heads in the decoder; -1 = as num_heads")
    resblock_updown: bool = Field(True, description="resample inside residual blocks, not by convolutions")
    use_scale_shift_norm: bool = Field(True, description="the embedding scales and shifts the normalized map")
    use_new_attention_order: bool = Field(False, description="order of the qkv channels: q, k, v first")
    dropout: Float = Field(0.0, ge=0, lt=1, description="dropout inside residual blocks")
    class_cond: bool = Field(False, description="the network is conditioned on the defect class")
    learn_sigma: bool = Field(True, description="the network also predicts the variance (6 output channels)")
    condition: Literal["none", "surroundings"] = Field(
        "none",
        description="what a defect prior sees beside the noisy window: nothing as published, or the clean "
        "surroundings of the defect's box and the box (prepare_data writes what training needs for it)",
    )
    use_fp16: bool = Field(False, description="older spelling of `precision: fp16`")
    use_checkpoint: bool = Field(
        False, description="recompute activations in the backward pass to save memory"
    )

    def resolved_channel_mult(self) -> tuple[float, ...]:
        """`channel_mult`, or the default for this image size when it is empty.

        Raises ValueError for an empty `channel_mult` and a size without a default.
        """
        if self.channel_mult:
            return self.channel_mult
        if self.image_size not in SIZE_CHANNEL_MULT:
            sizes = ", ".join(str(size) for size in sorted(SIZE_CHANNEL_MULT))
            raise ValueError(
                f"channel_mult: got nothing with image_size {self.image_size}, expected a list "
                f"(only the sizes {sizes} have a default)"
            )
        return SIZE_CHANNEL_MULT[self.image_size]

    def attention_factors(self) -> tuple[int, ...]:
        """Downsampling factors with self-attention: image_size // r for each attention resolution r."""
        return tuple(self.image_size // r for r in self.attention_resolutions)

    def plain(self) -> dict[str, Any]:
        """The values that decide the network, by key, `channel_mult` resolved; arithmetic is not among them."""
        values = self.model_dump(exclude={"use_fp16"})
        return values | {"channel_mult": self.resolved_channel_mult()}

    @model_validator(mode="after")
    def _can_be_built(self) -> "NetworkConfig":
        multipliers = self.resolved_channel_mult()
        problems = [*self._size_problems(len(multipliers)), *self._head_problems(multipliers)]
        widths = [self.num_channels * multiplier for multiplier in multipliers]
        odd = [f"{width:g}" for width in widths if width % GROUPS]
        if self.condition == "surroundings" and not self.class_cond:
            problems.append("condition: got surroundings, which needs class_cond: true")
        if odd:
            problems.append(
                f"num_channels: got {self.num_channels}, which with channel_mult gives levels of "
                f"{', '.join(odd)} channels, expected multiples of {GROUPS}"
            )
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))
        return self

    def _size_problems(self, levels: int) -> list[str]:
        divisor = 2 ** (levels - 1)
        if self.image_size % divisor == 0:
            return []
        return [
            f"image_size: got {self.image_size}, expected a multiple of {divisor} "
            f"(channel_mult has {levels} levels, each half the size of the one before)"
        ]

    def _head_problems(self, multipliers: tuple[float, ...]) -> list[str]:
        """Heads must divide the channels at the levels with attention and in the middle block."""
        factors = self.attention_factors()
        widths = [m for level, m in enumerate(multipliers) if 2**level in factors] + [multipliers[-1]]
        if self.num_head_channels == 0 or self.num_heads_upsample == 0:
            return ["num_head_channels, num_heads_upsample: got 0, expected -1 or a positive number"]
        if self.num_head_channels > 0:
            heads = {"num_head_channels": self.num_head_channels}
        else:
            heads = {"num_heads": self.num_heads}
            if self.num_heads_upsample > 0:
                heads["num_heads_upsample"] = self.num_heads_upsample
        return [
            f"{key}: got {count}, expected a divisor of {int(self.num_channels * width)} "
            "(the channels of a level with attention)"
            for width in widths
            for key, count in heads.items()
            if int(self.num_channels * width) % count
        ]


# What differs from the 256x256 defaults: the published 64x64 defect network
CROP_VALUES: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 64,
    "channel_mult": (1, 2, 3, 4),
    "num_head_channels": 16,
    "class_cond": True,
}


# Of the diffusion process, what training and painting must agree on
AGREED_KEYS = ("diffusion_steps", "noise_schedule", "predict_xstart", "rescale_timesteps")


class DiffusionConfig(Section):
    """The noise schedule and what the network predicts. The defaults are the published generation values."""

    diffusion_steps: Int = Field(1000, ge=1, le=100_000, description="steps of the original chain")
    noise_schedule: Literal["linear", "cosine"] = Field("linear", description="how the betas grow")
    timestep_respacing: Respacing = Field(
        "250", description="steps kept of the original chain: a count, counts per section, or ddimN; '' = all"
    )
    use_kl: bool = Field(False, description="train only on the variational bound")
    predict_xstart: bool = Field(False, description="the network predicts the clean image, not the noise")
    rescale_timesteps: bool = Field(False, description="the network sees t * 1000 / diffusion_steps")
    rescale_learned_sigmas: bool = Field(False, description="weight of the bound: diffusion_steps / 1000")
    clip_denoised: bool = Field(True, description="clip clean estimates to [-1, 1]")

    def agreed(self) -> dict[str, Any]:
        """The values that training and painting must agree on, by key."""
        return {key: getattr(self, key) for key in AGREED_KEYS}

    def plain(self) -> dict[str, Any]:
        """The values that decide the chain and the losses, by key; clipping belongs to the sampler."""
        return self.model_dump(exclude={"clip_denoised"})


def precision_of_old_key(data: dict[str, Any]) -> Literal["fp16", "fp32"]:
    networks = [data[name] for name in ("network", "crop") if name in data]
    return "fp16" if any(network.use_fp16 for network in networks) else "fp32"


class TrainedDiffusion(DiffusionConfig):
    """The diffusion process that weights were trained with, and the range min_t <= t < max_t of original steps."""

    min_t: Int = Field(0, ge=0, description="smallest t trained on")
    max_t: Int | None = Field(None, ge=1, description="the first t not trained on; null = not known")
