"""Small annotated data sets for the tests of prepare_data."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.prepare_data.survey import survey_source

WIDTH, HEIGHT = 160, 120
SMALL = ["--tile", "64", "--window", "32", "--margin", "8"]


def pixels(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path: Path, seed: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path)
    return path


def write_text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def voc_xml(path: Path, boxes: list[tuple], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in boxes
    )
    size_text = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    write_text(path, f"<annotation><filename>{path.stem}.png</filename>{size_text}{objects}</annotation>")


def write_boards(root: Path, count: int = 4, clean: bool = True) -> Path:
    """`count` boards, named as those of PKU-Market-PCB, each with a spur at (40..52, 50..60) and a short."""
    for board in range(1, count + 1):
        for number, (name, box) in enumerate(
            [("spur", (40, 50, 52, 60)), ("short", (100, 30, 110, 50))], start=1
        ):
            stem = f"{board:02}_{name}_{number:02}"
            write_image(root / f"images/{stem}.png", board * 10 + number)
            voc_xml(root / f"annotations/{stem}.xml", [(name, *box)])
        if clean:
            write_image(root / f"clean/{board:02}.png", board * 10)
    return root


def index_of(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_boxes(root: Path, format_name: str = "auto") -> dict[str, list[tuple]]:
    """{image: [(class, left, top, right, bottom), ...]} of a folder whose format is recognized."""
    survey = survey_source(root, format_name)
    return {
        survey.tree.relative(p.path): [(b.class_name, b.left, b.top, b.right, b.bottom) for b in p.boxes]
        for p in survey.images
    }


def error_of(function, *arguments, **named) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **named)
    return str(caught.value)
