"""Masks and boxes of painted defects against exact ones."""

import numpy as np
from scipy import ndimage

from utils.painted import agreement, box_of, painted_region
from utils.synthetic_pcb import CLASSES, add_defects, defect_centre, draw_board, render


def grey(size: int = 96) -> np.ndarray:
    return np.full((size, size, 3), 100, np.uint8)


def test_a_drawn_rectangle_is_recovered():
    before, after = grey(64), grey(64)
    after[24:36, 14:34] += 80
    region = painted_region(before, after)
    assert region.box == (14, 24, 34, 36)
    assert region.mask[24:36, 14:34].mean() > 0.97 and region.mask.sum() <= 20 * 12
    assert region.contrast == 80


def test_nothing_painted_means_no_box():
    region = painted_region(grey(), grey())
    assert region.box is None and not region.mask.any() and region.contrast == 0


def test_small_specks_do_not_count():
    before, after = grey(), grey()
    after[40:60, 40:60] += 80
    after[70:72, 70:72] += 80  # 1 % of the change
    assert painted_region(before, after).box == (40, 40, 60, 60)


def test_attention_leaves_out_the_background_at_any_resolution():
    before, after = grey(64), grey(64)
    after[4:24, 4:24] += 80
    after[34:54, 34:54] += 80
    attention = np.zeros((32, 32))
    attention[:16, :16] = 1  # the upper left quarter of the window
    assert painted_region(before, after, attention).box == (4, 4, 24, 24)


def test_agreement_is_the_cosine_of_the_two_changes():
    before, after, prior = grey(8), grey(8), grey(8)
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
            window = np.s_[corner[1] : corner[1] + 64, corner[0] : corner[0] + 64]
            found.append(
                overlap(painted_region(render(board)[window], after[window]).mask, defect.mask[window])
            )
    assert len(found) >= 12
    assert np.mean(found) > 0.75
