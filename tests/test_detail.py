"""Detail that is too fine for the model: training defects laid in native px, as they were painted."""

from dataclasses import replace

import numpy as np
import pytest

from generation.exemplars.cutout import Cutout
from generation.exemplars.laying import Laid, NativeDefect
from generation.painting.canvas import PaintedContext, paste_context
from generation.painting.detail import Fine, with_detail
from generation.painting.results import ContextResult

SIDE, CROP, CORNER = 64, 32, (20, 12)  # a context at scale 2, and its window
BAR = (8, 14, 24, 18)  # px of the window
SQUARE, WINDOWS = (100, 50, 2 * SIDE), [(140, 74, 2 * CROP)]
GROUND = 60


def native_square() -> np.ndarray:
    return np.full((2 * SIDE, 2 * SIDE, 3), GROUND, np.uint8)


def whole_bar() -> np.ndarray:
    """The native square with the bar, 200 bright with dark stripes of one px that the model cannot see."""
    image = native_square()
    image[52:60, 56:88] = 200
    image[52:60, 56:88:4] = 120
    return image


def result(light: int = 0, native: bool = True) -> ContextResult:
    """A bar of 180 on average, laid over a context and painted by `light` brighter."""
    before = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    left, top, right, bottom = BAR
    weight = np.zeros((CROP, CROP), np.float32)
    weight[top:bottom, left:right] = 1
    pixels = np.where(weight[..., None] > 0, 180, GROUND).astype(np.uint8).repeat(3, axis=2)
    cutout = Cutout(whole_bar()[52:60, 56:88], np.ones((8, 32), np.float32), (0, 0, 32, 8))
    defect = NativeDefect(cutout, BAR, np.zeros(3, np.float32), weight)
    support = np.zeros((CROP, CROP), bool)
    support[top - 2 : bottom + 2, left - 2 : right + 2] = True
    laid = Laid(pixels, support, 1.0, BAR, True, defect if native else None)
    made = ContextResult(before, before, pixels[None], None, [None], [laid], [0.0], [CORNER])
    after = made.begun.copy()
    after[made.begun == 180] += np.uint8(light)
    return replace(made, after=after)


def detail(made: ContextResult, shown: np.ndarray) -> Fine:
    fine = with_detail(made, shown, native_square(), SQUARE, WINDOWS)
    assert fine is not None
    return fine


@pytest.mark.parametrize("light", [0, 30])
def test_a_defect_that_was_kept_has_the_detail_of_its_photograph(light: int):
    made = result(light)
    fine = detail(made, made.after)
    inside = np.s_[54:58, 60:84]  # beside its edge the light is mixed with the ground's
    assert np.abs(fine.pixels[inside] - (whole_bar()[inside].astype(float) + light)).max() <= 2
    assert fine.weight[48:64, 52:92].min() > 0.9 and fine.weight[:32].max() == 0  # around its support
    done = paste_context(
        native_square(), PaintedContext(made.before, made.after, fine), np.ones((2 * SIDE,) * 2, np.float32)
    )
    assert np.array_equal(done[50, 54:90], native_square()[50, 54:90])  # nothing beside its edge
    assert np.ptp(done[55, 60:84, 0].astype(int)) >= 75  # the stripes


def test_without_it_edges_are_as_soft_as_the_model_saw_them():
    made, ones = result(), np.ones((2 * SIDE,) * 2, np.float32)
    plain = paste_context(native_square(), PaintedContext(made.before, made.after), ones)
    sharp = paste_context(
        native_square(), PaintedContext(made.before, made.after, detail(made, made.after)), ones
    )
    steps = [int(np.abs(np.diff(image[48:56, 70, 0].astype(int))).max()) for image in (plain, sharp)]
    assert steps == [60, 140]  # 120 over two px, and at once what the bar is here


def test_what_was_painted_otherwise_stays_as_it_was_painted():
    made = result()
    gone = made.before  # the prior has removed the bar
    fine = detail(made, gone)
    assert fine.weight[54:58, 60:84].max() == 0
    ones = np.ones((2 * SIDE,) * 2, np.float32)
    done = paste_context(native_square(), PaintedContext(made.before, gone, fine), ones)
    assert np.abs(done.astype(int) - GROUND).max() <= 2


def test_defects_that_were_not_shrunk_need_no_detail():
    made = result(native=False)
    assert with_detail(made, made.after, native_square(), SQUARE, WINDOWS) is None
    assert with_detail(replace(made, laid=(), corners=()), made.after, native_square(), SQUARE, []) is None
    made = result()
    assert (
        with_detail(made, made.after, made.before, (100, 50, SIDE), [(120, 62, CROP)]) is None
    )  # at scale 1


def test_a_gray_context_stays_gray():
    made = result()
    (laid,) = made.laid
    cutout = laid.native.cutout
    colored = replace(
        laid.native, cutout=replace(cutout, pixels=cutout.pixels * np.array([1, 0, 1], np.uint8))
    )
    fine = detail(replace(made, laid=[replace(laid, native=colored)]), made.after)
    assert np.ptp(fine.pixels, axis=2).max() == 0
