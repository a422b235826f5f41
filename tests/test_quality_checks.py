"""Checks of painted windows whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from generation.quality.checks import (
    PaintedWindow,
    box_iou,
    coverage,
    inset,
    quality_checks,
    score_factor,
    size_iou,
    texture_ratio,
    visible_box,
    wholeness,
)

BOX = (20, 24, 36, 40)


def noisy(seed: int = 0, sigma: float = 6.0) -> np.ndarray:
    """Gray (64, 64, 3) uint8 with grain."""
    noise = np.random.default_rng(seed).normal(0, sigma, (64, 64, 1))
    return np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8).repeat(3, axis=2)


def mask_of(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def painted(change=60, box=BOX, wanted=BOX, mask=None) -> PaintedWindow:
    before = noisy()
    after = before.copy()
    after[mask_of(box)] = np.clip(after[mask_of(box)].astype(int) + np.asarray(change), 0, 255)
    return PaintedWindow(before, after, mask_of(box) if mask is None else mask, box, wanted)


def test_a_defect_as_requested_passes_every_check():
    checks = quality_checks(painted())
    assert checks["coverage"] == checks["size_iou"] == 1.0
    assert checks["tint"] == checks["spill"] == 0.0
    assert checks["grain"] == pytest.approx(1, abs=0.15)
    assert score_factor(checks) == 1.0


def test_the_margin_of_the_requested_box_is_no_difference_in_size():
    around = (BOX[0] - 8, BOX[1] - 8, BOX[2] + 8, BOX[3] + 8)
    one = painted(wanted=around)
    assert quality_checks(one)["size_iou"] == pytest.approx(16**2 / 32**2)
    assert quality_checks(replace(one, margin=8.0))["size_iou"] == 1.0
    within = replace(one, box=(BOX[0] - 3, BOX[1], BOX[2] + 8, BOX[3] + 5), margin=8.0)
    assert quality_checks(within)["size_iou"] == 1.0
    assert inset((0, 0, 30, 12), 8) == (8, 4, 22, 8)  # a third of the height stays


def test_a_box_beyond_the_margin_is_compared_with_the_nearest_one_within():
    wanted = (10, 10, 30, 30)
    assert size_iou((6, 10, 26, 30), wanted, 0.0) == pytest.approx(2 / 3)
    assert size_iou((6, 10, 26, 30), wanted, 4.0) == 0.8  # with (10, 10, 26, 30)
    assert size_iou((18, 18, 22, 22), wanted, 4.0) == pytest.approx(16 / 144)
    assert size_iou(None, wanted, 4.0) == 0.0


def test_a_mask_on_half_of_the_change_covers_half_of_it():
    half = mask_of((20, 24, 26, 40))  # and 2 px beside it: 8 of 16 columns
    assert quality_checks(painted(mask=half))["coverage"] == 0.5
    assert score_factor(quality_checks(painted(mask=half))) == 0.0


def test_changes_too_small_to_see_need_no_mask():
    assert coverage(np.full((8, 8), 10.0), np.zeros((8, 8), bool)) == 1.0
    assert coverage(np.full((8, 8), 10.5), np.zeros((8, 8), bool)) == 0.0


def test_a_defect_of_half_the_requested_size():
    checks = quality_checks(painted(wanted=(20, 24, 52, 40)))
    assert checks["size_iou"] == 0.5
    assert score_factor(checks) == pytest.approx(0.8)
    assert quality_checks(painted(wanted=None))["size_iou"] == 1.0


def test_color_on_a_gray_image_is_measured_in_gray_levels():
    checks = quality_checks(painted(change=(50, 62, 55)))
    assert checks["tint"] == 12.0
    assert score_factor(checks) == 0.0


def test_a_color_image_has_no_tint():
    one = painted()
    before = one.before + np.array([0, 10, 20], np.uint8)
    assert quality_checks(PaintedWindow(before, before, one.mask, BOX, BOX))["tint"] == 0.0


def test_pixels_far_from_the_mask_spill():
    one = painted()
    one.after[0, :32] += 1  # too faint to see, still not the photograph
    assert quality_checks(one)["spill"] == 32 / 256


def test_a_smooth_region_has_no_grain():
    one = painted()
    one.after[one.mask] = 180
    assert quality_checks(one)["grain"] < 0.2
    assert score_factor(quality_checks(one)) == 0.0


def test_texture_of_a_blurred_window_is_less():
    assert texture_ratio(noisy(), noisy()) == 1.0
    assert texture_ratio(noisy(sigma=8), noisy(sigma=4)) == pytest.approx(0.5, abs=0.08)


def test_nothing_painted():
    one = painted(change=0)
    empty = PaintedWindow(one.before, one.before, np.zeros((64, 64), bool), None, BOX)
    checks = quality_checks(empty)
    assert checks["size_iou"] == 0.0
    assert score_factor(checks) == 0.0


def test_weights_far_from_home_leave_nothing():
    checks = quality_checks(painted())
    assert score_factor({**checks, "domain": 1.2}) == 1.0
    assert score_factor({**checks, "domain": 1.6}) == pytest.approx(0.5)
    assert score_factor({**checks, "domain": 5.0}) == 0.0


def test_boxes():
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 4, 4), (4, 0, 8, 4)) == box_iou(None, (0, 0, 1, 1)) == 0.0


def test_the_visible_box_leaves_specks_out():
    change = np.zeros((64, 64))
    change[10:14, 20:30] = 11
    change[50, 50:55] = 99  # 5 px
    assert visible_box(change) == (20, 10, 30, 14)
    assert visible_box(np.zeros((8, 8))) is None


def test_a_surplus_of_fine_texture_costs_nothing_and_a_lack_does():
    checks = quality_checks(painted())
    assert score_factor({**checks, "grain": 80.0}) == score_factor({**checks, "grain": 0.2}) == 1.0
    assert score_factor({**checks, "grain": 0.1}) == 0.0


def test_a_training_defect_that_fits_badly_costs_the_score():
    window = np.full((32, 32, 3), 100, np.uint8)
    painted = PaintedWindow(window, window, np.zeros((32, 32), bool), None, None, misfit=0.125)
    checks = quality_checks(painted)
    assert checks["misfit"] == 0.125 and score_factor({"misfit": 0.125}) == 0.75
    assert score_factor({"misfit": 0.5}) == 0 and "misfit" not in quality_checks(
        replace(painted, misfit=None)
    )


def test_a_defect_in_two_pieces_where_one_was_laid():
    laid, halves, speck = np.zeros((3, 32, 32), bool)
    laid[10:14, 4:24] = True
    halves[10:14, 4:12] = halves[10:14, 20:28] = True
    speck[10:14, 4:23] = speck[30, 30:32] = True  # 76 px and 2
    assert wholeness(halves, laid) == 0.5 and wholeness(laid, laid) == 1
    assert (
        wholeness(halves, halves) == 1 and wholeness(laid, halves) == 1
    )  # it was laid so, or is better than that
    assert wholeness(speck, laid) == pytest.approx(76 / 78)
    assert wholeness(laid & False, laid) == 1 and wholeness(laid, laid & False) == 1
    window = np.full((32, 32, 3), 80, np.uint8)
    checks = quality_checks(PaintedWindow(window, window, halves, None, None, whole=0.5))
    assert checks["whole"] == 0.5 and score_factor({"whole": 0.5}) == 0
    assert score_factor({"whole": 0.95}) == 1 and score_factor({"whole": 0.775}) == pytest.approx(0.5)
