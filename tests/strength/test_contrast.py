"""Contrast of defects and margin of their boxes, measured on patches whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from utils.errors import UserError
from utils.images import save_png
from utils.strength.contrast import Appearance, appearance, change_in_box, class_contrasts, contrast_to_ring

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


def test_edges_that_the_twin_has_a_px_farther_are_no_change():
    patch, twin = dark_spot(), gray()
    patch[:, 42:46] = twin[:, 43:47] = 250  # a trace that begins in the box
    assert change_in_box(patch, twin, BOX) == change_in_box(dark_spot(), gray(), BOX)


def test_without_a_twin_contrast_is_that_to_the_ring():
    assert contrast_to_ring(dark_spot(), BOX) == 40.0
    assert contrast_to_ring(gray(), BOX) == 0.0
    noise = np.random.default_rng(0).normal(0, 8, (64, 64, 1)).astype(np.float32)
    assert contrast_to_ring(gray() + noise, BOX) < 12 < 30 < contrast_to_ring(dark_spot(45) + noise, BOX)


def test_a_thin_scratch_is_no_texture():
    noise = np.random.default_rng(0).normal(0, 6, (64, 64, 1)).astype(np.float32)
    line = np.eye(64, dtype=bool)  # 1 px of each of the box's 40 rows
    scratched, box = gray() + noise + 70 * line[..., None], (12, 12, 52, 52)
    assert 45 < contrast_to_ring(scratched, box) < 75
    assert contrast_to_ring(gray() + noise, box) < 8
    assert contrast_to_ring(scratched, box, line[12:52, 12:52]) == pytest.approx(70, abs=6)
    assert contrast_to_ring(gray() + 70 * line[..., None], box, line[12:52, 12:52]) == 70


@pytest.fixture
def patches(tmp_path: Path) -> list[Path]:
    """Three pits of 30, 50 and 70 gray levels with their boxes; all but the first have a clean twin."""
    found = []
    for part in ("boxed", "twins"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for number, depth in enumerate((30, 50, 70)):
        path = tmp_path / f"train/boxed/pit_{number}.png"
        save_png(path, np.uint8(dark_spot(depth)))
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.375 0.25\n1 0.1 0.1 0.1 0.1\n")
        if number:
            save_png(tmp_path / "train/twins" / path.name, np.uint8(gray()))
        found.append(path)
    return found


CLASSES = {"pit": 0, "scratch": 1}


def test_a_patch_is_measured_by_its_twin_or_by_its_surroundings(patches: list[Path]):
    shown = [appearance(path, CLASSES) for path in patches]
    assert shown == [
        Appearance("pit", 30.0, None),
        Appearance("pit", 50.0, 4.0),
        Appearance("pit", 70.0, 4.0),
    ]
    assert class_contrasts([*shown, Appearance("scratch", 9.123, None)]) == {"pit": 50.0, "scratch": 9.12}


def test_a_twin_that_shows_no_change_or_has_another_size_says_nothing(patches: list[Path]):
    twin = patches[1].parent.parent / "twins" / patches[1].name
    for pixels in (dark_spot(50), gray()[:32]):
        save_png(twin, np.uint8(pixels))
        assert appearance(patches[1], CLASSES) == Appearance("pit", 50.0, None)


def test_an_outline_tells_the_margin_where_no_twin_does(patches: list[Path]):
    outline = np.zeros((64, 64), np.uint8)
    outline[28:36, 24:40] = 255
    outline[2:6, 2:6] = 255  # outside of the box
    path = patches[0].parent.parent / "outlines" / patches[0].name
    path.parent.mkdir()
    save_png(path, outline)
    assert appearance(patches[0], CLASSES) == Appearance("pit", 30.0, 4.0)
    scratch, thin = gray(), np.zeros((64, 64), np.uint8)
    scratch[32, 24:27], thin[32, 24:27] = 40, 255  # 3 px of 384
    save_png(patches[1].parent.parent / "outlines" / patches[1].name, thin)
    save_png(patches[1], np.uint8(scratch))
    (patches[1].parent.parent / "twins" / patches[1].name).unlink()
    assert appearance(patches[1], CLASSES).contrast == 60.0
    for unusable in (outline[:32], np.zeros((64, 64), np.uint8)):
        save_png(path, unusable)
        assert appearance(patches[0], CLASSES) == Appearance("pit", 30.0, None)


def test_a_patch_needs_its_box(patches: list[Path]):
    patches[0].with_suffix(".txt").unlink()
    with pytest.raises(UserError, match="pit_0.txt: no such annotation file"):
        appearance(patches[0], CLASSES)
