"""Where windows and contexts lie, and how painted contexts get back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.canvas import Canvas, PictureCache
from utils.contexts import (
    Context,
    Geometry,
    centred_corner,
    feathered_window,
    native_window,
    overlap,
    paste_context,
    pixel_centre,
    place,
    share_context,
)
from utils.errors import UserError
from utils.labels import Annotation

SQUASH = Geometry("squash", 1.0, 256, 64)
NATIVE = Geometry("native", 1.0, 64, 32)


def at(cx: float, cy: float, **box: float) -> Annotation:
    return Annotation(0, "spur", cx, cy, **box)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def canvas_of(picture: np.ndarray) -> Canvas:
    return Canvas("picture.png", lambda path: picture)


# Windows


@pytest.mark.parametrize(
    "centre, corner",
    [
        ((128, 128), (96, 96)),
        ((32, 31), (0, 0)),
        ((33, 0), (1, 0)),
        ((0, 255), (0, 192)),
        ((224, 225), (192, 192)),
        ((223, 100), (191, 68)),
    ],
)
def test_window_is_centred_and_clamped(centre: tuple[int, int], corner: tuple[int, int]):
    assert centred_corner(*centre, 64, 256, 256) == corner


def test_corner_of_an_oblong_picture_and_of_an_odd_window():
    assert centred_corner(200, 90, 64, 300, 100) == (168, 36)
    assert centred_corner(10, 10, 7, 40, 40) == (7, 7)  # 7..13: as many px left as right of 10


@pytest.mark.parametrize(
    "cx, cy, centre",
    [(0.5, 0.5, (50, 25)), (0.999, 0.01, (99, 0)), (1.0, 1.0, (99, 49)), (0.0, 0.139, (0, 6))],
)
def test_centre_is_rounded_down_and_stays_inside(cx: float, cy: float, centre: tuple[int, int]):
    assert pixel_centre(at(cx, cy), (100, 50)) == centre


def test_squashed_picture_is_one_context_whatever_its_size():
    context = place(at(0.25, 0.9), (1000, 37), SQUASH)
    assert (context.left, context.top, context.side, context.scale) == (None, None, None, 1.0)
    assert context.windows == ((32, 192),)  # centre (64, 230), and 256 - 64


# Contexts of native pictures: 64 px around the centre, a window of 32 in them


@pytest.mark.parametrize(
    "cx, cy, corner, window",
    [
        (0.5, 0.5, (68, 18), (16, 16)),  # free on all sides
        (0.0, 0.5, (0, 18), (0, 16)),
        (1.0, 0.5, (136, 18), (32, 16)),
        (0.5, 0.0, (68, 0), (16, 0)),
        (0.5, 1.0, (68, 36), (16, 32)),
        (0.12, 0.5, (0, 18), (8, 16)),  # centre x 24: the context is clamped, the window still centred
    ],
)
def test_native_context_is_clamped_at_every_edge(
    cx: float, cy: float, corner: tuple[int, int], window: tuple[int, int]
):
    context = place(at(cx, cy), (200, 100), NATIVE)
    assert ((context.left, context.top), context.windows) == (corner, (window,))
    assert (context.side, context.scale) == (64, 1.0)


@pytest.mark.parametrize("scale, side", [(1.0, 64), (1.5, 96), (1.3, 83), (2.25, 144), (3.0, 192)])
def test_window_covers_the_centre_at_any_scale(scale: float, side: int):
    for cx in (0.0, 0.11, 0.5, 0.83, 1.0):
        context = place(at(cx, 0.4), (210, 200), Geometry("native", scale, 64, 32))
        assert (context.side, context.scale) == (side, scale)
        assert 0 <= context.left <= 210 - side and 0 <= context.top <= 200 - side
        assert all(0 <= corner <= 32 for corner in context.windows[0])
        x = min(int(cx * 210), 209)
        left = context.left + context.windows[0][0] * scale
        assert left - 1 <= x <= left + 32 * scale  # the centre, in native px, is in the window


def test_scale_is_found_from_the_box():
    auto = Geometry("native", "auto", 64, 32)
    assert place(at(0.5, 0.5, w=0.36, h=0.06), (200, 200), auto).scale == 3.0  # 72 px = 0.75 * 32 * 3
    assert place(at(0.5, 0.5, w=0.36, h=0.06), (200, 200), auto).side == 192
    assert place(at(0.5, 0.5, w=0.01, h=0.02), (200, 200), auto).scale == 1.0
    assert place(at(0.5, 0.5), (200, 200), auto).scale == 1.0  # no box


def test_context_larger_than_the_picture_is_refused():
    with pytest.raises(UserError) as caught:
        place(at(0.5, 0.5), (200, 100), Geometry("native", 2.0, 64, 32))
    assert "200x100 px" in str(caught.value) and "128x128 px" in str(caught.value)
    assert place(at(0.5, 0.5), (200, 128), Geometry("native", 2.0, 64, 32)).side == 128  # just fits


# Contexts for several windows


def test_windows_that_fit_share_a_context_that_is_centred_on_them():
    context = share_context([(100, 100, 32), (120, 110, 32)], 1.0, (400, 300), NATIVE)
    assert context == Context(94, 89, 64, ((6, 11), (26, 21)), 1.0)
    assert share_context([(100, 100, 32), (133, 100, 32)], 1.0, (400, 300), NATIVE) is None  # 65 px wide


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.5])
def test_shared_contexts_are_clamped_and_hold_their_windows(scale: float):
    side = round(32 * scale)
    windows = [(0, 0, side), (round(30 * scale), round(10 * scale), side)]
    context = share_context(windows, scale, (300, 300), NATIVE)
    assert (context.left, context.top) == (0, 0)
    for corner, window in zip(context.windows, windows, strict=True):
        found = native_window(context, corner, 32)
        assert np.abs(np.subtract(found, window)).max() <= np.ceil(scale / 2)


def test_squashed_pictures_have_one_context_for_all():
    context = share_context([(0, 0, 64), (192, 192, 64)], 1.0, (256, 256), SQUASH)
    assert context == Context(None, None, None, ((0, 0), (192, 192)), 1.0)


def test_overlap_means_a_common_pixel():
    assert overlap((0, 0, 4), (3, 3, 2)) and overlap((3, 3, 2), (0, 0, 9))
    assert not overlap((0, 0, 4), (4, 0, 4)) and not overlap((0, 0, 4), (0, 5, 4))


# Cut and paste


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
    assert np.array_equal(paste_context(native, before, after, alpha), native)
    alpha[20:40, 10:50] = 1
    changed = (paste_context(native, before, after, alpha) != native).any(axis=2)
    assert changed[alpha == 1].any() and not changed[alpha == 0].any()


def test_alpha_1_replaces_exactly_at_scale_1():
    before, after = noise(64, 64, 3), noise(64, 64, 3, seed=1)
    original = before.copy()
    assert np.array_equal(paste_context(before, before, after, np.ones((64, 64), np.float32)), after)
    assert np.array_equal(before, original)  # not painted in place


def test_scale_2_adds_the_change_and_keeps_the_fine_detail():
    picture = noise(128, 128, 3) // 2 + 40
    context = place(at(0.5, 0.5), (128, 128), Geometry("native", 2.0, 64, 32))
    canvas, ones = canvas_of(picture), np.ones((128, 128), np.float32)
    before = canvas.context(context, 64)
    assert np.array_equal(canvas.painted(context, before, before + np.uint8(30), ones), picture + 30)
    assert np.array_equal(canvas.painted(context, before, before, ones), picture)


def test_a_canvas_shows_what_was_painted_on_it_and_leaves_the_rest():
    picture = noise(100, 120, 3)
    canvas, original = canvas_of(picture), picture.copy()
    first, second = Context(10, 20, 32, ((0, 0),), 1.0), Context(30, 30, 32, ((0, 0),), 1.0)
    red, blue = (np.full((32, 32, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
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


def test_the_cache_keeps_the_latest_pictures_up_to_its_limit(tmp_path: Path):
    for name in "abc":
        Image.fromarray(noise(10, 10, 3)).save(tmp_path / f"{name}.png")
    cache = PictureCache(limit=600)  # two pictures of 300 bytes
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    first = cache(a)
    cache(b)
    assert cache(a) is first
    cache(c)  # b, which was not asked for lately, goes
    assert list(cache.pictures) == [a, c]


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


def test_native_window_is_the_model_s_window_in_the_picture():
    context = place(at(0.5, 0.5), (400, 300), Geometry("native", 2.0, 128, 64))
    left, top, side = native_window(context, context.windows[0], 64)
    assert side == 128 and (left, top) == (
        context.left + 2 * context.windows[0][0],
        context.top + 2 * context.windows[0][1],
    )
    assert native_window(Context(None, None, None, ((3, 5),), 1.0), (3, 5), 16) == (3, 5, 16)
