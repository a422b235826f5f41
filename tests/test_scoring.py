"""Masks and boxes of painted defects against exact ones."""

import numpy as np
import pytest

from generation.scoring import agreement, box_of, painted_region


def gray(size: int = 96) -> np.ndarray:
    return np.full((size, size, 3), 100, np.uint8)


def test_a_drawn_rectangle_is_recovered():
    before, after = gray(64), gray(64)
    after[24:36, 14:34] += 80
    region = painted_region(before, after)
    assert region.box == (14, 24, 34, 36)
    assert region.mask[24:36, 14:34].mean() > 0.97 and region.mask.sum() <= 20 * 12
    assert region.contrast == 80


def test_nothing_painted_means_no_box():
    region = painted_region(gray(), gray())
    assert region.box is None and not region.mask.any() and region.contrast == 0


def test_small_specks_do_not_count():
    before, after = gray(), gray()
    after[40:60, 40:60] += 80
    after[70:72, 70:72] += 80  # 1 % of the change
    assert painted_region(before, after).box == (40, 40, 60, 60)
    alone = gray()
    alone[70, 70] += 80
    assert painted_region(before, alone).box is None
    alone[70, 70] = 103
    assert painted_region(before, alone).box is None


def test_attention_leaves_out_the_background_at_any_resolution():
    before, after = gray(64), gray(64)
    after[4:24, 4:24] += 80
    after[34:54, 34:54] += 80
    attention = np.zeros((32, 32))
    attention[:16, :16] = 1  # the upper left quarter of the window
    assert painted_region(before, after, attention).box == (4, 4, 24, 24)


def test_weak_parts_count_and_the_blurred_edges_of_strong_ones_do_not():
    before, after = gray(64), gray(64)
    after[10:30, 10:30] += 40
    after[40:60, 10:50] += 90
    after[60:64, 10:50] += 30  # a third of the change beside it, as much as the whole of the other part
    region = painted_region(before, after)
    assert region.box[:3] == (10, 10, 50) and region.box[3] in (60, 61)
    assert region.mask[11:29, 11:29].all() and region.mask[41:59, 11:49].all()


def test_noise_of_both_signs_hides_no_faint_change():
    before = gray(64)
    noise = np.random.default_rng(0).normal(0, 6, before.shape)
    after = before + noise
    after[20:44, 16:48] += 12  # twice the noise's standard deviation
    region = painted_region(before, after.round().clip(0, 255).astype(np.uint8))
    truth = np.zeros((64, 64), bool)
    truth[20:44, 16:48] = True
    assert (region.mask & truth).sum() / (region.mask | truth).sum() > 0.9


def test_agreement_is_the_cosine_of_the_two_changes():
    before, after, prior = gray(8), gray(8), gray(8)
    assert agreement(before, before, before) == 0
    after[:4] += 30
    assert np.isclose(agreement(before, after, after), 1)
    prior[:4, :4] += 60  # half of the change, twice as strong
    assert np.isclose(agreement(before, after, prior), 0.5**0.5)
    assert agreement(before, after, before - (after - before)) == 0  # the opposite


def test_box_of_is_tight():
    mask = np.zeros((10, 12), bool)
    assert box_of(mask) is None
    mask[2, 3] = mask[7, 9] = True
    assert box_of(mask) == (3, 2, 10, 8)


def test_a_change_beside_the_wanted_center_is_no_defect():
    before = np.full((64, 64, 3), 100, np.uint8)
    after = before.copy()
    after[28:36, 28:36] += 40  # the defect, in the middle
    after[24:40, 2:8] += 40  # surroundings drawn brighter, more of them
    assert painted_region(before, after).box == pytest.approx((28, 28, 36, 36), abs=1)
    assert painted_region(before, after, center=(5, 32)).box == pytest.approx((2, 24, 8, 40), abs=1)
