"""Pascal VOC: one XML file per image."""

import math
from pathlib import Path
from xml.etree.ElementTree import Element

from utils.errors import UserError
from utils.prepare_data.formats.parsing import SNIFFED_FILES, finite_number
from utils.prepare_data.sources import Classes, DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree
from utils.reading import read_xml


def read_voc(tree: FileTree, classes: Classes = None) -> ReadResult:
    """One XML file per image, anywhere under the root; images are found by name."""
    found = ReadResult()
    for path in tree.with_suffix(".xml"):
        try:
            root = read_xml(path)
        except UserError as error:
            found.problems.append(str(error))
            continue
        if root.tag != "annotation":
            found.notes.append(f"{tree.relative(path)} is XML but not an annotation, and is left out")
            continue
        try:
            image = tree.image_of(path, root.findtext("filename"))
            boxes = [_voc_box(path, number, node) for number, node in enumerate(root.iter("object"), start=1)]
        except UserError as error:
            found.problems.append(str(error))
            continue
        size = (finite_number(root.findtext("size/width")), finite_number(root.findtext("size/height")))
        declared = None if math.isnan(sum(size)) or 0 in size else (round(size[0]), round(size[1]))
        found.images.append(SourceImage(image, boxes, not boxes, declared))
    found.set_sorted_classes()
    return found


def _voc_box(path: Path, number: int, node: Element) -> DefectBox:
    where = f"{path}, object {number}"
    name = (node.findtext("name") or "").strip()
    sides = [finite_number(node.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    if not name or math.isnan(sum(sides)):
        raise UserError(
            f"{where}: got name {name!r} and box {sides}, expected a name and xmin ymin xmax ymax"
        )
    left, top, right, bottom = sides
    return DefectBox(name, left, top, right, bottom, where=where)


def voc_evidence(tree: FileTree) -> str:
    """The evidence for Pascal VOC, '' if there is none."""
    for path in tree.with_suffix(".xml")[:SNIFFED_FILES]:
        with path.open("rb") as file:
            if b"<annotation" in file.read(4096):
                return f"XML annotations such as {tree.relative(path)}"
    return ""
