from itertools import pairwise

import numpy as np
import pytest

from guided_diffusion.timesteps import (
    check_chain_length,
    gradient_steps,
    noising_index,
    plain_timesteps,
    time_travel_timesteps,
)
from tests import defaults
from tests.golden import load_json

SCHEDULES = load_json("schedules.json")
LOOPS = load_json("loops.json")


def case_id(case):
    return "-".join(str(value) for value in case["args"].values())


@pytest.mark.parametrize("case", SCHEDULES["timesteps"], ids=case_id)
def test_plain_equals_golden(case):
    assert plain_timesteps(**case["args"]) == case["steps"]
    arguments = {"start_step": None, **case["args"]}
    assert defaults.timesteps(use_timetravel=False, **arguments) == case["steps"]


@pytest.mark.parametrize("case", SCHEDULES["time_travel"], ids=case_id)
def test_time_travel_equals_golden(case):
    assert time_travel_timesteps(**case["args"]) == case["steps"]
    arguments = {"start_step": None, **case["args"]}
    assert defaults.timesteps(use_timetravel=True, **arguments) == case["steps"]


@pytest.mark.parametrize("name", LOOPS)
def test_schedule_of_golden_loops(name):
    loop = LOOPS[name]
    assert defaults.timesteps(**loop["config"]["ddim"]["schedule_params"]) == loop["timesteps"]


@pytest.mark.parametrize("length", [50, 100, 250])
def test_every_linear_list_rounds_the_float_product(length):
    for count in range(1, length + 1):
        products = np.arange(count) * (np.float64(length) / np.float64(count))
        assert plain_timesteps(count, length) == np.rint(products).astype(int)[::-1].tolist()


DROPS = {
    "firstp": lambda j, length, amount: j < length * (np.float64(1) - np.float64(amount) / np.float64(100)),
    "lastp": lambda j, length, amount: j > np.float64(length * amount) / np.float64(100),
    "firstn": lambda j, length, amount: j < length - amount,
    "lastn": lambda j, length, amount: j > amount,
}


def jump_feet(steps: list[int]) -> list[int]:
    """Where a sequence turns from denoising to undo steps, in ascending order."""
    return sorted(b for a, b, c in zip(steps, steps[1:], steps[2:], strict=False) if a > b < c)


@pytest.mark.parametrize("kind", DROPS)
@pytest.mark.parametrize("length", [100, 250])
def test_every_filter_drops_by_its_formula(kind, length):
    for tenths in range(0, 1001, 10 if kind.endswith("n") else 1):
        amount = tenths / 10 if tenths % 10 else tenths // 10
        steps = time_travel_timesteps(length, length, 1, 2, f"{kind}-{amount}")
        kept = [j for j in range(length - 1) if not DROPS[kind](j, length, amount)]
        # With jumps of one step, each kept j is visited once by a jump down to it and once more after the undo
        assert jump_feet([length, *steps]) == kept, (kind, amount)


def test_more_inference_steps_than_the_chain_has_count_as_its_length():
    for start in (1, 30, 250, 400, None):
        assert time_travel_timesteps(400, 250, 10, 3, "none", start) == time_travel_timesteps(
            250, 250, 10, 3, "none", start
        )


def test_published_default_counts():
    steps = defaults.timesteps()
    assert len(steps) == 110
    assert sum(b < a for a, b in pairwise(steps)) == 69
    assert sum(b > a for a, b in pairwise(steps)) == 40


@pytest.mark.parametrize("start_step", range(1, 10))
def test_small_start_steps_leave_no_jump(start_step):
    assert defaults.timesteps(start_step=start_step) == list(range(start_step - 1, -1, -1))
    plain = defaults.timesteps(start_step=start_step, use_timetravel=False)
    assert plain == list(range(start_step, -1, -1))


def test_smallest_sequence_with_jumps():
    # From 3, jumps of 1 at 0 and 1 (below 3 - 1), once each.
    assert time_travel_timesteps(10, 10, 1, 2, "none", 3) == [2, 1, 2, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("filter_type", "feet"),
    [
        ("none", [0, 2, 4, 6]),
        ("firstp-60", [4, 6]),
        ("lastp-40", [0, 2, 4]),
        ("firstn-6", [4, 6]),
        ("lastn-2", [0, 2]),
        ("lastn-0", [0]),
        ("firstp-0", []),
    ],
)
def test_filters(filter_type, feet):
    steps = time_travel_timesteps(10, 10, 2, 2, filter_type, 9)
    assert jump_feet(steps) == feet


@pytest.mark.parametrize(("start_step", "index"), [(30, 30), (0, 0), (249, 249), (250, 249), (None, 249)])
def test_noising_index(start_step, index):
    assert noising_index(start_step, 250) == index


@pytest.mark.parametrize("case", SCHEDULES["gradient_steps"], ids=case_id)
def test_gradient_steps_equal_golden(case):
    assert gradient_steps(**case["args"]) == case["counts"]


def test_gradient_steps_round_half_to_even_and_stop():
    assert gradient_steps(length=4, start=0, end=1, stop=1) == [0, 0, 0, 1]
    assert gradient_steps(length=3, start=2, end=2, stop=5) == [0, 0, 0]


def test_chain_length():
    check_chain_length(250, 250)
    with pytest.raises(ValueError, match="got 250, but the respaced diffusion chain has 50;"):
        check_chain_length(250, 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_inference_steps": 251, "use_timetravel": False},
            r"num_inference_steps: got 251, expected at most ddpm_num_steps \(250\) without time travel",
        ),
        ({"num_inference_steps": 0}, "num_inference_steps and ddpm_num_steps: got 0 and 250"),
        ({"start_step": -1}, "start_step: got -1"),
        ({"start_step": 0}, "start_step: got 0, expected at least 1"),
        ({"start_step": 4, "num_inference_steps": 50}, "start_step: got 4, expected at least 5"),
        ({"jump_length": 0}, "jump_length and jump_n_sample: got 0 and 3"),
        ({"time_travel_filter_type": "first-3"}, "time_travel_filter_type: got 'first-3'"),
        ({"time_travel_filter_type": "firstn-2.5"}, "time_travel_filter_type: got 'firstn-2.5'"),
        ({"time_travel_filter_type": "firstp-2."}, "time_travel_filter_type: got 'firstp-2.'"),
        ({"time_travel_filter_type": "lastp-100.5"}, "time_travel_filter_type: got 'lastp-100.5'"),
        ({"time_travel_filter_type": "firstp-101"}, "time_travel_filter_type: got 'firstp-101'"),
        ({"time_travel_filter_type": "lastp-x", "start_step": 1}, "time_travel_filter_type: got 'lastp-x'"),
        ({"use_timetravel": False, "schedule_type": "cubic"}, "schedule_type: got 'cubic'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        defaults.timesteps(**arguments)


def test_negative_gradient_steps():
    with pytest.raises(ValueError, match="got 10, -1, 2 and 0"):
        gradient_steps(10, -1, 2, 0)
