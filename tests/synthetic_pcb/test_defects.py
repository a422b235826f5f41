"""What each class of defect does to a board, and how exact its mask is."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from utils.synthetic_pcb.board import CLASSES, Board, BoardDefect, conductors, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render

CHANGE = {"missinghole": 0, "mousebite": 0, "opencircuit": 1, "short": -1, "spur": 0, "spuriouscopper": 1}


@cache
def example(class_name: str) -> tuple[Board, Board, BoardDefect]:
    for seed in range(20):
        board = draw_board(seed, 192, 192)
        edited, defects = add_defects(board, [class_name], seed, margin=40)
        if defects:
            return board, edited, defects[0]
    raise AssertionError(f"no board of twenty has a place for {class_name}")


@pytest.mark.parametrize("class_name", CLASSES)
def test_class_changes_the_conductors_as_it_should(class_name):
    board, edited, _ = example(class_name)
    assert conductors(edited)[1] - conductors(board)[1] == CHANGE[class_name]
    assert not np.array_equal(edited.copper, board.copper) or class_name == "missinghole"


def test_missing_hole_removes_exactly_one_drill():
    board, edited, defect = example("missinghole")
    before, after = (ndimage.label(b.drill > 0)[1] for b in (board, edited))
    assert after == before - 1 and np.array_equal(edited.copper, board.copper)
    x, y = defect_center(defect)
    assert min(max(abs(pad.x - x), abs(pad.y - y)) for pad in board.pads) <= 1.5


@pytest.mark.parametrize("class_name", ["mousebite", "opencircuit"])
def test_bites_and_opens_only_remove_copper(class_name):
    board, edited, _ = example(class_name)
    assert (edited.copper <= board.copper).all()


@pytest.mark.parametrize("class_name", ["short", "spur", "spuriouscopper"])
def test_shorts_spurs_and_islands_only_add_copper(class_name):
    board, edited, _ = example(class_name)
    assert (edited.copper >= board.copper).all()


@pytest.mark.parametrize("class_name", CLASSES)
def test_mask_is_tight_in_its_box_and_covers_the_rendered_change(class_name):
    board, edited, defect = example(class_name)
    left, top, right, bottom = defect.box
    assert 0 <= left < right <= 192 and 0 <= top < bottom <= 192
    assert 7 <= max(right - left, bottom - top) <= 40
    rows, columns = np.nonzero(defect.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == defect.box
    difference = np.abs(render(edited).astype(int) - render(board).astype(int)).max(axis=2)
    beyond = ~ndimage.binary_dilation(defect.mask, np.ones((3, 3)), iterations=8)
    # Beyond the shadow of the edit only the 8x8 JPEG blocks may differ, by quantization alone.
    assert difference[beyond].max() <= 12
    assert difference[~ndimage.binary_dilation(defect.mask, np.ones((3, 3)), iterations=24)].max() == 0
    assert difference[defect.mask].mean() > 15


def test_margin_and_spacing_are_kept():
    board = draw_board(3, 256, 256)
    _, defects = add_defects(board, CLASSES, 3, margin=48, min_spacing=68)
    centers = [((d.box[0] + d.box[2]) / 2, (d.box[1] + d.box[3]) / 2) for d in defects]
    assert len(centers) >= 3
    for index, (x, y) in enumerate(centers):
        assert 47 <= x <= 209 and 47 <= y <= 209
        for u, v in centers[:index]:
            assert max(abs(x - u), abs(y - v)) >= 68
