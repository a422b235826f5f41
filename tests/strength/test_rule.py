"""The strength of an edit by the contrast of its defects: the noise at the start, and what training must reach."""

import numpy as np
import pytest

from guided_diffusion.create import noise_to_signal
from guided_diffusion.respace import kept_timesteps
from utils.strength.rule import Strength, strength_for

NOISE = noise_to_signal("linear", 1000)


def test_painting_starts_where_the_noise_is_in_proportion_to_the_contrast():
    found = strength_for({"spur": 30.0, "hole": 90.0}, NOISE)
    start = found.start_step(1000)
    assert NOISE[start - 1] < 6.4 * 90 / 127.5 <= NOISE[start]
    assert found.reason == "hole has a contrast of 90 gray levels"
    assert found == strength_for({"hole": 90.0}, NOISE) and found.start_step(50) == 27


def test_a_defect_that_is_there_needs_less_noise():
    assert [Strength(0.5, "").start_step(50, exemplars) for exemplars in (False, True)] == [25, 10]


@pytest.mark.parametrize(("levels", "start"), [(0.0, 15), (20.0, 15), (255.0, 35)])
def test_the_start_keeps_within_what_works(levels: float, start: int):
    found = strength_for({"pit": levels}, NOISE)
    assert found.start_step(50) == start and ("bound" in found.reason) == (levels < 255)


def test_the_schedule_counts():
    levels = {"hole": 90.0}
    cosine = noise_to_signal("cosine", 1000)
    start = strength_for(levels, cosine).start_step(1000)
    assert (
        start == 750 and cosine[start] < 6.4 * 90 / 127.5 and "bound" in strength_for(levels, cosine).reason
    )
    short = strength_for(levels, noise_to_signal("linear", 100))
    assert abs(short.share - strength_for(levels, NOISE).share) < 0.02


def test_training_goes_a_tenth_of_the_chain_beyond_the_start():
    assert [Strength(share, "").max_t(1000) for share in (0.3, 0.4115, 0.75)] == [400, 512, 850]
    assert Strength(0.95, "").max_t(50) == 50


def test_training_reaches_every_start_on_chains_of_15_steps_and_more():
    for share in np.linspace(0.3, 0.75, 31):
        found = Strength(float(share), "")
        for steps in range(15, 251):
            start = kept_timesteps(1000, steps)[found.start_step(steps)]
            assert start < found.max_t(1000)
