"""Operations with frozen parameters: the values and gradients of the usual ones, and little kept in between."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guided_diffusion.frozen import Conv2d, norm_silu
from guided_diffusion.unet import GroupNorm32
from tests.golden import fill_weights
from tests.test_unet import tiny

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value_and_gradient(function, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x), and the gradient of the sum of its squares."""
    x = x.detach().requires_grad_()
    value = function(x)
    return value.detach(), torch.autograd.grad(value.square().sum(), x)[0]


def kept_numbers(function, x: Tensor, modules: list[nn.Module]) -> int:
    """Numbers kept for the backward pass, the modules' own parameters left out."""
    own = {p.data_ptr() for module in modules for p in module.parameters()}
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(x.detach().requires_grad_())
    return sum(tensor.numel() for tensor in kept.values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 1, "stride": 2}, {"bias": False}])
def test_a_frozen_convolution_keeps_no_input(layout, options):
    frozen = Conv2d(8, 6, 3, **options).to(memory_format=layout).requires_grad_(False)
    usual = nn.Conv2d(8, 6, 3, **options).to(memory_format=layout).requires_grad_(False)
    usual.load_state_dict(frozen.state_dict())
    x = random(2, 8, 9, 9).to(memory_format=layout)
    for got, expected in zip(value_and_gradient(frozen, x), value_and_gradient(usual, x), strict=True):
        assert torch.allclose(got, expected, atol=1e-6)
    assert kept_numbers(frozen, x, [frozen]) == 0


def usual_norm_silu(norm: nn.GroupNorm, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    h = norm(x)
    return F.silu(h if scale is None else h * (1 + scale) + shift)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("modulated", [False, True])
def test_a_frozen_normalization_keeps_its_input_alone(layout, modulated):
    norm = fill_weights(GroupNorm32(64), seed=1).requires_grad_(False)
    x = random(2, 64, 8, 8).to(memory_format=layout)
    scale, shift = random(2, 2, 64, 1, 1, seed=2) if modulated else (None, None)
    got = value_and_gradient(lambda x: norm_silu(norm, x, scale, shift), x)
    expected = value_and_gradient(lambda x: usual_norm_silu(norm, x, scale, shift), x)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    extra = 2 * 2 * 32 + (
        2 * 2 * 64 if modulated else 0
    )  # means and deviations of the groups; scale and shift
    assert kept_numbers(lambda x: norm_silu(norm, x, scale, shift), x, [norm]) == x.numel() + extra


def test_trainable_parameters_get_their_gradients():
    norm, conv = GroupNorm32(32), Conv2d(32, 4, 3)
    scale, shift = (random(1, 32, 1, 1, seed=n).requires_grad_() for n in (1, 2))
    conv(norm_silu(norm, random(1, 32, 5, 5).requires_grad_(), scale, shift)).sum().backward()
    for parameter in (norm.weight, norm.bias, conv.weight, conv.bias, scale, shift):
        assert float(parameter.grad.abs().sum()) > 0


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.03)])
def test_a_frozen_network_has_the_values_and_gradients_of_a_trainable_one(dtype, tolerance):
    options = {"use_scale_shift_norm": True, "resblock_updown": True}
    trainable = fill_weights(tiny(**options), seed=3).set_precision(dtype)
    frozen = fill_weights(tiny(**options), seed=3).set_precision(dtype).requires_grad_(False)
    x, t = random(2, 3, 16, 16), torch.tensor([5, 5])
    value, gradient = value_and_gradient(lambda x: frozen(x, t), x)
    usual_value, usual_gradient = value_and_gradient(lambda x: trainable(x, t), x)
    assert torch.equal(value, usual_value)
    assert float((gradient - usual_gradient).abs().max()) <= tolerance * float(usual_gradient.abs().max())


def test_a_frozen_network_keeps_less_than_half():
    x, t = random(1, 3, 16, 16), torch.tensor([5])
    options = {"use_scale_shift_norm": True}
    trainable, frozen = tiny(**options), tiny(**options).requires_grad_(False)
    usual = kept_numbers(lambda x: trainable(x, t), x, [trainable])
    assert 0 < kept_numbers(lambda x: frozen(x, t), x, [frozen]) < usual / 2
