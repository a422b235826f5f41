"""How much the prior wants to change a clean window, with networks whose answers are known."""

import pytest
import torch
from torch import Tensor

from guided_diffusion.create import create_diffusion
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.placing import centre_weight, class_appeal

SIDE, T = 16, 30


def sampler(guidance: float = 0.0) -> Sampler:
    """Models that estimate clean pictures: the contextual one 0, the prior 0.1 * class where the input is bright."""
    diffusion = create_diffusion(diffusion_steps=100, noise_schedule="linear", timestep_respacing="100")

    def eps_of(x0: Tensor, x: Tensor) -> Tensor:
        abar = float(diffusion.abar[T])
        eps = (x - abar**0.5 * x0) / (1 - abar) ** 0.5
        return torch.cat([eps, torch.zeros_like(eps)], dim=1)

    def contextual(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        assert y is None
        return eps_of(torch.zeros_like(x), x)

    def prior(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        bright = (x.mean(dim=1, keepdim=True) > 0).float().expand_as(x)
        return eps_of(0.1 * y.view(-1, 1, 1, 1) * bright, x)

    options = SamplerOptions([T, 0], T, [0] * 100, prior_guidance=guidance)
    return Sampler(contextual, prior, diffusion, options)


def windows() -> Tensor:
    """Black but for a bright square: in the middle, in a corner, nowhere; far brighter than the noise."""
    clean = torch.full((3, 3, SIDE, SIDE), -50.0)
    clean[0, :, 4:12, 4:12] = 50.0
    clean[1, :, :8, :8] = 50.0
    return clean


def test_appeal_is_the_weighted_mean_difference_of_the_estimates():
    weight = centre_weight(SIDE, SIDE)
    expected = [0.2 * float(weight[4:12, 4:12].sum()), 0.2 * float(weight[:8, :8].sum()), 0.0]
    got = class_appeal(sampler(), windows(), 2).tolist()
    assert got == pytest.approx(expected, abs=1e-5)
    assert got[0] > got[1] > got[2]


def test_appeal_grows_with_the_guidance_that_painting_will_use():
    plain, guided = (class_appeal(sampler(g), windows()[:2], 2) for g in (0.0, 1.0))
    assert torch.allclose(guided, 2 * plain, atol=1e-5)


def test_appeal_of_a_window_does_not_depend_on_its_batch():
    noisy = windows() / 50
    alone = torch.cat([class_appeal(sampler(), window[None], 3) for window in noisy])
    assert torch.equal(class_appeal(sampler(), noisy, 3), alone)


def test_weights_are_symmetric_and_sum_to_one():
    weight = centre_weight(8, 6)
    assert weight.sum() == pytest.approx(1) and torch.allclose(weight, weight.flip(0, 1))
    assert weight.argmax() in (3 * 6 + 2, 3 * 6 + 3, 4 * 6 + 2, 4 * 6 + 3) and weight[0, 0] < weight[0, 3]


def test_other_classes_appeal_is_taken_off():
    plain = class_appeal(sampler(), windows(), 3)  # 0.1 a class: 0.3 here, 0.1 and 0.2 of the others
    assert torch.allclose(class_appeal(sampler(), windows(), 3, [1, 2]), plain / 2, atol=1e-5)
    assert torch.allclose(class_appeal(sampler(), windows(), 1, [3]), -2 * plain / 3, atol=1e-5)
