"""Training defects in other shapes: fields that bend them, what edges leave of these, and boxes that follow."""

from dataclasses import replace

import numpy as np
import pytest

from generation.exemplars.exemplar import Place
from generation.exemplars.laying import Laid
from generation.exemplars.reading import read_exemplars
from generation.exemplars.variation import along_edges, bent, followed, random_field
from tests.test_exemplars import CLASSES, Folder, square, striped, window

BOX = (22.0, 26.0, 42.0, 38.0)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_field_moves_by_a_share_of_the_sides_of_the_box():
    fields = np.stack([random_field((12, 22, 52, 42), 64, 0.1, stream(seed)) for seed in range(200)])
    assert fields.std(axis=(0, 2, 3)) == pytest.approx([2.0, 4.0], rel=0.05)  # rows, columns: 20 and 40 px
    assert np.abs(fields).max() <= 4 * np.sqrt(6)  # three waves, each of vary * length * sqrt(2 / 3)
    assert np.array_equal(random_field(BOX, 64, 0.1, stream(3)), random_field(BOX, 64, 0.1, stream(3)))


def test_on_plain_ground_the_field_stays_what_it_is():
    field = random_field(BOX, 64, 0.1, stream())
    assert along_edges(field, np.full((64, 64, 3), 90, np.uint8)) == pytest.approx(field)


def test_edges_leave_what_moves_along_them():
    ground = np.full((64, 64, 3), 40, np.uint8)
    ground[:, 32:] = 200  # an upright edge
    y, x = along_edges(np.ones((2, 64, 64)), ground)
    assert y == pytest.approx(np.ones((64, 64)))
    assert np.abs(x[:, 31:33]).max() < 0.02 and x[:, [0, -1]] == pytest.approx(np.ones((64, 2)))
    corner = np.full((64, 64, 3), 40, np.uint8)
    corner[32:, 32:] = 200
    assert np.abs(along_edges(np.ones((2, 64, 64)), corner)[:, 32, 32]).max() < 0.1


def test_pixels_move_as_the_field_says():
    pixels = stream().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    field = np.zeros((2, 16, 16))
    field[0], field[1] = 2, -3  # taken from 2 rows below, 3 columns to the left
    assert np.array_equal(bent(pixels, field)[:14, 3:], pixels[2:, :13])
    assert np.array_equal(bent(pixels[..., 0], field)[:14, 3:], pixels[2:, :13, 0])


def test_a_box_keeps_its_distance_from_what_is_visible():
    assert followed((6.5, 9.0, 19.0, 21.0), (8, 10, 18, 20), (8, 9, 15, 22)) == (6.5, 8.0, 16.0, 23.0)
    assert followed((6.5, 9.0, 19.0, 21.0), (8, 10, 18, 20), None) == (6.5, 9.0, 19.0, 21.0)


def laid_gaps(folder: Folder, vary: float, seed: int = 0) -> list[Laid]:
    """A gap of 10 px in a trace, at one place, as eight candidates have it."""
    patch = striped()
    patch[58:70, 59:69] = patch[0, 0]
    folder.add("gap", 0, patch, striped(), (54, 53, 74, 75))
    exemplars = replace(read_exemplars(folder.root, CLASSES, False, False, 5.0), vary=vary, seed=seed)
    return [exemplars.laid_over(Place(window(), (27, 26, 37, 38), 1.0, 0), variant) for variant in range(8)]


def test_a_gap_gets_other_shapes_and_reaches_from_edge_to_edge(tmp_path):
    straight, *others = laid_gaps(Folder(tmp_path / "straight"), 0)
    assert all(np.array_equal(one.pixels, straight.pixels) for one in others)
    varied = laid_gaps(Folder(tmp_path / "varied"), 0.1)
    gaps = [(one.pixels[26:38, :, 1] < 125) for one in varied]  # of the trace's 160, the board has 90
    assert len({gap.tobytes() for gap in gaps}) == 8
    assert all(gap.any(axis=1).all() for gap in gaps)  # no row of the trace goes through
    assert np.ptp([gap.sum(axis=1).mean() for gap in gaps]) > 1  # px; as wide as another, too
    for one in varied:
        assert one.box is not None and np.array_equal(one.pixels[:20], window()[:20])
        seen = np.abs(one.pixels.astype(int) - window()).max(axis=2) > 35
        columns = np.flatnonzero(seen.any(axis=0))
        assert (one.box[0], one.box[2]) == pytest.approx((columns[0], columns[-1] + 1), abs=1.5)
    assert np.array_equal(laid_gaps(Folder(tmp_path / "again"), 0.1)[5].pixels, varied[5].pixels)
    assert not np.array_equal(laid_gaps(Folder(tmp_path / "other"), 0.1, seed=1)[5].pixels, varied[5].pixels)


def test_a_defect_known_by_its_box_alone_is_not_bent(tmp_path):
    found = []
    for name, vary in (("straight", 0.0), ("varied", 0.1)):
        folder = Folder(tmp_path / name)
        folder.add("gap", 0, square(striped(), (59, 58, 69, 70), 0), None, (54, 53, 74, 75))
        exemplars = replace(folder.read(), vary=vary)
        found.append(exemplars.laid_over(Place(window(), (22, 21, 42, 43), 1.0, 0), 0).pixels)
    assert np.array_equal(*found)
