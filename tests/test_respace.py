import pytest

from guided_diffusion.respace import kept_timesteps
from tests.golden import load_json

GOLDEN_CASES = load_json("schedules.json")["respacing"]


@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case["timestep_respacing"])
def test_equals_golden(case):
    assert kept_timesteps(case["diffusion_steps"], case["timestep_respacing"]) == case["kept"]


def test_empty_keeps_all():
    assert kept_timesteps(7, "") == [0, 1, 2, 3, 4, 5, 6]


def test_number_and_text_agree():
    assert kept_timesteps(10, 4) == kept_timesteps(10, "4") == [0, 3, 6, 9]


def test_sections_share_the_remainder_from_the_front():
    # 11 steps in three sections: 4 (0..3), 4 (4..7), 3 (8..10).
    assert kept_timesteps(11, "2, 1, 3") == [0, 3, 4, 8, 9, 10]


def test_fixed_stride():
    assert kept_timesteps(10, "ddim5") == [0, 2, 4, 6, 8]
    assert kept_timesteps(10, "ddim1") == [0]


@pytest.mark.parametrize("text", ["many", "10,", "0", "-3", "ddim", "ddim0", "2.5"])
def test_unreadable_text_is_quoted(text):
    with pytest.raises(ValueError, match="expected") as error:
        kept_timesteps(100, text)
    assert repr(text) in str(error.value)


def test_too_many_steps():
    with pytest.raises(ValueError, match="section of 50 steps cannot keep 51"):
        kept_timesteps(100, "51,10")
    with pytest.raises(ValueError, match="no integer stride through 10 steps gives 6"):
        kept_timesteps(10, "ddim6")
