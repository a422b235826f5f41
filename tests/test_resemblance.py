"""Distances of what boxes show, and copies among them."""

import numpy as np
import pytest

from evaluation.resemblance import content, nearest_patches, spread, turns

BOX = (10.0, 10.0, 42.0, 42.0)


def image(seed: int) -> np.ndarray:
    """Blobs of 8 px, so that resampling keeps them."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(40, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def test_brightness_and_contrast_make_no_distance():
    one, other = content(image(0), BOX), content(image(0) // 2 + 20, BOX)
    assert np.abs(one - other).max() < 0.01
    assert (one**2).sum() == pytest.approx(1) and one.mean() == pytest.approx(0, abs=1e-6)
    assert not content(np.full((64, 64, 3), 7, np.uint8), BOX).any()


def test_a_box_over_the_edge_shows_what_is_there():
    assert np.array_equal(content(image(0), (-5, -5, 20, 20)), content(image(0), (0, 0, 20, 20)))


def test_turned_copies_are_found_and_others_are_not():
    patches = [content(image(seed), BOX) for seed in range(6)]
    for turn, copy in enumerate(turns(patches[4])):
        (near,) = nearest_patches([copy], patches)
        assert near.patch == 4 and near.memorized and near.distance < 0.01
        # The patch turned as told is what was painted
        assert np.allclose(turns(patches[near.patch])[near.turn], copy) and near.turn == turn
    fresh = nearest_patches([content(image(seed), BOX) for seed in range(10, 30)], patches)
    assert not any(one.memorized for one in fresh)


def test_the_spread_of_equal_and_opposite_contents():
    one = content(image(0), BOX)
    assert spread([one, one, one]) == pytest.approx(0, abs=1e-3)
    assert spread([one, -one]) == pytest.approx(2)
    assert np.isnan(spread([one]))
