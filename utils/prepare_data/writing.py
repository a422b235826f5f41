"""Writing the data set: training tiles and patches, held-out test images, and the folder they go to."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.images import ImageCache, load_rgb, save_png
from utils.labels import auto_scale, format_annotation, relative_box
from utils.prepare_data.boxed import (
    Chosen,
    Piece,
    boxed_patch,
    boxes_beside,
    choose_defects,
    cut_piece,
    native_patch,
    outline_patch,
    plan_pieces,
    sized,
)
from utils.prepare_data.confs import look, next_steps, write_confs
from utils.prepare_data.cutting import CutOptions, Places, cut_patch, is_crowded, plan_tiles
from utils.prepare_data.grounds import Square, drawn, free_squares
from utils.prepare_data.groups.siblings import Siblings
from utils.prepare_data.outlines import write_seen_shapes
from utils.prepare_data.report import IndexRow, Prepared, contact_sheet, report_text, write_index
from utils.prepare_data.sources import DefectBox, SourceImage, Survey, file_name
from utils.schema.prepared import (
    CENTERED,
    INDEX,
    OUTLINES,
    PATCHES,
    PIECES,
    TILES,
    TWINS,
    in_native_px,
)

KIND = "prepared data set"  # in the folder's mark


@dataclass(frozen=True)
class Cuts:
    """Regions to cut from the training images, by image name: tiles, defects that become patches, clean pieces."""

    tiles: Places
    defects: Chosen
    pieces: dict[str, list[Piece]]


def write_training_set(folder: Path, survey: Survey, held: set[str], cuts: Cuts, cut: CutOptions) -> Prepared:
    """Write tiles, patches and clean pieces of the images that are not held out, one image at a time."""
    for part in ("defect_free", "defect", "boxed", "clean", "twins", "outlines"):
        (folder / "train" / part).mkdir(parents=True)
    rows: list[IndexRow] = []
    numbers: Counter[str] = Counter()
    last = ImageCache(limit=0)  # one clean image is often that of the next one, too
    padded = crowded = borrowed = 0
    train = [image for image in survey.images if image.group not in held]
    siblings = Siblings(train)
    for image in tqdm(train, desc="cutting", disable=None):
        if not any(image.name in part for part in (cuts.tiles, cuts.defects, cuts.pieces)):
            continue
        pixels = load_rgb(image.path)
        rows += _write_tiles(folder, survey, image, pixels, cuts.tiles.get(image.name, []), cut.tile)
        rows += _write_pieces(folder, survey, image, pixels, cuts.pieces.get(image.name, []))
        for box in cuts.defects.get(image.name, []):
            name = f"{file_name(box.class_name)}_{numbers[box.class_name]:04d}.png"
            patch, scale, over = cut_patch(pixels, box, cut.window, cut.margin)
            save_png(folder / CENTERED / name, patch)
            rows.append(_box_row(CENTERED + name, survey, image, box, scale, "train"))
            others = [other for other in image.boxes if other is not box]
            scale = _write_boxed(folder / PATCHES / name, pixels, [box, *others], survey, cut.window)
            _save_native(folder, PATCHES + name, pixels, box, cut.window)
            clean = image.counterpart or siblings.twin(image, pixels, sized(box, cut.window))
            if clean is not None:
                twin, _, _ = boxed_patch(last(clean.path), box, cut.window)
                save_png(folder / TWINS / name, twin)
                _save_native(folder, TWINS + name, last(clean.path), box, cut.window)
                rows.append(_box_row(TWINS + name, survey, clean, box, scale, "train"))
                borrowed += image.counterpart is None
            shape = outline_patch(image.size, box, cut.window)
            if shape is not None and box.outline is not None:
                save_png(folder / OUTLINES / name, shape)
                drawn_shape = box.outline.drawn(*image.size).astype(np.uint8) * 255
                _save_native(folder, OUTLINES + name, drawn_shape, box, cut.window)
                rows.append(_box_row(OUTLINES + name, survey, image, box, scale, "train"))
            whole = sized(box, cut.window)
            rows.append(_box_row(PATCHES + name, survey, image, whole, scale, "train"))
            numbers[box.class_name] += 1
            padded += over
            crowded += is_crowded(image, box, cut.window)
    seen, distrusted = write_seen_shapes(folder, rows, survey.classes)
    return Prepared([*rows, *seen], cut.patch, padded, crowded, False, 0, len(seen), distrusted, borrowed)


def _write_tiles(
    folder: Path, survey: Survey, image: SourceImage, pixels: np.ndarray, places: list, tile: int
) -> list[IndexRow]:
    rows = []
    for left, top in places:
        file = f"{TILES}{image.name}_{left}_{top}.png"
        save_png(folder / file, pixels[top : top + tile, left : left + tile])
        source = survey.tree.relative(image.path)
        rows.append(IndexRow(file, source, "", left, top, left + tile, top + tile, 1, image.group, "train"))
    return rows


def _write_pieces(
    folder: Path, survey: Survey, image: SourceImage, pixels: np.ndarray, pieces: list[Piece]
) -> list[IndexRow]:
    rows = []
    for number, piece in enumerate(pieces):
        file = f"{PIECES}{image.name}_{number:03d}.png"
        save_png(folder / file, cut_piece(pixels, piece))
        source = survey.tree.relative(image.path)
        box = (piece.left, piece.top, piece.right, piece.bottom)
        rows.append(IndexRow(file, source, "", *box, piece.scale, image.group, "train"))
    return rows


def _write_boxed(
    path: Path, pixels: np.ndarray, boxes: list[DefectBox], survey: Survey, window: int
) -> float:
    """Write a patch around the first of the boxes of an image, for a prior that sees its surroundings, and beside it
    the boxes in it, as YOLO lines, the first one first; its scale. Points become boxes."""
    boxes = [sized(box, window) for box in boxes]
    patch, inner, scale = boxed_patch(pixels, boxes[0], window)
    save_png(path, patch)
    height, width = patch.shape[:2]
    lines = [
        format_annotation(survey.classes[name], *relative_box(place, width, height))
        for name, place in [(boxes[0].class_name, inner), *boxes_beside(boxes, inner, scale, (width, height))]
    ]
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return scale


def _save_native(folder: Path, file: str, pixels: np.ndarray, box: DefectBox, window: int) -> None:
    """Write what a patch shows in px of the photograph, where it is shrunk."""
    native = native_patch(pixels, box, window)
    if native is not None:
        path = folder / in_native_px(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, native)


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


def write_clean_set(folder: Path, survey: Survey, held: set[str], cut: CutOptions) -> list[IndexRow]:
    """Copy the clean images that are not held out to train_clean, at most `grounds.MOST`; without any, write what other
    images have without defects."""
    images = drawn([image for image in survey.clean if image.group not in held], cut.seed)
    if not images:
        return _write_squares(folder, survey, free_squares(survey, held, cut))
    rows = []
    for image in images:
        (folder / "train_clean").mkdir(exist_ok=True)
        file = f"train_clean/{image.name}{image.path.suffix.lower()}"
        shutil.copyfile(image.path, folder / file)
        source = survey.tree.relative(image.path)
        rows.append(IndexRow(file, source, "", 0, 0, *image.size, 1, image.group, "train"))
    return rows


def _write_squares(
    folder: Path, survey: Survey, found: Sequence[tuple[SourceImage, Sequence[Square]]]
) -> list[IndexRow]:
    rows = []
    for image, squares in tqdm(found, desc="cutting what is clean", disable=None):
        (folder / "train_clean").mkdir(exist_ok=True)
        pixels, source = load_rgb(image.path), survey.tree.relative(image.path)
        for one in squares:
            right, bottom = one.left + one.side, one.top + one.side
            file = f"train_clean/{image.name}_{one.left}_{one.top}.png"
            save_png(folder / file, pixels[one.top : bottom, one.left : right])
            sides = one.left, one.top, right, bottom
            rows.append(IndexRow(file, source, "", *sides, 1, image.group, "train"))
    return rows


@dataclass(frozen=True)
class Destination:
    """An empty folder to write to, the path that it will have, and the text of the options for the report."""

    folder: Path
    out: Path
    options: str


def write_all(where: Destination, survey: Survey, held: set[str], cut: CutOptions, minutes: float) -> str:
    """Write everything; returns the report. `minutes`: for training and painting. Raises UserError before writing
    anything."""
    folder = where.folder
    places, from_defective, small = plan_tiles(survey, held, cut)
    chosen = choose_defects(survey, held, cut.per_class, cut.seed)
    pieces = plan_pieces(survey, held, chosen, cut.window, cut.clean_distance, cut.seed)
    trained = write_training_set(folder, survey, held, Cuts(places, chosen, pieces), cut)
    rows = [*trained.rows, *write_test_set(folder, survey, held, cut.window)]
    rows += write_clean_set(folder, survey, held, cut)
    (folder / "classes.json").write_text(json.dumps(survey.classes) + "\n", encoding="utf-8")
    found = look(folder, rows, survey, cut.window, cut.tile, minutes)
    written = replace(
        trained, rows=rows, tiles_from_defective=from_defective, small_images=small, warnings=found.warnings
    )
    confs = write_confs(folder, where.out, rows, found)
    report = report_text(survey, held, written, where.options) + next_steps(where.out, confs)
    (folder / "report.txt").write_text(report, encoding="utf-8")
    sheet = contact_sheet(folder, rows, list(survey.classes), cut.patch, cut.seed)
    save_png(folder / "contact_sheet.png", sheet)
    write_index(folder / INDEX, rows)
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
