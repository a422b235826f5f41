"""Real images with defects: they validate, for how a detector does on painted ones says little, and train if wished."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils import labels
from utils.errors import UserError
from utils.export_dataset.contents import ExportOptions, Item, SourceRun
from utils.labels import load_class_names, pixel_sides
from utils.manifest import mask_rle
from utils.prepare_data.groups.holdout import choose_groups
from utils.prepare_data.origin import held_out_groups, survey_again
from utils.prepare_data.sources import DefectBox, SourceImage
from utils.prepare_data.survey import survey_source


def real_items(
    folder: Path, classes: Mapping[str, int], options: ExportOptions
) -> tuple[list[Item], list[str]]:
    """The images with defects of a folder in any format that prepare_data reads, and warnings; of a folder that
    prepare_data wrote those that it held out.

    All of them validate, but for whole groups with about `real_train_share` of the defects, which train. With
    `real_train` those train that a prepared folder did not hold out. Raises UserError for a class that the runs do not
    have, and for an option that does not fit the folder.
    """
    if not folder.is_dir():
        raise UserError(f"--real {folder}: no such folder")
    images, warnings = (
        prepared_images(folder, options) if is_prepared(folder) else own_images(folder, options)
    )
    known = {labels.normalize_class_name(name) for name in classes}
    present = {box.class_name for image, _ in images for box in image.boxes}
    if strange := sorted(name for name in present if labels.normalize_class_name(name) not in known):
        raise UserError(
            f"--real {folder}: got the classes {', '.join(strange)}, expected only those of the runs: "
            + ", ".join(classes)
        )
    items = []
    for image, part in images:
        if any(box.is_point for box in image.boxes):
            warnings.append(f"{image.path} is left out: one of its defects has no box")
        else:
            items.append(_item(image, part, classes))
    return items, warnings


Parted = list[tuple[SourceImage, str]]  # images and their parts, train or val


def is_prepared(folder: Path) -> bool:
    """Whether prepare_data wrote a folder and held images out."""
    return (folder / "classes.json").is_file() and (folder / "test").is_dir()


def prepared_images(folder: Path, options: ExportOptions) -> tuple[Parted, list[str]]:
    """The images of a prepared folder: those held out validate, the others train if wished."""
    if options.real_train_share:
        raise UserError(
            f"--real-train-share: got {options.real_train_share:g} with {folder}, whose held-out images validate; "
            "expected --real-train, for those that it did not hold out"
        )
    held = survey_source(folder / "test", "yolo", load_class_names(folder / "classes.json")).defective
    if not options.real_train:
        return [(image, "val") for image in held], []
    groups, digests = held_out_groups(folder), {image.digest for image in held}
    others = survey_again(folder).defective
    train = [image for image in others if image.group not in groups and image.digest not in digests]
    return [*((image, "train") for image in train), *((image, "val") for image in held)], []


def own_images(folder: Path, options: ExportOptions) -> tuple[Parted, list[str]]:
    """The images of a folder that was not prepared, and warnings."""
    if options.real_train:
        raise UserError(
            f"--real-train: got {folder}, expected a folder that utils.prepare_data wrote and that holds images out; "
            "use --real-train-share"
        )
    survey, warnings, train = survey_source(folder), list[str](), set[str]()
    if options.real_train_share:
        held = choose_groups(survey, None, 1 - options.real_train_share, options.seed)
        if held:
            train = {image.group for image in survey.defective} - held
        else:
            warnings.append(f"{survey.tree.root}: its images are of one group, so all of them validate")
    return [(image, "train" if image.group in train else "val") for image in survey.defective], warnings


def check_not_held_out(folder: Path, runs: Sequence[SourceRun]) -> None:
    """Raises UserError for a run that painted on what a prepared folder holds out: its images would train a detector
    that is validated on the same photographs."""
    held = [(folder / part).resolve() for part in ("test", "test_clean")]
    for run in runs:
        if Path(run.config.defect_free_dir).resolve() in held:
            raise UserError(
                f"{run.folder}: painted on {run.config.defect_free_dir}, photographs that --real {folder} holds out to "
                "validate; expected a run on others (generate.yml), or no --real"
            )


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
