"""Turn annotated images into what both models train on: tiles without defects, patches around defects.

    python -m utils.prepare_data path/to/PCB_DATASET --out data/board --holdout 07 10
    python train.py data/board/train-prior.yml
    python sample_generation.py data/board/generate.yml

Formats, detected automatically: Pascal VOC, YOLO, COCO, DeepPCB, LabelMe, MVTec folders, masks named like the images,
and data sets of utils.export_dataset. docs/annotation-formats.md shows their layouts.

DIR gets train/boxed (patches, each with the place of its defect), train/twins and train/outlines (the same places
without the defect, and its shape, where they are known) and train/clean (pieces without defects) for a prior that sees
its surroundings, train/defect (centered patches) and train/defect_free (tiles) for the published pair, train_clean
(clean images), test and test_clean (held-out images and their clean counterparts, with YOLO labels), classes.json,
index.csv, origin.json (where the photographs are), report.txt and contact_sheet.png; and confs that fit the data:
train-prior.yml, generate.yml (a data set, on the photographs that train), generate-heldout.yml (at the places of
held-out defects, to judge the painter) and train-context.yml for painting with refinement.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import argparse
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from utils.command_line import below, make_parser
from utils.errors import UserError, run_main
from utils.files import check_replaceable, replace_folder
from utils.labels import load_class_names
from utils.manifest import VERSION
from utils.prepare_data.cutting import CutOptions, fitting_tile
from utils.prepare_data.formats.recognition import FORMATS
from utils.prepare_data.groups.holdout import choose_groups
from utils.prepare_data.origin import Preparation
from utils.prepare_data.survey import survey_source
from utils.prepare_data.writing import KIND, Destination, check_apart, write_all

GROUP_PATTERN = (
    "its one (group) is an image's group, in the file name, or in the path if the pattern has a / "
    "(default: the field of the names by which images show the same part, else the file name)"
)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m utils.prepare_data", __doc__)
    formats, classes = ["auto", *FORMATS], "JSON {class name: id} (default: ids count up from 0)"
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="folder with images and annotations")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or empty")
    add("--overwrite", action="store_true", help="replace an earlier data set in DIR")
    add("--format", choices=formats, default="auto", help="annotation format")
    add("--minutes", type=float, default=60, help="time for training and painting, on two CPU cores")
    add("--classes", type=Path, metavar="FILE", help=classes)
    add("--seed", type=int, default=CutOptions.seed, help="only source of randomness, 0 or more")
    _add_cutting(parser.add_argument_group("tiles and patches").add_argument)
    _add_holdout(parser.add_argument_group("held-out groups"))
    return parser


def _add_cutting(add: Callable[..., object]) -> None:
    cut, distance = CutOptions, "px between tiles and boxes if there are no clean images"
    add(
        "--tile",
        type=int,
        metavar="PX",
        help="side of a tile (default: 256 px, less where that does not fit)",
    )
    add("--window", type=int, default=cut.window, help="side of the defect prior's window in px")
    add("--margin", type=int, default=cut.margin, help="px around the window, for jittered crops")
    add(
        "--tiles-per-image", type=int, metavar="N", help="tiles per image (default: cover all of a clean one)"
    )
    add(
        "--clean-dir",
        type=Path,
        metavar="FOLDER",
        help="images without defects (default: folders named clean, ...)",
    )
    add("--clean-distance", type=int, default=cut.clean_distance, help=distance)
    add("--per-class", type=int, metavar="N", help="at most N defects a class to train on (default: all)")


def _add_holdout(group: argparse._ArgumentGroup) -> None:
    share = "fraction of the defects to hold out, in whole groups"
    group.add_argument("--group-pattern", metavar="REGEX", help=GROUP_PATTERN)
    add = group.add_mutually_exclusive_group().add_argument
    add("--holdout", nargs="+", metavar="GROUP", help="groups to hold out for testing")
    add("--holdout-share", type=float, default=0.2, metavar="FRACTION", help=share)


def _check(args: argparse.Namespace) -> None:
    problems = []
    if args.tile is not None and args.tile < 32:
        problems.append(f"--tile must be 32 px or more, got {args.tile}")
    if args.window < 16 or args.window % 2:
        problems.append(f"--window must be an even number of pixels, 16 or more, got {args.window}")
    problems += below(0, args, "margin", "clean_distance", "seed")
    problems += below(1, args, "tiles_per_image", "per_class")
    if not 1 <= args.minutes <= 10_000:
        problems.append(f"--minutes must be from 1 to 10000, got {args.minutes:g}")
    if not 0 <= args.holdout_share < 1:
        problems.append(f"--holdout-share must be at least 0 and below 1, got {args.holdout_share}")
    if args.group_pattern is not None:
        try:
            if re.compile(args.group_pattern).groups != 1:
                problems.append(f"--group-pattern must have one (group), got {args.group_pattern}")
        except re.error as error:
            problems.append(f"--group-pattern {args.group_pattern}: not a valid regular expression: {error}")
    if problems:
        raise UserError.from_problems("these options cannot be used", problems)


def _options_text(args: argparse.Namespace) -> str:
    """The options that determine what is written, with their values."""
    words = []
    for name, value in vars(args).items():
        unused = name == "holdout_share" and args.holdout
        if name not in ("source", "out", "overwrite") and value is not None and not unused:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')} {shlex.join(map(str, values))}")
    return " ".join(words)


def _preparation(args: argparse.Namespace) -> Preparation:
    clean = str(args.clean_dir.resolve()) if args.clean_dir else None
    return Preparation(
        source=str(args.source.resolve()),
        format=args.format,
        clean_dir=clean,
        group_pattern=args.group_pattern,
    )


def main(argv: list[str]) -> None:
    """Prepare a data set and print the report; raises UserError."""
    args = _parser().parse_args(argv)
    _check(args)
    check_apart(args.out, args.source, *([args.clean_dir] if args.clean_dir else []))
    check_replaceable(args.out, KIND, args.overwrite)
    classes = load_class_names(args.classes) if args.classes else None
    survey = survey_source(args.source, args.format, classes, args.clean_dir, args.group_pattern)
    held = choose_groups(survey, args.holdout, args.holdout_share, args.seed)
    cut = CutOptions(
        tile=args.tile or 0,
        window=args.window,
        margin=args.margin,
        clean_distance=args.clean_distance,
        tiles_per_image=args.tiles_per_image,
        per_class=args.per_class,
        seed=args.seed,
    )
    cut = replace(cut, tile=fitting_tile(survey, held, cut))
    with replace_folder(args.out, KIND, VERSION, args.overwrite) as folder:
        _preparation(args).write(folder)
        where = Destination(folder, args.out, _options_text(args))
        report = write_all(where, survey, held, cut, args.minutes)
    print(report, end="")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
