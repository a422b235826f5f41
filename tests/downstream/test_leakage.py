"""The leakage check: equal files, re-encoded, shifted and turned ones; and no false alarm for others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from evaluation.downstream.leakage import find_leaks, scale_for
from evaluation.downstream.looks import AS_IT_IS, Thumbnail, peaks, shared, shared_likeness, spectrum
from evaluation.downstream.world import draw_pair


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board, what may be made of it, and another one."""
    folder = tmp_path_factory.mktemp("boards")
    image = draw_pair(1, 192)[0]
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    made = {
        "one": image,
        "moved": image[6:, 9:],
        "part": image[:180, 12:],
        "turned": np.rot90(image)[4:, :-5],
        "mirrored": image[:, ::-1],
        "upside_down": image[::-1],
        "noisy": np.clip(image + noise, 0, 255)[3:, 4:].astype(np.uint8),
        "other": draw_pair(2, 192)[0],
    }
    for name, pixels in made.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    Image.fromarray(image).save(folder / "one.jpg", quality=95)
    Image.fromarray(image[:, ::-1]).save(folder / "mirrored.jpg", quality=90)
    (folder / "copy.png").write_bytes((folder / "one.png").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("copy.png", "equal files"),
        ("one.jpg", "aligned"),
        ("moved.png", "shifted"),
        ("part.png", "shifted"),
        ("noisy.png", "shifted"),
        ("turned.png", "turned or mirrored"),
        ("mirrored.png", "turned or mirrored"),
        ("mirrored.jpg", "turned or mirrored"),
        ("upside_down.png", "turned or mirrored"),
        ("other.png", None),
    ],
)
def test_why_two_images_count_as_one(boards: Path, name: str, why: str | None):
    leaks = find_leaks([boards / "one.png"], [boards / name])
    assert [leak.why for leak in leaks] == ([why] if why else [])


def test_all_pairs_of_two_parts_are_looked_at(boards: Path):
    leaks = find_leaks([boards / "one.png", boards / "other.png"], [boards / "copy.png", boards / "one.jpg"])
    assert [(leak.why, leak.first.name, leak.second.name) for leak in leaks] == [
        ("equal files", "one.png", "copy.png"),
        ("aligned", "one.png", "one.jpg"),
    ]
    assert find_leaks([], [boards / "one.png"]) == find_leaks([boards / "one.png"], []) == []


def test_other_boards_are_no_leaks_however_they_are_turned(tmp_path: Path):
    paths = []
    for seed in range(16):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(draw_pair(seed, 192)[0]).save(paths[-1])
    assert find_leaks(paths[:8], paths[8:]) == []


def test_what_a_camera_rig_shares_is_no_leak(tmp_path: Path):
    """Photographs with the same strong edges and with textures of their own."""
    rng = np.random.default_rng(5)
    frame = np.full((200, 240), 90.0)
    frame[40:60] = frame[:, 30:36] = frame[150:152] = 220
    parts: list[list[Path]] = [[], []]
    for k in range(8):
        texture = 20 * ndimage.gaussian_filter(rng.normal(0, 1, frame.shape), 1)
        parts[k % 2].append(tmp_path / f"{k}.png")
        Image.fromarray(np.clip(frame + texture, 0, 255).astype(np.uint8)).save(parts[k % 2][-1])
    seen = [np.asarray(Image.open(paths[0]), float) for paths in parts]
    assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.95
    assert find_leaks(*parts) == []


def test_plain_images_are_no_leaks(tmp_path: Path):
    for value in (40, 200):
        Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(tmp_path / f"{value}.png")
    assert find_leaks([tmp_path / "40.png"], [tmp_path / "200.png"]) == []


def test_thumbnails_share_the_scale_of_the_largest_image(tmp_path: Path):
    paths = [tmp_path / f"{side}.png" for side in (100, 512)]
    for path in paths:
        Image.new("RGB", (int(path.stem), 80)).save(path)
    assert scale_for(paths[:1]) == 1
    assert scale_for(paths) == 2


def test_the_parts_that_two_images_share():
    whole = np.arange(80).reshape(8, 10)
    one, other = shared(whole[:, :7], whole[2:, 3:], (2, 3))
    assert np.array_equal(one, whole[2:, 3:7]) and np.array_equal(one, other)
    other, one = shared(whole[2:, 3:], whole[:, :7], (-2, -3))
    assert np.array_equal(one, whole[2:, 3:7]) and np.array_equal(one, other)


def test_the_peak_lies_at_the_shift_and_is_1():
    noise = np.random.default_rng(2).normal(0, 1, (40, 50)).astype(np.float32)
    own = spectrum(noise, 64)
    assert peaks(own, own[None]) == pytest.approx(1, abs=1e-3)
    assert peaks(own, spectrum(noise[::-1], 64)[None]) < 0.3


def test_a_small_overlap_does_not_count():
    gray = np.asarray(Image.fromarray(draw_pair(3, 256)[0]).convert("L"))
    halves = Thumbnail(gray[:, :200]), Thumbnail(gray[:, 170:])
    assert shared_likeness(*halves, AS_IT_IS) == 0
