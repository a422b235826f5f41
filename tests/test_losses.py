"""KL divergences and pixel likelihoods that can be computed by hand."""

import math

import pytest
import torch
from scipy.stats import norm

from guided_diffusion.losses import (
    approx_normal_cdf,
    discretized_gaussian_log_likelihood,
    mean_flat,
    normal_kl,
)

PIXELS = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1  # the 256 values of a pixel


def kl(mean1: float, std1: float, mean2: float, std2: float) -> float:
    values = (mean1, 2 * math.log(std1), mean2, 2 * math.log(std2))
    return normal_kl(*(torch.tensor(v, dtype=torch.float64) for v in values)).item()


def test_kl_of_known_gaussians():
    assert kl(0.3, 0.5, 0.3, 0.5) == pytest.approx(0, abs=1e-15)
    assert kl(1, 1, 0, 1) == pytest.approx(0.5)
    assert kl(0, 2, 0, 1) == pytest.approx(1.5 - math.log(2))
    assert kl(0, 1, 3, 2) == pytest.approx(math.log(2) + 10 / 8 - 0.5)


def test_kl_broadcasts_per_element():
    zero = torch.zeros(2, 3)
    assert normal_kl(torch.tensor([[0.0], [2.0]]), zero, zero, zero).tolist() == [[0.0] * 3, [2.0] * 3]


def test_cdf_is_close_to_the_normal_one():
    x = torch.linspace(-5, 5, 201, dtype=torch.float64)
    error = approx_normal_cdf(x) - torch.from_numpy(norm.cdf(x.numpy()))
    assert error.abs().max() < 5e-4  # the approximation's own error is 2.7e-4
    assert approx_normal_cdf(torch.zeros(1)).item() == 0.5


@pytest.mark.parametrize("mean, scale", [(0.0, 0.05), (0.97, 0.3), (-1.4, 1.0), (0.0, 20.0)])
def test_likelihood_sums_to_one(mean, scale):
    logs = torch.full_like(PIXELS, math.log(scale))
    p = discretized_gaussian_log_likelihood(PIXELS, torch.full_like(PIXELS, mean), logs).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)


def test_likelihood_of_a_bin_and_of_the_tails():
    mean, scale = 0.1, 0.2
    values = PIXELS[[0, 140, 255]]
    logs = torch.full_like(values, math.log(scale))
    p = discretized_gaussian_log_likelihood(values, torch.full_like(values, mean), logs).exp()
    edge = 1 / 255
    middle = norm.cdf((values[1] + edge - mean) / scale) - norm.cdf((values[1] - edge - mean) / scale)
    assert p[1].item() == pytest.approx(middle, rel=5e-3)
    # The outermost bins reach to infinity.
    lowest = approx_normal_cdf((values[0] + edge - mean) / scale)
    highest = 1 - approx_normal_cdf((values[2] - edge - mean) / scale)
    assert p[0].item() == pytest.approx(lowest.item(), rel=1e-6)
    assert p[2].item() == pytest.approx(highest.item(), rel=1e-6)


def test_impossible_pixels_stay_finite():
    x, mean = torch.tensor([0.9, -1.0]), torch.tensor([-0.9, 1.0])
    logs = torch.full((2,), math.log(1e-3))
    got = discretized_gaussian_log_likelihood(x, mean, logs)
    assert got.tolist() == pytest.approx([math.log(1e-12)] * 2)


def test_mean_flat():
    assert mean_flat(torch.arange(12.0).view(2, 1, 2, 3)).tolist() == [2.5, 8.5]
