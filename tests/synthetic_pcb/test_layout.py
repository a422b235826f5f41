"""Synthetic boards without defects: equal seeds, sizes, scales."""

import numpy as np
import pytest

from utils.synthetic_pcb.board import CLASSES
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render


def test_equal_seeds_give_equal_boards_and_defects():
    first, second = draw_board(5, 128, 160), draw_board(5, 128, 160)
    assert np.array_equal(render(first), render(second))
    one, two = (add_defects(board, CLASSES, 9)[1] for board in (first, second))
    assert [d.box for d in one] == [d.box for d in two] and len(one) > 0
    assert not np.array_equal(render(first), render(draw_board(6, 128, 160)))


def test_render_has_the_requested_size_and_type():
    image = render(draw_board(1, 96, 144))
    assert image.shape == (96, 144, 3) and image.dtype == np.uint8 and image.std() > 5


def test_larger_scale_widens_the_traces():
    assert min(t.width for t in draw_board(2, 256, 256, scale=2.0).traces) >= 14.0


def test_tiny_boards_are_refused():
    with pytest.raises(ValueError, match="64 px"):
        draw_board(0, 32, 256)
