"""Defects added to a board: clear cases of their class that keep clear of each other."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from utils.synthetic_pcb.board import (
    EIGHT_CONNECTED,
    MAX_EXTENT,
    Board,
    BoardDefect,
    conductors,
    coverage,
    defect_center,
)
from utils.synthetic_pcb.shapes import (
    Frame,
    at_edge,
    missing_hole,
    mouse_bite,
    open_circuit,
    short,
    spur,
    spurious_copper,
)
from utils.synthetic_pcb.sites import Site, copper_edges, find_sites, keeps_margin

MAX_TRIES = 14  # sites tried for each requested defect

_EDITS: dict[str, tuple[str, bool, int, Callable[..., tuple[Frame, np.ndarray]]]] = {
    # class: (layer, whether material is added, change in the number of conductors, shape)
    "missinghole": ("drill", False, 0, missing_hole),
    "mousebite": ("copper", False, 0, mouse_bite),
    "opencircuit": ("copper", False, 1, open_circuit),
    "short": ("copper", True, -1, short),
    "spur": ("copper", True, 0, spur),
    "spuriouscopper": ("copper", True, 1, spurious_copper),
}


def add_defects(
    board: Board, classes: Sequence[str], seed: int, margin: int = 0, min_spacing: int = 0
) -> tuple[Board, list[BoardDefect]]:
    """A copy of `board` with one defect for each entry of `classes`, where one fits.

    margin: least distance in pixels of a defect's center from the image's edge; min_spacing: least distance
    between two centers, along x or y, whichever is larger. A class for which no site fits is left out of the
    list. Defects never overlap. Raises ValueError for an unknown class.
    """
    rng = np.random.default_rng([seed, 2])
    original, edges = board, copper_edges(board)
    defects: list[BoardDefect] = []
    for class_name in classes:
        sites = find_sites(original, class_name, margin, edges)
        tries = 0
        for index in rng.permutation(len(sites)):
            site = sites[index]
            point = (round(site.x), round(site.y), round(site.x), round(site.y))
            if not _apart(point, defects, min_spacing):
                continue
            result = _make(board, class_name, site, rng)
            tries += 1
            if result is not None and _fits(result, defects, margin, min_spacing):
                board = result[0]
                defects.append(result[1])
                break
            if tries >= MAX_TRIES:
                break
    return board, defects


def _fits(
    result: tuple[Board, BoardDefect], others: Sequence[BoardDefect], margin: int, spacing: int
) -> bool:
    board, defect = result
    x, y = defect_center(defect)
    return keeps_margin(board, x, y, margin) and _apart(defect.box, others, spacing)


def _make(
    board: Board, class_name: str, site: Site, rng: np.random.Generator
) -> tuple[Board, BoardDefect] | None:
    """Try one defect at one site; None if the result is not a clear case of its class."""
    name, added, change, shape = _EDITS[class_name]
    frame, touched = shape(board, site, rng)
    layer = getattr(board, name).copy()
    layer[frame.window][touched] = 255 if added else 0
    edited = replace(board, **{name: layer})
    changed = np.abs(coverage(layer) - coverage(getattr(board, name))) >= 0.25
    rows, columns = np.nonzero(changed.any(axis=1))[0], np.nonzero(changed.any(axis=0))[0]
    if not len(rows):
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    extent = max(box[2] - box[0], box[3] - box[1])
    if not 7.5 * board.scale <= extent <= MAX_EXTENT * board.scale:
        return None
    if name == "copper":
        if conductors(edited)[1] - conductors(board)[1] != change:
            return None
        if class_name in ("spur", "spuriouscopper") and _crowds(board, changed, site, class_name):
            return None
    return edited, BoardDefect(class_name, box, changed)


def _crowds(board: Board, changed: np.ndarray, site: Site, class_name: str) -> bool:
    """Whether new copper comes within 3 px of other copper, apart from a spur's root."""
    if class_name == "spur":
        x, y = at_edge(site, 5 * board.scale)
        columns, rows = np.arange(board.width)[None, :] - x, np.arange(board.height)[:, None] - y
        changed = changed & (columns * site.nx + rows * site.ny > 5 * board.scale)
    around = ndimage.binary_dilation(changed, EIGHT_CONNECTED, iterations=max(1, round(3 * board.scale)))
    return bool((around & (coverage(board.copper) >= 0.5)).any())


def _apart(box: tuple[int, int, int, int], others: Sequence[BoardDefect], spacing: int) -> bool:
    """Whether a box keeps clear of the others by 6 px, and its center by `spacing` px along one axis."""
    for other in others:
        left, top, right, bottom = other.box
        if min(box[2], right) + 6 > max(box[0], left) and min(box[3], bottom) + 6 > max(box[1], top):
            return False
        across, down = abs(box[0] + box[2] - left - right) / 2, abs(box[1] + box[3] - top - bottom) / 2
        if max(across, down) < spacing:
            return False
    return True
