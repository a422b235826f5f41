"""Outlines that prepare_data finds by itself, where all that is known are boxes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from tests.prepare_data.builders import SMALL, index_of, write_text
from utils.images import load_rgb
from utils.prepare_data.__main__ import main

SIDE, CENTER, REACH, MARGIN = 160, (80, 72), 9, 3


def surface(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    gray = 120 + rng.normal(0, 4, (SIDE, 1)) + rng.normal(0, 2, (SIDE, SIDE))
    return Image.fromarray(np.clip(gray, 0, 255).astype(np.uint8))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten gray surfaces with a round hole (0), ten with a place that only its box shows (1), and clean ones: YOLO."""
    root = tmp_path / "source"
    x, y = CENTER
    for part in ("images", "labels", "clean"):
        (root / part).mkdir(parents=True)
    for n in range(20):
        image, kind = surface(n), n % 2
        if kind == 0:
            ImageDraw.Draw(image).ellipse((x - REACH, y - REACH, x + REACH, y + REACH), fill=30)
        image.save(root / f"images/part{n:02}.png")
        side = 2 * (REACH + MARGIN) / SIDE
        write_text(root / f"labels/part{n:02}.txt", f"{kind} {x / SIDE} {y / SIDE} {side} {side}\n")
        surface(100 + n).save(root / f"clean/free{n:02}.png")
    write_text(root / "classes.txt", "hole\nghost\n")
    return root


def test_what_stands_out_gets_an_outline_and_tells_the_margin(source: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    main([str(source), "--out", str(out), *SMALL])
    outlines = sorted((out / "train/outlines").glob("*.png"))
    holes = sorted((out / "train/boxed").glob("hole_*.png"))
    assert [path.name for path in outlines] == [path.name for path in holes] and len(holes) >= 6
    for path in outlines:
        patch, shape = load_rgb(out / "train/boxed" / path.name), load_rgb(path)[..., 0] > 127
        truth = patch[..., 0] < 75
        assert (shape & truth).sum() / (shape | truth).sum() > 0.7
    rows = [row for row in index_of(out) if row["file"].startswith("train/outlines/")]
    assert {row["class"] for row in rows} == {"hole"} and len(rows) == len(outlines)
    assert yaml.safe_load((out / "generate.yml").read_text())["label_margin"] in (2, 3)
    told = f"train/outlines     the shapes of {len(rows)} of them, {len(rows)} found by what stands out in the box"
    assert told in capsys.readouterr().out


def test_a_class_of_which_few_stand_out_keeps_its_boxes(source: Path, tmp_path: Path, capsys):
    for n in range(2, 20, 2):  # one hole is left
        surface(n).save(source / f"images/part{n:02}.png")
    main([str(source), "--out", str(tmp_path / "out"), "--holdout-share", "0", *SMALL])
    assert not list((tmp_path / "out/train/outlines").iterdir())
    told = [line for line in capsys.readouterr().out.splitlines() if " out, too few" in line]
    assert [line.strip() for line in told] == [
        "hole: 1 of 10 stands out, too few to trust; its boxes are used"
    ]
