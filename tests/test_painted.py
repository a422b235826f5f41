"""Masks and boxes of painted defects against exact ones."""

import numpy as np
from scipy import ndimage

from utils.painted import box_of, painted_region
from utils.synthetic_pcb import CLASSES, add_defects, defect_centre, draw_board, render


def grey(size: int = 96) -> np.ndarray:
    return np.full((size, size, 3), 100, np.uint8)


def test_a_drawn_rectangle_is_recovered():
    before, after = grey(), grey()
    after[40:52, 30:50] += 80
    region = painted_region(before, after, (16, 16), 64)
    assert region.box == (30, 40, 50, 52)
    assert region.mask[40:52, 30:50].mean() > 0.97 and region.mask.sum() <= 20 * 12
    assert region.contrast == 80


def test_nothing_painted_means_no_box():
    region = painted_region(grey(), grey(), (16, 16), 64)
    assert region.box is None and not region.mask.any() and region.contrast == 0


def test_changes_outside_the_window_and_small_specks_do_not_count():
    before, after = grey(), grey()
    after[40:60, 40:60] += 80
    after[2:12, 2:12] += 80  # outside
    after[70:72, 70:72] += 80  # a speck: 1 % of the change
    assert painted_region(before, after, (16, 16), 64).box == (40, 40, 60, 60)


def test_attention_leaves_out_the_background_at_any_resolution():
    before, after = grey(), grey()
    after[20:40, 20:40] += 80
    after[50:70, 50:70] += 80
    attention = np.zeros((32, 32))
    attention[:16, :16] = 1  # the upper left quarter of the window
    assert painted_region(before, after, (16, 16), 64, attention).box == (20, 20, 40, 40)


def test_box_of_is_tight():
    mask = np.zeros((10, 12), bool)
    assert box_of(mask) is None
    mask[2, 3] = mask[7, 9] = True
    assert box_of(mask) == (3, 2, 10, 8)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_exact_defects_are_recovered_through_residual_noise():
    rng, found = np.random.default_rng(0), []
    for seed in range(5000, 5004):
        board = draw_board(seed)
        edited, defects = add_defects(board, CLASSES, seed, margin=40, min_spacing=68)
        noise = ndimage.gaussian_filter(rng.normal(0, 1, (256, 256, 3)), (0.7, 0.7, 0))
        after = np.clip(render(edited) + noise * 3 / noise.std(), 0, 255).astype(np.uint8)
        for defect in defects:
            x, y = defect_centre(defect)
            corner = tuple(int(np.clip(v - 32, 0, 192)) for v in (x, y))
            found.append(overlap(painted_region(render(board), after, corner, 64).mask, defect.mask))
    assert len(found) >= 12
    assert np.mean(found) > 0.75
