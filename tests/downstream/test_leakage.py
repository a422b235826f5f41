"""The leakage check: equal files, re-encoded ones, photographs of one thing; and no false alarm for others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.downstream.leakage import find_leaks, looks_hash, looks_of, reason
from evaluation.downstream.world import draw_pair


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boards: the first with its defects, without, and as JPEG; the second."""
    folder = tmp_path_factory.mktemp("boards")
    image, clean, _ = draw_pair(1, 192)
    Image.fromarray(image).save(folder / "one.png")
    Image.fromarray(clean).save(folder / "twin.png")
    Image.fromarray(image).save(folder / "one.jpg", quality=95)
    Image.fromarray(np.roll(image, (6, 9), (0, 1))).save(folder / "moved.png")
    Image.fromarray(draw_pair(2, 192)[0]).save(folder / "other.png")
    (folder / "copy.png").write_bytes((folder / "one.png").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "why"),
    [("copy.png", "equal files"), ("one.jpg", "aligned"), ("other.png", None)],
)
def test_why_two_images_count_as_one(boards: Path, name: str, why: str | None):
    assert reason(looks_of(boards / "one.png"), looks_of(boards / name)) == why


def test_all_pairs_of_two_parts_are_looked_at(boards: Path):
    leaks = find_leaks([boards / "one.png", boards / "other.png"], [boards / "copy.png", boards / "one.jpg"])
    assert [(leak.why, leak.first.name, leak.second.name) for leak in leaks] == [
        ("equal files", "one.png", "copy.png"),
        ("aligned", "one.png", "one.jpg"),
    ]


def test_the_hash_does_not_see_size_and_brightness():
    noise = np.random.default_rng(0).integers(0, 200, (8, 8), dtype=np.uint8)
    image = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)
    bits = looks_hash(image)
    assert bits.shape == (64,)
    assert (looks_hash(image.resize((128, 128), Image.Resampling.BICUBIC)) != bits).sum() <= 4
    assert (looks_hash(image.point(lambda value: value // 2 + 40)) != bits).sum() <= 4
    assert (looks_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) != bits).sum() >= 16
