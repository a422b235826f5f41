"""Copy-paste: where a defect goes, and what it leaves as it is."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.downstream.copy_paste import Library, _match, best_match, image_of, paste_at
from generation.exemplars.cutout import Cutout, cut_out
from generation.placement.matching import Surround
from generation.placement.surroundings import TurnedQuery
from generation.training_defects import Query
from tests.test_cutout import BOX, defective


def test_pasting_changes_nothing_outside_the_mask():
    image, twin = defective()
    canvas = np.full((96, 96, 3), 84, np.uint8)
    box = paste_at(canvas, cut_out(image, BOX, twin), (60, 30), poisson=False)
    assert box == (50, 24, 70, 36)
    assert (canvas[28:32, 58:62] == 220).all()
    changed = (canvas != 84).any(axis=2)
    assert changed.sum() < 16 * 14 and not changed[:20].any()


def test_at_the_edge_the_box_ends_with_the_image():
    image, twin = defective()
    canvas = np.full((96, 96, 3), 84, np.uint8)
    assert paste_at(canvas, cut_out(image, BOX, twin), (2, 94), poisson=True) == (0, 88, 12, 96)
    assert (canvas[93:96, 0:5] > 200).all()


def test_poisson_blending_takes_the_brightness_of_the_place():
    pytest.importorskip("cv2")
    pixels = np.full((60, 60, 3), 200, np.uint8)
    pixels[28:32, 28:32] = 230
    alpha = np.zeros((60, 60), np.float32)
    alpha[15:45, 15:45] = 1
    canvas = np.full((100, 100, 3), 90, np.uint8)
    paste_at(canvas, Cutout(pixels, alpha, (15, 15, 45, 45)), (50, 50), poisson=True)
    assert abs(int(canvas[42, 42, 0]) - 90) <= 2
    assert abs(int(canvas[50, 50, 0]) - 120) <= 4


def query(surroundings: np.ndarray, box: tuple[int, int, int, int]) -> Query:
    size = (box[2] - box[0], box[3] - box[1])
    return Query(Surround(surroundings, box, 1.0), 0, (0, 0), size)


def test_the_defect_whose_surroundings_match_is_taken_and_moved_there():
    rng = np.random.default_rng(1)
    textures = [np.kron(rng.integers(0, 255, (24, 24, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in "ab"]
    image = textures[1]  # 96 x 96
    queries = [query(texture[20:84, 12:76], (24, 24, 40, 40)) for texture in textures]
    library = Library([TurnedQuery(one, 0, False) for one in queries], {})
    # The second query's box was at (36, 44) to (52, 60) of the image; the place is asked for 4 px off
    look, center = best_match(image, (40, 46, 56, 62), 0, library)
    assert look.query is queries[1]
    assert abs(center[0] - 44) <= 1 and abs(center[1] - 52) <= 1


def texture(seed: int, side: int = 160) -> np.ndarray:
    """(side, side, 3) uint8 of 8 px blocks."""
    blocks = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3))
    return np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("turn", range(4))
def test_a_large_defect_at_the_edge_is_found_at_its_own_place(turn: int):
    image = texture(3)
    patch = image[:128, :128].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    one = Query(Surround(patch, (0, 16, 20, 36), 2.0), 0, (20, 52), (40, 40))
    center = np.array([20, 52])
    for _ in range(turn):  # counterclockwise
        center = np.array([center[1], 160 - center[0]])
    box = (*(center - 20), *(center + 20))
    turned = np.rot90(image, turn)
    look, found = best_match(turned, box, 0, Library([TurnedQuery(one, turn, False)], {}))
    score, again = _match(turned, tuple(center), look)
    assert score > 0.95 and again == found
    assert np.abs(found - center).max() <= 1


def test_a_defect_at_the_edge_fits_nowhere_else():
    image = texture(4)
    patch = image[32:96, 40:104]
    inner, at_edge = (
        TurnedQuery(Query(Surround(patch, box, 1.0), 0, (0, 0), (16, 16)), 0, False)
        for box in ((24, 24, 40, 40), (0, 24, 16, 40))
    )
    assert _match(image, (48, 64), at_edge)[0] == -1  # there in all but the edge
    assert _match(image, (72, 64), inner)[0] > 0.95


def test_a_label_is_that_of_the_image_of_its_whole_name(tmp_path: Path):
    for name in ("board.png", "board.json", "board.txt", "board.v2.png", "board.v2.txt", "board.A.jpg"):
        (tmp_path / name).touch()
    assert image_of(tmp_path / "board.txt").name == "board.png"
    assert image_of(tmp_path / "board.v2.txt").name == "board.v2.png"
