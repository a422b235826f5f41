"""Where windows and contexts lie."""

import numpy as np
import pytest

from generation.geometry import (
    Context,
    Geometry,
    centered_corner,
    native_window,
    pixel_center,
    place,
    share_context,
)
from utils.errors import UserError
from utils.labels import Annotation

SQUASH = Geometry("squash", 1.0, 256, 64)
NATIVE = Geometry("native", 1.0, 64, 32)


def at(cx: float, cy: float, **box: float) -> Annotation:
    return Annotation(0, "spur", cx, cy, **box)


# Windows


@pytest.mark.parametrize(
    "center, corner",
    [
        ((128, 128), (96, 96)),
        ((32, 31), (0, 0)),
        ((33, 0), (1, 0)),
        ((0, 255), (0, 192)),
        ((224, 225), (192, 192)),
        ((223, 100), (191, 68)),
    ],
)
def test_window_is_centered_and_clamped(center: tuple[int, int], corner: tuple[int, int]):
    assert centered_corner(*center, 64, 256, 256) == corner


def test_corner_of_an_oblong_picture_and_of_an_odd_window():
    assert centered_corner(200, 90, 64, 300, 100) == (168, 36)
    assert centered_corner(10, 10, 7, 40, 40) == (7, 7)  # 7..13: as many px left as right of 10


@pytest.mark.parametrize(
    "cx, cy, center",
    [(0.5, 0.5, (50, 25)), (0.999, 0.01, (99, 0)), (1.0, 1.0, (99, 49)), (0.0, 0.139, (0, 6))],
)
def test_center_is_rounded_down_and_stays_inside(cx: float, cy: float, center: tuple[int, int]):
    assert pixel_center(at(cx, cy), (100, 50)) == center


def test_squashed_picture_is_one_context_whatever_its_size():
    context = place(at(0.25, 0.9), (1000, 37), SQUASH)
    assert (context.left, context.top, context.side, context.scale) == (None, None, None, 1.0)
    assert context.windows == ((32, 192),)  # center (64, 230), and 256 - 64


# Contexts of native images: 64 px around the center, a window of 32 in them


@pytest.mark.parametrize(
    "cx, cy, corner, window",
    [
        (0.5, 0.5, (68, 18), (16, 16)),  # free on all sides
        (0.0, 0.5, (0, 18), (0, 16)),
        (1.0, 0.5, (136, 18), (32, 16)),
        (0.5, 0.0, (68, 0), (16, 0)),
        (0.5, 1.0, (68, 36), (16, 32)),
        (0.12, 0.5, (0, 18), (8, 16)),  # center x 24: the context is clamped, the window still centered
    ],
)
def test_native_context_is_clamped_at_every_edge(
    cx: float, cy: float, corner: tuple[int, int], window: tuple[int, int]
):
    context = place(at(cx, cy), (200, 100), NATIVE)
    assert ((context.left, context.top), context.windows) == (corner, (window,))
    assert (context.side, context.scale) == (64, 1.0)


@pytest.mark.parametrize("scale, side", [(1.0, 64), (1.5, 96), (1.3, 83), (2.25, 144), (3.0, 192)])
def test_window_covers_the_center_at_any_scale(scale: float, side: int):
    for cx in (0.0, 0.11, 0.5, 0.83, 1.0):
        context = place(at(cx, 0.4), (210, 200), Geometry("native", scale, 64, 32))
        assert (context.side, context.scale) == (side, scale)
        assert 0 <= context.left <= 210 - side and 0 <= context.top <= 200 - side
        assert all(0 <= corner <= 32 for corner in context.windows[0])
        x = min(int(cx * 210), 209)
        left = context.left + context.windows[0][0] * scale
        assert left - 1 <= x <= left + 32 * scale  # the center, in native px, is in the window


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


def test_windows_that_fit_share_a_context_that_is_centered_on_them():
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


def test_native_window_is_the_model_s_window_in_the_picture():
    context = place(at(0.5, 0.5), (400, 300), Geometry("native", 2.0, 128, 64))
    left, top, side = native_window(context, context.windows[0], 64)
    assert side == 128 and (left, top) == (
        context.left + 2 * context.windows[0][0],
        context.top + 2 * context.windows[0][1],
    )
    assert native_window(Context(None, None, None, ((3, 5),), 1.0), (3, 5), 16) == (3, 5, 16)
