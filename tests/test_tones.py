"""The tones of images that have few, and changes made of them, against images whose tones are known."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from generation.painting.canvas import PaintedContext, paste_context
from utils.tones import Tones, find_tones

SIDE = 96


def drawing(*levels: int) -> np.ndarray:
    """Stripes of the levels and a disk of the last one, (96, 96, 3) uint8 with hard edges."""
    y, x = np.mgrid[:SIDE, :SIDE]
    numbers = y // 16 % len(levels)
    numbers[(x - 48) ** 2 + (y - 48) ** 2 < 400] = len(levels) - 1
    return np.repeat(np.array(levels, np.uint8)[numbers][..., None], 3, axis=2)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def with_blob(image: np.ndarray, level: int, softness: float) -> np.ndarray:
    """A disk of radius 8 painted softly at (70, 24)."""
    y, x = np.mgrid[: len(image), : len(image)]
    inside = ((x - 70) ** 2 + (y - 24) ** 2 <= 64).astype(float)[..., None]
    alpha = ndimage.gaussian_filter(inside, (softness, softness, 0))
    return np.rint(image + alpha * (level - image.astype(float))).astype(np.uint8)


@pytest.mark.parametrize("levels", [(0, 255), (20, 230), (10, 120, 240), (0, 80, 160, 250)])
def test_the_tones_of_a_drawing_are_its_levels(levels: tuple[int, ...]):
    found = find_tones(drawing(*levels))
    assert found is not None and found.softness == 0
    assert sorted(found.colors[:, 0]) == list(levels)


@pytest.mark.parametrize("sigma", [0.6, 0.9])
def test_the_softness_is_that_of_the_edges(sigma: float):
    found = find_tones(blurred(drawing(0, 255), sigma))
    assert found is not None and sorted(found.colors[:, 0]) == [0, 255]
    assert found.softness == pytest.approx(sigma, abs=0.2)


def test_colors_are_tones_as_grays_are():
    image = drawing(0, 255)
    image[..., 1] = 90
    found = find_tones(image)
    assert found is not None and sorted(map(tuple, found.colors.tolist())) == [(0, 90, 0), (255, 90, 255)]


def test_an_ordinary_photograph_has_no_tones():
    rng = np.random.default_rng(0)
    board = drawing(60, 180)
    ramp = np.rint(np.linspace(0, 40, SIDE))[None, :, None]
    textured = board.copy()
    textured[30:66, 30:66] = rng.integers(0, 256, (36, 36, 1))
    for name, image in {
        "noise": np.clip(board + rng.normal(0, 4, board.shape), 0, 255),
        "shading": board + ramp,
        "a textured part": textured,
        "one tone": np.full_like(board, 255),
        "five tones": drawing(0, 60, 120, 180, 240),
        "out of focus": blurred(board, 6),
    }.items():
        assert find_tones(image.astype(np.uint8)) is None, name
    assert find_tones(np.zeros((1, 1, 3), np.uint8)) is None


def test_noise_of_compression_hides_no_tones():
    stream = BytesIO()
    Image.fromarray(drawing(0, 255)).save(stream, "JPEG", quality=90)
    found = find_tones(np.array(Image.open(stream)))
    assert found is not None and sorted(found.colors[:, 0]) == [0, 255]


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("side", [SIDE, 140])
def test_a_soft_change_gets_hard_edges_and_nothing_else_changes(level: int, side: int):
    native = np.full((side, side, 3), 255 - level, np.uint8)
    native[side // 2 :] = level  # below the blob
    before = np.full((SIDE, SIDE, 3), 255 - level, np.uint8)
    before[SIDE // 2 :] = level
    tones = find_tones(native)
    assert tones is not None
    done = paste_context(
        native,
        PaintedContext(before, with_blob(before, level, 3.0)),
        np.ones((side, side), np.float32),
        tones,
    )
    assert set(np.unique(done)) == {0, 255}
    changed = (done != native).any(axis=2)
    y, x = (np.mgrid[:side, :side] + 0.5) * SIDE / side - 0.5
    distance = np.hypot(x - 70, y - 24)
    assert changed[distance < 5].all() and not changed[distance > 9].any()


def test_new_edges_are_as_soft_as_the_images_own():
    before = blurred(drawing(0, 255), 0.9)
    tones = find_tones(before)
    assert tones is not None
    done = tones.redrawn(before, before, with_blob(before, 0, 3.0))
    ring = done[14:35, 58:83, 0]
    assert ring.min() == 0 and ((ring > 30) & (ring < 225)).mean() > 0.1
    assert find_tones(done).softness == pytest.approx(tones.softness, abs=0.1)


def test_between_two_tones_no_rim_of_a_third_is_drawn():
    colors = np.array([[0] * 3, [128] * 3, [255] * 3], np.uint8)
    before = np.full((SIDE, SIDE, 3), 255, np.uint8)
    done = Tones(colors, 0.0).redrawn(before, before, with_blob(before, 0, 0.8))
    assert set(np.unique(done)) == {0, 255}


def test_what_is_not_painted_stays_byte_for_byte():
    native = drawing(3, 252)
    native[5, 5] = native[60, 70] = 40  # specks of the image's own
    tones = find_tones(native)
    assert tones is not None
    assert np.array_equal(tones.redrawn(native, native, native), native)
