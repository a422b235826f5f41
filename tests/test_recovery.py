"""Exact defects are recovered through the noise that real paintings leave around them."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.recovery import Case, cases, mean_overlap, measure, recover, residual
from utils.synthetic_pcb.board import CLASSES

# What painting synthetic boards with the bundled networks changed outside the defects, see `residuals`: (8, 64, 64, 3)
NOISE = np.load(Path(__file__).parent / "painting_residual.npz")["noise"]


@pytest.fixture(scope="module")
def exact() -> list[Case]:
    return list(cases(5))


def test_the_noise_is_a_real_one():
    assert NOISE.shape == (8, 64, 64, 3)
    assert 1 < np.abs(NOISE.astype(int)).mean() < 5


@pytest.mark.parametrize("strength, scale, least", [(1, 1, 0.83), (0.5, 1, 0.82), (1, 2, 0.81)])
def test_masks_and_boxes_are_recovered(exact: list[Case], strength: float, scale: int, least: float):
    overlaps = measure(exact, NOISE, strength, scale)
    assert {one.class_name for one in overlaps} == set(CLASSES) and len(overlaps) >= 20
    assert min(mean_overlap(overlaps)) >= least, mean_overlap(overlaps)


def test_a_defect_without_noise_is_recovered_exactly():
    clean, mask = np.full((64, 64, 3), 60, np.uint8), np.zeros((64, 64), bool)
    mask[24:40, 20:44] = True
    case = Case("spur", clean, np.where(mask[..., None], 160, clean).astype(np.uint8), mask)
    found = recover(case, np.zeros((64, 64, 3), np.int16))
    assert found.mask > 0.97 and found.box == 1


def test_the_residual_holds_no_defect():
    rng = np.random.default_rng(0)
    before = np.full((64, 64, 3), 100, np.uint8)
    after = (before + rng.integers(-2, 3, before.shape)).astype(np.uint8)
    after[8:30, 8:30] += 80
    noise = residual(before, after)
    assert np.abs(noise).max() <= 2 and np.abs(noise[8:30, 8:30]).mean() > 1
    after[4:62, 4:62] = 220
    assert residual(before, after) is None
