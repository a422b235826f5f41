"""Where windows and contexts lie, what the files are called, and how painted contexts get back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.jobs import (
    Context,
    Geometry,
    centred_corner,
    cut_context,
    feathered_window,
    native_window,
    paste_context,
    pixel_centre,
    place,
    plan_jobs,
    safe_name,
)
from utils.labels import Annotation

CLASSES = {"spur": 0, "mouse bite": 1}
SQUASH = Geometry("squash", 1.0, 256, 64)
NATIVE = Geometry("native", 1.0, 64, 32)


def at(cx: float, cy: float, **box: float) -> Annotation:
    return Annotation(0, "spur", cx, cy, **box)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(folder: Path, name: str, text: str | None = "0 0.5 0.5", size: tuple[int, int] = (40, 30)) -> Path:
    """A picture of `size` (width, height), with annotations unless `text` is None."""
    Image.fromarray(noise(size[1], size[0], 3)).save(folder / name)
    if text is not None:
        (folder / name).with_suffix(".txt").write_text(text)
    return folder / name


def problems(folder: Path, geometry: Geometry = SQUASH) -> str:
    with pytest.raises(UserError) as caught:
        plan_jobs(folder, CLASSES, geometry, 1, 1)
    return str(caught.value)


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
    assert context.window == (32, 192)  # centre (64, 230), and 256 - 64


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
    assert ((context.left, context.top), context.window) == (corner, window)
    assert (context.side, context.scale) == (64, 1.0)


@pytest.mark.parametrize("scale, side", [(1.0, 64), (1.5, 96), (1.3, 83), (2.25, 144), (3.0, 192)])
def test_window_covers_the_centre_at_any_scale(scale: float, side: int):
    for cx in (0.0, 0.11, 0.5, 0.83, 1.0):
        context = place(at(cx, 0.4), (210, 200), Geometry("native", scale, 64, 32))
        assert (context.side, context.scale) == (side, scale)
        assert 0 <= context.left <= 210 - side and 0 <= context.top <= 200 - side
        assert all(0 <= corner <= 32 for corner in context.window)
        x = min(int(cx * 210), 209)
        left = context.left + context.window[0] * scale
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


# Cut and paste


def test_cutting_gives_the_pixels_at_scale_1_and_means_at_larger_ones():
    picture = noise(100, 120, 3)
    context = place(at(0.5, 0.5), (120, 100), NATIVE)
    assert np.array_equal(cut_context(picture, context, 64), picture[18:82, 28:92])
    flat = np.full((200, 200, 3), 77, np.uint8)
    wide = place(at(0.5, 0.5), (200, 200), Geometry("native", 2.5, 64, 32))
    assert np.array_equal(cut_context(flat, wide, 64), np.full((64, 64, 3), 77))
    assert cut_context(flat, place(at(0.5, 0.5), (200, 200), SQUASH), 256).shape == (256, 256, 3)


@pytest.mark.parametrize("geometry", [NATIVE, Geometry("native", 1.4, 64, 32), Geometry("squash", 1, 64, 32)])
def test_alpha_0_leaves_every_byte(geometry: Geometry):
    picture = noise(64 if geometry.resize == "squash" else 101, 64 if geometry.resize == "squash" else 99, 3)
    context = place(at(0.3, 0.6), picture.shape[1::-1], geometry)
    before = cut_context(picture, context, 64)
    pasted = paste_context(picture, before, noise(64, 64, 3, seed=1), context, np.zeros((64, 64), np.float32))
    assert np.array_equal(pasted, picture)


def test_alpha_1_replaces_exactly_at_scale_1():
    picture, after = noise(100, 120, 3), noise(64, 64, 3, seed=1)
    context = place(at(0.9, 0.1), (120, 100), NATIVE)
    original = picture.copy()
    ones = np.ones((64, 64), np.float32)
    pasted = paste_context(picture, cut_context(picture, context, 64), after, context, ones)
    assert np.array_equal(pasted[0:64, 56:120], after)
    assert np.array_equal(pasted[64:], picture[64:]) and np.array_equal(pasted[:64, :56], picture[:64, :56])
    assert np.array_equal(picture, original)  # not painted in place
    squashed = place(at(0.5, 0.5), (120, 100), Geometry("squash", 1.0, 64, 32))
    assert np.array_equal(paste_context(after, after, 255 - after, squashed, ones), 255 - after)


def test_scale_2_adds_the_change_and_keeps_the_fine_detail():
    picture = noise(128, 128, 3) // 2 + 40
    context = place(at(0.5, 0.5), (128, 128), Geometry("native", 2.0, 64, 32))
    before = cut_context(picture, context, 64)
    after, ones = before + np.uint8(30), np.ones((64, 64), np.float32)
    assert np.array_equal(paste_context(picture, before, after, context, ones), picture + 30)
    assert np.array_equal(paste_context(picture, before, before, context, ones), picture)


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


# Plans


def test_names_order_and_indices(tmp_path: Path):
    write(tmp_path, "b.png", "1 0.25 0.5 0.1 0.1\n0 0.9999 0\n1 0.2501 0.5001")
    write(tmp_path, "a.JPG", "0 0.5 0.5 0.1 0.1 0.77")
    write(tmp_path, "empty.bmp", "")
    write(tmp_path, "bare.bmp", None)
    jobs = plan_jobs(tmp_path, CLASSES, SQUASH, n_samples=2, n_iter=2)
    bases = ["b_mouse-bite_cx64_cy128", "b_spur_cx255_cy0", "b_mouse-bite_cx64_cy128-2"]
    expected = [f"a_spur_cx128_cy128_{i}" for i in range(4)]
    expected += [f"{base}_{i}" for pair in ((0, 1), (2, 3)) for base in bases for i in pair]
    assert [job.name for job in jobs] == expected
    assert [job.index for job in jobs[4:]] == [0, 1] * 3 + [2, 3] * 3
    assert len({job.name for job in jobs}) == 16
    assert jobs[4].centre == (64, 128) and jobs[4].annotation.w == 0.1
    assert jobs[0].image == tmp_path / "a.JPG"


def test_native_names_carry_native_pixels(tmp_path: Path):
    write(tmp_path, "wide.png", "0 0.75 0.5", size=(200, 100))
    (job,) = plan_jobs(tmp_path, CLASSES, NATIVE, 1, 1)
    assert (job.name, job.context.left, job.context.window) == ("wide_spur_cx150_cy50_0", 118, (16, 16))


def test_turned_photograph_is_measured_as_it_is_shown(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: 100 x 200 is shown
    Image.fromarray(noise(100, 200, 3)).save(tmp_path / "t.jpg", exif=exif)
    (tmp_path / "t.txt").write_text("0 0.5 0.9")
    (job,) = plan_jobs(tmp_path, CLASSES, NATIVE, 1, 1)
    assert job.centre == (50, 180) and job.context.top == 136


def test_suffixes_in_any_case_hidden_files_and_odd_names(tmp_path: Path):
    write(tmp_path, "BOARD 1.PNG", None)
    (tmp_path / "BOARD 1.TXT").write_text("0 0.5 0.5\r\n")
    write(tmp_path, "плата.v2 (копия).png")
    (tmp_path / "._BOARD 1.PNG").write_bytes(b"what macOS leaves on memory sticks")
    (tmp_path / "._BOARD 1.TXT").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "classes.txt").write_text("spur")
    (tmp_path / "later.png").mkdir()
    names = [job.name for job in plan_jobs(tmp_path, CLASSES, SQUASH, 1, 1)]
    assert names == ["BOARD 1_spur_cx128_cy128_0", "плата.v2 (копия)_spur_cx128_cy128_0"]


@pytest.mark.parametrize(
    "name, safe",
    [("mouse_bite", "mouse_bite"), ("a/b\\c:d", "a-b-c-d"), ("../x", "---x"), ("漏孔 2", "漏孔-2")],
)
def test_class_names_become_parts_of_file_names(name: str, safe: str):
    assert safe_name(name) == safe


# Folders that cannot be painted


def test_every_problem_of_a_folder_is_listed(tmp_path: Path):
    write(tmp_path, "good.png")
    write(tmp_path, "bad.png", "0 0.5 half\n7 0.5 0.5\n0 1.5 0.5\n0 0.5")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "broken.txt").write_text("9 0.5 0.5")
    (tmp_path / "lonely.txt").write_text("0 0.5 0.5")
    write(tmp_path, "twin.png")
    write(tmp_path, "twin.jpg")
    lines = problems(tmp_path).splitlines()
    assert lines[0] == f"defect_free_dir {tmp_path} cannot be painted (8 problems):"
    text = "\n".join(line.removeprefix("  - ").replace(f"{tmp_path}/", "") for line in lines[1:])
    for expected in (
        "twin.jpg and twin.png: the same name",
        "broken.png: not a readable picture",
        "broken.txt:1: got class 9, expected one of 0 (spur), 1 (mouse bite)",
        "bad.txt:1: got '0 0.5 half', expected numbers",
        "bad.txt:2: got class 7",
        "bad.txt:3: got 1.5, expected coordinates in [0, 1]",
        "bad.txt:4: got 2 columns",
        "lonely.txt: annotations without a picture",
    ):
        assert expected in text
    assert "good" not in text and len(lines) == 9


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_picture_cut_short_is_found_before_anything_is_painted(tmp_path: Path, suffix: str):
    path = write(tmp_path, f"cut{suffix}", size=(80, 80))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"cut{suffix}: not a readable picture" in problems(tmp_path)


def test_contexts_that_do_not_fit_are_among_the_problems(tmp_path: Path):
    write(tmp_path, "small.png", "0 0.5 0.5\n1 0.1 0.1", size=(63, 200))
    text = problems(tmp_path, NATIVE)
    assert "(2 problems)" in text and "small.txt: the picture is 63x200 px" in text
    assert "annotation 1 needs" in text and "annotation 2 needs" in text


def test_folder_without_annotations(tmp_path: Path):
    write(tmp_path, "a.png", None)
    write(tmp_path, "b.png", "\n")
    assert "no annotations" in problems(tmp_path) and "\n" not in problems(tmp_path)


def test_folder_without_pictures_and_no_folder(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5")
    assert f"{tmp_path}: no pictures in it" in problems(tmp_path)
    assert "nowhere: no such folder" in problems(tmp_path / "nowhere")
    assert "a.txt: no such folder" in problems(tmp_path / "a.txt")


def test_pictures_whose_annotations_would_write_one_file_are_named(tmp_path: Path):
    write(tmp_path, "board.png", "1 0.5 0.5")
    write(tmp_path, "board_open.png", "0 0.5 0.5")
    classes = {"circuit": 0, "open_circuit": 1}
    with pytest.raises(
        UserError, match=r"board.png and board_open.png: both would write board_open_circuit_cx"
    ):
        plan_jobs(tmp_path, classes, SQUASH, 1, 1)


def test_native_window_is_the_model_s_window_in_the_picture():
    context = place(at(0.5, 0.5), (400, 300), Geometry("native", 2.0, 128, 64))
    left, top, side = native_window(context, 64)
    assert side == 128 and (left, top) == (
        context.left + 2 * context.window[0],
        context.top + 2 * context.window[1],
    )
    assert native_window(Context(None, None, None, (3, 5), 1.0), 16) == (3, 5, 16)
