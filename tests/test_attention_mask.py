import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from guided_diffusion.attention_mask import (
    accumulate,
    background_mask,
    beta_at,
    defect_attention,
    normalize_per_image,
)
from tests.defaults import attention_options
from tests.golden import load_json, load_npz

CASES = load_json("attention.json")
PLAIN = attention_options(center_weight=0, blur_sigma=0, connected_components=False)


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in load_npz("attention.npz").items()}


def difference_to_pair(difference):
    """(pred, clean) of shape (1, 3, h, w) whose mean absolute difference is the given (h, w)."""
    pred = torch.as_tensor(difference, dtype=torch.float32).expand(1, 3, -1, -1)
    return pred, torch.zeros_like(pred)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_equals_golden(golden, index):
    case = CASES[index]
    config = attention_options(**case["params"])
    tolerance = 0.011 if case.get("ill_conditioned") else 2e-6
    instant = defect_attention(golden[f"{index}_pred"], golden[f"{index}_free"], config)
    previous = golden.get(f"{index}_accum")
    defect = instant if previous is None else accumulate(instant, previous, config.accumulation_beta)
    torch.testing.assert_close(instant, golden[f"{index}_instant"], atol=tolerance, rtol=0)
    torch.testing.assert_close(defect, golden[f"{index}_defect"], atol=tolerance, rtol=0)
    assert torch.equal(background_mask(defect), golden[f"{index}_bg"])


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.1}, {"connected_components": False}], ids=str)
def test_batch_equals_single_runs(golden, changes):
    config = attention_options(**changes)
    chosen = [index for index, case in enumerate(CASES) if case["size"] == 64]
    pred = torch.cat([golden[f"{index}_pred"] for index in chosen])
    clean = torch.cat([golden[f"{index}_free"] for index in chosen])
    batch = defect_attention(pred, clean, config)
    blend = accumulate(batch, batch.flip(0), 0.7)
    for k in range(len(chosen)):
        single = defect_attention(pred[k : k + 1], clean[k : k + 1], config)
        assert torch.equal(batch[k : k + 1], single)
        other = len(chosen) - 1 - k
        assert torch.equal(blend[k : k + 1], accumulate(single, batch[other : other + 1], 0.7))


def test_sigmoid_in_closed_form():
    # Normalized differences 0, 0.5 and 1 at temperature 0.5: sigmoid(-1), sigmoid(0), sigmoid(1).
    attention = defect_attention(
        *difference_to_pair([[0.2, 0.4, 0.6]]), attention_options(**{**vars(PLAIN), "temperature": 0.5})
    )
    expected = [[1 / (1 + math.e), 0.5, math.e / (1 + math.e)]]
    torch.testing.assert_close(attention[0, 0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_center_weight_in_closed_form():
    # No difference anywhere: sigmoid(-0.5/0.3), doubled at the center; in a corner r = 1.
    config = attention_options(blur_sigma=0, connected_components=False)
    attention = defect_attention(*difference_to_pair(torch.zeros(9, 9)), config)[0, 0]
    base = 1 / (1 + math.exp(0.5 / 0.3))
    assert attention[4, 4].item() == pytest.approx(2 * base, rel=1e-6)
    assert attention[0, 0].item() == pytest.approx(base * (1 + math.exp(-1 / 0.045)), rel=1e-6)
    # One pixel from the center r = (1/4) / sqrt(2).
    assert attention[4, 5].item() == pytest.approx(base * (1 + math.exp(-(1 / 32) / 0.045)), rel=1e-6)


def test_blur_equals_an_independent_gaussian():
    difference = np.random.RandomState(0).rand(20, 24).astype(np.float32)
    sharp = defect_attention(*difference_to_pair(difference), PLAIN)
    blurred = defect_attention(
        *difference_to_pair(difference), attention_options(**{**vars(PLAIN), "blur_sigma": 1.5})
    )
    expected = gaussian_filter(sharp[0, 0].numpy(), 1.5, mode="mirror", radius=int(3 * 1.5))
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, atol=1e-6)


def test_only_central_components_stay():
    # A diagonal pair in the center (8-connected), a block in a corner, and a background of 0.
    difference = torch.zeros(16, 16)
    difference[7, 7] = difference[8, 8] = 1
    difference[0:3, 0:3] = 1
    config = attention_options(
        center_weight=0, blur_sigma=0, min_area_ratio=2 / 256, adaptive_threshold=False
    )
    attention = defect_attention(*difference_to_pair(difference), config)[0, 0]
    assert torch.nonzero(attention).tolist() == [[7, 7], [8, 8]]
    assert attention[7, 7].item() == pytest.approx(1 / (1 + math.exp(-0.5 / 0.3)), rel=1e-6)


def test_without_a_central_component_the_center_is_weighted():
    # Two central pixels are fewer than min_area_ratio asks for, so the mask fades with a Gaussian.
    difference = torch.zeros(16, 16)
    difference[7, 7] = difference[8, 8] = 1
    pair = difference_to_pair(difference)
    config = attention_options(
        center_weight=0, blur_sigma=0, min_area_ratio=3 / 256, adaptive_threshold=False
    )
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    sigma = 0.2 * math.sqrt(2) / 2.5
    expected = defect_attention(*pair, PLAIN)[0, 0] * torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    torch.testing.assert_close(defect_attention(*pair, config)[0, 0], expected, atol=1e-6, rtol=1e-5)


def test_no_gradient_and_any_dtype():
    pred = torch.rand(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    attention = defect_attention(pred, torch.zeros_like(pred), attention_options())
    assert attention.dtype == torch.float32 and attention.shape == (2, 1, 16, 16)
    assert not attention.requires_grad
    assert attention.min() >= 0 and attention.max() <= 1


def test_accumulation_in_closed_form():
    instant = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    previous = torch.tensor([1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    # 0.75 previous + 0.25 instant = 0.75, 0.125, 1; normalized by (v - 0.125) / 0.875.
    expected = torch.tensor([0.625 / 0.875, 0.0, 1.0]).view(1, 1, 1, 3)
    torch.testing.assert_close(accumulate(instant, previous, 0.75), expected, atol=1e-6, rtol=0)


def test_background_is_where_attention_is_below_a_hundredth():
    attention = torch.tensor([0.0, 0.0099, 0.01, 0.5])
    assert background_mask(attention).tolist() == [1, 1, 0, 0]


def test_constant_image_normalizes_to_zero():
    values = torch.stack([torch.full((1, 4, 4), 0.7), torch.linspace(2, 4, 16).view(1, 4, 4)])
    normalized = normalize_per_image(values)
    assert normalized[0].abs().max() == 0
    assert normalized[1].min() == 0 and normalized[1].max() == pytest.approx(1)


def test_beta_shrinks_with_t():
    config = attention_options(accumulation_beta=0.9, beta_min=0.5)
    assert beta_at(0, config, 250) == 0.5
    assert beta_at(125, config, 250) == pytest.approx(0.7)
    assert beta_at(10, attention_options(adaptive_beta=False), 250) == 0.9


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="expected one"):
        defect_attention(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9), attention_options())
    with pytest.raises(ValueError, match="blur_sigma: got 4.0, which reaches 12 pixels"):
        defect_attention(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), attention_options(blur_sigma=4.0))
    with pytest.raises(ValueError, match="center_region_ratio: got 0.1, which holds no pixel of 8 x 8"):
        defect_attention(
            torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), attention_options(center_region_ratio=0.1)
        )
