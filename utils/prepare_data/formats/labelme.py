"""LabelMe: one JSON file per image."""

import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from utils.errors import UserError
from utils.prepare_data.formats.parsing import (
    JsonPart,
    bounds,
    checked_files,
    declared_size_of,
    json_example,
    outline_of,
)
from utils.prepare_data.sources import DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree


class _LabelmeShape(JsonPart):
    label: str = Field(min_length=1)
    shape_type: str | None = None
    points: list[tuple[float, float]] = Field(min_length=1)


class _LabelmeFile(JsonPart):
    shapes: list[_LabelmeShape]
    imagePath: str | None = None
    imageWidth: int | None = None
    imageHeight: int | None = None


def is_labelme(data: object) -> bool:
    """Whether the content of a JSON file looks like LabelMe's."""
    return isinstance(data, dict) and isinstance(data.get("shapes"), list)


def read_labelme(tree: FileTree, classes: Mapping[str, int] | None = None) -> ReadResult:
    """One JSON file per image; points stay points, all other shapes become their bounding boxes."""
    found = ReadResult()
    for path, data in checked_files(tree, found, is_labelme, _LabelmeFile):
        try:
            image = _labelme_image(tree, path, data.imagePath)
        except UserError as error:
            found.problems.append(str(error))
            continue
        boxes = [_labelme_box(path, number, shape) for number, shape in enumerate(data.shapes, start=1)]
        found.images.append(
            SourceImage(image, boxes, not boxes, declared_size_of(data.imageWidth, data.imageHeight))
        )
    found.set_sorted_classes()
    return found


def labelme_evidence(tree: FileTree) -> str:
    """The evidence for LabelMe, '' if there is none."""
    example = json_example(tree, is_labelme)
    return f"LabelMe JSON such as {example}" if example else ""


def _labelme_image(tree: FileTree, path: Path, name: str | None) -> Path:
    """The image that the file names, by its path from the file, else by its name."""
    wanted = (name or "").replace("\\", "/")
    for image in tree.images_named(Path(wanted).stem):
        if wanted and image.resolve() == Path(path.parent, wanted).resolve():
            return image
    return tree.image_of(path, name)


def _labelme_box(path: Path, number: int, shape: _LabelmeShape) -> DefectBox:
    sides = bounds(shape.points)
    if shape.shape_type == "circle" and len(shape.points) == 2:
        (x, y), edge = shape.points
        radius = math.dist((x, y), edge)
        sides = (x - radius, y - radius, x + radius, y + radius)
    where = f"{path}, shape {number}"
    outlined = len(shape.points) > 2 and shape.shape_type in (None, "polygon")
    outline = outline_of([shape.points]) if outlined else None
    is_point = shape.shape_type == "point"
    return DefectBox(shape.label.strip(), *sides, is_point=is_point, where=where, outline=outline)
