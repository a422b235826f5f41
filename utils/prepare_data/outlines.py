"""Outlines of defects of which only the box is known, from what stands out in it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.images import load_rgb, save_png
from utils.labels import pixel_box, read_annotations
from utils.prepare_data.report import IndexRow
from utils.schema.prepared import OUTLINES, PATCHES, TWINS
from utils.shapes.seen import seen_shape

MOST_OF_A_CLASS = 2 / 3  # of the defects of a class must stand out; else those that do may do so by chance


def write_seen_shapes(
    folder: Path, rows: Sequence[IndexRow], classes: Mapping[str, int]
) -> tuple[list[IndexRow], list[str]]:
    """Write an outline for each boxed patch among `rows` that has neither an outline nor a clean twin, where its defect
    stands out, as most of its class do; the rows of what was written, and a sentence for each class of which too few
    stand out."""
    known = {Path(row.file).name for row in rows if row.file.startswith((TWINS, OUTLINES))}
    of_class: dict[str, list[tuple[IndexRow, np.ndarray | None]]] = defaultdict(list)
    for row in rows:
        name = Path(row.file).name
        if row.file.startswith(PATCHES) and name not in known:
            patch = load_rgb(folder / row.file)
            height, width = patch.shape[:2]
            found = read_annotations((folder / row.file).with_suffix(".txt"), classes)
            boxes = [pixel_box(one, width, height) for one in found]
            of_class[row.class_name].append((row, seen_shape(patch, boxes)))
    written, distrusted = [], []
    for name, members in of_class.items():
        shapes = [(row, shape) for row, shape in members if shape is not None]
        if len(shapes) >= MOST_OF_A_CLASS * len(members):
            for row, shape in shapes:
                file = OUTLINES + Path(row.file).name
                save_png(folder / file, shape.astype(np.uint8) * 255)
                written.append(replace(row, file=file))
        elif shapes:
            told = f"{len(shapes)} of {len(members)} {'stands' if len(shapes) == 1 else 'stand'} out"
            distrusted.append(f"{name}: {told}, too few to trust; its boxes are used")
    return written, distrusted
