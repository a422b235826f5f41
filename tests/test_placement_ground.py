"""The ground under a thin defect: the few pixels that it changes decide."""

import numpy as np
import pytest

from generation.placement.ground import other_ground, with_change
from generation.placement.matching import Surround

BOX, BARE, COPPER = (16, 28, 48, 36), 40, 90


def board(*traces: tuple[int, int, int, int], level: int = BARE) -> np.ndarray:
    """A plain board of 64 x 64 px with bright traces (left, top, right, bottom)."""
    image = np.full((64, 64, 3), level, np.uint8)
    for left, top, right, bottom in traces:
        image[top:bottom, left:right] = COPPER - BARE + level
    return image


@pytest.fixture
def copper() -> Surround:
    """The clean patch of a strip of copper of 26 x 4 px on bare board, between two traces."""
    traces = ((0, 12, 64, 18), (0, 46, 64, 52))
    clean = Surround(board(*traces), BOX, 1.0, is_clean=True)
    return with_change(clean, board(*traces, (19, 30, 45, 34)))


def test_what_changes_and_how_much(copper: Surround):
    assert copper.contrast == COPPER - BARE
    assert copper.ground[30:34, 19:45].all() and copper.ground.sum() == 32 * 10 - 4 * 6  # less corners
    rows, columns = np.nonzero(copper.ground)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (27, 36, 16, 47)
    turned = copper.turned(1, True)
    assert turned.ground.sum() == copper.ground.sum() and turned.ground[19:45, 30:34].all()


def test_bare_board_is_its_ground_and_copper_is_not(copper: Surround):
    middle = (32, 32)
    assert other_ground(copper, copper.pixels, middle) == 0
    assert (
        other_ground(copper, board((0, 12, 64, 18), (0, 46, 64, 52), level=60), middle) == 0
    )  # another light
    assert other_ground(copper, board(level=BARE + 35), middle) == 0  # of which 12.5 are light, 22.5 are not
    assert other_ground(copper, board(level=BARE + 40), middle) == 1  # a plane of darker copper
    crossed = board((0, 12, 64, 18), (0, 46, 64, 52), (28, 12, 36, 52))
    assert other_ground(copper, crossed, middle) == pytest.approx(8 * 10 / 296)  # of 32 x 10 px less corners
    striped = board((16, 28, 48, 32))  # half of it is copper
    assert other_ground(copper, striped, middle) > 0.25


def test_a_place_may_be_some_px_off(copper: Surround):
    beside = board((0, 23, 64, 26), (0, 38, 64, 41))  # a gap that is just wide enough, 12 px
    assert other_ground(copper, beside, (32, 30)) == other_ground(copper, beside, (32, 34)) == 0
    assert other_ground(copper, beside, (32, 36)) == pytest.approx(26 / 296)  # a row on the lower trace


def test_scale_and_edges(copper: Surround):
    large = board((0, 12, 64, 18), (0, 46, 64, 52)).repeat(3, axis=0).repeat(3, axis=1)
    native = Surround(copper.pixels, copper.box, 3.0, True, copper.ground, copper.contrast)
    assert other_ground(native, large, (96, 96)) == 0
    assert other_ground(native, large, (2, 96)) == 0  # the edge goes on beyond the image
    assert other_ground(native, large, (96, 45)) > 0.35  # on the upper trace, of 6 rows


def test_unknown_ground_is_no_reason_against_a_place():
    hidden = Surround(board(), BOX, 1.0)
    assert other_ground(hidden, board((0, 0, 64, 64)), (32, 32)) == 0
    same = with_change(Surround(board(), BOX, 1.0, is_clean=True), board())
    assert same.ground is None
