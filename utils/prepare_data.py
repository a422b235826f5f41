"""Turn annotated pictures into what both models train on: tiles without defects, patches around defects.

    python -m utils.prepare_data SOURCE --out DIR [--holdout GROUP ...]

Formats: Pascal VOC, YOLO, COCO, DeepPCB, LabelMe, MVTec folders, recognised by themselves. DIR gets
train/defect_free (tiles), train/defect (patches), classes.json, test and test_clean (held-out pictures with
YOLO labels), index.csv, report.txt and contact_sheet.png.
"""

import argparse
import json
import math
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from utils.annotation_formats import READERS
from utils.dataset_pictures import Box, Picture
from utils.dataset_report import Made, Row, contact_sheet, report_text, write_index
from utils.dataset_survey import Survey, choose_groups, file_name, survey_source
from utils.errors import UserError, run_main
from utils.images import load_rgb, save_png
from utils.labels import auto_scale, format_annotation, load_class_names

OUTPUTS = ("train", "test", "test_clean", "classes.json", "report.txt", "contact_sheet.png", "index.csv")
INDEX_START = "file,source,class,"
DEFAULT_SHARE = 0.2

Places = dict[str, list[tuple[int, int]]]  # name of a picture -> (left, top) of its tiles


@dataclass(frozen=True)
class Cut:
    """How tiles and patches are cut, in px: see the command line's help."""

    tile: int = 256
    window: int = 64
    margin: int = 16
    clean_distance: int = 16
    tiles_per_image: int | None = None
    seed: int = 0

    @property
    def patch(self) -> int:
        """Side of a patch."""
        return self.window + 2 * self.margin


# Patches


def cut_patch(image: np.ndarray, box: Box, window: int, margin: int) -> tuple[np.ndarray, float, bool]:
    """Cut (H, W, 3) uint8 to (P, P, 3), P = window + 2 * margin, the box's centre exactly in the middle.

    Returns the patch, the scale s (`auto_scale`: P * s native px were shrunk to P; with s = 1 pixels are
    copied, the centre rounded down to a whole one) and whether the patch reached over the edge and was padded
    by reflection.
    """
    scale = auto_scale(*box.size, window)
    side = window + 2 * margin
    x, y = (math.floor(value) if scale == 1 else value for value in box.centre)
    reach = side * scale / 2
    inner = [math.floor(x - reach), math.floor(y - reach), math.ceil(x + reach), math.ceil(y + reach)]
    padded = min(inner) < 0 or inner[2] > image.shape[1] or inner[3] > image.shape[0]
    if scale == 1:
        return _take(image, *inner), scale, padded
    context = math.ceil(2 * scale) + 1  # what the bicubic kernel sees beyond the crop
    left, top = inner[0] - context, inner[1] - context
    region = _take(image, left, top, inner[2] + context, inner[3] + context)
    crop = (x - reach - left, y - reach - top, x + reach - left, y + reach - top)
    patch = Image.fromarray(region).resize((side, side), Image.Resampling.BICUBIC, box=crop)
    return np.array(patch), scale, padded


def _take(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A rectangle of (H, W, 3) that may reach over the edge, where the image is reflected."""
    rows = _reflect(np.arange(top, bottom), image.shape[0])
    columns = _reflect(np.arange(left, right), image.shape[1])
    return image[rows[:, None], columns]


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Indices mirrored at the first and the last element, which are not repeated: -1 -> 1."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * (size - 1))
    return np.where(folded < size, folded, 2 * (size - 1) - folded)


def is_crowded(picture: Picture, box: Box, window: int) -> bool:
    """Whether the window around a defect shows part of a defect of another class."""
    reach = window * auto_scale(*box.size, window) / 2
    x, y = box.centre
    return any(
        other.class_name != box.class_name
        and abs(other.centre[0] - x) < reach + other.size[0] / 2
        and abs(other.centre[1] - y) < reach + other.size[1] / 2
        for other in picture.boxes
    )


# Tiles


def clean_places(
    size: tuple[int, int], tile: int, limit: int | None, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(left, top) of tiles of a clean picture of `size` (width, height); none where a side is too small.

    Without `limit` they cover the whole picture, overlapping as little as they can; with it, so many of them
    are drawn, and more at random places if they do not suffice, as long as there are different ones.
    """
    width, height = size
    if min(width, height) < tile:
        return []
    places = [(left, top) for top in _spread(height, tile) for left in _spread(width, tile)]
    if limit is None:
        return places
    drawn = dict.fromkeys(places[i] for i in rng.permutation(len(places))[:limit])  # a set in order
    possible = (width - tile + 1) * (height - tile + 1)
    while len(drawn) < min(limit, possible):
        drawn[int(rng.integers(width - tile + 1)), int(rng.integers(height - tile + 1))] = None
    return list(drawn)


def _spread(length: int, tile: int) -> list[int]:
    count = -(-length // tile)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def places_between(
    picture: Picture, tile: int, distance: int, point_size: int, limit: int | None, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(left, top) of tiles at least `distance` px from every box, none overlapping; points have a size."""
    width, height = picture.size
    step = max(1, tile // 4)
    places: list[tuple[int, int]] = []
    for top in range(0, height - tile + 1, step):
        for left in range(0, width - tile + 1, step):
            free = all(abs(left - x) >= tile or abs(top - y) >= tile for x, y in places)
            if free and not any(_meets(box, left, top, tile, distance, point_size) for box in picture.boxes):
                places.append((left, top))
    if limit is None:
        return places
    return [places[i] for i in rng.permutation(len(places))[:limit]]


def _meets(box: Box, left: int, top: int, tile: int, distance: int, point_size: int) -> bool:
    extra = distance + (point_size / 2 if box.is_point else 0)
    return (
        left < box.right + extra
        and left + tile > box.left - extra
        and top < box.bottom + extra
        and top + tile > box.top - extra
    )


def plan_tiles(survey: Survey, held: set[str], cut: Cut) -> tuple[Places, bool, int]:
    """Places of all training tiles, whether they are on pictures with defects, and pictures without a place.

    Raises UserError when there is no place at all.
    """
    train = [picture for picture in survey.pictures if picture.group not in held]
    clean = [picture for picture in train if picture.is_clean]
    pictures = clean or [picture for picture in train if picture.boxes]
    plan: Places = {}
    for index, picture in enumerate(pictures):
        rng = np.random.default_rng([cut.seed, 1, index])
        if picture.is_clean:
            plan[picture.name] = clean_places(picture.size, cut.tile, cut.tiles_per_image, rng)
        else:
            plan[picture.name] = places_between(
                picture, cut.tile, cut.clean_distance, cut.window, cut.tiles_per_image, rng
            )
    empty = sum(not places for places in plan.values())
    if empty == len(plan):
        smallest = min(min(picture.size) for picture in pictures)
        kind = "clean pictures" if clean else f"pictures with defects, {cut.clean_distance} px off the boxes"
        raise UserError(
            f"--tile {cut.tile}: no tile fits on any of {len(plan)} {kind} (smallest side {smallest} px); "
            "give a smaller --tile" + ("" if clean else ", or a folder of clean pictures as --clean-dir")
        )
    return plan, not clean, empty


# Writing


def write_training_set(folder: Path, survey: Survey, held: set[str], places: Places, cut: Cut) -> Made:
    """Write tiles and patches of the pictures that are not held out, one picture at a time."""
    (folder / "train/defect_free").mkdir(parents=True)
    (folder / "train/defect").mkdir()
    rows: list[Row] = []
    numbers: Counter[str] = Counter()
    padded = crowded = 0
    train = [picture for picture in survey.pictures if picture.group not in held]
    for picture in tqdm(train, desc="cutting", disable=None):
        if not picture.boxes and not places.get(picture.name):
            continue
        pixels = load_rgb(picture.path)
        rows += _write_tiles(folder, survey, picture, pixels, places.get(picture.name, []), cut.tile)
        for box in picture.boxes:
            patch, scale, over = cut_patch(pixels, box, cut.window, cut.margin)
            file = f"train/defect/{file_name(box.class_name)}_{numbers[box.class_name]:04d}.png"
            save_png(folder / file, patch)
            rows.append(_box_row(file, survey, picture, box, scale, "train"))
            numbers[box.class_name] += 1
            padded += over
            crowded += is_crowded(picture, box, cut.window)
    return Made(rows, cut.patch, padded, crowded, tiles_from_defective=False, small_pictures=0)


def _write_tiles(
    folder: Path, survey: Survey, picture: Picture, pixels: np.ndarray, places: list, tile: int
) -> list[Row]:
    rows = []
    for left, top in places:
        file = f"train/defect_free/{picture.name}_{left}_{top}.png"
        save_png(folder / file, pixels[top : top + tile, left : left + tile])
        source = survey.tree.relative(picture.path)
        rows.append(Row(file, source, "", left, top, left + tile, top + tile, 1, picture.group, "train"))
    return rows


def _box_row(file: str, survey: Survey, picture: Picture, box: Box, scale: float, split: str) -> Row:
    source = survey.tree.relative(picture.path)
    sides = (box.left, box.top, box.right, box.bottom)
    return Row(file, source, box.class_name, *sides, scale, picture.group, split)


def write_test_set(folder: Path, survey: Survey, held: set[str], window: int) -> list[Row]:
    """Copy the held-out pictures and, into test_clean, their clean counterparts, each with YOLO labels.

    A held-out clean picture that is nobody's counterpart goes to test with empty labels. Files are copied as
    they are; nothing is encoded again.
    """
    rows: list[Row] = []
    pictures = [picture for picture in survey.pictures if picture.group in held]
    counterparts = {picture.counterpart.digest for picture in pictures if picture.counterpart}
    for picture in tqdm(pictures, desc="copying test pictures", disable=None):
        if picture.boxes:
            rows += _copy_with_labels(folder, "test", survey, picture, picture, window)
            if picture.counterpart:
                rows += _copy_with_labels(folder, "test_clean", survey, picture, picture.counterpart, window)
        elif picture.is_clean and picture.digest not in counterparts:
            rows += _copy_with_labels(folder, "test", survey, picture, picture, window)
    return rows


def _copy_with_labels(
    folder: Path, part: str, survey: Survey, labelled: Picture, shown: Picture, window: int
) -> list[Row]:
    """Copy `shown` under the name of `labelled`, with that one's boxes."""
    (folder / part).mkdir(exist_ok=True)
    width, height = labelled.size
    file = f"{part}/{labelled.name}{shown.path.suffix.lower()}"
    shutil.copyfile(shown.path, folder / file)
    lines, rows = [], []
    for box in labelled.boxes:
        (x, y), (w, h) = box.centre, box.size
        size = (None, None) if box.is_point else (w / width, h / height)
        lines.append(format_annotation(survey.classes[box.class_name], x / width, y / height, *size))
        rows.append(_box_row(file, survey, labelled, box, auto_scale(w, h, window), "test"))
    if not rows:
        source = survey.tree.relative(labelled.path)
        rows = [Row(file, source, "", 0, 0, width, height, 1, labelled.group, "test")]
    (folder / file).with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return rows


def write_all(folder: Path, survey: Survey, held: set[str], cut: Cut, options: str) -> str:
    """Write everything into an empty folder; returns the report. Raises UserError before writing anything."""
    places, from_defective, small = plan_tiles(survey, held, cut)
    trained = write_training_set(folder, survey, held, places, cut)
    rows = [*trained.rows, *write_test_set(folder, survey, held, cut.window)]
    made = Made(rows, cut.patch, trained.padded, trained.crowded, from_defective, small)
    (folder / "classes.json").write_text(json.dumps(survey.classes) + "\n", encoding="utf-8")
    report = report_text(survey, held, made, options)
    (folder / "report.txt").write_text(report, encoding="utf-8")
    sheet = contact_sheet(folder, rows, list(survey.classes), cut.patch, cut.seed)
    save_png(folder / "contact_sheet.png", sheet)
    write_index(folder / "index.csv", rows)
    return report


# The output folder


def check_output(out: Path, source: Path, overwrite: bool) -> None:
    """Raises UserError unless `out` is new or empty, or was written by this program and may be replaced."""
    inner, outer = out.resolve(), source.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(
            f"--out {out}: lies within the source {source}, or around it; choose a folder elsewhere"
        )
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out {out}: got a file, expected a folder that is new or empty")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise UserError(f"--out {out}: the folder is not empty; choose a new one, or give --overwrite")
    index = out / "index.csv"
    if not index.is_file() or not index.read_text(encoding="utf-8").startswith(INDEX_START):
        raise UserError(f"--out {out}: holds no earlier data set to overwrite; choose a new folder")


def move_into_place(made: Path, out: Path) -> None:
    """Move the new entries from `made` to `out`, in place of those of an earlier run; other files stay."""
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        old = out / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for name in OUTPUTS:
        if (made / name).exists():
            os.replace(made / name, out / name)


# Command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils.prepare_data", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with pictures and annotations")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--format", choices=["auto", *READERS], default="auto", help="of the annotations")
    parser.add_argument("--tile", type=int, default=256, help="side of a tile in px (256)")
    parser.add_argument("--window", type=int, default=64, help="side of the defect model's window in px (64)")
    parser.add_argument("--margin", type=int, default=16, help="px around it, for jittered crops (16)")
    parser.add_argument(
        "--tiles-per-image", type=int, metavar="N", help="tiles per picture (cover all of it)"
    )
    parser.add_argument("--clean-dir", type=Path, help="folder of pictures without defects")
    parser.add_argument(
        "--clean-distance",
        type=int,
        default=16,
        help="px between tiles and boxes, without clean pictures (16)",
    )
    parser.add_argument("--classes", type=Path, help="JSON {class name: id} to use instead of counting up")
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        help="finds a picture's group, its one (group), in the file name, or in the path if it has a /",
    )
    holdout = parser.add_mutually_exclusive_group()
    holdout.add_argument("--holdout", nargs="+", metavar="GROUP", help="groups to keep for testing")
    holdout.add_argument(
        "--holdout-share",
        type=float,
        default=DEFAULT_SHARE,
        help="share of defects to keep for testing (0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="the only source of randomness (0 or more)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier data set in DIR")
    return parser


def _check(args: argparse.Namespace) -> None:
    problems = []
    if args.tile < 32:
        problems.append(f"--tile must be 32 px or more, got {args.tile}")
    if args.window < 16 or args.window % 2:
        problems.append(f"--window must be an even number of pixels, 16 or more, got {args.window}")
    for name in ("margin", "clean_distance", "seed"):
        if getattr(args, name) < 0:
            problems.append(f"--{name.replace('_', '-')} must be 0 or more, got {getattr(args, name)}")
    if args.tiles_per_image is not None and args.tiles_per_image < 1:
        problems.append(f"--tiles-per-image must be 1 or more, got {args.tiles_per_image}")
    if not 0 <= args.holdout_share < 1:
        problems.append(f"--holdout-share must be at least 0 and below 1, got {args.holdout_share}")
    if args.group_pattern is not None:
        try:
            if re.compile(args.group_pattern).groups != 1:
                problems.append(f"--group-pattern must hold one (group), got {args.group_pattern}")
        except re.error as error:
            problems.append(f"--group-pattern {args.group_pattern}: no regular expression: {error}")
    if problems:
        raise UserError.from_problems("these options cannot be used", problems)


def _options_text(args: argparse.Namespace) -> str:
    """All options that decide what is written, with their values."""
    words = []
    for name, value in vars(args).items():
        unused = name == "holdout_share" and args.holdout
        if name not in ("source", "out", "overwrite") and value is not None and not unused:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')} {shlex.join(map(str, values))}")
    return " ".join(words)


def main(argv: list[str]) -> None:
    """Prepare a data set as the command line says and print the report; raises UserError."""
    args = _parser().parse_args(argv)
    _check(args)
    check_output(args.out, args.source, args.overwrite)
    classes = load_class_names(args.classes) if args.classes else None
    survey = survey_source(args.source, args.format, classes, args.clean_dir, args.group_pattern)
    held = choose_groups(survey, args.holdout, args.holdout_share, args.seed)
    cut = Cut(args.tile, args.window, args.margin, args.clean_distance, args.tiles_per_image, args.seed)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{args.out.name}.", dir=args.out.parent) as temporary:
            report = write_all(Path(temporary), survey, held, cut, _options_text(args))
            move_into_place(Path(temporary), args.out)
    except OSError as error:
        raise UserError(
            f"cannot write {args.out}: {error}; choose a folder that can be written to"
        ) from error
    print(report, end="")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
