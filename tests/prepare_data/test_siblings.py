"""Clean twins from other photographs of a group."""

from pathlib import Path

import numpy as np
import pytest

from utils.images import save_png
from utils.prepare_data.groups.siblings import Siblings
from utils.prepare_data.sources import DefectBox, SourceImage

BOX = DefectBox("spur", 30, 30, 50, 46)


@pytest.fixture
def part() -> np.ndarray:
    """A photograph of a part, (96, 128, 3)."""
    coarse = np.random.default_rng(0).integers(0, 200, (12, 16, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


class Photographs:
    """Images in a folder, all of one group unless another one is given."""

    def __init__(self, folder: Path):
        self.folder, self.images = folder, list[SourceImage]()

    def add(self, pixels: np.ndarray, *boxes: DefectBox, group: str = "one") -> SourceImage:
        path = self.folder / f"{len(self.images)}.png"
        save_png(path, pixels)
        size = pixels.shape[1], pixels.shape[0]
        self.images.append(SourceImage(path, list(boxes), group=group, size=size))
        return self.images[-1]


@pytest.fixture
def photographs(tmp_path: Path) -> Photographs:
    return Photographs(tmp_path)


def defective(part: np.ndarray) -> np.ndarray:
    pixels = part.copy()
    pixels[33:43, 34:46] = 255
    return pixels


def noisy(part: np.ndarray, seed: int, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, part.shape)
    return np.clip(part + noise, 0, 255).astype(np.uint8)


def test_the_photograph_that_is_most_alike_around_the_box(part: np.ndarray, photographs: Photographs):
    image = photographs.add(defective(part), BOX)
    photographs.add(noisy(part, 1, 30))
    best = photographs.add(noisy(part, 2, 10), DefectBox("short", 90, 60, 110, 80))  # its defect is elsewhere
    assert Siblings(photographs.images).twin(image, defective(part), BOX) is best


def test_no_twin_where_the_others_have_a_defect_too_or_show_another_place(
    part: np.ndarray, photographs: Photographs
):
    image = photographs.add(defective(part), BOX)
    photographs.add(part, DefectBox("spur", 55, 30, 60, 40))  # 5 px beside it
    photographs.add(np.roll(part, 20, axis=1))
    photographs.add(part, group="two")
    photographs.add(part[:80])  # of another size
    photographs.add(np.full_like(part, 90))  # even
    assert Siblings(photographs.images).twin(image, defective(part), BOX) is None


def test_a_box_at_the_edge(part: np.ndarray, photographs: Photographs):
    corner = DefectBox("spur", 0, 0, 14, 12)
    pixels = part.copy()
    pixels[:8, :10] = 255
    image, clean = photographs.add(pixels, corner), photographs.add(part)
    assert Siblings(photographs.images).twin(image, pixels, corner) is clean
