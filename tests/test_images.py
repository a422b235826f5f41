"""Images of every kind arrive as the same uint8 values, and [-1, 1] goes there and back."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.images import (
    ImageCache,
    blend,
    check_pixels,
    gray,
    grid,
    image_size,
    is_gray,
    list_images,
    load_rgb,
    resize_squash,
    save_gif,
    save_png,
    to_tensor,
    to_uint8,
    verify_image,
)

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 8, 7], [128, 128, 128], [1, 2, 3]]], np.uint8)


# Reading


@pytest.mark.parametrize(
    "suffix, options", [("png", {}), ("BMP", {}), ("tif", {}), ("webp", {"lossless": True})]
)
def test_lossless_files_keep_every_value(tmp_path: Path, suffix: str, options: dict):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **options)
    assert np.array_equal(load_rgb(path), RGB)
    assert verify_image(path) is None and check_pixels(path) is None


def test_jpeg_is_close(tmp_path: Path):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load_rgb(tmp_path / "a.jpg").astype(int) - flat).max() <= 3


def test_gray_palette_and_alpha(tmp_path: Path):
    gray = np.array([[0, 100], [200, 255]], np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(load_rgb(tmp_path / "gray.png"), np.stack([gray] * 3, axis=2))

    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    assert load_rgb(tmp_path / "palette.png").tolist() == [[[255, 0, 0], [0, 255, 0]]]

    alpha = np.array([[[10, 20, 30, 0], [40, 50, 60, 128]]], np.uint8)
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    assert load_rgb(tmp_path / "alpha.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str):
    deep = np.array([[0, 65535, 257], [32768, 514, 128]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    loaded = load_rgb(tmp_path / f"deep.{suffix}")
    assert loaded[:, :, 0].tolist() == [[0, 255, 1], [128, 2, 0]]
    assert loaded.shape == (2, 3, 3) and np.ptp(loaded, axis=2).max() == 0


def test_floating_point_pixels_are_refused(tmp_path: Path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="pixels of mode F, expected 8 or 16 bits"):
        load_rgb(tmp_path / "float.tif")
    assert "expected 8 or 16 bits" in check_pixels(tmp_path / "float.tif")


def test_exif_orientation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to view
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_rgb(tmp_path / "a.png"), np.rot90(RGB, k=-1))


def test_unreadable_files(tmp_path: Path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    cut = tmp_path / "cut.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    for path in (bad, cut, tmp_path / "none.png"):
        with pytest.raises(UserError, match=path.name):
            load_rgb(path)
        assert str(path) in verify_image(path) and str(path) in check_pixels(path)


def test_list_images_is_sorted_and_knows_suffixes(tmp_path: Path):
    for name in ("b.PNG", "a.jpeg", "c.tiff", "d.txt", "e.Jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.tiff", "e.Jpg"]
    with pytest.raises(UserError, match="no such folder"):
        list_images(tmp_path / "none")


# Writing


def test_save_png_reads_back_and_leaves_nothing_else(tmp_path: Path):
    save_png(tmp_path / "a.png", RGB)
    save_png(tmp_path / "a.png", RGB[::-1])
    save_png(tmp_path / "mask.png", RGB[:, :, 0])
    assert np.array_equal(load_rgb(tmp_path / "a.png"), RGB[::-1])
    assert Image.open(tmp_path / "mask.png").mode == "L"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "mask.png"]


def test_failed_save_keeps_the_old_file(tmp_path: Path):
    save_png(tmp_path / "a.png", RGB)
    with pytest.raises((TypeError, ValueError)):
        save_png(tmp_path / "a.png", np.zeros((2, 2, 7), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(load_rgb(tmp_path / "a.png"), RGB)


def test_a_gif_comes_back_with_its_frames(tmp_path: Path):
    frames = [np.full((12, 20, 3), (50 * n, 250 - 50 * n, 90), np.uint8) for n in range(5)]
    path = tmp_path / "a.gif"
    save_gif(path, frames)
    with Image.open(path) as gif:
        assert gif.n_frames == 5 and gif.info["loop"] == 0 and gif.size == (20, 12)
        for index, frame in enumerate(frames):
            gif.seek(index)
            assert gif.info["duration"] == 250
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).mean() < 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.gif"]


# Values


def test_tensor_values():
    tensor = to_tensor(RGB)
    assert tensor.shape == (1, 3, 2, 3) and tensor.dtype == torch.float32
    assert tensor[0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]
    assert tensor[0, 0, 1, 1].item() == pytest.approx(128 / 127.5 - 1, abs=1e-7)


def test_every_value_survives_the_round_trip():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert np.array_equal(to_uint8(to_tensor(ramp))[0], ramp)


def test_to_uint8_rounds_and_clips():
    values = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0]).reshape(1, 1, 1, 6)
    assert to_uint8(values).tolist() == [[[[0], [0], [128], [191], [255], [255]]]]  # 127.5 rounds to even


def test_resize_squash():
    halves = np.zeros((8, 20, 3), np.uint8)
    halves[:, 10:] = 200
    small = resize_squash(halves, 4)
    assert small.shape == (4, 4, 3)
    assert small[:, 0].max() <= 5 and small[:, 3].min() >= 195
    assert resize_squash(RGB, (4, 9)).shape == (4, 9, 3)
    assert np.array_equal(resize_squash(RGB[:, :2], 2), RGB[:, :2])
    checker = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    averaged = resize_squash(np.repeat(checker[:, :, None], 3, axis=2), 16)
    assert np.abs(averaged[2:-2, 2:-2].astype(int) - 127.5).max() < 3  # antialiased: no moiré


def test_grid():
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid(pictures, columns=2, pad=1)
    assert sheet.shape == (7, 9, 3)
    assert (sheet[1, 1, 0], sheet[1, 5, 0], sheet[4, 1, 0]) == (10, 20, 30)
    assert (sheet[4, 5, 0], sheet[0, 0, 0], sheet[3, 1, 0]) == (255, 255, 255)
    assert grid(pictures, columns=8, pad=0).shape == (2, 9, 3)


def test_the_cache_keeps_the_latest_images_up_to_its_limit(tmp_path: Path):
    for name in "abc":
        Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(tmp_path / f"{name}.png")
    cache = ImageCache(limit=600)  # two images of 300 bytes
    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    first = cache(a)
    cache(b)
    assert cache(a) is first
    cache(c)  # b, the least recently used, is dropped
    assert list(cache.images) == [a, c]


# What others call an image


def test_a_format_that_we_do_not_name_is_refused_whatever_the_file_is_called(tmp_path: Path):
    """Pillow would start Ghostscript for the first."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png", "GIF")
    for name in ("a.png", "b.png"):
        with pytest.raises(UserError, match="not a readable image"):
            load_rgb(tmp_path / name)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [0, 3, 6, 9, 300, 65535])
def test_size_and_pixels_agree_on_every_orientation(tmp_path: Path, form: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form.lower()}"
    Image.new("RGB", (8, 6)).save(path, form, exif=exif)
    width, height = image_size(path)
    assert load_rgb(path).shape == (height, width, 3)
    assert (width, height) == ((6, 8) if orientation == 6 else (8, 6))


def test_names_that_are_not_utf8_are_named(tmp_path: Path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        open(path, "wb").close()
    except OSError:
        pytest.skip("the file system takes text alone")
    with pytest.raises(UserError, match="rename"):
        list_images(tmp_path)


def test_gray_is_what_has_equal_channels_but_for_what_jpeg_adds():
    image = np.full((4, 5, 3), 90, np.uint8)
    image[0, 0] = 90, 92, 91
    assert is_gray(image)
    image[3, 4, 2] = 93
    assert not is_gray(image)
    assert gray(np.array([[[10, 20, 33], [7, 7, 7]]], np.uint8)).tolist() == [[[21] * 3, [7] * 3]]


def test_blending_by_a_weight():
    old = np.array([[[10, 20, 30], [10, 20, 30], [10, 20, 30], [10, 20, 30]]], np.uint8)
    new = np.array([[[110, 0, 31], [110, 0, 31], [300, -50, 31], [-9, 0, 31]]], np.float32)
    weight = np.array([[0, 0.5, 1, 0.25]], np.float32)
    done = [[[10, 20, 30], [60, 10, 30], [255, 0, 31], [5, 15, 30]]]  # 30.5 and 30.25 are 30, 5.25 is 5
    assert np.array_equal(blend(old, new, weight), done)
