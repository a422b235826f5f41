"""Readers of the annotation formats in use, and how a folder's format is recognised.

Pascal VOC (XML), YOLO (text), COCO (JSON), DeepPCB (Tang et al. 2019, "Online PCB Defect Detector on a New
PCB Defect Dataset"), LabelMe (JSON) and folders with masks as MVTec AD has them (Bergmann et al. 2019). Each
reader takes a FileTree and, where the user gave one, a class table {name: id}, and returns what it Found.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image
from scipy import ndimage

from utils.annotation_json import is_coco, is_labelme, load_json, read_coco, read_labelme
from utils.dataset_pictures import Box, FileTree, Found, Picture, picture_size, read_lines
from utils.errors import UserError
from utils.images import READ_ERRORS
from utils.labels import Annotation, read_annotations_and_problems

Classes = Mapping[str, int] | None

DEEPPCB_CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # types 1 to 6
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
SPECK = 4  # px; smaller components of a mask are noise
SNIFFED_FILES = 50  # looked into, of each suffix, to recognise a format


# Pascal VOC


def read_voc(tree: FileTree, classes: Classes = None) -> Found:
    """One XML file per picture, anywhere under the root; pictures are found by name."""
    found = Found()
    for path in tree.with_suffix(".xml"):
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as error:
            found.problems.append(f"{path}: broken XML: {error}")
            continue
        if root.tag != "annotation":
            found.notes.append(f"{tree.relative(path)} is XML but no annotation, and is left out")
            continue
        try:
            image = tree.image_of(path, root.findtext("filename"))
            boxes = [_voc_box(path, number, node) for number, node in enumerate(root.iter("object"), start=1)]
        except UserError as error:
            found.problems.append(str(error))
            continue
        size = (_number(root.findtext("size/width")), _number(root.findtext("size/height")))
        declared = None if math.isnan(sum(size)) or 0 in size else (round(size[0]), round(size[1]))
        found.pictures.append(Picture(image, boxes, not boxes, declared))
    found.set_sorted_classes()
    return found


def _voc_box(path: Path, number: int, node: ElementTree.Element) -> Box:
    where = f"{path}, object {number}"
    name = (node.findtext("name") or "").strip()
    sides = [_number(node.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    if not name or math.isnan(sum(sides)):
        raise UserError(
            f"{where}: got name {name!r} and box {sides}, expected a name and xmin ymin xmax ymax"
        )
    return Box(name, *sides, where=where)


def _number(text: object) -> float:
    """A finite number, or NaN for anything else."""
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


# YOLO


def read_yolo(tree: FileTree, classes: Classes = None) -> Found:
    """Text files beside the pictures, or in `labels/` beside `images/`; boxes, points and polygons.

    Class names come from `classes`, else from data.yaml, classes.txt, obj.names or a JSON file {name: id} in
    the root. An empty text file means a picture without defects; so does a missing one in the folders that
    data.yaml lists.
    """
    found = Found()
    data, data_path = _data_yaml(tree)
    names = dict(classes) if classes else _yolo_names(tree, data, data_path)
    labelled = set()
    for path in tree.with_suffix(".txt"):
        image = _yolo_image(tree, path)
        if image is None:
            if "labels" in Path(tree.relative(path)).parts:
                found.problems.append(f"{path}: there is no picture of that name for it")
            continue
        labelled.add(image)
        annotations, problems = read_annotations_and_problems(path, names)
        found.problems += problems
        try:
            size = picture_size(image)
        except UserError as error:
            found.problems.append(str(error))
            continue
        boxes = [_yolo_box(annotation, size, path) for annotation in annotations]
        found.pictures.append(Picture(image, boxes, is_clean=not boxes and not problems))
    found.classes = sorted(names, key=lambda name: names[name])
    if data:
        _add_yolo_background(tree, data, data_path, labelled, found)
    return found


def _yolo_box(annotation: Annotation, size: tuple[int, int], path: Path) -> Box:
    width, height = size
    x, y = annotation.cx * width, annotation.cy * height
    where = f"{path}:{annotation.line}"
    if annotation.w is None or annotation.h is None:
        return Box(annotation.class_name, x, y, x, y, is_point=True, where=where)
    half_x, half_y = annotation.w * width / 2, annotation.h * height / 2
    return Box(annotation.class_name, x - half_x, y - half_y, x + half_x, y + half_y, where=where)


def _yolo_image(tree: FileTree, label: Path) -> Path | None:
    """The picture of a label file: beside it, or in the folder called images where it has labels."""
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
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as YAML: {error}") from error
        if isinstance(data, dict) and "names" in data:
            return data, path
    return {}, None


def _yolo_names(tree: FileTree, data: dict, data_path: Path | None) -> dict[str, int]:
    """{class name: id}; UserError when the folder holds none."""
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
                f"{data_path}: got names: {names}, expected a list, or {{id: name}}, all different"
            )
        return table
    for name in ("classes.txt", "obj.names"):
        for path in tree.files:
            if path.name.lower() == name:
                lines = read_lines(path)
                return {line.strip(): index for index, line in enumerate(lines) if line.strip()}
    for path in sorted(tree.root.glob("*.json")):
        data = load_json(path)
        if isinstance(data, dict) and data and all(type(value) is int for value in data.values()):
            return data
    raise UserError(
        f"{tree.root}: no class names for the YOLO labels; expected data.yaml with names, classes.txt or "
        "obj.names, or give --classes FILE with JSON {name: id}"
    )


def _add_yolo_background(tree: FileTree, data: dict, path: Path, labelled: set[Path], found: Found) -> None:
    """Pictures without a text file in the folders that data.yaml lists have no defects, by convention."""
    base = Path(path.parent, str(data.get("path") or "."))  # an absolute one stands alone
    folders = []
    for part in ("train", "val", "test"):
        entries = data.get(part) or []
        for entry in map(str, entries if isinstance(entries, list) else [entries]):
            choices = (base / entry, path.parent / entry, path.parent / re.sub(r"^(\.\./)+", "", entry))
            folders += [choice.resolve() for choice in choices if choice.is_dir()][:1]
    background = [
        image
        for image in tree.images
        if image not in labelled and any(image.parent.resolve().is_relative_to(folder) for folder in folders)
    ]
    found.pictures += [Picture(image, is_clean=True) for image in background]
    if background:
        found.notes.append(
            f"{len(background)} pictures listed by {path.name} have no label file: taken as free of defects, "
            f"e.g. {tree.relative(background[0])}"
        )


# DeepPCB


def read_deeppcb(tree: FileTree, classes: Classes = None) -> Found:
    """Pairs `<n>_temp.*` (clean) and `<n>_test.*`; boxes `x1 y1 x2 y2 type` in `<folder>_not/<n>.txt`.

    Numbers are separated by commas or blanks. The group is the folder called group..., or the pictures' own.
    """
    found = Found(classes=list(DEEPPCB_CLASSES))
    for image in tree.images:
        if not image.stem.endswith("_test"):
            continue
        base = image.stem.removesuffix("_test")
        folder = image.parent
        group = folder.parent.name if folder.parent.name.startswith("group") else folder.name
        templates = [path for path in tree.images_named(f"{base}_temp") if path.parent == folder]
        labels = [folder.parent / f"{folder.name}_not" / f"{base}.txt", folder / f"{base}.txt"]
        label = next((path for path in labels if path.is_file()), None)
        if not templates or label is None:
            missing = f"{labels[0]}" if templates else f"{folder / base}_temp{image.suffix}"
            found.problems.append(f"{image}: no {missing} for it")
            continue
        clean = Picture(templates[0], is_clean=True, group=group)
        boxes = _deeppcb_boxes(label, found.problems)
        found.pictures += [Picture(image, boxes, not boxes, counterpart=clean, group=group), clean]
    return found


def _deeppcb_boxes(path: Path, problems: list[str]) -> list[Box]:
    boxes = []
    try:
        lines = read_lines(path)
    except UserError as error:
        problems.append(str(error))
        return boxes
    for number, line in enumerate(lines, start=1):
        columns = re.split(r"[,\s]+", line.strip().rstrip(","))
        if columns == [""]:
            continue
        values = [_number(column) for column in columns]
        if len(values) != 5 or math.isnan(sum(values)):
            problems.append(f"{path}:{number}: got {line.strip()!r}, expected x1 y1 x2 y2 type")
        elif values[4] not in range(1, len(DEEPPCB_CLASSES) + 1):
            known = ", ".join(f"{kind} ({name})" for kind, name in enumerate(DEEPPCB_CLASSES, start=1))
            problems.append(f"{path}:{number}: got type {columns[4]}, expected one of {known}")
        else:
            boxes.append(Box(DEEPPCB_CLASSES[int(values[4]) - 1], *values[:4], where=f"{path}:{number}"))
    return boxes


# Folders with masks


def read_mvtec(tree: FileTree, classes: Classes = None) -> Found:
    """`train/good`, `test/<defect>`, `ground_truth/<defect>/<n>_mask.png`: a box per connected component.

    Components smaller than 4 px are noise and left out. Groups carry the folder's name, since numbers repeat:
    the good picture of a number is another part than the defective one.
    """
    found = Found(equal_names_pair=False)
    specks = 0
    for image in tree.images:
        parts = Path(tree.relative(image)).parts
        if len(parts) != 3 or parts[0] not in ("train", "test"):
            continue
        part, kind = parts[:2]
        if kind == "good":
            found.pictures.append(Picture(image, is_clean=True, group=f"{part}/good/{image.stem}"))
            continue
        folder = tree.root / "ground_truth" / kind
        masks = [
            path
            for stem in (f"{image.stem}_mask", image.stem)
            for path in tree.images_named(stem)
            if path.parent == folder
        ]
        if not masks:
            found.problems.append(f"{image}: no mask {folder / image.stem}_mask.png for it")
            continue
        try:
            boxes, small = _mask_boxes(masks[0], kind)
            size = picture_size(masks[0])
        except UserError as error:
            found.problems.append(str(error))
            continue
        specks += small
        found.pictures.append(Picture(image, boxes, False, size, group=f"{kind}/{image.stem}"))
    if specks:
        found.notes.append(f"{specks} components of masks are smaller than {SPECK} px and are left out")
    found.set_sorted_classes()
    return found


def _mask_boxes(path: Path, class_name: str) -> tuple[list[Box], int]:
    """The boxes of a mask's connected components (8-connected), and how many were specks."""
    try:
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable picture: {error}") from error
    components, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(components.ravel())
    boxes = [
        Box(
            class_name,
            columns.start,
            rows.start,
            columns.stop,
            rows.stop,
            where=f"{path}, component {number}",
        )
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1)
        if areas[number] >= SPECK
    ]
    return boxes, len(areas) - 1 - len(boxes)


# Recognition

READERS: dict[str, Callable[[FileTree, Classes], Found]] = {
    "voc": read_voc,
    "yolo": read_yolo,
    "coco": read_coco,
    "deeppcb": read_deeppcb,
    "labelme": read_labelme,
    "mvtec": read_mvtec,
}


def recognise(tree: FileTree) -> str:
    """The name of the one format that fits; UserError says what was found when none or several do."""
    evidence = {name: text for name, text in _evidence(tree).items() if text}
    if len(evidence) == 1:
        return next(iter(evidence))
    if evidence:
        found = "; ".join(f"{text} ({name})" for name, text in evidence.items())
        choices = " or ".join(f"--format {name}" for name in evidence)
        raise UserError(f"{tree.root}: more than one format fits: {found}; give {choices}")
    suffixes: dict[str, int] = {}
    for path in tree.files:
        suffixes[path.suffix.lower()] = suffixes.get(path.suffix.lower(), 0) + 1
    counts = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))
    raise UserError(
        f"{tree.root}: no known format; got files {counts or 'none'}; expected Pascal VOC XML, YOLO text, "
        f"COCO or LabelMe JSON, DeepPCB pairs or MVTec folders; give --format {'|'.join(READERS)} to name it"
    )


def _evidence(tree: FileTree) -> dict[str, str]:
    """For each format what speaks for it, '' for nothing."""
    pairs = sum(path.stem.endswith("_test") and bool(_partner(tree, path)) for path in tree.images)
    mvtec = all((tree.root / folder).is_dir() for folder in ("test", "ground_truth", "train/good"))
    voc = [path for path in tree.with_suffix(".xml")[:SNIFFED_FILES] if _starts_like_voc(path)]
    contents = [(path, load_json(path)) for path in tree.with_suffix(".json")[:SNIFFED_FILES]]
    coco = [path for path, data in contents if is_coco(data)]
    labelme = [path for path, data in contents if is_labelme(data)]
    return {
        "deeppcb": f"{pairs} pairs _temp and _test" if pairs else "",
        "mvtec": "folders train/good, test and ground_truth" if mvtec else "",
        "voc": f"XML annotations such as {tree.relative(voc[0])}" if voc else "",
        "coco": f"COCO JSON such as {tree.relative(coco[0])}" if coco else "",
        "labelme": f"LabelMe JSON such as {tree.relative(labelme[0])}" if labelme else "",
        "yolo": _yolo_evidence(tree),
    }


def _partner(tree: FileTree, path: Path) -> list[Path]:
    base = path.stem.removesuffix("_test")
    return [other for other in tree.images_named(f"{base}_temp") if other.parent == path.parent]


def _starts_like_voc(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<annotation" in file.read(4096)


def _yolo_evidence(tree: FileTree) -> str:
    for path in tree.with_suffix(".yaml", ".yml"):
        if re.search(r"^names\s*:", path.read_text(encoding="utf-8-sig", errors="replace"), re.MULTILINE):
            return f"class names in {tree.relative(path)}"
    for path in [path for path in tree.with_suffix(".txt") if _yolo_image(tree, path)][:SNIFFED_FILES]:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        values = [_number(column) for column in lines[0].split()]
        if len(values) >= 3 and values[0].is_integer() and all(0 <= value <= 1 for value in values[1:]):
            return f"YOLO text such as {tree.relative(path)}"
    return ""
