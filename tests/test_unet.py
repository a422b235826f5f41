"""The U-Net against frozen outputs, gradients and the published checkpoints' names and shapes."""

import numpy as np
import pytest
import torch

from guided_diffusion.unet import GroupNorm32, UNetModel, attention, timestep_embedding
from tests.builders import unet
from tests.golden import fill_weights, load_json, load_npz

CASES = load_json("unet.json")


def relative_error(got: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(got.detach().numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("index", range(len(CASES)))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_input_gradients_equal_the_golden_ones(index, layout):
    case, arrays = CASES[index], load_npz("unet.npz")
    model = unet(case["config"])
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == case["state_dict"]
    fill_weights(model, case["weight_seed"], case["gain"], case["out_gain"]).to(memory_format=layout)
    x = torch.from_numpy(arrays[f"{index}_x"]).to(memory_format=layout).requires_grad_()
    y = None if case["y"] is None else torch.tensor(case["y"])
    out = model(x, torch.tensor(case["t"]), y)
    (out**2).mean().backward()
    assert relative_error(out, arrays[f"{index}_out"]) < 1e-5
    assert relative_error(x.grad, arrays[f"{index}_grad"]) < 1e-5


PUBLISHED = {
    "checkpoint-256-defect-free": {
        "image_size": 256, "num_channels": 128, "num_res_blocks": 2, "channel_mult": "1, 1, 2, 3, 4, 4",
        "attention_resolutions": "16, 8", "num_heads": 4, "num_head_channels": 32, "class_cond": False,
    },
    "checkpoint-64-defect": {
        "image_size": 64, "num_channels": 64, "num_res_blocks": 2, "channel_mult": "1, 2, 3, 4",
        "attention_resolutions": "16, 8", "num_heads": 4, "num_head_channels": 16, "class_cond": True,
    },
}  # fmt: skip
COMMON = {
    "num_heads_upsample": -1, "learn_sigma": True, "use_scale_shift_norm": True, "resblock_updown": True,
    "use_new_attention_order": False, "dropout": 0.0, "use_checkpoint": False,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_the_recorded_names_and_shapes(name):
    expected = load_json("published_checkpoint_keys.json")[name]
    with torch.device("meta"):
        model = unet(PUBLISHED[name] | COMMON)
    # "meta" tensors cost no memory; names and order are what a strict load compares
    got = {k: list(v.shape) for k, v in model.state_dict().items()}
    assert got == {k: list(v) for k, v in expected.items()}


def test_time_embedding_has_the_closed_form():
    got = timestep_embedding(torch.tensor([0, 7]), 4)
    assert torch.allclose(got[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    w = torch.tensor([1.0, 10000**-0.5])
    assert torch.allclose(got[1], torch.cat([(7 * w).cos(), (7 * w).sin()]))


def tiny(**changes) -> UNetModel:
    options = {"num_channels": 32, "num_res_blocks": 1, "channel_mult": (1, 2), "attention_factors": (2,)}
    return UNetModel(**(options | changes))


def test_a_fresh_network_predicts_zero():
    assert torch.equal(tiny()(torch.randn(2, 3, 16, 16), torch.tensor([1, 2])), torch.zeros(2, 3, 16, 16))


def test_gradient_checkpointing_changes_no_gradient():
    grads = []
    for use_checkpoint in (False, True):
        model = fill_weights(tiny(use_checkpoint=use_checkpoint), seed=3)
        x = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16).requires_grad_()
        model(x, torch.tensor([5])).square().sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)


def test_low_precision_stays_close_and_returns_float32():
    model = fill_weights(tiny(), seed=4).eval()
    x = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    model.requires_grad_(False)
    exact = model(x, torch.tensor([5]))
    low = model.set_precision(torch.bfloat16)(x, torch.tensor([5]))
    assert low.dtype == torch.float32
    assert 0 < float((low - exact).abs().max() / exact.abs().max()) < 0.05


@pytest.mark.parametrize("num_classes, y", [(None, torch.tensor([1])), (3, None)])
def test_class_ids_must_fit_the_network(num_classes, y):
    with pytest.raises(ValueError, match="class ids"):
        tiny(num_classes=num_classes)(torch.zeros(1, 3, 16, 16), torch.tensor([0]), y)


def test_widths_must_be_multiples_of_the_groups():
    with pytest.raises(ValueError, match="multiples of 32"):
        tiny(channel_mult=(1, 1.5))


def test_bfloat16_attention_and_norm_differentiate_as_in_float32():
    generator = torch.Generator().manual_seed(0)
    low = [torch.randn((1, 2, 16, 8), generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    exact = [x.detach().float().requires_grad_() for x in low]
    attention(*low).float().square().sum().backward()
    torch.nn.functional.scaled_dot_product_attention(*exact).square().sum().backward()
    for a, b in zip(low, exact, strict=True):
        assert a.grad.dtype == torch.bfloat16
        assert torch.allclose(a.grad.float(), b.grad, atol=0.02 * float(b.grad.abs().max()))
    norm = GroupNorm32(64)
    x = torch.randn((2, 64, 8, 8), generator=generator).bfloat16().to(memory_format=torch.channels_last)
    x.requires_grad_()
    y = x.detach().float().requires_grad_()
    weight = torch.randn((2, 64, 8, 8), generator=generator)
    (norm(x).float() * weight).sum().backward()
    (norm(y) * weight).sum().backward()
    assert torch.allclose(x.grad.float(), y.grad, atol=0.02 * float(y.grad.abs().max()))
