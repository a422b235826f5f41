"""Real images with defects, for the validation part: how a detector does on painted ones says little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils import labels
from utils.errors import UserError
from utils.export_dataset.contents import ExportOptions, Item
from utils.labels import load_class_names, pixel_sides
from utils.manifest import mask_rle
from utils.prepare_data.holdout import choose_groups
from utils.prepare_data.sources import DefectBox, SourceImage, Survey
from utils.prepare_data.survey import survey_source


def real_items(
    folder: Path, classes: Mapping[str, int], options: ExportOptions
) -> tuple[list[Item], list[str]]:
    """The images with defects of a folder in any format that prepare_data reads, and warnings; of a folder that
    prepare_data wrote those that it held out.

    All of them validate, but for whole groups with about `real_train_share` of the defects, which train. Raises
    UserError for a class that the runs do not have.
    """
    survey = read_real(folder)
    known = {labels.normalize_class_name(name) for name in classes}
    present = {box.class_name for image in survey.defective for box in image.boxes}
    if strange := sorted(name for name in present if labels.normalize_class_name(name) not in known):
        raise UserError(
            f"--real {folder}: got the classes {', '.join(strange)}, expected only those of the runs: "
            + ", ".join(classes)
        )
    train, warnings = training_groups(survey, options)
    items = []
    for image in survey.defective:
        if any(box.is_point for box in image.boxes):
            warnings.append(f"{image.path} is left out: one of its defects has no box")
        else:
            items.append(_item(image, "train" if image.group in train else "val", classes))
    return items, warnings


def training_groups(survey: Survey, options: ExportOptions) -> tuple[set[str], list[str]]:
    """The groups of real images that train, and warnings."""
    if options.real_train_share == 0:
        return set(), []
    held = choose_groups(survey, None, 1 - options.real_train_share, options.seed)
    if not held:
        return set(), [f"{survey.tree.root}: its images are of one group, so all of them validate"]
    return {image.group for image in survey.defective} - held, []


def read_real(folder: Path) -> Survey:
    """A folder of real images; of one that prepare_data wrote its held-out images."""
    classes, held_out = folder / "classes.json", folder / "test"
    if not folder.is_dir():
        raise UserError(f"--real {folder}: no such folder")
    if classes.is_file() and held_out.is_dir():
        return survey_source(held_out, "yolo", load_class_names(classes))
    return survey_source(folder)


def _item(image: SourceImage, part: str, classes: Mapping[str, int]) -> Item:
    defects = [_defect(box, image.size, classes) for box in image.boxes]
    return Item(f"real_{image.name}", "real", str(image.path), part, image.size, image.path, defects=defects)


def _defect(found: DefectBox, size: tuple[int, int], classes: Mapping[str, int]) -> dict[str, Any]:
    """A real defect as the manifest has painted ones; its mask is its box."""
    left, top, right, bottom = box = pixel_sides((found.left, found.top, found.right, found.bottom), *size)
    return {
        "class_name": found.class_name,
        "class_id": labels.match_class(found.class_name, classes),
        "box": list(box),
        "mask": mask_rle(np.ones((bottom - top, right - left), dtype=bool), (left, top), size),
    }
