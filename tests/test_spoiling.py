"""Spoiled defects: each way leaves its mark, in the box alone."""

import numpy as np
import pytest

from training.spoiling import FAINT, TINT, VEIL, spoil

BOX, PLACE = (16.0, 16.0, 48.0, 48.0), (4.0, 20.0, 44.0, 52.0)
CORE = (slice(26, 38), slice(26, 38))  # inside both boxes, beyond the soft edges


class Chosen:
    """A random stream whose first draw, the way, is given."""

    def __init__(self, way: int):
        self.way, self.rest = way, np.random.default_rng(way)

    def integers(self, count: int) -> int:
        assert count == 4
        return self.way

    def __getattr__(self, name: str):
        return getattr(self.rest, name)


def flat(*color: int) -> np.ndarray:
    return np.full((64, 64, 3), color, np.uint8)


def defect() -> np.ndarray:
    """A chequered square of 32 px on a ground of (100, 120, 80)."""
    image = flat(100, 120, 80)
    image[16:48, 16:48] = (30, 40, 20)
    image[16:48:2, 16:48:2] = (200, 210, 190)
    return image


@pytest.mark.parametrize("way", range(4))
def test_what_is_far_from_the_box_stays(way):
    shown, box = spoil((defect(), BOX), (flat(60, 70, 80), PLACE), Chosen(way))
    assert box == (BOX if way < 2 else PLACE)
    before = defect() if way < 2 else flat(60, 70, 80)
    assert np.array_equal(shown[:4], before[:4]) and shown.dtype == np.uint8
    assert not np.array_equal(shown, before)


def test_a_blurred_defect_has_less_contrast():
    shown, _ = spoil((defect(), BOX), (flat(60, 70, 80), PLACE), Chosen(0))
    assert shown[CORE].std() < 0.3 * defect()[CORE].std()


def test_a_tint_moves_channels_apart_and_keeps_their_mean():
    change = spoil((flat(100, 120, 80), BOX), (flat(0, 0, 0), PLACE), Chosen(1))[0][30, 30] - np.array(
        [100.0, 120, 80]
    )
    assert abs(change.mean()) <= 1 and TINT[0] - 1 <= np.abs(change).max() <= TINT[1] + 1


def test_a_gray_defect_gets_no_color():
    shown, _ = spoil(
        (defect().mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8), BOX),
        (flat(0, 0, 0), PLACE),
        Chosen(1),
    )
    assert np.ptp(shown, axis=2).max() == 0 and shown[CORE].std() < 40


def test_a_veil_is_of_one_brightness():
    change = spoil((defect(), BOX), (flat(60, 70, 80), PLACE), Chosen(2))[0][30, 30] - np.array(
        [60.0, 70, 80]
    )
    assert np.ptp(change) == 0 and VEIL[0] - 1 <= abs(change[0]) <= VEIL[1] + 1


def test_a_trace_is_a_share_of_the_defect():
    dark = flat(60, 70, 80)
    dark[16:48, 16:48] = (160, 170, 180)
    change = spoil((dark, BOX), (flat(60, 70, 80), PLACE), Chosen(3))[0][30, 30] - np.array([60.0, 70, 80])
    assert 100 * FAINT[0] - 1 <= change.min() and change.max() <= 100 * FAINT[1] + 1
