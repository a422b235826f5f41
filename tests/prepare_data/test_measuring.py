"""Contrast of defects and margin of their boxes, measured on patches whose answers are known."""

import numpy as np
import pytest

from utils.images import save_png
from utils.prepare_data.measuring import appearance, change_in_box, contrast_to_ring
from utils.prepare_data.report import IndexRow

BOX = (20, 24, 44, 40)


def gray(level: int = 100) -> np.ndarray:
    return np.full((64, 64, 3), level, np.float32)


def dark_spot(depth: int = 40) -> np.ndarray:
    """A spot 4 px inside of BOX on all sides."""
    patch = gray()
    patch[28:36, 24:40] -= depth
    return patch


def test_change_and_margin_are_those_of_the_spot():
    assert change_in_box(dark_spot(), gray(), BOX) == (40.0, 4.0)


def test_only_visible_change_in_the_box_counts():
    patch = dark_spot()
    patch[20, 22] = 0  # a single pixel
    patch[2:12, 2:12] = 0  # another defect
    patch[28:36, 22:24] -= 10  # a shadow
    assert change_in_box(patch, gray(), BOX) == (40.0, 4.0)
    assert change_in_box(gray(110), gray(), BOX) is None


def test_without_a_twin_contrast_is_that_to_the_ring():
    assert contrast_to_ring(dark_spot(), BOX) == 40.0
    assert contrast_to_ring(gray(), BOX) == 0.0
    noise = np.random.default_rng(0).normal(0, 8, (64, 64, 1)).astype(np.float32)
    assert contrast_to_ring(gray() + noise, BOX) < 12 < 30 < contrast_to_ring(dark_spot(45) + noise, BOX)


def test_patches_are_measured_by_their_twins_in_native_pixels(tmp_path):
    rows = []
    for part in ("boxed", "twins"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for number, depth in enumerate((30, 50, 70)):
        name = f"pit_{number}.png"
        save_png(tmp_path / "train/boxed" / name, np.uint8(dark_spot(depth)))
        (tmp_path / f"train/boxed/pit_{number}.txt").write_text("0 0.5 0.5 0.375 0.25\n")
        if number:
            save_png(tmp_path / "train/twins" / name, np.uint8(gray()))
        rows.append(IndexRow(f"train/boxed/{name}", "a.png", "pit", 0, 0, 9, 9, 2.0, "a", "train"))
    found = appearance(tmp_path, rows)
    assert found.contrasts == {"pit": pytest.approx(50)} and found.margins == [8.0, 8.0]
