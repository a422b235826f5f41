"""Paired differences against values of tables, verdicts, and interpolation of the curve."""

import math

import pytest

from evaluation.downstream.results.statistics import Difference, paired_difference, worth


def test_the_interval_is_students():
    base = {("1", seed): 0.3 for seed in "012"}
    found = paired_difference({("1", "0"): 0.31, ("1", "1"): 0.32, ("1", "2"): 0.33, ("1", "9"): 0.9}, base)
    # Mean 0.02, s 0.01, n 3: t(2) at 97.5 % is 4.302653
    assert (found.pairs, found.splits) == (3, 1)
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(2 * 0.02 - found.high)


def test_pairing_removes_what_seeds_share():
    base = {("1", str(seed)): value for seed, value in enumerate((0.1, 0.5, 0.9))}
    found = paired_difference({key: value + 0.02 for key, value in base.items()}, base)
    assert found.verdict == "gain" and found.low == pytest.approx(0.02)


def test_one_pair_has_no_interval_and_none_no_difference():
    single = paired_difference({("1", "1"): 0.5}, {("1", "1"): 0.3})
    assert math.isnan(single.low) and single.verdict == "open"
    assert paired_difference({("1", "1"): 0.5}, {("1", "2"): 0.3}) is None


def test_seeds_of_a_split_are_one_value_where_there_are_several_splits():
    changes = {"1": [0.00, 0.02], "2": [0.03], "3": [0.01, 0.02, 0.06]}  # means 0.01, 0.03, 0.03
    one = {(split, str(seed)): 0.3 + v for split, values in changes.items() for seed, v in enumerate(values)}
    found = paired_difference(one, dict.fromkeys(one, 0.3))
    assert (found.pairs, found.splits) == (3, 3)
    assert found.mean == pytest.approx(0.07 / 3)
    # s of the means is 0.02 / sqrt(3), n 3
    assert found.high - found.mean == pytest.approx(4.302653 * 0.02 / 3, rel=1e-5)
    assert found.verdict == "open"


@pytest.mark.parametrize(
    ("mean", "low", "high", "verdict"),
    [
        (0.012, 0.001, 0.023, "gain"),
        (0.009, 0.008, 0.010, "open"),
        (0.030, -0.001, 0.061, "open"),
        (-0.02, -0.03, -0.01, "loss"),
        (-0.02, -0.05, 0.01, "open"),
    ],
)
def test_a_gain_is_a_point_clear_of_zero(mean, low, high, verdict):
    assert Difference(mean, low, high, 5).verdict == verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2, "< 60"), (0.3, "about 60"), (0.35, "about 90"), (0.4, "about 120"), (0.5, "> 120")],
)
def test_what_synthetic_data_are_worth(value, text):
    assert worth({120: 0.4, 60: 0.3}, value) == text


def test_one_point_is_no_curve():
    assert worth({60: 0.3}, 0.3) == ""
