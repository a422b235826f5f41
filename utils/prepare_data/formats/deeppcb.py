"""DeepPCB (Tang et al. 2019, "Online PCB Defect Detector on a New PCB Defect Dataset"): pairs of images."""

import math
import re
from pathlib import Path

from utils.errors import UserError
from utils.prepare_data.formats.parsing import finite_number
from utils.prepare_data.sources import Classes, DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree, read_lines

DEEPPCB_CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # types 1 to 6


def read_deeppcb(tree: FileTree, classes: Classes = None) -> ReadResult:
    """Pairs `<n>_temp.*` (clean) and `<n>_test.*`; boxes `x1 y1 x2 y2 type` in `<folder>_not/<n>.txt`.

    Numbers are separated by commas or blanks. The group is the folder named group..., else the images' folder.
    """
    found = ReadResult(classes=list(DEEPPCB_CLASSES), clean_is_known=True)
    for image in tree.images:
        if not image.stem.endswith("_test"):
            continue
        base = image.stem.removesuffix("_test")
        folder = image.parent
        group = folder.parent.name if folder.parent.name.startswith("group") else folder.name
        templates = _templates(tree, image)
        labels = [folder.parent / f"{folder.name}_not" / f"{base}.txt", folder / f"{base}.txt"]
        label = next((path for path in labels if path.is_file()), None)
        if not templates or label is None:
            missing = f"{labels[0]}" if templates else f"{folder / base}_temp{image.suffix}"
            found.problems.append(f"{image}: no {missing} for it")
            continue
        clean = SourceImage(templates[0], is_clean=True, group=group)
        boxes = _deeppcb_boxes(label, found.problems)
        found.images += [SourceImage(image, boxes, not boxes, counterpart=clean, group=group), clean]
    return found


def _deeppcb_boxes(path: Path, problems: list[str]) -> list[DefectBox]:
    boxes: list[DefectBox] = []
    try:
        lines = read_lines(path)
    except UserError as error:
        problems.append(str(error))
        return boxes
    for number, line in enumerate(lines, start=1):
        columns = re.split(r"[,\s]+", line.strip().rstrip(","))
        if columns == [""]:
            continue
        values = [finite_number(column) for column in columns]
        if len(values) != 5 or math.isnan(sum(values)):
            problems.append(f"{path}:{number}: got {line.strip()!r}, expected x1 y1 x2 y2 type")
        elif values[4] not in range(1, len(DEEPPCB_CLASSES) + 1):
            known = ", ".join(f"{kind} ({name})" for kind, name in enumerate(DEEPPCB_CLASSES, start=1))
            problems.append(f"{path}:{number}: got type {columns[4]}, expected one of {known}")
        else:
            left, top, right, bottom, kind = values
            name = DEEPPCB_CLASSES[int(kind) - 1]
            boxes.append(DefectBox(name, left, top, right, bottom, where=f"{path}:{number}"))
    return boxes


def deeppcb_evidence(tree: FileTree) -> str:
    """The evidence for DeepPCB, '' if there is none."""
    pairs = sum(bool(_templates(tree, path)) for path in tree.images if path.stem.endswith("_test"))
    return f"{pairs} pairs _temp and _test" if pairs else ""


def _templates(tree: FileTree, path: Path) -> list[Path]:
    """The defect-free images that belong to `<n>_test.*`."""
    base = path.stem.removesuffix("_test")
    return [other for other in tree.images_named(f"{base}_temp") if other.parent == path.parent]
