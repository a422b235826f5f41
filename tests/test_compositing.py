"""Soft masks and regions of painted defects, against shapes that are known."""

import numpy as np
import pytest

from generation.exemplars.laying import Laid
from generation.painting.compositing import (
    VISIBLE,
    Beginning,
    defect_region,
    drawn_box,
    seen_by_mask,
    soft_mask,
)
from utils.images import blend

SIZE = 48


def photograph(seed: int = 0, noise: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(120 + noise * rng.standard_normal((SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def with_disk(image: np.ndarray, center: tuple[int, int], radius: float, change: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    painted = image.astype(int)
    painted[(x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2] += change
    return np.clip(painted, 0, 255).astype(np.uint8)


def test_the_mask_is_the_defect_and_nothing_else_changes():
    before = photograph()
    after = with_disk(before, (24, 20), 7, 60)
    seen = defect_region(before, after, (14, 10, 36, 32))
    alpha, region = seen.alpha, seen.region
    done = seen.after
    assert np.array_equal(done, blend(before, after, alpha))
    assert (done == after).all()  # the whole defect is there
    y, x = np.mgrid[:SIZE, :SIZE]
    disk = (x - 24) ** 2 + (y - 20) ** 2 <= 49
    assert (region.mask & disk).sum() / (region.mask | disk).sum() > 0.95
    assert region.box == (17, 13, 32, 28)
    assert region.contrast == pytest.approx(60, abs=3)


def test_every_visible_change_lies_in_the_mask():
    rng = np.random.default_rng(1)
    before = photograph(1, noise=8)
    # A defect, and texture painted anew all over its box
    after = with_disk(before, (22, 25), 8, -70).astype(int)
    after[12:40, 10:38] += np.rint(6 * rng.standard_normal((28, 28, 1))).astype(int)
    after = np.clip(after, 0, 255).astype(np.uint8)
    seen = defect_region(before, after, (10, 12, 38, 40))
    region = seen.region
    change = np.abs(seen.after.astype(int) - before).max(axis=2)
    assert not (change >= VISIBLE)[~region.mask].any()
    y, x = np.mgrid[:SIZE, :SIZE]
    disk = (x - 22) ** 2 + (y - 25) ** 2 <= 64
    assert region.mask[disk].mean() > 0.97
    # Most of what was only painted anew is the photograph again
    again = np.zeros((SIZE, SIZE), bool)
    again[12:40, 10:38] = True
    assert (change[again & ~disk] == 0).mean() > 0.5


def test_changes_outside_the_box_are_left_out():
    before = photograph()
    after = with_disk(with_disk(before, (12, 12), 5, 80), (36, 36), 5, 80)
    seen = defect_region(before, after, (5, 5, 20, 20))
    alpha, region = seen.alpha, seen.region
    assert region.box == (7, 7, 18, 18)
    assert (alpha[28:, 28:] == 0).all()


def test_a_second_piece_belongs_to_the_defect():
    before = photograph()
    after = with_disk(with_disk(before, (14, 14), 5, 80), (34, 30), 4, 80)
    region = defect_region(before, after, None).region
    assert region.box == (9, 9, 39, 35)


def test_nothing_painted_is_no_region():
    before = photograph()
    seen = defect_region(before, before, (5, 5, 20, 20))
    alpha, region = seen.alpha, seen.region
    assert not alpha.any() and region.box is None and region.contrast == 0
    assert not soft_mask(
        before, with_disk(before, (10, 10), 4, 90), (60, 60, 70, 70)
    ).any()  # box off the window


@pytest.mark.parametrize(
    "painted, laid, own, drawn",
    [
        ((10, 12, 20, 24), (10, 12, 20, 24), (7.0, 12.4, 21.0, 25.6), (7, 12, 21, 26)),  # as it was laid
        ((11, 12, 22, 23), (10, 12, 20, 24), (7.0, 12.4, 21.0, 25.6), (8, 12, 23, 25)),  # a little else
        ((10, 12, 20, 24), (10, 12, 20, 24), (13.0, 15.0, 17.0, 21.0), (13, 15, 17, 21)),  # drawn inside it
        ((10, 12, 20, 24), (16, 12, 26, 24), (16.0, 12.0, 26.0, 24.0), None),  # another defect
        ((10, 12, 13, 15), (9, 11, 14, 16), (11.5, 13.5, 11.5, 13.5), None),  # nothing would be left
        (None, (10, 12, 20, 24), (7.0, 12.4, 21.0, 25.6), None),
        ((10, 12, 20, 24), None, (7.0, 12.4, 21.0, 25.6), None),
    ],
)
def test_boxes_are_drawn_as_around_the_training_defect(painted, laid, own, drawn):
    assert drawn_box(painted, laid, own) == drawn


def bar(*pieces: tuple[int, int]) -> np.ndarray:
    """Plain, with a bar of 6 px height from column to column of each piece."""
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)
    for left, right in pieces:
        image[21:27, left:right] = 40
    return image


def test_what_is_seen_of_a_defect_that_began_as_a_training_defect():
    # The model's window is half as wide; the training defect's own box keeps 3 native px from it on each side
    laid = Laid(bar((8, 40))[::2, ::2], np.ones((24, 24), bool), 0.9, (4.0, 10.5, 20.0, 13.5), True)
    begun = Beginning(bar((8, 40)), laid, margin=3)
    assert begun.own == (5, 18, 43, 30)
    requested = (20, 20, 28, 28)  # a defect with a shape may reach beyond it
    one = seen_by_mask(bar(), bar((8, 40)), requested, begun, False)
    assert one.region.box == (8, 21, 40, 27) and one.drawn == (5, 18, 43, 30) and one.whole == 1
    two = seen_by_mask(bar(), bar((8, 20), (28, 40)), requested, begun, False)
    assert two.region.box == (8, 21, 40, 27) and two.drawn == (5, 18, 43, 30) and two.whole == 0.5
    alone = seen_by_mask(bar(), bar((8, 40)), requested, None, False)
    assert alone.region.box == (17, 21, 31, 27)  # the requested box, 2 px of growth and a soft edge
    assert alone.drawn is None and alone.whole is None
