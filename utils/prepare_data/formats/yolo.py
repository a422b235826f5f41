"""YOLO: text files of boxes, points or polygons, in fractions of the image."""

import re
from pathlib import Path

from utils.errors import UserError, shortened
from utils.labels import Annotation, read_annotations_and_problems
from utils.prepare_data.formats.parsing import SNIFFED_FILES, finite_number, load_json, outline_of
from utils.prepare_data.sources import Classes, DefectBox, ReadResult, SourceImage, counted
from utils.prepare_data.tree import FileTree, read_lines, size_of_image
from utils.reading import read_yaml


def read_yolo(tree: FileTree, classes: Classes = None) -> ReadResult:
    """Text files beside the images, or in `labels/` beside `images/`; boxes, points and polygons.

    Class names come from `classes`, else from data.yaml, classes.txt, obj.names or a JSON file {name: id} in
    the root. An empty text file means an image without defects; so does a missing one in the folders that
    data.yaml lists.
    """
    found = ReadResult()
    data, data_path = _data_yaml(tree)
    names = dict(classes) if classes else _yolo_names(tree, data, data_path)
    labeled = set()
    for path in tree.with_suffix(".txt"):
        image = _yolo_image(tree, path)
        if image is None:
            if "labels" in Path(tree.relative(path)).parts:
                found.problems.append(f"{path}: no image of that name")
            continue
        labeled.add(image)
        annotations, problems = read_annotations_and_problems(path, names)
        found.problems += problems
        try:
            size = size_of_image(image)
        except UserError as error:
            found.problems.append(str(error))
            continue
        boxes = [_yolo_box(annotation, size, path) for annotation in annotations]
        found.images.append(SourceImage(image, boxes, is_clean=not boxes and not problems))
    found.classes = sorted(names, key=lambda name: names[name])
    if data_path is not None:
        _add_yolo_background(tree, data, data_path, labeled, found)
    return found


def _yolo_box(annotation: Annotation, size: tuple[int, int], path: Path) -> DefectBox:
    width, height = size
    x, y = annotation.cx * width, annotation.cy * height
    where = f"{path}:{annotation.line}"
    if annotation.w is None or annotation.h is None:
        return DefectBox(annotation.class_name, x, y, x, y, is_point=True, where=where)
    half_x, half_y = annotation.w * width / 2, annotation.h * height / 2
    sides = x - half_x, y - half_y, x + half_x, y + half_y
    outline = outline_of([[(a * width, b * height) for a, b in annotation.corners]])
    return DefectBox(annotation.class_name, *sides, where=where, outline=outline)


def _yolo_image(tree: FileTree, label: Path) -> Path | None:
    """The image of a label file: beside it, or in the folder `images` that matches its `labels`."""
    folders = [label.parent]
    parts = label.parent.parts
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].lower() == "labels":
            folders.append(Path(*parts[:index], "images", *parts[index + 1 :]))
            break
    for image in tree.images_named(label.stem):
        if image.parent in folders:
            return image
    return None


def _data_yaml(tree: FileTree) -> tuple[dict, Path | None]:
    """The data.yaml nearest to the root, and its path; ({}, None) without one."""
    for path in sorted(tree.with_suffix(".yaml", ".yml"), key=lambda path: (len(path.parts), path)):
        data = read_yaml(path)
        if isinstance(data, dict) and "names" in data:
            return data, path
    return {}, None


def _yolo_names(tree: FileTree, data: dict, data_path: Path | None) -> dict[str, int]:
    """{class name: id}; UserError if the folder has none."""
    if data:
        names = data["names"]
        pairs = (
            names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else [])
        )
        try:
            table = {str(name): int(class_id) for class_id, name in pairs}
        except (TypeError, ValueError):
            table = {}
        if not table or len(table) != len(names):
            raise UserError(
                f"{data_path}: got names: {shortened(str(names))}, expected a list, or {{id: name}}, all different"
            )
        return table
    for name in ("classes.txt", "obj.names"):
        for path in tree.files:
            if path.name.lower() == name:
                lines = read_lines(path)
                return {line.strip(): index for index, line in enumerate(lines) if line.strip()}
    for path in sorted(tree.root.glob("*.json")):
        ids = load_json(path)
        if isinstance(ids, dict) and ids and all(type(value) is int for value in ids.values()):
            return ids
    raise UserError(
        f"{tree.root}: no class names for the YOLO labels; expected data.yaml with names, classes.txt or "
        "obj.names, or give --classes FILE with JSON {name: id}"
    )


def _add_yolo_background(
    tree: FileTree, data: dict, path: Path, labeled: set[Path], found: ReadResult
) -> None:
    """Images without a text file in the folders that data.yaml lists have no defects, by convention."""
    base = Path(path.parent, str(data.get("path") or "."))  # an absolute path replaces the parent
    folders = []
    for part in ("train", "val", "test"):
        entries = data.get(part) or []
        for entry in map(str, entries if isinstance(entries, list) else [entries]):
            choices = (base / entry, path.parent / entry, path.parent / re.sub(r"^(\.\./)+", "", entry))
            folders += [choice.resolve() for choice in choices if choice.is_dir()][:1]
    background = [
        image
        for image in tree.images
        if image not in labeled and any(image.parent.resolve().is_relative_to(folder) for folder in folders)
    ]
    found.images += [SourceImage(image, is_clean=True) for image in background]
    if background:
        found.notes.append(
            f"{counted(len(background), 'image')} listed by {path.name} without a label file: taken as free of "
            f"defects, e.g. {tree.relative(background[0])}"
        )


def yolo_images(tree: FileTree) -> set[Path]:
    """The images that have a YOLO label file."""
    images = (_yolo_image(tree, path) for path in tree.with_suffix(".txt"))
    return {image for image in images if image is not None}


def yolo_evidence(tree: FileTree) -> str:
    """The evidence for YOLO, '' if there is none."""
    for path in tree.with_suffix(".yaml", ".yml"):
        if re.search(r"^names\s*:", path.read_text(encoding="utf-8-sig", errors="replace"), re.MULTILINE):
            return f"class names in {tree.relative(path)}"
    for path in [path for path in tree.with_suffix(".txt") if _yolo_image(tree, path)][:SNIFFED_FILES]:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        values = [finite_number(column) for column in lines[0].split()]
        if len(values) >= 3 and values[0].is_integer() and all(0 <= value <= 1 for value in values[1:]):
            return f"YOLO text such as {tree.relative(path)}"
    return ""
