"""What was written, as index.csv, a report in plain text and a contact sheet."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from utils.images import grid, load_rgb, resize_squash
from utils.prepare_data.sources import Survey, counted, shorten
from utils.schema.prepared import CENTERED, OUTLINES, PATCHES, TILES, TWINS

SHEET_COLUMNS = 12
LABEL_WIDTH = 150
LINE = 255, 40, 200  # RGB of an outline
GROUND = 235  # gray level of what is empty


@dataclass(frozen=True)
class IndexRow:
    """One line of index.csv: an output file, its source and its contents.

    The box (of the defect; of the tile, where class_name is empty) is in native pixels of the source, right
    and bottom exclusive; `scale` is s, the native pixels per pixel of a patch. A test image has a line for
    each of its boxes.
    """

    file: str
    source: str
    class_name: str
    left: float
    top: float
    right: float
    bottom: float
    scale: float
    group: str
    split: str


@dataclass(frozen=True)
class Prepared:
    """What was written: the lines of the index and counts that the report mentions."""

    rows: list[IndexRow]
    patch_side: int
    padded: int
    crowded: int
    tiles_from_defective: bool
    small_images: int
    seen: int  # outlines that nobody drew
    distrusted: list[str]  # a sentence for each class of which too few defects stand out
    borrowed: int  # clean twins from other photographs of the group
    warnings: tuple[str, ...] = ()  # what cannot be painted, or not well


def write_index(path: Path, rows: Sequence[IndexRow]) -> None:
    """Write index.csv: the columns of IndexRow, with `class` for class_name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([{"class_name": "class"}.get(field.name, field.name) for field in fields(IndexRow)])
        for row in rows:
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row)])


def report_text(survey: Survey, held: set[str], written: Prepared, options: str) -> str:
    """What a user should know about the data, as plain text ending in a newline."""
    defects = sum(len(image.boxes) for image in survey.defective)
    lines = [
        f"source     {survey.tree.root} (format {survey.format})",
        f"options    {options}",
        f"found      {counted(len(survey.defective), 'image')} with {counted(defects, 'defect')}, "
        f"{len(survey.clean)} clean",
        *_split_lines(survey, held),
        "",
        *_class_lines(survey, held),
        "",
        *_written_lines(survey, written),
    ]
    warnings = [*survey.warnings, *_class_warnings(survey, held), *written.warnings]
    for title, sentences in (("warnings", warnings), ("notes", survey.notes)):
        if sentences:
            lines += ["", title, *(f"  - {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _split_lines(survey: Survey, held: set[str]) -> list[str]:
    lines = []
    pattern = f"pattern {survey.group_pattern}" if survey.group_pattern else "by file or folder"
    for split, inside in (("train", False), ("test", True)):
        images = [image for image in survey.images if (image.group in held) == inside]
        groups = sorted({image.group for image in images})
        clean = sum(image.is_clean for image in images)
        text = f"{counted(sum(bool(image.boxes) for image in images), 'image')} with defects, {clean} clean"
        lines.append(f"{split:10} {text}; {counted(len(groups), 'group')} ({pattern}): {shorten(groups)}")
    return lines


def _sizes(survey: Survey, name: str) -> list[float]:
    """The larger sides of a class's boxes, in px; points have none."""
    boxes = [box for image in survey.defective for box in image.boxes if box.class_name == name]
    return [max(box.size) for box in boxes if not box.is_point]


def _counts(survey: Survey, held: set[str], inside: bool) -> Counter[str]:
    images = [image for image in survey.defective if (image.group in held) == inside]
    return Counter(box.class_name for image in images for box in image.boxes)


def _class_lines(survey: Survey, held: set[str]) -> list[str]:
    width = max(len("class"), *(len(name) for name in survey.classes))
    train, test = _counts(survey, held, False), _counts(survey, held, True)
    lines = [f"{'id':>3}  {'class':{width}}  train   test   larger side in px: min / median / max"]
    for name, class_id in survey.classes.items():
        sizes = _sizes(survey, name)
        text = (
            " / ".join(f"{value:.0f}" for value in (min(sizes), median(sizes), max(sizes))) if sizes else "-"
        )
        lines.append(f"{class_id:3}  {name:{width}}  {train[name]:5}  {test[name]:5}   {text}")
    lines.append(f"{'':3}  {'all':{width}}  {train.total():5}  {test.total():5}")
    return lines


def _written_lines(survey: Survey, written: Prepared) -> list[str]:
    folders = Counter(str(Path(row.file).parent) for row in {row.file: row for row in written.rows}.values())
    patches = [row for row in written.rows if row.file.startswith(CENTERED)]
    scaled = [row.scale for row in patches if row.scale > 1]
    largest = f", the largest by {max(scaled):.2f}" if scaled else ""
    size = f"{written.patch_side}x{written.patch_side} px"
    centered, boxed = (counted(count, "patch", "patches") for count in (len(patches), folders["train/boxed"]))
    lines = [
        f"train/defect       {centered} of {size}; {len(scaled)} shrunk (s > 1){largest}",
        f"{'':18} {written.padded} extend beyond the image's edge and were padded by reflection",
        f"{'':18} {written.crowded} show part of a defect of another class in their window",
        f"train/boxed        the same defects in {boxed} with the place of each box",
        *_twin_lines(written),
        *_outline_lines(written),
        f"train/clean        {counted(folders['train/clean'], 'piece')} without defects, at the scales of the patches",
        f"train/defect_free  {counted(folders['train/defect_free'], 'tile')}",
    ]
    if written.tiles_from_defective:
        lines.append(
            f"{'':18} cut from images with defects, away from every box, as train has no clean images"
        )
    if written.small_images:
        lines.append(
            f"{'':18} {counted(written.small_images, 'image has', 'images have')} no room for a tile"
        )
    kinds = ("square", "squares") if written.tiles_from_defective else ("clean image", "clean images")
    without = " without defects" if written.tiles_from_defective else ""
    lines.append(f"train_clean        {counted(folders['train_clean'], *kinds)}{without} to paint on")
    lines.append(f"test               {counted(folders['test'], 'image')} with YOLO labels")
    lines.append(
        f"test_clean         {counted(folders['test_clean'], 'clean counterpart')} with the same labels"
    )
    return lines


def _twin_lines(written: Prepared) -> list[str]:
    if not written.borrowed:
        return []
    count = sum(row.file.startswith(TWINS) for row in written.rows)
    return [
        f"train/twins        {count} of them without the defect,",
        f"{'':18} {written.borrowed} from other photographs of their group, which show the same place",
    ]


def _outline_lines(written: Prepared) -> list[str]:
    """How many outlines there are, and whence, and which classes have none."""
    count = sum(row.file.startswith(OUTLINES) for row in written.rows)
    if not count and not written.distrusted:
        return []
    lines = [f"train/outlines     the shapes of {count} of them"]
    if written.seen:
        lines[0] += f", {written.seen} found by what stands out in the box"
        lines.append(
            f"{'':18} look at contact_sheet.png; correct wrong ones, or delete them (then the box counts)"
        )
    return [*lines, *(f"{'':18} {sentence}" for sentence in written.distrusted)]


def _class_warnings(survey: Survey, held: set[str]) -> list[str]:
    train, test = _counts(survey, held, False), _counts(survey, held, True)
    empty = [name for name in survey.classes if not train[name] and not test[name]]
    warnings = [f"class {name} has no defects at all" for name in empty]
    warnings += [
        f"class {name} is missing in train" for name in survey.classes if test[name] and not train[name]
    ]
    if held:
        warnings += [
            f"class {name} is missing in test" for name in survey.classes if train[name] and not test[name]
        ]
    else:
        warnings.append("nothing is held out, so nothing can be tested on unseen images")
    return warnings


def contact_sheet(
    folder: Path, rows: Sequence[IndexRow], classes: Sequence[str], side: int, seed: int
) -> np.ndarray:
    """(H, W, 3) uint8: a row of up to 12 boxed patches of each class, chosen by `seed`, below it the same with their
    outlines, where some are known, and a row of tiles, shrunk.

    `folder` is where the files of `rows` are; all images are shown within `side` x `side` px.
    """
    rng = np.random.default_rng([seed, 2])
    patches = [row for row in rows if row.file.startswith(PATCHES)]
    kinds = {name: [row for row in patches if row.class_name == name] for name in classes}
    kinds["(tiles)"] = [row for row in rows if row.file.startswith(TILES)]
    bands = []
    for name, members in kinds.items():
        chosen = [members[i] for i in sorted(rng.permutation(len(members))[:SHEET_COLUMNS])]
        bands.append(_band(f"{name}\n{len(members)}", [load_rgb(folder / row.file) for row in chosen], side))
        shapes = [_with_outline(folder, Path(row.file).name) for row in chosen]
        if any(shape is not None for shape in shapes):
            bands.append(_band("outlines", shapes, side))
    return np.vstack(bands)


def _with_outline(folder: Path, name: str) -> np.ndarray | None:
    """The boxed patch of that name with its defect's outline drawn in; None if that is not known."""
    outline = folder / OUTLINES / name
    if not outline.is_file():
        return None
    patch, shape = load_rgb(folder / PATCHES / name).copy(), load_rgb(outline)[..., 0] > 127
    patch[ndimage.binary_dilation(shape) & ~shape] = LINE
    return patch


def _band(text: str, cells: Sequence[np.ndarray | None], side: int) -> np.ndarray:
    """A row of the sheet with its text; None and what is missing at its end are gray."""
    empty = np.full((side, side, 3), GROUND, np.uint8)
    shown = [empty if cell is None else _fitted(cell, side) for cell in cells]
    band = grid([*shown, *[empty] * (SHEET_COLUMNS - len(shown))], columns=SHEET_COLUMNS)
    return np.hstack([_label(text, band.shape[0]), band])


def _fitted(cell: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (side, side, 3): as large as fits, in the middle, with gray beside it."""
    factor = side / max(cell.shape[:2])
    height, width = (max(1, round(factor * length)) for length in cell.shape[:2])
    top, left = (side - height) // 2, (side - width) // 2
    fitted = np.full((side, side, 3), GROUND, np.uint8)
    fitted[top : top + height, left : left + width] = resize_squash(cell, (height, width))
    return fitted


def _label(text: str, height: int) -> np.ndarray:
    import matplotlib  # takes a second, which help need not wait for

    image = Image.new("RGB", (LABEL_WIDTH, height), "white")
    path = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")  # Pillow's own font has ASCII alone
    ImageDraw.Draw(image).multiline_text((6, 6), text, fill="black", font=ImageFont.truetype(path, 13))
    return np.array(image)
