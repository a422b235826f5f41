"""How well a place suits a class, with networks whose answers are known."""

import math

import pytest
import torch
from torch import Tensor

from generation.placement.score import center_weight, placement_score, ring
from guided_diffusion.ddim import Sampler
from tests import defaults
from tests.defaults import sampler_options

SIDE, T = 32, 30
CLEAN = 0.25  # of all windows


class World:
    """Estimates of the clean image, each a value in the center and one in the surroundings.

    `prior[class]` and `plain` are (center, surroundings); what the networks see does not matter.
    """

    def __init__(self, prior: dict[int, tuple[float, float]], plain: tuple[float, float] = (CLEAN, CLEAN)):
        self.prior_values, self.plain_values, self.calls = prior, plain, []
        self.diffusion = defaults.diffusion(
            diffusion_steps=100, noise_schedule="linear", timestep_respacing="100"
        )

    def eps(self, x: Tensor, values: list[tuple[float, float]]) -> Tensor:
        inside = (ring(SIDE, SIDE) == 0) & (center_weight(SIDE, SIDE) > 1e-4)
        x0 = torch.stack([torch.where(inside, *map(torch.tensor, value)) for value in values])[:, None]
        abar = float(self.diffusion.abar[T])
        return ((x - abar**0.5 * x0) / (1 - abar) ** 0.5).expand_as(x)

    def contextual(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        assert y is None
        self.calls.append("plain")
        return self.eps(x, [self.plain_values] * len(x))

    def prior(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.calls.append(int(y[0]))
        return self.eps(x, [self.prior_values[int(one)] for one in y])

    def score(self, class_id: int, others=(), guidance: float = 0.0, count: int = 1) -> list[float]:
        options = sampler_options([T, 0], T, [0] * 100, prior_guidance=guidance)
        sampler = Sampler(self.contextual, self.prior, self.diffusion, options)
        return placement_score(sampler, torch.full((count, 3, SIDE, SIDE), CLEAN), class_id, others).tolist()


def test_a_prior_that_errs_less_in_the_surroundings_than_the_contextual_model():
    world = World({0: (CLEAN, CLEAN + 0.1)}, plain=(CLEAN, CLEAN + 0.2))
    # errors 0.04 and 0.01; the change is 0 in the center and 0.1 around
    share = float(center_weight(SIDE, SIDE)[ring(SIDE, SIDE) > 0].sum())
    expected = math.log(4) + math.log((0.1 * share + 1e-3) / (0.1 + 1e-3))
    assert world.score(0) == pytest.approx([expected], abs=1e-2)


def test_a_change_in_the_center_alone_scores_high_and_one_all_over_does_not():
    central, everywhere = World({0: (0.75, CLEAN)}).score(0), World({0: (0.75, 0.75)}).score(0)
    assert central[0] > 5 > -5 > everywhere[0]


def test_what_other_classes_want_as_well_does_not_count():
    world = World({0: (0.5, 0.35), 1: (0.5, 0.35), 2: (0.5, 0.35)})
    # equal to the others: the fit against the contextual model is left, log(1e-6 / (0.01 + 1e-6))
    assert world.score(0, [1, 2]) == pytest.approx([math.log(1e-6 / (0.01 + 1e-6))], abs=1e-3)


def test_surroundings_that_suit_another_class_better():
    world = World({0: (CLEAN, 0.35), 1: (CLEAN, 0.30)})
    good, bad = world.score(1, [0])[0], world.score(0, [1])[0]
    assert (
        good > bad + 2 * math.log(4) - 0.1
    )  # each gains or loses log 4 against the other, and against the contextual model


def test_one_look_a_class_and_one_of_the_contextual_model():
    world = World({0: (0.5, 0.3), 1: (0.5, 0.3), 2: (0.5, 0.3)})
    world.score(2, [0, 1], guidance=1.0, count=5)
    assert world.calls == ["plain", 2, 0, 1]


def test_score_of_a_window_does_not_depend_on_its_batch():
    world = World({0: (0.5, 0.3), 1: (0.4, 0.35)})
    assert world.score(0, [1], count=3) == world.score(0, [1]) * 3


def test_weights_are_symmetric_and_sum_to_one():
    for weight in (center_weight(8, 6), ring(32, 32), ring(16, 24)):
        assert weight.sum() == pytest.approx(1) and torch.allclose(weight, weight.flip(0, 1))
    # the ring begins at 1.5 sigma, and beyond lies exp(-1.5^2 / 2) of a Gaussian in two dimensions
    beyond = center_weight(64, 64)[ring(64, 64) > 0].sum()
    assert float(beyond) == pytest.approx(math.exp(-1.125), abs=0.01)
