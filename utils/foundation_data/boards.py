"""Patches of synthetic boards, each with the box of its defect anywhere in it, and the clean boards."""

from collections.abc import Iterator

import numpy as np

from utils.foundation_data.defects import DefectPatch
from utils.foundation_data.textures import SIDE
from utils.synthetic_pcb.board import CLASSES, BoardDefect, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render

BOARD = 256  # side of a board in px
MARGIN, SPACING = 20, 40  # px of a defect from the edge, and from the next one; patches show several
SHIFT = 20  # px that a defect is off the center of its patch


def draw_boards(seed: int, per_class: int) -> Iterator[tuple[np.ndarray, list[DefectPatch]]]:
    """Boards, each as a clean image (BOARD, BOARD, 3) uint8 and the patches of its defects, until every class has
    `per_class` patches or more; the most wanted classes come first."""
    missing = dict.fromkeys(CLASSES, per_class)
    order = np.random.default_rng([seed, 3])
    index = 0
    while any(count > 0 for count in missing.values()):
        wanted = [str(name) for name in order.permutation([name for name in CLASSES if missing[name] > 0])]
        wanted.sort(key=lambda name: -missing[name])
        board_seed = int(np.random.SeedSequence([seed, 1, index]).generate_state(1)[0])
        index += 1
        clean = draw_board(board_seed, BOARD, BOARD)
        board, defects = add_defects(clean, wanted, board_seed, MARGIN, SPACING)
        if defects:
            image = render(board)
            for defect in defects:
                missing[defect.class_name] -= 1
            yield render(clean), [_patch(image, defect, board_seed) for defect in defects]


def _patch(image: np.ndarray, defect: BoardDefect, seed: int) -> DefectPatch:
    x, y = defect_center(defect)
    rng = np.random.default_rng([seed, x, y])
    left, top = (
        int(np.clip(middle - SIDE // 2 + rng.integers(-SHIFT, SHIFT + 1), 0, BOARD - SIDE))
        for middle in (x, y)
    )
    box = (defect.box[0] - left, defect.box[1] - top, defect.box[2] - left, defect.box[3] - top)
    return DefectPatch(image[top : top + SIDE, left : left + SIDE], defect.class_name, box)
