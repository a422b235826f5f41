"""Operations of networks whose parameters are frozen: the same values and gradients, less kept in between.

Sampling differentiates by the input alone. PyTorch keeps what the gradients of the parameters would need as well: the
input of every convolution and of every activation. These operations keep the input of each normalization, and
recompute from it; at the published 256 px network that is 0.9 GB a forward instead of 2.5.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input


def differentiates_input_alone(x: Tensor, module: nn.Conv2d | nn.GroupNorm) -> bool:
    """Whether a backward pass will want the gradient of `x` and none of the parameters of `module`."""
    return torch.is_grad_enabled() and x.requires_grad and not module.weight.requires_grad


class Conv2d(nn.Conv2d):
    """nn.Conv2d that does not keep its input while its parameters are frozen: (N, C, H, W) -> (N, C', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        if differentiates_input_alone(x, self):
            return _FrozenConvolution.apply(x, self.weight, self.bias, self.stride, self.padding)
        return super().forward(x)


class _FrozenConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return conv2d_input(ctx.shape, weight, grad, ctx.stride, ctx.padding), *[None] * 4


def norm_silu(
    norm: nn.GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """SiLU(norm(x) * (1 + scale) + shift) for x (N, C, H, W); `scale` and `shift` are (N, C, 1, 1) or None."""
    if differentiates_input_alone(x, norm) and (scale is None or not scale.requires_grad):
        # Float32 has a backward pass of its own; the library's kernels mix low precision with float32 sums
        frozen = _FrozenNormSilu if x.dtype == torch.float32 else _RecomputedNormSilu
        return frozen.apply(x, norm, scale, shift)
    h = norm(x)
    return F.silu(h if scale is None or shift is None else torch.addcmul(shift, h, 1 + scale))


class _RecomputedNormSilu(torch.autograd.Function):
    """Keeps x, and runs the normalization again to differentiate it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: nn.GroupNorm, scale: Tensor | None, shift: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift)
        ctx.norm = norm
        return F.silu(_modulated(norm(x), scale, shift), inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            h = ctx.norm(x)
        # The gradient of a normalization does not look at its output, which may be overwritten
        grad = torch.ops.aten.silu_backward(grad, _modulated(h.detach(), scale, shift))
        if scale is not None:
            grad = grad.mul_(1 + scale)
        return *torch.autograd.grad(h, x, grad), None, None, None


class _FrozenNormSilu(torch.autograd.Function):
    """Keeps x and its statistics; with them all before the SiLU is a * x + b, a and b per image and channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: nn.GroupNorm, scale: Tensor | None, shift: Tensor | None
    ) -> Tensor:
        x = x.contiguous(memory_format=_layout(x))
        n, c, height, width = x.shape
        h, mean, rstd = torch.native_group_norm(
            x, norm.weight, norm.bias, n, c, height * width, norm.num_groups, norm.eps
        )
        ctx.save_for_backward(x, mean, rstd, scale, shift)
        ctx.norm = norm
        return F.silu(_modulated(h, scale, shift), inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, scale, shift = ctx.saved_tensors
        n, c, height, width = x.shape
        groups = ctx.norm.num_groups

        def per_channel(values: Tensor) -> Tensor:  # (N, groups) -> (N, C, 1, 1)
            return values.repeat_interleave(c // groups, dim=1)[:, :, None, None]

        gain = ctx.norm.weight.view(1, c, 1, 1)
        offset = ctx.norm.bias.view(1, c, 1, 1)
        if scale is not None:
            gain, offset = gain * (1 + scale), offset * (1 + scale) + shift
        a = per_channel(rstd) * gain
        h = torch.addcmul(offset - a * per_channel(mean), x, a)
        grad = torch.ops.aten.silu_backward.grad_input(grad, h, grad_input=h)
        # With z = (x - mean) rstd and M numbers in a group, d/dx = a grad - rstd (<gain grad> + z <gain grad z>),
        # <> being the sum over the group divided by M (Wu & He 2018, differentiated)
        dot = (gain * (grad * x).sum((2, 3), keepdim=True)).view(n, groups, -1).sum(2)
        total = (gain * grad.sum((2, 3), keepdim=True)).view(n, groups, -1).sum(2)
        count = c // groups * height * width
        slope = (total * mean - dot) * rstd**3 / count
        level = -slope * mean - total * rstd / count
        result = torch.addcmul(per_channel(level), x, per_channel(slope))
        return result.addcmul_(grad, a), None, None, None


def _layout(x: Tensor) -> torch.memory_format:
    """The memory format that the normalization's kernel works in."""
    channels_last = x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _modulated(h: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """h * (1 + scale) + shift, in the memory of h."""
    return h if scale is None or shift is None else torch.addcmul(shift, h, 1 + scale, out=h)
