"""What several readers share: JSON files checked against a layout, numbers, bounds."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, ValidationError

from utils.errors import UserError
from utils.prepare_data.sources import Outline, ReadResult
from utils.prepare_data.tree import FileTree
from utils.reading import read_json

SNIFFED_FILES = 50  # inspected, of each suffix, to recognize a format
LARGEST_SIDE, LARGEST_AREA = 1e5, 1e8  # px, px^2 of an outline

Id = int | str


def finite_number(text: object) -> float:
    """A finite number, or NaN for anything else."""
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) else math.nan


class JsonPart(BaseModel):
    """A part of a JSON file's layout; further keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


Layout = TypeVar("Layout", bound=JsonPart)


def load_json(path: Path) -> object:
    """The content of a JSON file; None if it cannot be parsed."""
    try:
        return read_json(path)
    except UserError:
        return None


def json_example(tree: FileTree, looks_right: Callable[[object], bool]) -> str:
    """The first JSON file whose content looks right, as seen from the root; '' if there is none."""
    for path in tree.with_suffix(".json")[:SNIFFED_FILES]:
        if looks_right(load_json(path)):
            return tree.relative(path)
    return ""


def checked_files(
    tree: FileTree, found: ReadResult, looks_right: Callable[[object], bool], layout: type[Layout]
) -> list[tuple[Path, Layout]]:
    """The JSON files of one format, checked against its layout; other files are skipped."""
    files = []
    for path in tree.with_suffix(".json"):
        data = load_json(path)
        if data is None:
            found.problems.append(f"{path}: broken JSON")
        elif looks_right(data):
            try:
                files.append((path, layout.model_validate(data)))
            except ValidationError as error:
                for entry in error.errors():
                    place = ".".join(map(str, entry["loc"]))
                    message = f"got {str(entry['input'])[:40]!r}: {entry['msg']}"
                    found.problems.append(f"{path}: {place}: {message}")
    return files


def declared_size_of(width: int | None, height: int | None) -> tuple[int, int] | None:
    """(width, height) if the annotation gives both, else None."""
    return (width, height) if width and height else None


def bounds(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of at least one point."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def outline_of(polygons: Sequence[Sequence[tuple[float, float]]]) -> Outline | None:
    """The pixels in any of the polygons of a defect; None for what no image can hold, fewer than three corners, or the
    four of a box, which tell no shape."""
    polygons = [points for points in polygons if len(points) > 2]
    sides = bounds([point for points in polygons for point in points]) if polygons else ()
    if not polygons or not all(abs(side) < LARGEST_SIDE for side in sides):
        return None
    if len(polygons) == 1 and {*polygons[0]} == {(x, y) for x in sides[::2] for y in sides[1::2]}:
        return None
    left, top, right, bottom = (*map(math.floor, sides[:2]), *map(math.ceil, sides[2:]))
    if not 0 < (right - left) * (bottom - top) <= LARGEST_AREA:
        return None
    mask = Image.new("1", (right - left, bottom - top))
    for points in polygons:
        corners = [(x - left - 0.5, y - top - 0.5) for x, y in points]  # of pixels' centers
        ImageDraw.Draw(mask).polygon(corners, fill=1, outline=1)
    return Outline(left, top, np.asarray(mask))
