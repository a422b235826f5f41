"""Writing the data set: training tiles and patches, held-out test images, and the folder they go to."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.images import load_rgb, save_png
from utils.labels import auto_scale, format_annotation
from utils.prepare_data.cutting import CutOptions, Places, cut_patch, is_crowded, plan_tiles
from utils.prepare_data.report import IndexRow, Prepared, contact_sheet, report_text, write_index
from utils.prepare_data.sources import DefectBox, SourceImage, Survey, file_name

KIND = "prepared data set"  # in the folder's mark


def write_training_set(
    folder: Path, survey: Survey, held: set[str], places: Places, cut: CutOptions
) -> Prepared:
    """Write tiles and patches of the images that are not held out, one image at a time."""
    (folder / "train/defect_free").mkdir(parents=True)
    (folder / "train/defect").mkdir()
    rows: list[IndexRow] = []
    numbers: Counter[str] = Counter()
    padded = crowded = 0
    train = [image for image in survey.images if image.group not in held]
    for image in tqdm(train, desc="cutting", disable=None):
        if not image.boxes and not places.get(image.name):
            continue
        pixels = load_rgb(image.path)
        rows += _write_tiles(folder, survey, image, pixels, places.get(image.name, []), cut.tile)
        for box in image.boxes:
            patch, scale, over = cut_patch(pixels, box, cut.window, cut.margin)
            file = f"train/defect/{file_name(box.class_name)}_{numbers[box.class_name]:04d}.png"
            save_png(folder / file, patch)
            rows.append(_box_row(file, survey, image, box, scale, "train"))
            numbers[box.class_name] += 1
            padded += over
            crowded += is_crowded(image, box, cut.window)
    return Prepared(rows, cut.patch, padded, crowded, tiles_from_defective=False, small_images=0)


def _write_tiles(
    folder: Path, survey: Survey, image: SourceImage, pixels: np.ndarray, places: list, tile: int
) -> list[IndexRow]:
    rows = []
    for left, top in places:
        file = f"train/defect_free/{image.name}_{left}_{top}.png"
        save_png(folder / file, pixels[top : top + tile, left : left + tile])
        source = survey.tree.relative(image.path)
        rows.append(IndexRow(file, source, "", left, top, left + tile, top + tile, 1, image.group, "train"))
    return rows


def _box_row(
    file: str, survey: Survey, image: SourceImage, box: DefectBox, scale: float, split: str
) -> IndexRow:
    source = survey.tree.relative(image.path)
    sides = (box.left, box.top, box.right, box.bottom)
    return IndexRow(file, source, box.class_name, *sides, scale, image.group, split)


def write_test_set(folder: Path, survey: Survey, held: set[str], window: int) -> list[IndexRow]:
    """Copy the held-out images and, into test_clean, their clean counterparts, each with YOLO labels.

    A held-out clean image that is not a counterpart goes to test with empty labels. Files are copied as they
    are, not re-encoded.
    """
    rows: list[IndexRow] = []
    images = [image for image in survey.images if image.group in held]
    counterparts = {image.counterpart.digest for image in images if image.counterpart}
    for image in tqdm(images, desc="copying test images", disable=None):
        if image.boxes:
            rows += _copy_with_labels(folder, "test", survey, image, image, window)
            if image.counterpart:
                rows += _copy_with_labels(folder, "test_clean", survey, image, image.counterpart, window)
        elif image.is_clean and image.digest not in counterparts:
            rows += _copy_with_labels(folder, "test", survey, image, image, window)
    return rows


def _copy_with_labels(
    folder: Path, part: str, survey: Survey, labeled: SourceImage, shown: SourceImage, window: int
) -> list[IndexRow]:
    """Copy `shown` under the name of `labeled`, with the boxes of `labeled`."""
    (folder / part).mkdir(exist_ok=True)
    width, height = labeled.size
    file = f"{part}/{labeled.name}{shown.path.suffix.lower()}"
    shutil.copyfile(shown.path, folder / file)
    lines, rows = [], []
    for box in labeled.boxes:
        (x, y), (w, h) = box.center, box.size
        size = (None, None) if box.is_point else (w / width, h / height)
        lines.append(format_annotation(survey.classes[box.class_name], x / width, y / height, *size))
        rows.append(_box_row(file, survey, labeled, box, auto_scale(w, h, window), "test"))
    if not rows:
        source = survey.tree.relative(labeled.path)
        rows = [IndexRow(file, source, "", 0, 0, width, height, 1, labeled.group, "test")]
    (folder / file).with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return rows


def write_all(folder: Path, survey: Survey, held: set[str], cut: CutOptions, options: str) -> str:
    """Write everything into an empty folder; returns the report. Raises UserError before writing anything."""
    places, from_defective, small = plan_tiles(survey, held, cut)
    trained = write_training_set(folder, survey, held, places, cut)
    rows = [*trained.rows, *write_test_set(folder, survey, held, cut.window)]
    made = Prepared(rows, cut.patch, trained.padded, trained.crowded, from_defective, small)
    (folder / "classes.json").write_text(json.dumps(survey.classes) + "\n", encoding="utf-8")
    report = report_text(survey, held, made, options)
    (folder / "report.txt").write_text(report, encoding="utf-8")
    sheet = contact_sheet(folder, rows, list(survey.classes), cut.patch, cut.seed)
    save_png(folder / "contact_sheet.png", sheet)
    write_index(folder / "index.csv", rows)
    return report


def check_apart(out: Path, *sources: Path) -> None:
    """Raises UserError when the output folder lies within a source folder, or around it."""
    inner = out.resolve()
    for source in sources:
        outer = source.resolve()
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise UserError(
                f"--out {out}: lies within the folder {source} that is read, or around it; choose a folder elsewhere"
            )
