"""The command line: files, labels, samples, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.synthetic_pcb.__main__ import main
from utils.synthetic_pcb.board import CLASSES
from utils.synthetic_pcb.writing import yolo_line

ROOT = Path(__file__).resolve().parents[2]


def test_yolo_line_is_normalized():
    assert yolo_line((10, 20, 30, 60), "short", 100, 200) == "3 0.100000 0.400000 0.100000 0.400000"


def test_command_line_writes_the_training_layout(tmp_path, capsys):
    main(["--out", str(tmp_path), "--seed", "4", "--clean", "2", "--per-class", "1", "--boards", "1"])
    assert json.loads((tmp_path / "pcb.json").read_text()) == {name: i for i, name in enumerate(CLASSES)}
    assert sorted(p.name for p in (tmp_path / "defect_free").iterdir()) == ["board_0.png", "board_1.png"]
    assert sorted(p.name for p in (tmp_path / "defect").iterdir()) == [f"{name}_0.png" for name in CLASSES]
    assert Image.open(tmp_path / "defect" / "short_0.png").size == (96, 96)
    test_files = sorted(p.name for p in (tmp_path / "test").iterdir())
    assert test_files == ["board_0.png", "board_0.txt", "board_0_mask.png"]
    mask = np.asarray(Image.open(tmp_path / "test" / "board_0_mask.png"))
    for line in (tmp_path / "test" / "board_0.txt").read_text().splitlines():
        cx, cy, w, h = (float(v) * 256 for v in line.split()[1:])
        window = mask[round(cy - h / 2) : round(cy + h / 2), round(cx - w / 2) : round(cx + w / 2)]
        assert window.any(axis=0).all() and window.any(axis=1).all()


def test_samples_hold_each_class_once_on_clean_boards(tmp_path):
    main(["--samples", str(tmp_path)])
    found = []
    for text in sorted(tmp_path.glob("*.txt")):
        width, height = Image.open(text.with_suffix(".png")).size
        for line in text.read_text().splitlines():
            index, cx, cy, _, _ = (float(v) for v in line.split())
            found.append(int(index))
            assert 40 <= cx * width <= width - 40 and 40 <= cy * height <= height - 40
    assert sorted(found) == list(range(6)) and len(list(tmp_path.glob("*.png"))) == 5


def test_the_bundled_boards_with_every_class_are_what_the_program_writes(tmp_path):
    main(["--full-boards", str(tmp_path)])
    bundled = sorted((ROOT / "data/boards").iterdir())
    assert [path.name for path in bundled] == sorted(path.name for path in tmp_path.iterdir())
    for path in bundled:
        if path.suffix == ".txt":
            lines = path.read_text().splitlines()
            assert [int(line.split()[0]) for line in lines] == list(range(6))
            assert (tmp_path / path.name).read_text().splitlines() == lines
        else:
            assert path.stat().st_size < 250_000
            difference = np.asarray(Image.open(path)).astype(int) - np.asarray(
                Image.open(tmp_path / path.name)
            )
            assert np.abs(difference).mean() < 1  # other versions of the libraries round differently


@pytest.mark.parametrize(
    "options, problem",
    [
        ([], "nothing to write"),
        (["--out", "x", "--patch", "95"], "--patch"),
        (["--out", "x", "--margin", "10"], "--margin"),
        (["--out", "x", "--size", "100"], "--size"),
        (["--out", "x", "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_options_are_user_errors(options, problem):
    with pytest.raises(UserError, match=problem):
        main(options)
