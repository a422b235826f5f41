"""Shapes of defects that nobody drew, on patches whose answers are known."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from utils.shapes.seen import EIGHT, seen_shape
from utils.shapes.shrinking import covered
from utils.shapes.solid import solid

BOX = (30, 30, 66, 66)
SIDE = 96


def surface() -> np.ndarray:
    """Streaks that run across, of 110 to 140 gray levels."""
    rows = np.random.default_rng(0).normal(0, 5, (SIDE, 1, 1)) + np.random.default_rng(1).normal(
        0, 2, (SIDE, SIDE, 1)
    )
    return np.clip(np.repeat(125 + rows, 3, axis=2), 0, 255).astype(np.uint8)


def drawn(**shape: list[tuple[int, int]]) -> np.ndarray:
    """(SIDE, SIDE) bool: an ellipse, a polygon or a line."""
    image = Image.new("L", (SIDE, SIDE))
    (name, points), *_ = shape.items()
    getattr(ImageDraw.Draw(image), name)(points, fill=1, **({"width": 4} if name == "line" else {}))
    return np.asarray(image) > 0


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(
    "shape",
    [
        {"ellipse": [(33, 33), (62, 62)]},
        {"line": [(33, 62), (62, 33)]},
        {"polygon": [(33, 60), (48, 32), (63, 60)]},
    ],
    ids=["hole", "scratch", "chip"],
)
@pytest.mark.parametrize("level", [40, 220])
def test_what_stands_out_in_the_box_is_the_shape(shape: dict, level: int):
    patch, truth = surface(), drawn(**shape)
    patch[truth] = level
    found = seen_shape(patch, [BOX])
    assert found is not None and found.dtype == bool
    assert (found >= truth).mean() > 0.999  # all of it, and a px of smoothing around it:
    assert overlap(found, ndimage.binary_dilation(truth, EIGHT)) > 0.65
    assert not found[:30].any() and not found[:, 66:].any()


@pytest.mark.parametrize("points", [[(15, 15), (54, 44), (80, 80)], [(15, 80), (40, 46), (80, 15)]])
def test_a_bent_scratch_is_a_line(points: list[tuple[int, int]]):
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).line(points, fill=1, width=2)
    patch, truth = surface(), np.asarray(image) > 0
    patch[truth] = 220
    found = seen_shape(patch, [(14, 14, 82, 82)])
    assert found is not None and (found >= truth).all() and found.sum() < 3 * truth.sum()
    assert solid(found) is None
    assert seen_shape(patch, [(8, 8, 88, 88)]) is None  # it does not go from corner to corner


def test_other_defects_do_not_count_as_surroundings():
    patch, truth = surface(), drawn(ellipse=[(33, 33), (62, 62)])
    patch[truth] = 150
    patch[20:76, 72:] = np.random.default_rng(2).integers(0, 256, (56, SIDE - 72, 3))  # it has all looks
    assert seen_shape(patch, [BOX]) is None
    found = seen_shape(patch, [BOX, (70, 0, SIDE, SIDE)])
    assert found is not None and overlap(found, truth) > 0.8


def test_no_shape_where_none_can_be_told():
    clean = surface()
    assert seen_shape(clean, [BOX]) is None
    speck = clean.copy()
    speck[34:40, 34:40] = 0  # in a corner of a box that is larger
    assert seen_shape(speck, [BOX]) is None
    trace = clean.copy()
    trace[42:54] = 40
    trace[42:54, 44:52] = clean[42:54, 44:52]  # a gap looks like the board beside the trace
    assert seen_shape(trace, [BOX]) is None
    rim = clean.copy()
    rim[drawn(line=[(24, 24), (48, 72), (72, 24)])] = 0  # what is between belongs to it or does not
    assert seen_shape(rim, [(20, 20, 76, 76)]) is None
    assert seen_shape(clean, [(0, 0, SIDE, SIDE)]) is None  # nothing around


def test_a_hull_fills_bays_but_no_halves():
    disk = drawn(ellipse=[(33, 33), (62, 62)])
    notched = disk.copy()
    notched[44:52, 48:] = False
    assert overlap(solid(notched), disk) > 0.95
    assert solid(drawn(line=[(33, 33), (48, 62), (62, 33)])) is None
    assert solid(np.zeros((8, 8), bool)) is None and solid(np.eye(8, dtype=bool)) is None
    row = np.zeros((8, 8), bool)
    row[3] = True
    assert solid(row) is None


def test_a_shrunk_shape_keeps_its_area():
    coverage = np.zeros((9, 9), np.float32)
    coverage[2:6, 2:6] = 1
    coverage[6, 2:6] = 0.45, 0.45, 0.45, 0.4
    found = covered(coverage, 2, 1)
    assert found.sum() == 18 and found[2:6, 2:6].all() and found[6, 2:4].all()
    assert not covered(np.zeros((9, 9), np.float32), 2, 1).any()


def test_a_line_thinner_than_a_pixel_is_not_torn():
    coverage = np.zeros((9, 12), np.float32)
    coverage[4, 1:11] = 0.3, 0.3, 0.2, 0.3, 0.3, 0.2, 0.3, 0.3, 0.3, 0.3
    coverage[5, 1:11] = 0.1
    assert np.array_equal(covered(coverage, 3, 1), coverage > 0.1)
