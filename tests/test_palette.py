"""Distances of colors from those that are known."""

import numpy as np
import pytest

from utils.judging.palette import BINS, DEFECT_SHARE, chroma, foreign_color, palette_of

NONE = np.zeros((BINS, BINS), bool)
GREEN = (20, 100, 40)


def plain(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((40, 40, 3), color, np.uint8)


def painted(color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Green with a square of a color, and its inside, away from the blurred edge."""
    image, mask = plain(GREEN), np.zeros((40, 40), bool)
    image[10:30, 10:30] = color
    mask[16:24, 16:24] = True
    return image, mask


def test_brightness_is_no_color():
    for added in (-20, 0, 60):
        image, mask = painted(tuple(c + added for c in GREEN))
        assert foreign_color(plain(GREEN), image, mask, NONE) == 0.0


def test_the_distance_grows_with_the_tint():
    found = []
    for tint in (0, 8, 16, 32, 64):
        image, mask = painted((GREEN[0] + tint, GREEN[1], GREEN[2] + tint // 2))
        found.append(foreign_color(plain(GREEN), image, mask, NONE))
    assert found == sorted(found) and found[0] == 0.0
    assert found[3:] == pytest.approx([32, 64], abs=4)  # of R - G; the other component stays


def test_a_color_of_the_photograph_or_of_real_defects_is_not_foreign():
    copper = (180, 110, 80)
    image, mask = painted(copper)
    assert foreign_color(plain(GREEN), image, mask, NONE) > 50
    place = plain(GREEN)
    place[:8] = copper  # more than the smoothing reaches
    assert foreign_color(place, image, mask, NONE) == 0.0
    known = palette_of(chroma(plain(copper)), DEFECT_SHARE)
    assert foreign_color(plain(GREEN), image, mask, known) == 0.0


def test_rare_colors_are_no_part_of_a_palette():
    bins = np.full((1000, 2), 64)
    bins[:5] = 70
    assert not palette_of(bins, 0.01)[70, 70] and palette_of(bins, 0.005)[70, 70]
    assert palette_of(bins, 0.01).sum() == 1
    assert not palette_of(bins[:0], 0.01).any()


def test_without_a_mask_nothing_is_foreign():
    assert foreign_color(plain(GREEN), plain((255, 0, 255)), np.zeros((40, 40), bool), NONE) == 0.0
