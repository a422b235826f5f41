"""The formats that are known, and which of them a source folder has.

Another format takes a module beside this one, with a reader and a function that finds evidence, and a line in
FORMATS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from utils.errors import UserError
from utils.prepare_data.formats.coco import coco_evidence, read_coco
from utils.prepare_data.formats.deeppcb import deeppcb_evidence, read_deeppcb
from utils.prepare_data.formats.labelme import labelme_evidence, read_labelme
from utils.prepare_data.formats.mvtec import mvtec_evidence, read_mvtec
from utils.prepare_data.formats.voc import read_voc, voc_evidence
from utils.prepare_data.formats.yolo import read_yolo, yolo_evidence
from utils.prepare_data.sources import Classes, ReadResult
from utils.prepare_data.tree import FileTree


@dataclass(frozen=True)
class Format:
    """How a format is read, and how it is recognized (evidence: a few words, '' if there is none)."""

    read: Callable[[FileTree, Classes], ReadResult]
    evidence: Callable[[FileTree], str]


FORMATS = {
    "voc": Format(read_voc, voc_evidence),
    "yolo": Format(read_yolo, yolo_evidence),
    "coco": Format(read_coco, coco_evidence),
    "deeppcb": Format(read_deeppcb, deeppcb_evidence),
    "labelme": Format(read_labelme, labelme_evidence),
    "mvtec": Format(read_mvtec, mvtec_evidence),
}


def recognize(tree: FileTree) -> str:
    """The name of the one format that fits; UserError says what was found when none or several do."""
    evidence = {name: text for name, entry in FORMATS.items() if (text := entry.evidence(tree))}
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
        f"COCO or LabelMe JSON, DeepPCB pairs or MVTec folders; give --format {'|'.join(FORMATS)} to name it"
    )
