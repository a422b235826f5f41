"""The training defects of a folder that `utils.prepare_data` wrote: places look like theirs, and painting starts from
them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from generation.placement.ground import with_change
from generation.placement.matching import Surround, same_surroundings
from utils import images, labels
from utils.errors import UserError, shortened
from utils.files import files_sha256
from utils.schema.manifest import first_problem
from utils.schema.prepared import CLASSES, INDEX, OUTLINES, PATCHES, TWINS, in_native_px

ALIGNED = 0.8  # likeness of the surroundings above which a clean image shows the same place


@dataclass(frozen=True)
class Query:
    """A training defect: its patch, the center and size of its box in px of its own photograph, the photograph's
    group, and the defect's number in the index."""

    surround: Surround
    class_id: int
    center: tuple[float, float]
    size: tuple[float, float]
    group: str = ""
    number: int = 0

    @property
    def box(self) -> tuple[int, int]:
        """Width and height of the box in whole px."""
        width, height = self.size
        return max(1, round(width)), max(1, round(height))


def allowed_turns(rotate90: bool, flip: bool) -> list[tuple[int, bool]]:
    """(quarters, mirrored): how a query may be turned. Mirror images both ways are a half turn."""
    quarters = range(4) if rotate90 else (0, 2) if flip else (0,)
    return [(turn, mirrored) for turn in quarters for mirrored in ((False, True) if flip else (False,))]


def training_defects_sha256(folder: Path) -> str:
    """A hash of all that `read_patches` and the exemplars read: index, classes, patches with their labels, clean twins
    and outlines, shrunk and not."""
    parts = [name for part in (PATCHES, TWINS, OUTLINES) for name in (part, in_native_px(part))]
    below = [path for part in parts for path in (folder / part).glob("*")]
    return files_sha256(
        folder, [path for path in (folder / INDEX, folder / CLASSES, *below) if path.is_file()]
    )


def read_patches(folder: Path, classes: Mapping[str, int], key: str) -> list[tuple[Query, str]]:
    """The training defects, each with the name of its patch in PATCHES. Raises UserError, which names the key of the
    configuration that the folder is of, if there is none.

    Classes are those of the same names; what the folder has of others is left out.
    """
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("file") or "").startswith(PATCHES)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{key} {folder}: its {INDEX} cannot be read: {error}") from error
    if not rows:
        raise UserError(f"{key} {folder}: got no patches {PATCHES}, expected what utils.prepare_data wrote")
    names = folder / CLASSES
    own = labels.load_class_names(names) if names.is_file() else classes
    ids = {labels.normalize_class_name(name): class_id for name, class_id in classes.items()}
    known = {own[name]: ids[plain] for name in own if (plain := labels.normalize_class_name(name)) in ids}
    found = [(_read_query(folder, row, own, key), row["file"].removeprefix(PATCHES)) for row in rows]
    found = [
        (replace(query, class_id=known[query.class_id], number=number), file)
        for number, (query, file) in enumerate(found)
        if query.class_id in known
    ]
    if not found:
        raise UserError(
            f"{key} {folder}: got defects of {', '.join(own)}, expected some of {', '.join(classes)}"
        )
    return found


class _IndexRow(BaseModel):
    """What a row of the index must hold of a patch: the box in px of its photograph, and the patch's scale."""

    model_config = ConfigDict(allow_inf_nan=False)
    file: str
    left: float
    top: float
    right: float
    bottom: float
    scale: Annotated[float, Field(gt=0)]
    group: str = ""


def _read_query(folder: Path, values: Mapping[str, str], classes: Mapping[str, int], key: str) -> Query:
    """The training defect of a row of the index. Raises UserError."""
    try:
        row = _IndexRow.model_validate(values)
    except ValidationError as error:
        raise UserError(
            f"{key} {folder}: {INDEX}, {shortened(values['file'])}: {first_problem(error)}; run "
            "utils.prepare_data again"
        ) from error
    path = folder / row.file
    pixels = images.load_rgb(path)
    height, width = pixels.shape[:2]
    annotation = next(iter(labels.read_annotations(path.with_suffix(".txt"), classes)), None)
    if annotation is None or annotation.w is None or annotation.h is None:
        raise UserError(f"{path.with_suffix('.txt')}: got no box, expected a line `class cx cy w h`")
    x, y, w, h = (
        annotation.cx * width,
        annotation.cy * height,
        annotation.w * width,
        annotation.h * height,
    )
    box = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if not (box[0] < box[2] and box[1] < box[3]):
        raise UserError(
            f"{path.with_suffix('.txt')}: got a box of {w:g} x {h:g} px, expected one with an area"
        )
    center, size = (
        ((row.left + row.right) / 2, (row.top + row.bottom) / 2),
        (row.right - row.left, row.bottom - row.top),
    )
    surround = without_defect(Surround(pixels, box, row.scale), folder / TWINS / path.name)
    return Query(surround, annotation.class_id, center, size, row.group)


def shows_same_place(surround: Surround, pixels: np.ndarray) -> bool:
    """Whether an image (h, w, 3) uint8 looks like a patch around its box, and is of its size."""
    return pixels.shape == surround.pixels.shape and same_surroundings(surround, pixels) >= ALIGNED


def without_defect(surround: Surround, twin: Path) -> Surround:
    """The patch of the clean image at the same place, if there is one and it looks the same around the box."""
    if not twin.is_file():
        return surround
    pixels = images.load_rgb(twin)
    if not shows_same_place(surround, pixels):
        return surround
    return with_change(replace(surround, pixels=pixels, is_clean=True), surround.pixels)
