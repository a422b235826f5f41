"""The ADM U-Net (Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis").

Module names are a contract: `state_dict` keys and shapes equal those of checkpoints trained with the usual
guided-diffusion U-Net, so such files load with `strict=True`.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from guided_diffusion.frozen import Conv2d, norm_silu

GROUPS = 32
M = TypeVar("M", bound=nn.Module)


def timestep_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of integer steps: [cos(t w), sin(t w)], w_i = max_period^(-i/h), h = width // 2.

    `t` is (N,), any real dtype; returns (N, width) float32 in [-1, 1] (Vaswani 2017; Ho 2020).
    """
    half = width // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    angles = t.float()[:, None] * frequencies[None]  # (N, half)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, width % 2))


class GroupNorm32(nn.GroupNorm):
    """GroupNorm of 32 groups whose statistics and affine part are computed in float32."""

    def __init__(self, channels: int):
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        # The CPU kernel takes low-precision input with float32 parameters and accumulates in float32; in the
        # channels_last layout its backward pass is four times slower than float32's.
        slow = torch.is_grad_enabled() and x.requires_grad and not x.is_contiguous()
        if x.dtype == torch.float32 or (is_bf16_on_cpu(x) and not slow):
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps).to(x.dtype)


def is_bf16_on_cpu(x: Tensor) -> bool:
    """Whether x is where some kernels are slower than in float32."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention: (N, heads, L, d) three times -> (N, heads, L, d), scores scaled by 1/sqrt(d)."""
    if is_bf16_on_cpu(q) and torch.is_grad_enabled() and q.requires_grad:
        # The backward pass in bfloat16 takes twice as long as in float32
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)


def zero_initialized(module: M) -> M:
    """Zero the parameters of `module`, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def norm_of(layers: nn.Sequential) -> GroupNorm32:
    """The normalization that a block's layers begin with."""
    norm = layers[0]
    assert isinstance(norm, GroupNorm32)
    return norm


class Upsample(nn.Module):
    """Nearest x2, then a 3x3 convolution when `use_conv`: (N, C, H, W) -> (N, C, 2H, 2W)."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """A stride-2 3x3 convolution when `use_conv`, else 2x2 averages: (N, C, H, W) -> (N, C, H/2, W/2)."""

    def __init__(self, channels: int, use_conv: bool):
        super().__init__()
        self.op = Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ResBlock(nn.Module):
    """Residual block with the time embedding; `up` or `down` resamples both branches (BigGAN style).

    Input (N, channels, H, W) and embedding (N, emb_channels); output (N, out_channels, H', W').
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_channels: int,
        dropout: float = 0.0,
        use_scale_shift_norm: bool = False,
        up: bool = False,
        down: bool = False,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.use_checkpoint = use_checkpoint
        self.in_layers = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), Conv2d(channels, out_channels, 3, padding=1)
        )
        self.resample: nn.Module = nn.Identity()
        if up:
            self.resample = Upsample(channels, use_conv=False)
        elif down:
            self.resample = Downsample(channels, use_conv=False)
        width = 2 * out_channels if use_scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, width))
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_initialized(Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection: nn.Module = nn.Identity()
        if out_channels != channels:
            self.skip_connection = Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self._forward, x, emb, use_reentrant=False)
        return self._forward(x, emb)

    def _forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[-1](self.resample(norm_silu(norm_of(self.in_layers), x)))
        e = self.emb_layers(emb).to(h.dtype)[:, :, None, None]  # (N, width, 1, 1)
        norm, (dropout, conv) = norm_of(self.out_layers), self.out_layers[2:]
        if self.use_scale_shift_norm:
            h = norm_silu(norm, h, *e.chunk(2, dim=1))
        else:
            h = norm_silu(norm, h + e)
        return self.skip_connection(self.resample(x)) + conv(dropout(h))


class AttentionBlock(nn.Module):
    """Self-attention over the positions of a feature map, with a residual: (N, C, H, W) -> the same.

    The 3C channels of `qkv` are ordered heads first, each holding q, k, v ("legacy"), or q, k, v first, each
    holding the heads (`use_new_attention_order`).
    """

    def __init__(
        self, channels: int, heads: int, use_new_attention_order: bool = False, use_checkpoint: bool = False
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(f"attention over {channels} channels cannot be split into {heads} heads")
        self.heads = heads
        self.use_new_attention_order = use_new_attention_order
        self.use_checkpoint = use_checkpoint
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero_initialized(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        # The 1x1 convolutions run as matrix products on (N, L, C), a view of a channels_last tensor.
        h = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, c)
        qkv = F.linear(h, self.qkv.weight.squeeze(-1), self.qkv.bias)  # (N, L, 3C)
        if self.use_new_attention_order:
            q, k, v = qkv.view(n, height * width, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = qkv.view(n, height * width, self.heads, 3, c // self.heads).permute(3, 0, 2, 1, 4)
        h = attention(q, k, v)  # (N, heads, L, d)
        h = h.transpose(1, 2).reshape(n, height * width, c)
        h = F.linear(h, self.proj_out.weight.squeeze(-1), self.proj_out.bias)
        return x + h.view(n, height, width, c).permute(0, 3, 1, 2)


class EmbedSequential(nn.Sequential):
    """A sequence that hands the embedding to the residual blocks among its members."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]  # a second input, by design
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


def class_vectors(count: int, channels: int) -> nn.Embedding:
    """A vector per class, with the numbers that `nn.Embedding` draws: on the device meta that itself imports PyTorch's
    compiler, which takes seconds."""
    return nn.Embedding.from_pretrained(torch.randn(count, channels), freeze=False)


class UNetModel(nn.Module):
    """ADM U-Net: `model(x, t, y)` with x (N, in_channels, S, S), t (N,) original step numbers, y (N,) class
    ids or None.

    Returns (N, 3, S, S), or (N, 6, S, S) with `learn_sigma`, in float32. S may be any multiple of
    2^(levels - 1): the network is convolutional. `attention_factors` are the downsampling factors at which
    attention is applied (image_size // resolution); `channel_mult` may hold fractions, as in ADM's 512 model.
    Raises ValueError when a channel count is not a multiple of 32 or y does not fit the class embedding.
    """

    def __init__(
        self,
        num_channels: int,
        num_res_blocks: int,
        channel_mult: Sequence[float],
        attention_factors: Sequence[int] = (),
        num_heads: int = 1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        num_classes: int | None = None,
        learn_sigma: bool = False,
        dropout: float = 0.0,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        use_checkpoint: bool = False,
        in_channels: int = 3,
    ):
        super().__init__()
        self.num_channels = num_channels
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.compute_dtype = torch.float32
        self.emb_channels = 4 * num_channels
        self.attention_factors = tuple(attention_factors)
        self.resblock_updown = resblock_updown
        self.res_options: dict[str, Any] = {
            "emb_channels": self.emb_channels,
            "dropout": dropout,
            "use_scale_shift_norm": use_scale_shift_norm,
            "use_checkpoint": use_checkpoint,
        }
        self.attention_options = (use_new_attention_order, use_checkpoint)
        self.head_channels = num_head_channels
        heads_down, heads_up = num_heads, num_heads if num_heads_upsample == -1 else num_heads_upsample
        widths = [int(m * num_channels) for m in channel_mult]
        if any(w % GROUPS for w in widths):
            raise ValueError(f"channel counts {widths} must be multiples of {GROUPS} (GroupNorm)")

        self.time_embed = nn.Sequential(
            nn.Linear(num_channels, self.emb_channels),
            nn.SiLU(),
            nn.Linear(self.emb_channels, self.emb_channels),
        )
        if num_classes is not None:
            self.label_emb = class_vectors(num_classes, self.emb_channels)
        skips = self._build_encoder(widths, num_res_blocks, heads_down)
        self.middle_block = EmbedSequential(
            ResBlock(widths[-1], widths[-1], **self.res_options),
            self._attention(widths[-1], heads_down),
            ResBlock(widths[-1], widths[-1], **self.res_options),
        )
        self._build_decoder(widths, num_res_blocks, heads_up, skips)
        out_channels = 6 if learn_sigma else 3
        self.out = nn.Sequential(
            GroupNorm32(widths[0]),
            nn.SiLU(),
            zero_initialized(Conv2d(widths[0], out_channels, 3, padding=1)),
        )

    def _attention(self, channels: int, heads: int) -> AttentionBlock:
        heads = channels // self.head_channels if self.head_channels != -1 else heads
        return AttentionBlock(channels, heads, *self.attention_options)

    def _build_encoder(self, widths: list[int], num_res_blocks: int, heads: int) -> list[int]:
        """Build `input_blocks`; returns the channel counts of their outputs, in order."""
        c, factor = widths[0], 1
        self.input_blocks = nn.ModuleList([EmbedSequential(Conv2d(self.in_channels, c, 3, padding=1))])
        skips = [c]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [ResBlock(c, width, **self.res_options)]
                c = width
                if factor in self.attention_factors:
                    layers.append(self._attention(c, heads))
                self.input_blocks.append(EmbedSequential(*layers))
                skips.append(c)
            if level != len(widths) - 1:
                down = (
                    ResBlock(c, c, **self.res_options, down=True)
                    if self.resblock_updown
                    else Downsample(c, True)
                )
                self.input_blocks.append(EmbedSequential(down))
                skips.append(c)
                factor *= 2
        return skips

    def _build_decoder(self, widths: list[int], num_res_blocks: int, heads: int, skips: list[int]) -> None:
        """Build `output_blocks`, deepest level first, each block taking (h, skip) concatenated."""
        c, skips = widths[-1], list(skips)
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(num_res_blocks + 1):
                layers: list[nn.Module] = [ResBlock(c + skips.pop(), width, **self.res_options)]
                c = width
                if 2**level in self.attention_factors:
                    layers.append(self._attention(c, heads))
                if level and i == num_res_blocks:
                    layers.append(
                        ResBlock(c, c, **self.res_options, up=True)
                        if self.resblock_updown
                        else Upsample(c, True)
                    )
                self.output_blocks.append(EmbedSequential(*layers))

    def set_precision(self, dtype: torch.dtype) -> "UNetModel":
        """Run convolutions, linear layers and attention in `dtype` (float32, bfloat16 or float16).

        Normalization parameters and the embeddings stay float32, and so do the input and the output.
        Meant for frozen networks; training uses autocast over float32 weights instead. Returns self.
        """
        self.compute_dtype = dtype
        for blocks in (self.input_blocks, self.middle_block, self.output_blocks, self.out):
            for module in blocks.modules():
                if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
                    module.to(dtype)
        return self

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if (y is None) != (self.num_classes is None):
            raise ValueError(
                f"a network with num_classes={self.num_classes} got {'no ' if y is None else ''}class ids"
            )
        emb = self.time_embed(timestep_embedding(t, self.num_channels))  # (N, 4C)
        if y is not None:
            emb = emb + self.label_emb(y)
        emb = emb.to(self.compute_dtype)
        h, skips = x.to(self.compute_dtype), []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out[-1](norm_silu(norm_of(self.out), h)).float()
