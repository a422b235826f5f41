"""Training data of the foundation prior: patches, their boxes and colors, and the files that train.py reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.foundation_data.__main__ import main
from utils.foundation_data.boards import BOARD, SHIFT, draw_boards
from utils.foundation_data.defects import CLASSES, blob, draw_patch, fracture
from utils.foundation_data.textures import SIDE, directed_noise
from utils.foundation_data.variety import varied, widened
from utils.foundation_data.writing import CLASSES as ALL_CLASSES


def test_noise_runs_along_its_angle():
    noise = directed_noise(np.random.default_rng(0), angle=0.0, along=20, across=1)
    along, across = np.diff(noise, axis=1).std(), np.diff(noise, axis=0).std()
    assert along < 0.2 * across
    assert abs(noise.mean()) < 1e-6 and noise.std() == pytest.approx(1)


def test_a_blob_fills_its_box_and_leaves_its_corners():
    mask = blob(np.random.default_rng(3), width=40, height=24, rough=0.5)
    assert mask.shape == (24, 40) and mask[12, 20] > 0.9
    assert max(mask[0, 0], mask[0, -1], mask[-1, 0], mask[-1, -1]) < 0.05
    rows, columns = np.nonzero(mask > 0.5)
    assert columns.max() - columns.min() > 28 and rows.max() - rows.min() > 16


def test_a_fracture_goes_from_corner_to_corner():
    mask = fracture(np.random.default_rng(1), width=30, height=20, thick=2)
    rows, columns = np.nonzero(mask > 0.3)
    assert columns.min() <= 2 and columns.max() >= 27 and rows.min() <= 2 and rows.max() >= 17
    assert mask.mean() < 0.25


def test_patches_depend_on_seed_and_index_alone_and_show_a_change_in_their_box():
    patches = [draw_patch(7, index) for index in range(40)]
    again = draw_patch(7, 5)
    assert np.array_equal(patches[5].image, again.image) and patches[5].box == again.box
    assert {patch.class_name for patch in patches} == {*CLASSES, None}
    for patch in patches:
        assert patch.image.shape == (SIDE, SIDE, 3) and patch.image.dtype == np.uint8
        if patch.box is not None:
            left, top, right, bottom = patch.box
            assert 0 <= left < right <= SIDE and 0 <= top < bottom <= SIDE


def test_defects_of_boards_are_off_center_by_the_shift_at_most():
    clean, patches = next(draw_boards(2, per_class=1))
    assert clean.shape == (BOARD, BOARD, 3) and len(patches) >= 3
    for patch in patches:
        left, top, right, bottom = patch.box
        assert 0 <= left < right <= SIDE and 0 <= top < bottom <= SIDE
        middles = (left + right) / 2, (top + bottom) / 2
        assert all(abs(middle - SIDE / 2) <= SHIFT + 1 for middle in middles)


def test_gray_stays_gray_and_colors_vary():
    gray = np.full((8, 8, 3), 90, np.uint8)
    for seed in range(30):
        result = varied(gray, binary=False, rng=np.random.default_rng(seed))
        assert (result == result[..., :1]).all()
    color = gray.copy()
    color[..., 0] = 200
    results = [varied(color, binary=False, rng=np.random.default_rng(seed)) for seed in range(200)]
    became_gray = sum(bool((result == result[..., :1]).all()) for result in results)
    assert 40 <= became_gray <= 90  # a quarter, and a ninth to a third of the shuffled quarter


def test_boxes_are_widened_within_the_image():
    boxes = {widened((2, 5, 20, 30), (32, 64), np.random.default_rng(seed)) for seed in range(60)}
    assert boxes == {
        (2, 5, 20, 30),
        (1, 4, 21, 31),
        (0, 3, 22, 32),
        (0, 1, 24, 32),
        (0, 0, 26, 32),
        (0, 0, 28, 32),
    }


def test_command_line_writes_what_train_py_reads(tmp_path: Path):
    main(["--out", str(tmp_path), "--seed", "1", "--surfaces", "24", "--boards", "1"])
    assert json.loads((tmp_path / "classes.json").read_text()) == {
        name: k for k, name in enumerate(ALL_CLASSES)
    }
    boxed = sorted((tmp_path / "boxed").glob("*.png"))
    assert {path.name.rsplit("_", 1)[0] for path in boxed} >= {"short", "spur", "pit", "crack"}
    for path in boxed:
        name = path.stem.rsplit("_", 1)[0]
        number, *box = path.with_suffix(".txt").read_text().split()
        assert ALL_CLASSES[int(number)] == name and all(0 < float(value) <= 1 for value in box)
    clean = sorted((tmp_path / "clean").glob("*.png"))
    assert {path.stem.split("_")[0] for path in clean} == {"surface", "board"}
    assert Image.open(boxed[0]).size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("options", "problem"),
    [([], "nothing to write"), (["--surfaces", "-1"], "--surfaces must be 0 or more, got -1")],
)
def test_bad_options_end_with_a_sentence(tmp_path, options, problem):
    with pytest.raises(UserError, match=problem):
        main(["--out", str(tmp_path), *options])
