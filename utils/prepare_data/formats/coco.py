"""COCO: JSON files with images, annotations and categories."""

from collections.abc import Mapping
from pathlib import Path

from utils.errors import UserError
from utils.prepare_data.formats.parsing import (
    Id,
    JsonPart,
    bounds,
    checked_files,
    declared_size_of,
    json_example,
)
from utils.prepare_data.sources import DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree


class _CocoImage(JsonPart):
    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None


class _CocoCategory(JsonPart):
    id: Id
    name: str


class _CocoAnnotation(JsonPart):
    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: list[float] | None = None
    segmentation: list[list[float]] | dict | None = None


class _CocoFile(JsonPart):
    images: list[_CocoImage]
    categories: list[_CocoCategory]
    annotations: list[_CocoAnnotation]


def is_coco(data: object) -> bool:
    """Whether the content of a JSON file looks like COCO's."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations")
    )


def read_coco(tree: FileTree, classes: Mapping[str, int] | None = None) -> ReadResult:
    """Files with images, annotations and categories; boxes `x y w h`, or the bounds of polygons.

    Categories keep the order of their ids. A listed picture without annotations is free of defects.
    """
    found = ReadResult()
    by_path: dict[Path, SourceImage] = {}
    for path, data in checked_files(tree, found, is_coco, _CocoFile):
        names = {entry.id: entry.name for entry in data.categories}
        ordered = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
        found.classes += [name for name in ordered if name not in found.classes]
        by_id: dict[Id, SourceImage] = {}
        lost = set()
        for entry in data.images:
            try:
                image = _coco_image(tree, path, entry.file_name)
            except UserError as error:
                found.problems.append(str(error))
                lost.add(entry.id)
                continue
            picture = SourceImage(image, declared_size=declared_size_of(entry.width, entry.height))
            by_id[entry.id] = by_path.setdefault(image, picture)
        for entry in data.annotations:
            if entry.image_id not in lost:
                _add_coco_box(path, entry, names, by_id, found)
    found.pictures = list(by_path.values())
    for picture in found.pictures:
        picture.is_clean = not picture.boxes
    return found


def coco_evidence(tree: FileTree) -> str:
    """The evidence for COCO, '' if there is none."""
    example = json_example(tree, is_coco)
    return f"COCO JSON such as {example}" if example else ""


def _coco_image(tree: FileTree, path: Path, name: str) -> Path:
    candidates = tree.images_named(Path(name).stem)
    for folder in (path.parent, path.parent / "images", tree.root, tree.root / "images"):
        if folder / name in candidates:
            return folder / name
    if len(candidates) != 1:
        raise UserError(f"{path}: its picture {name}: got {len(candidates)} of that name under {tree.root}")
    return candidates[0]


def _add_coco_box(
    path: Path, entry: _CocoAnnotation, names: dict[Id, str], by_id: dict[Id, SourceImage], found: ReadResult
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
        box = DefectBox(names[entry.category_id], left, top, left + width, top + height, where=where)
        by_id[entry.image_id].boxes.append(box)
    elif points and not entry.bbox:
        by_id[entry.image_id].boxes.append(DefectBox(names[entry.category_id], *bounds(points), where=where))
    else:
        found.problems.append(f"{where}: expected bbox [x, y, width, height], or polygons in segmentation")
