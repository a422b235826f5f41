"""Check what a reader found: images, boxes, classes and groups."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.images import list_images
from utils.labels import normalize_class_name
from utils.prepare_data.checks import inspect
from utils.prepare_data.formats.recognition import FORMATS, recognize
from utils.prepare_data.groups.grouping import (
    check_counterparts,
    join_groups,
    match_counterparts,
    set_groups,
    set_names,
    usual_pattern,
)
from utils.prepare_data.sources import ReadResult, SourceImage, Survey, Tally, counted
from utils.prepare_data.tree import FileTree


def survey_source(
    source: Path,
    format_name: str = "auto",
    classes: Mapping[str, int] | None = None,
    clean_dir: Path | None = None,
    group_pattern: str | None = None,
) -> Survey:
    """Read a source folder and check all of it; every image is decoded once, one at a time.

    Raises UserError that lists all problems: unreadable images, broken annotations, unknown classes,
    annotations for an image of another size, file names that do not match `group_pattern`.
    """
    tree = FileTree(source)
    name = recognize(tree) if format_name == "auto" else format_name
    found = FORMATS[name].read(tree, classes)
    if not found.images and not found.problems:
        raise UserError(
            f"{source}: got no {name} annotations in it, expected some; check the folder, or --format"
        )
    _add_clean_images(found, tree, clean_dir)
    table = _unify_classes(found, classes)
    tally = Tally()
    problems = found.problems
    for image in tqdm(found.images, desc="checking images", disable=None):
        problems += inspect(image, tally)
    pattern = group_pattern or usual_pattern(found)
    problems += set_groups(found, tree, pattern)
    if problems:
        raise UserError.from_problems(f"{source} cannot be used", list(dict.fromkeys(problems)))
    survey = Survey(tree, name, pattern, found.images, table, found.notes, tally.sentences())
    if not survey.defective:
        raise UserError(f"{source}: got {len(survey.images)} images, none with a box; expected some defects")
    if found.equal_names_pair:
        match_counterparts(survey)
    check_counterparts(survey)
    join_groups(survey)
    set_names(survey)
    return survey


def _add_clean_images(found: ReadResult, tree: FileTree, clean_dir: Path | None) -> None:
    """Add the images of clean folders; note how many images are unannotated."""
    known = {image.path for image in found.images}
    if clean_dir is not None:
        extra = list_images(clean_dir)
        if not extra:
            raise UserError(f"--clean-dir {clean_dir}: no images in it; expected images without defects")
    elif found.clean_is_known:
        extra = []
    else:
        extra = [path for path in tree.images if tree.in_clean_folder(path)]
    found.images += [SourceImage(path, is_clean=True) for path in extra if path not in known]
    known.update(extra)
    rest = [path for path in tree.images if path not in known]
    if rest:
        found.notes.append(
            f"{counted(len(rest), 'image has no annotation and is', 'images have no annotation and are')} left out, "
            f"e.g. {tree.relative(rest[0])}; of images without defects give the folder as --clean-dir"
        )


def _unify_classes(found: ReadResult, classes: Mapping[str, int] | None) -> dict[str, int]:
    """{name: id}, with the boxes renamed accordingly; names that differ only in case and punctuation are one class.

    Without `classes` the ids count up in the reader's order. Unknown names become problems.
    """
    names: dict[str, str] = {}
    for name in classes or found.classes:
        names.setdefault(normalize_class_name(name), name)
    unknown: Counter[str] = Counter()
    for image in found.images:
        for box in image.boxes:
            if not normalize_class_name(box.class_name) or normalize_class_name(box.class_name) not in names:
                unknown[box.class_name] += 1
        image.boxes = [
            replace(box, class_name=names.get(normalize_class_name(box.class_name), box.class_name))
            for box in image.boxes
        ]
    for name, count in sorted(unknown.items()):
        expected = f"one of {', '.join(classes)}" if classes else "a name with letters or digits"
        found.problems.append(f"class {name!r} of {counted(count, 'box', 'boxes')}: expected {expected}")
    return dict(classes) if classes else {name: index for index, name in enumerate(names.values())}
