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
    outline_of,
)
from utils.prepare_data.sources import DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree


class _CocoImage(JsonPart):
    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None
    source: str | None = None  # of a synthetic image: the image that it was made from


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

    Categories keep the order of their ids. A listed image without annotations is free of defects. An annotation
    that several files have is read once. Images with the same `source` are one group.
    """
    found = ReadResult()
    by_path: dict[Path, SourceImage] = {}
    for path, data in checked_files(tree, found, is_coco, _CocoFile):
        names = {entry.id: entry.name for entry in data.categories}
        ordered = [names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))]
        found.classes += [name for name in ordered if name not in found.classes]
        paths = _listed_images(tree, path, data, found.problems)
        boxes = _coco_boxes(path, data, names, found.problems)
        for entry in data.images:
            if entry.id in paths:
                image = by_path.setdefault(paths[entry.id], _source_image(paths[entry.id], entry))
                earlier = {_key(box) for box in image.boxes}  # of other files
                image.boxes += [box for box in boxes[entry.id] if _key(box) not in earlier]
    found.images = list(by_path.values())
    for image in found.images:
        image.is_clean = not image.boxes
    return found


def coco_evidence(tree: FileTree) -> str:
    """The evidence for COCO, '' if there is none."""
    example = json_example(tree, is_coco)
    return f"COCO JSON such as {example}" if example else ""


def coco_images(tree: FileTree) -> set[Path]:
    """The images that the COCO files of a folder list, as far as they can be found."""
    found = ReadResult()
    files = checked_files(tree, found, is_coco, _CocoFile)
    return {image for path, data in files for image in _listed_images(tree, path, data, []).values()}


def _listed_images(tree: FileTree, path: Path, data: _CocoFile, problems: list[str]) -> dict[Id, Path]:
    """Image id -> file; images that are not found become problems."""
    paths: dict[Id, Path] = {}
    for entry in data.images:
        try:
            paths[entry.id] = _coco_image(tree, path, entry.file_name)
        except UserError as error:
            problems.append(str(error))
    return paths


def _source_image(image: Path, entry: _CocoImage) -> SourceImage:
    group = Path(entry.source).stem if entry.source else ""
    return SourceImage(image, declared_size=declared_size_of(entry.width, entry.height), group=group)


def _coco_image(tree: FileTree, path: Path, name: str) -> Path:
    """The image called `name` in a COCO file: from the file's folder on, or from an images folder of its part.

    The part is what the file is named after: `train2017` for `annotations/instances_train2017.json`.
    """
    candidates = tree.images_named(Path(name).stem)
    part = path.stem.rpartition("_")[2]
    for base in (path.parent, tree.root, path.parent.parent):
        for folder in ("", "images", part, f"images/{part}"):
            if base / folder / name in candidates:
                return base / folder / name
    if len(candidates) != 1:
        raise UserError(f"{path}: its image {name}: got {len(candidates)} of that name under {tree.root}")
    return candidates[0]


def _coco_boxes(
    path: Path, data: _CocoFile, names: dict[Id, str], problems: list[str]
) -> dict[Id, list[DefectBox]]:
    """Image id -> boxes of one file; broken annotations become problems."""
    boxes: dict[Id, list[DefectBox]] = {entry.id: [] for entry in data.images}
    for entry in data.annotations:
        where = f"{path}, annotation {entry.id}"
        sides = _coco_sides(entry)
        if entry.category_id not in names:
            ids = ", ".join(f"{class_id} ({name})" for class_id, name in names.items())
            problems.append(f"{where}: got category_id {entry.category_id}, expected one of {ids}")
        elif entry.image_id not in boxes:
            problems.append(f"{where}: got image_id {entry.image_id}, which no image has")
        elif sides is None:
            problems.append(f"{where}: expected bbox [x, y, width, height], or polygons in segmentation")
        else:
            outline = outline_of(_polygons(entry))
            boxes[entry.image_id].append(
                DefectBox(names[entry.category_id], *sides, where=where, outline=outline)
            )
    return boxes


def _coco_sides(entry: _CocoAnnotation) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of an annotation; None if it has neither a box nor polygons."""
    if entry.bbox:
        if len(entry.bbox) != 4:
            return None
        left, top, width, height = entry.bbox
        return left, top, left + width, top + height
    points = [pair for polygon in _polygons(entry) for pair in polygon]
    return bounds(points) if points else None


def _polygons(entry: _CocoAnnotation) -> list[list[tuple[float, float]]]:
    """The corners of an annotation's polygons."""
    found = entry.segmentation if isinstance(entry.segmentation, list) else []
    return [list(zip(polygon[::2], polygon[1::2], strict=False)) for polygon in found]


def _key(box: DefectBox) -> tuple[str, float, float, float, float]:
    return box.class_name, box.left, box.top, box.right, box.bottom
