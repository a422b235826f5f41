"""A canvas shows what was painted on it, and painted contexts get back into their image."""

from pathlib import Path

import numpy as np
import pytest

from generation.geometry import Context, Geometry, place
from generation.painting.canvas import Canvas, PaintedContext, feathered_window, paste_context
from generation.painting.detail import detail_kept
from utils import images
from utils.labels import Annotation

SQUASH = Geometry("squash", 1.0, 256, 64)
NATIVE = Geometry("native", 1.0, 64, 32)


def at(cx: float, cy: float) -> Annotation:
    return Annotation(0, "spur", cx, cy)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def canvas_of(picture: np.ndarray) -> Canvas:
    return Canvas("picture.png", lambda path: picture)


def test_cutting_gives_the_pixels_at_scale_1_and_means_at_larger_ones():
    picture = noise(100, 120, 3)
    context = place(at(0.5, 0.5), (120, 100), NATIVE)
    assert np.array_equal(canvas_of(picture).context(context, 64), picture[18:82, 28:92])
    flat = np.full((200, 200, 3), 77, np.uint8)
    wide = place(at(0.5, 0.5), (200, 200), Geometry("native", 2.5, 64, 32))
    assert np.array_equal(canvas_of(flat).context(wide, 64), np.full((64, 64, 3), 77))
    whole = place(at(0.5, 0.5), (200, 200), SQUASH)
    assert canvas_of(flat).context(whole, 256).shape == (256, 256, 3)


@pytest.mark.parametrize("side", [64, 90])
def test_alpha_0_leaves_every_byte(side: int):
    native, before, after = noise(side, side, 3), noise(64, 64, 3, seed=1), noise(64, 64, 3, seed=2)
    alpha = np.zeros((side, side), np.float32)
    assert np.array_equal(paste_context(native, PaintedContext(before, after), alpha), native)
    alpha[20:40, 10:50] = 1
    changed = (paste_context(native, PaintedContext(before, after), alpha) != native).any(axis=2)
    assert changed[alpha == 1].any() and not changed[alpha == 0].any()


def test_alpha_1_replaces_exactly_at_scale_1():
    before, after = noise(64, 64, 3), noise(64, 64, 3, seed=1)
    original = before.copy()
    assert np.array_equal(
        paste_context(before, PaintedContext(before, after), np.ones((64, 64), np.float32)), after
    )
    assert np.array_equal(before, original)  # not painted in place


def test_an_edge_does_not_show_through_what_is_painted_over_it():
    # A trace with an edge sharper than the model sees at scale 2; a gap of 20 model px is painted into it
    native = np.full((128, 128, 3), 30, np.uint8)
    native[51:79] = 130
    context = place(at(0.5, 0.5), (128, 128), Geometry("native", 2.0, 64, 32))
    before = canvas_of(native).context(context, 64)
    after = before.copy()
    after[:, 22:42] = 30
    ones = np.ones((128, 128), np.float32)
    gap = paste_context(native, PaintedContext(before, after), ones).astype(int)[:, 50:78]
    assert np.abs(gap - 30).max() <= 8
    change = images.resize_float(after.astype(np.float32) - before, (128, 128))
    assert np.abs(native + change - 30)[:, 50:78].max() > 20  # as it would show
    rest = paste_context(native, PaintedContext(before, after), ones)
    assert np.array_equal(rest[:, :30], native[:, :30]) and np.array_equal(rest[:, 98:], native[:, 98:])


def test_detail_stays_where_nothing_changes_or_what_is_painted_is_as_rough():
    before = noise(64, 64, 3) // 4 + 90
    assert (detail_kept(before, before) == 1).all()
    rougher = before.copy()
    rougher[20:40, 20:40] = noise(20, 20, 3, seed=3)
    assert detail_kept(before, rougher)[22:38, 22:38].min() > 0.95
    flat = before.copy()
    flat[20:40, 20:40] = 0
    kept = detail_kept(before, flat)[..., 0]
    assert kept[26:34, 26:34].max() < 0.1 and kept[:10].min() == 1


def test_scale_2_adds_the_change_and_keeps_the_fine_detail():
    picture = noise(128, 128, 3) // 2 + 40
    context = place(at(0.5, 0.5), (128, 128), Geometry("native", 2.0, 64, 32))
    canvas, ones = canvas_of(picture), np.ones((128, 128), np.float32)
    before = canvas.context(context, 64)
    assert np.array_equal(
        canvas.painted(context, PaintedContext(before, before + np.uint8(30)), ones), picture + 30
    )
    assert np.array_equal(canvas.painted(context, PaintedContext(before, before), ones), picture)


def test_a_canvas_shows_what_was_painted_on_it_and_leaves_the_rest():
    picture = noise(100, 120, 3)
    canvas, original = canvas_of(picture), picture.copy()
    first, second = Context(10, 20, 32, ((0, 0),), 1.0), Context(30, 30, 32, ((0, 0),), 1.0)
    red, blue = (np.full((32, 32, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    canvas.put(first, red)
    assert np.array_equal(canvas.region(20, 20, 32)[:, :22], np.tile(red[:1, :1], (32, 22, 1)))
    assert np.array_equal(canvas.region(20, 20, 32)[:, 22:], picture[20:52, 42:52])
    canvas.put(second, blue)  # the later one lies on top
    expected = original.copy()
    expected[20:52, 10:42], expected[30:62, 30:62] = red, blue
    assert np.array_equal(canvas.picture(), expected) and np.array_equal(picture, original)


def test_a_picture_is_decoded_once_for_all_its_contexts_and_once_to_be_put_together():
    pictures = {Path(name): noise(100, 120, 3, seed=n) for n, name in enumerate(("a.png", "b.png"))}
    read: list[Path] = []

    def load(path: Path) -> np.ndarray:
        read.append(path)
        return pictures[path]

    contexts = [Context(left, 20, 32, ((0, 0),), 1.0) for left in (0, 40, 80)]
    canvases = [Canvas(path, load) for path in pictures]
    for canvas in canvases:
        canvas.keep(contexts)
    read.clear()
    for context in contexts:
        for canvas, picture in zip(canvases, pictures.values(), strict=True):
            assert np.array_equal(
                canvas.context(context, 32), picture[20:52, context.left : context.left + 32]
            )
            canvas.put(context, np.zeros((32, 32, 3), np.uint8))
            assert not canvas.region(context.left, 20, 32).any()
    assert not read
    assert all(not canvas.picture()[20:52, :32].any() for canvas in canvases)
    assert read == list(pictures)


def test_feathered_window_is_0_outside_1_inside_and_symmetric():
    alpha = feathered_window(64, (20, 8), 32, feather=6)
    outside = np.ones((64, 64), bool)
    outside[8:40, 20:52] = False
    assert alpha.dtype == np.float32 and not alpha[outside].any()
    window = alpha[8:40, 20:52]
    assert (window[7:-7, 7:-7] == 1).all() and (window > 0).all() and window[0].max() < 0.1
    assert np.array_equal(window, window[::-1]) and np.array_equal(window, window.T)
    assert (np.diff(window[16, :16]) >= 0).all()


def test_feather_0_is_a_hard_edge():
    alpha = feathered_window(64, (0, 32), 32, feather=0)
    assert (alpha[32:, :32] == 1).all() and alpha.sum() == 32 * 32
