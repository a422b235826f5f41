"""Pixels that differ outside windows, and gradients in the feather, on images made by hand."""

import numpy as np

from evaluation.integrity import check_sample, gradient

ENTRY = {"name": "a", "defects": [{"window": [10, 10, 20], "scale": 1.0}]}


def ramp() -> np.ndarray:
    """Two gray levels a px from left to right: (40, 60, 3) uint8."""
    return np.repeat(np.tile(np.arange(60, dtype=np.uint8) * 2, (40, 1))[:, :, None], 3, axis=2)


def test_gradient_of_a_ramp():
    assert np.allclose(gradient(ramp()), 2)


def test_an_untouched_picture_has_no_seam():
    found = check_sample(ENTRY, ramp(), ramp(), feather=4)
    assert found.outside == 0 and np.isclose(found.seam, 2) and np.isclose(found.clean, 2)


def test_changes_outside_are_counted_and_those_inside_are_not():
    after = ramp()
    after[20, 20] = 255
    after[0, :3] = 9
    after[12, 31] = 0
    assert check_sample(ENTRY, ramp(), after, feather=1).outside == 4


def test_a_hard_edge_shows_as_a_seam():
    after = ramp()
    after[10:30, 10:30] += 100
    found = check_sample(ENTRY, ramp(), after, feather=4)
    # In the ring of 256 px a step of 100 lies half in the outermost pixels on either side (76 px)
    assert found.seam > 10 and np.isclose(found.clean, 2)
    # Well inside the ring there is none
    after = ramp()
    after[15:25, 15:25] += 100
    assert np.isclose(check_sample(ENTRY, ramp(), after, feather=4).seam, 2)
