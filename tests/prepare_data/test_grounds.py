"""What there is to paint on where no clean image is known, and what is told where it is too little."""

from pathlib import Path

import numpy as np
import pytest

from tests.prepare_data.builders import SMALL, index_of, voc_xml, write_boards, write_image
from utils.images import load_rgb
from utils.prepare_data.__main__ import main
from utils.prepare_data.cutting import CutOptions
from utils.prepare_data.grounds import MOST, Square, drawn, paintable, squares_of
from utils.prepare_data.report import IndexRow
from utils.prepare_data.sources import DefectBox, SourceImage

CUT = CutOptions(window=32, clean_distance=10)


def image(width: int, height: int, *boxes: tuple[float, float, float, float]) -> SourceImage:
    return SourceImage(
        Path("a.png"), [DefectBox("spur", *box) for box in boxes], is_clean=False, size=(width, height)
    )


def test_the_largest_squares_without_a_defect():
    found = squares_of(image(300, 100, (250, 40, 290, 60)), CUT, 0)
    assert sorted(found, key=lambda one: one.left) == [Square(0, 0, 100), Square(100, 0, 100)]
    (only,) = squares_of(image(100, 100, (0, 0, 20, 100)), CUT, 0)  # 70 px are free on its right
    assert 70 * 0.85 <= only.side <= 70 and only.left >= 30
    assert squares_of(image(100, 100, (20, 20, 80, 80)), CUT, 0) == []


def test_at_most_so_many_images_are_kept():
    images = [image(40, 40) for _ in range(MOST + 3)]
    assert len(drawn(images, 0)) == MOST and drawn(images[:5], 0) == images[:5]


def row(side: int) -> IndexRow:
    return IndexRow("train_clean/a.png", "a.png", "", 10, 20, 10 + side, 20 + side, 1, "a", "train")


@pytest.mark.parametrize("side, fit", [(95, ["spot"]), (96, ["spot", "stain"])])
def test_a_class_needs_room_for_its_smallest_defect(side: int, fit: list[str]):
    sizes = {"spot": [(10, 10)] * 8, "stain": [(72, 30), (90, 90)] * 4, "none": []}  # 72 / 0.75 = 96
    found, told = paintable([row(40), row(side)], sizes, 64)
    assert found == fit
    assert told == (
        []
        if side == 96
        else [
            "class stain cannot be painted: its smallest defect needs a square of 96 px without others, "
            "the largest has 95 px; give clean images (--clean-dir)"
        ]
    )


def test_few_defects_are_told():
    _, told = paintable([row(200)], {"spot": [(9, 9)], "stain": [(9, 9)] * 7, "hole": [(9, 9)] * 8}, 64)
    assert told == [
        "class spot has 1 defect to train on: what is painted will look like it; about 20 are enough",
        "class stain has 7 defects to train on: what is painted will look like them; about 20 are enough",
    ]


def test_squares_are_written_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_boards(tmp_path / "source", clean=False)
    out = tmp_path / "my boards"
    main([str(tmp_path / "source"), "--out", str(out), "--holdout", "03", "--window", "32"])
    rows = [row for row in index_of(out) if row["file"].startswith("train_clean/")]
    assert len(rows) >= 6 and {row["group"] for row in rows} == {"01", "02", "04"}
    for one in rows:
        left, top, right, bottom = (int(float(one[side])) for side in ("left", "top", "right", "bottom"))
        whole = load_rgb(tmp_path / "source" / one["source"])
        assert np.array_equal(load_rgb(out / one["file"]), whole[top:bottom, left:right])
    said = capsys.readouterr().out
    assert f"{len(rows)} squares without defects to paint on" in said
    assert f"python train.py '{out.as_posix()}/train-prior.yml'" in said


def test_large_defects_without_room_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture):
    for n in range(3):
        write_image(tmp_path / f"source/images/{n}.png", n)
        voc_xml(tmp_path / f"source/annotations/{n}.xml", [("stain", 10, 10, 90, 110)])
    out = tmp_path / "out"
    main([str(tmp_path / "source"), "--out", str(out), "--holdout-share", "0", *SMALL[2:]])
    assert (
        "class stain cannot be painted: its smallest defect needs a square of 133 px"
        in capsys.readouterr().out
    )
    assert not (out / "generate.yml").exists() and (out / "train-prior.yml").exists()
