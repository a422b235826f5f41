"""Where defects of each class may lie."""

import pytest

from utils.synthetic_pcb.board import CLASSES, conductors
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.sites import candidate_sites


def test_candidate_sites_keep_the_margin_and_lie_where_the_class_makes_sense():
    board = draw_board(3, 256, 256)
    labels, _ = conductors(board)
    for class_name in CLASSES:
        for x, y in candidate_sites(board, class_name, 30):
            assert 30 <= x <= 226 and 30 <= y <= 226
            if class_name == "opencircuit":
                assert labels[y, x] > 0
            if class_name == "spuriouscopper":
                assert labels[y, x] == 0
    assert candidate_sites(board, "missinghole", 30)
    with pytest.raises(ValueError, match="scratch"):
        candidate_sites(board, "scratch", 0)
