"""What a defect changes of a clean twin, exact or a little off."""

import numpy as np
import pytest

from utils.shapes.changed import above_noise, change_of_twin, relit


def traces(shift: int = 0) -> np.ndarray:
    """Two bright traces, 6 px wide, on a dark board of 64 x 64 px."""
    image = np.full((64, 64, 3), 10, np.uint8)
    for left in (14, 44):
        image[:, left + shift : left + 6 + shift] = 240
    return image


@pytest.fixture
def inside() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[20:44, 12:34] = True
    return mask


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_shifted_twin_shows_the_defect_alone(inside: np.ndarray, shift: int):
    image = traces()
    image[28:36, 20:30] = 240  # a spur beside the left trace
    change = change_of_twin(image, traces(shift), inside)
    assert change.dtype == np.float32
    expected = np.zeros((64, 64))
    expected[28:36, 20 + shift : 30] = 230  # up to the twin's trace
    np.testing.assert_array_equal(change, expected)


def test_an_exact_twin_is_compared_by_the_pixel(inside: np.ndarray):
    image = traces()
    image[30, 17:25, 1] += 15  # a line of one px, weaker than a trace's edge
    expected = np.zeros((64, 64))
    expected[30, 17:25] = 15
    np.testing.assert_array_equal(change_of_twin(image, traces(), inside), expected)


def test_another_defect_does_not_make_the_twin_off(inside: np.ndarray):
    image = traces()
    image[30, 17:25, 1] += 15
    image[50:60, 24:40] = 240
    expected = np.zeros((64, 64))
    expected[30, 17:25], expected[50:60, 24:40] = 15, 230
    np.testing.assert_array_equal(change_of_twin(image, traces(), inside), expected)


def test_a_twin_that_is_off_by_more_is_off(inside: np.ndarray):
    change = change_of_twin(traces(), traces(4), inside)
    assert (change > 200).sum() == 64 * 2 * 8  # 4 px on either side of a trace


def test_a_box_that_is_all_of_the_patch_has_nothing_to_go_by():
    everything = np.ones((64, 64), bool)
    assert (change_of_twin(traces(), traces(1), everything) > 0).sum() == 64 * 4


def test_another_picture_is_no_twin_that_is_a_little_off(inside: np.ndarray):
    one, other = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = np.abs(one.astype(np.float32) - other).max(axis=2)
    np.testing.assert_array_equal(change_of_twin(one, other, inside), expected)


def test_a_twin_in_other_light_is_relit_by_what_surrounds_the_box():
    rng = np.random.default_rng(3)
    twin = rng.integers(90, 110, (40, 40, 3)).astype(np.uint8)
    inside = np.zeros((40, 40), bool)
    inside[12:28, 12:28] = True
    image = twin + np.uint8(18)
    image[16:24, 16:24] = 20
    assert np.array_equal(relit(image, twin, inside), twin + np.float32(18))
    far = (twin.astype(int) + 60).astype(np.uint8)
    assert np.array_equal(relit(far, twin, inside), twin + np.float32(24))  # no more than that
    assert np.array_equal(relit(image, twin, np.ones_like(inside)), twin.astype(np.float32))


def test_what_differs_no_more_than_the_textures_around_is_no_change():
    rng = np.random.default_rng(4)
    change = np.abs(12 * rng.standard_normal((48, 48))).astype(np.float32)
    inside = np.zeros((48, 48), bool)
    inside[14:34, 14:34] = True
    change[18:28, 20:30] = 70
    left = above_noise(change, inside)
    assert (left[19:27, 21:29] == 70).all()
    rest = np.ones_like(inside)
    rest[16:30, 18:32] = False
    assert (left[rest] > 0).mean() < 0.1
    # Another defect beside the box, that is as far off as the one inside: half of that counts at most
    change[:12] = 70
    assert (above_noise(change, inside)[19:27, 21:29] == 70).all()
    assert np.array_equal(above_noise(change, np.ones_like(inside)), change)
