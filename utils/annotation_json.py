"""Readers of the annotation formats that are JSON: COCO (one file for many pictures) and LabelMe (one each).

The files' layout is checked before anything is read from them; each departure becomes a problem.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utils.dataset_pictures import Box, FileTree, Found, Picture
from utils.errors import UserError

Id = int | str
Point = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _CocoImage(_Part):
    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None


class _CocoCategory(_Part):
    id: Id
    name: str


class _CocoAnnotation(_Part):
    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: list[float] | None = None
    segmentation: list[list[float]] | dict | None = None


class _CocoFile(_Part):
    images: list[_CocoImage]
    categories: list[_CocoCategory]
    annotations: list[_CocoAnnotation]


class _LabelmeShape(_Part):
    label: str = Field(min_length=1)
    shape_type: str | None = None
    points: list[Point] = Field(min_length=1)


class _LabelmeFile(_Part):
    shapes: list[_LabelmeShape]
    imagePath: str | None = None
    imageWidth: int | None = None
    imageHeight: int | None = None


def load_json(path: Path) -> object:
    """The content of a JSON file; None when it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def is_coco(data: object) -> bool:
    """Whether the content of a JSON file looks like COCO's."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations")
    )


def is_labelme(data: object) -> bool:
    """Whether the content of a JSON file looks like LabelMe's."""
    return isinstance(data, dict) and isinstance(data.get("shapes"), list)


def _checked(
    tree: FileTree, found: Found, looks_right: Callable[[object], bool], layout: type[_Part]
) -> list[tuple[Path, _Part]]:
    """The JSON files of one format, checked against its layout; other files are passed over."""
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


def _declared(width: int | None, height: int | None) -> tuple[int, int] | None:
    return (width, height) if width and height else None


def _bounds(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of at least one point."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


# COCO


def read_coco(tree: FileTree, classes: Mapping[str, int] | None = None) -> Found:
    """Files with images, annotations and categories; boxes `x y w h`, or the bounds of polygons.

    Categories keep the order of their ids. A listed picture without annotations is free of defects.
    """
    found = Found()
    by_path: dict[Path, Picture] = {}
    for path, data in _checked(tree, found, is_coco, _CocoFile):
        names = {entry.id: entry.name for entry in data.categories}
        ordered = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
        found.classes += [name for name in ordered if name not in found.classes]
        by_id: dict[Id, Picture] = {}
        lost = set()
        for entry in data.images:
            try:
                image = _coco_image(tree, path, entry.file_name)
            except UserError as error:
                found.problems.append(str(error))
                lost.add(entry.id)
                continue
            picture = Picture(image, declared_size=_declared(entry.width, entry.height))
            by_id[entry.id] = by_path.setdefault(image, picture)
        for entry in data.annotations:
            if entry.image_id not in lost:
                _add_coco_box(path, entry, names, by_id, found)
    found.pictures = list(by_path.values())
    for picture in found.pictures:
        picture.is_clean = not picture.boxes
    return found


def _coco_image(tree: FileTree, path: Path, name: str) -> Path:
    candidates = tree.images_named(Path(name).stem)
    for folder in (path.parent, path.parent / "images", tree.root, tree.root / "images"):
        if folder / name in candidates:
            return folder / name
    if len(candidates) != 1:
        raise UserError(f"{path}: its picture {name}: got {len(candidates)} of that name under {tree.root}")
    return candidates[0]


def _add_coco_box(
    path: Path, entry: _CocoAnnotation, names: dict[Id, str], by_id: dict[Id, Picture], found: Found
) -> None:
    where = f"{path}, annotation {entry.id}"
    polygons = entry.segmentation if isinstance(entry.segmentation, list) else []
    points = [pair for polygon in polygons for pair in zip(polygon[::2], polygon[1::2], strict=False)]
    if entry.category_id not in names:
        ids = ", ".join(f"{class_id} ({name})" for class_id, name in names.items())
        found.problems.append(f"{where}: got category_id {entry.category_id}, expected one of {ids}")
    elif entry.image_id not in by_id:
        found.problems.append(f"{where}: got image_id {entry.image_id}, which no image has")
    elif entry.bbox and len(entry.bbox) == 4:
        left, top, width, height = entry.bbox
        box = Box(names[entry.category_id], left, top, left + width, top + height, where=where)
        by_id[entry.image_id].boxes.append(box)
    elif points and not entry.bbox:
        by_id[entry.image_id].boxes.append(Box(names[entry.category_id], *_bounds(points), where=where))
    else:
        found.problems.append(f"{where}: expected bbox [x, y, width, height], or polygons in segmentation")


# LabelMe


def read_labelme(tree: FileTree, classes: Mapping[str, int] | None = None) -> Found:
    """One JSON file per picture; points stay points, all other shapes become their bounding boxes."""
    found = Found()
    for path, data in _checked(tree, found, is_labelme, _LabelmeFile):
        try:
            image = _labelme_image(tree, path, data.imagePath)
        except UserError as error:
            found.problems.append(str(error))
            continue
        boxes = [_labelme_box(path, number, shape) for number, shape in enumerate(data.shapes, start=1)]
        found.pictures.append(Picture(image, boxes, not boxes, _declared(data.imageWidth, data.imageHeight)))
    found.set_sorted_classes()
    return found


def _labelme_image(tree: FileTree, path: Path, name: str | None) -> Path:
    """The picture that the file names, by its path from the file, else by its name."""
    wanted = (name or "").replace("\\", "/")
    for image in tree.images_named(Path(wanted).stem):
        if wanted and image.resolve() == Path(path.parent, wanted).resolve():
            return image
    return tree.image_of(path, name)


def _labelme_box(path: Path, number: int, shape: _LabelmeShape) -> Box:
    sides = _bounds(shape.points)
    if shape.shape_type == "circle" and len(shape.points) == 2:
        (x, y), edge = shape.points
        radius = math.dist((x, y), edge)
        sides = (x - radius, y - radius, x + radius, y + radius)
    where = f"{path}, shape {number}"
    return Box(shape.label.strip(), *sides, is_point=shape.shape_type == "point", where=where)
