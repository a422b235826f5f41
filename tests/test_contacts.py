"""What a defect touches: shorts two traces, spurs one, copper none."""

from pathlib import Path

import numpy as np
import pytest

from generation.exemplars.reading import read_exemplars
from generation.painting.touching import contacts_of_classes
from generation.quality.checks import PaintedWindow, quality_checks, score_factor
from generation.quality.contacts import contacts, usual_contacts
from tests.test_exemplars import CLASSES, Folder, square, striped

BOARD, COPPER = (20, 90, 30), (40, 160, 60)


def two_traces() -> np.ndarray:
    """Rows 10 to 20 and 40 to 50 of 64."""
    image = np.full((64, 64, 3), BOARD, np.uint8)
    image[10:20] = image[40:50] = COPPER
    return image


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ((20, 40), 2),  # a short from trace to trace
        ((20, 38), 1),  # one that ends 2 px before the second
        ((23, 37), 0),  # copper between them
        ((50, 60), 1),  # a spur
        ((50, 64), 1),  # one at the edge of the image, beyond which nothing is
    ],
)
def test_the_traces_that_a_bar_touches(rows: tuple[int, int], number: int):
    before, mask = two_traces(), np.zeros((64, 64), bool)
    mask[slice(*rows), 28:36] = True
    after = before.copy()
    after[mask] = np.array(COPPER) + 8  # a little lighter
    assert contacts(before, after, mask) == number
    assert contacts(before, before, mask & False) == 0


def test_a_gap_touches_the_board_on_both_sides_and_a_bite_on_one():
    before = two_traces()
    for rows, number in (((10, 20), 2), ((10, 15), 1), ((12, 17), 0)):
        mask = np.zeros((64, 64), bool)
        mask[slice(*rows), 24:40] = True
        after = before.copy()
        after[mask] = BOARD
        assert contacts(before, after, mask) == number


def test_a_touch_of_few_pixels_does_not_count():
    before, mask = two_traces(), np.zeros((64, 64), bool)
    mask[23:37, 20:44] = True
    after = before.copy()
    after[mask] = COPPER
    after[22, 30:32] = after[21, 30:32] = COPPER
    assert contacts(before, after, mask) == 0  # 4 of 168 px of its rim


def test_the_number_that_nearly_all_training_defects_have():
    assert usual_contacts([2, 2, 2, 2, 2, 3]) == 2 and usual_contacts([0] * 5) == 0
    assert usual_contacts([2, 2, 2, 2, 3]) is None and usual_contacts([2] * 4) is None


def test_it_is_learned_from_the_clean_places_of_the_training_defects(tmp_path: Path):
    folder = Folder(tmp_path)
    for k in range(5):
        gap = square(striped(), (59, 58, 69, 70), 0)
        gap[58:70, 59:69] = BOARD
        folder.add(f"gap{k}", 0, gap, striped(), (57, 56, 71, 72))
        folder.add(f"hidden{k}", 1, gap, None, (57, 56, 71, 72))
    assert contacts_of_classes(read_exemplars(folder.root, CLASSES, True, True, 2.0)) == {0: 2}


def test_another_number_costs_the_score():
    window, mask = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), bool)
    one = PaintedWindow(window, window, mask, None, None, contacts=1)
    assert quality_checks(one)["contacts"] == 1.0
    assert score_factor({"contacts": 1.0}) == 0 and score_factor({"contacts": 0.0}) == 1
    assert "contacts" not in quality_checks(PaintedWindow(window, window, mask, None, None))
