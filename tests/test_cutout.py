"""What is cut out of a training image with its defect."""

import numpy as np
import pytest

from generation.exemplars.cutout import REACH, Cutout, cut_out, of_defect, outlined

BOX = (30, 40, 50, 52)


def defective(value: int = 220) -> tuple[np.ndarray, np.ndarray]:
    """An image with a defect of 8 x 6 px in the middle of BOX, and its twin without."""
    twin = np.random.default_rng(0).integers(80, 88, (96, 96, 3), dtype=np.uint8)
    image = twin.copy()
    image[43:49, 36:44] = value
    return image, twin


def whole_alpha(cutout: Cutout, box: tuple[int, int, int, int], twin: np.ndarray) -> np.ndarray:
    """The alpha of a cutout around `box` with all that is of the defect; `twin` is of the whole image."""
    left, top = box[0] - REACH, box[1] - REACH
    height, width = cutout.alpha.shape
    return of_defect(cutout, twin[top : top + height, left : left + width]).alpha


def test_the_mask_is_what_differs_from_the_clean_twin():
    image, twin = defective()
    cutout = cut_out(image, BOX, twin)
    assert cutout.box == (REACH, REACH, REACH + 20, REACH + 12)
    left, top = 36 - BOX[0] + REACH, 43 - BOX[1] + REACH
    assert cutout.alpha[top : top + 6, left : left + 8].min() > 0.95
    far = np.ones(cutout.alpha.shape, bool)
    far[top - 5 : top + 11, left - 5 : left + 13] = False
    assert cutout.alpha[far].max() < 0.02


@pytest.mark.parametrize("twin", [None, np.full((96, 96, 3), 200, np.uint8)], ids=["none", "another place"])
def test_without_a_twin_the_box_has_a_soft_edge(twin):
    cutout = cut_out(defective()[0], BOX, twin)
    left, top, right, bottom = cutout.box
    assert (cutout.alpha[top:bottom, left:right] == 1).all()
    row = cutout.alpha[top + 3, : left + 1]
    assert (np.diff(row) > 0).all() and row[0] == 0


def test_turning_moves_pixels_and_box_alike():
    pixels = np.zeros((10, 16, 3), np.uint8)
    pixels[2:4, 3:9] = 255
    cutout = Cutout(pixels, pixels[..., 0] / 255, (3, 2, 9, 4))
    for quarters in range(4):
        for mirrored in (False, True):
            turned = cutout.turned(quarters, mirrored)
            left, top, right, bottom = turned.box
            assert turned.pixels.sum() == turned.pixels[top:bottom, left:right].sum() == pixels.sum()


def test_what_lies_between_changed_pixels_belongs_to_the_defect():
    # A short across a trace of its own color: 12 px of it show no change
    twin = np.full((96, 96, 3), 20, np.uint8)
    twin[42:48] = 90
    image = twin.copy()
    image[40:52, 36:44] = 90
    cutout = cut_out(image, BOX, twin)
    left, top = BOX[0] - REACH, BOX[1] - REACH
    hidden = cutout.alpha[44 - top, 38 - left : 42 - left]
    assert hidden.max() < 0.5
    whole = whole_alpha(cutout, BOX, twin)
    assert (whole[40 - top : 52 - top, 36 - left : 44 - left] > 0.95).all()
    assert (whole >= cutout.alpha)[40 - top : 52 - top, 36 - left : 44 - left].all()
    assert whole[:, : 33 - left].max() < 0.1


def test_far_apart_changes_are_not_joined():
    twin = np.full((96, 96, 3), 20, np.uint8)
    image = twin.copy()
    image[41:44, 31:34] = image[48:51, 46:49] = 200
    cutout = cut_out(image, BOX, twin)
    left, top = BOX[0] - REACH, BOX[1] - REACH
    alpha = whole_alpha(cutout, BOX, twin)
    assert (alpha[41 - top : 44 - top, 31 - left : 34 - left] > 0.95).all()
    assert (alpha[48 - top : 51 - top, 46 - left : 49 - left] > 0.95).all()
    assert alpha[44 - top : 48 - top, 36 - left : 44 - left].max() < 0.01


def test_the_ground_beside_a_bent_defect_is_not_pasted():
    # Copper in the shape of an L: between its arms is board, at other places perhaps something else
    twin = np.full((96, 96, 3), 20, np.uint8)
    image = twin.copy()
    image[41:51, 33:38] = image[46:51, 33:47] = 200
    cutout = cut_out(image, BOX, twin)
    left, top = BOX[0] - REACH, BOX[1] - REACH
    alpha = whole_alpha(cutout, BOX, twin)
    assert (alpha[41 - top : 51 - top, 33 - left : 38 - left] > 0.95).all()
    assert (alpha[46 - top : 51 - top, 33 - left : 47 - left] > 0.95).all()
    assert alpha[42 - top : 44 - top, 40 - left : 44 - left].max() < 0.02


def test_what_a_box_cuts_off_is_pasted_with_the_defect():
    image, twin = defective()
    box = (38, 44, 42, 48)  # 1 or 2 px too small
    cutout = cut_out(image, box, twin)
    left, top = box[0] - REACH, box[1] - REACH
    alpha = whole_alpha(cutout, box, twin)
    assert alpha[43 - top : 49 - top, 36 - left : 44 - left].min() > 0.7  # less, the farther from the box


def test_an_outline_is_pasted_with_a_soft_edge():
    cutout = cut_out(defective()[0], BOX, None)
    shape = np.zeros(cutout.alpha.shape, bool)
    shape[11:17, 14:22] = True
    alpha = outlined(cutout, shape).alpha
    assert (alpha[shape] == 1).all() and 0.9 < alpha[10, 18] < 1 and 0 < alpha[7, 18] < 0.5
    assert alpha[:4].max() < 0.01 and alpha[:, :7].max() < 0.01
    assert outlined(cutout, np.zeros_like(shape)) is cutout


def test_edges_that_the_twin_has_elsewhere_are_not_pasted():
    twin = np.full((96, 96, 3), 10, np.uint8)
    twin[:, 20:28] = twin[:, 56:62] = 240  # a trace left of the box, and one right of it
    image = np.roll(twin, 1, axis=1)
    image[43:49, 36:44] = 240
    cutout = cut_out(image, BOX, twin)
    left, top = 36 - BOX[0] + REACH, 43 - BOX[1] + REACH
    assert cutout.alpha[top : top + 6, left : left + 8].min() > 0.95
    cutout.alpha[top - 4 : top + 10, left - 4 : left + 12] = 0
    assert cutout.alpha.max() < 0.001


def test_what_mainly_lies_outside_the_box_is_not_the_defect():
    image, twin = defective()
    image[34:41, 49:57] = 200  # another defect, of which a px lies inside
    cutout = cut_out(image, BOX, twin)
    left, top = BOX[0] - REACH, BOX[1] - REACH
    assert (
        cutout.alpha[45 - top, 40 - left] > 0.95
        and cutout.alpha[34 - top : 41 - top, 49 - left :].max() < 0.001
    )
