"""The formats that are known, and which of them a source folder has.

Another format takes a module beside this one, with a reader and a function that finds evidence, and a line in
FORMATS.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from utils.errors import UserError
from utils.prepare_data.formats.coco import coco_evidence, coco_images, read_coco
from utils.prepare_data.formats.deeppcb import deeppcb_evidence, read_deeppcb
from utils.prepare_data.formats.labelme import labelme_evidence, read_labelme
from utils.prepare_data.formats.masks import masks_evidence, mvtec_evidence, read_masks, read_mvtec
from utils.prepare_data.formats.voc import read_voc, voc_evidence
from utils.prepare_data.formats.yolo import read_yolo, yolo_evidence, yolo_images
from utils.prepare_data.sources import Classes, ReadResult
from utils.prepare_data.tree import FileTree


@dataclass(frozen=True)
class Format:
    """How a format is read, and how it is recognized (evidence: a few words, '' if there is none).

    Weak evidence counts only if no other format fits.
    """

    read: Callable[[FileTree, Classes], ReadResult]
    evidence: Callable[[FileTree], str]
    is_weak: bool = False


FORMATS = {
    "voc": Format(read_voc, voc_evidence),
    "yolo": Format(read_yolo, yolo_evidence),
    "coco": Format(read_coco, coco_evidence),
    "deeppcb": Format(read_deeppcb, deeppcb_evidence),
    "labelme": Format(read_labelme, labelme_evidence),
    "mvtec": Format(read_mvtec, mvtec_evidence),
    "masks": Format(read_masks, masks_evidence, is_weak=True),
}


def recognize(tree: FileTree) -> str:
    """The name of the one format that fits; UserError says what was found if none or several do.

    A folder that has its annotations both as YOLO labels and as COCO files is read as COCO, whose boxes are not
    rounded.
    """
    evidence = _evidence(tree, weak=False) or _evidence(tree, weak=True)
    if len(evidence) == 1:
        return next(iter(evidence))
    if set(evidence) == {"coco", "yolo"} and yolo_images(tree) <= coco_images(tree):
        return "coco"
    if evidence:
        found = "; ".join(f"{text} ({name})" for name, text in evidence.items())
        choices = " or ".join(f"--format {name}" for name in evidence)
        raise UserError(f"{tree.root}: more than one format fits: {found}; give {choices}")
    raise UserError(_nothing_known(tree))


def _evidence(tree: FileTree, weak: bool) -> dict[str, str]:
    """Name of a format -> the evidence for it."""
    texts = {name: entry.evidence(tree) for name, entry in FORMATS.items() if entry.is_weak == weak}
    return {name: text for name, text in texts.items() if text}


def _nothing_known(tree: FileTree) -> str:
    """The message for a folder of no known format."""
    suffixes = Counter(path.suffix.lower() for path in tree.files)
    counts = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))
    found = f"files {counts}" if counts else "no files"
    return (
        f"{tree.root}: no known format; got {found}; expected Pascal VOC XML, YOLO text, COCO or "
        "LabelMe JSON, DeepPCB pairs, MVTec folders or masks; the layouts are in docs/annotation-formats.md, and "
        f"--format {'|'.join(FORMATS)} names one"
    )
