"""Likelihood terms of the variational bound (Ho 2020; Nichol & Dhariwal 2021), in nats per element."""

import math

import torch
from torch import Tensor


def normal_kl(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """KL(N(mean1, e^logvar1) || N(mean2, e^logvar2)), elementwise; shapes must broadcast. In nats, >= 0."""
    # Near 0 the order of the sum decides the rounding error (about 5e-8), and frozen numbers rest on this one.
    return 0.5 * (
        -1.0 + logvar2 - logvar1 + torch.exp(logvar1 - logvar2) + (mean1 - mean2) ** 2 * torch.exp(-logvar2)
    )


def approx_normal_cdf(x: Tensor) -> Tensor:
    """Tanh approximation of the standard normal's cumulative distribution (Page 1977), elementwise."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def discretized_gaussian_log_likelihood(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Log-probability of 8-bit pixels under a Gaussian integrated over bins of half-width 1/255.

    `x` in [-1, 1] stands for uint8 values; the outermost bins reach to infinity (Ho 2020, equation 13).
    Elementwise, in nats, <= 0, floored at log(1e-12).
    """
    centered, inv_std = x - means, torch.exp(-log_scales)
    cdf_plus = approx_normal_cdf(inv_std * (centered + 1 / 255))
    cdf_minus = approx_normal_cdf(inv_std * (centered - 1 / 255))
    probability = torch.where(
        x < -0.999, cdf_plus, torch.where(x > 0.999, 1.0 - cdf_minus, cdf_plus - cdf_minus)
    )
    return probability.clamp(min=1e-12).log()


def mean_flat(x: Tensor) -> Tensor:
    """Mean over all but the batch dimension: (N, ...) -> (N,)."""
    return x.flatten(1).mean(dim=1)
