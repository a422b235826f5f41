"""Turn annotated images into what both models train on: tiles without defects, patches around defects.

python -m utils.prepare_data SOURCE --out DIR [--holdout GROUP ...]
"""

import argparse
import re
import shlex
from pathlib import Path

from utils.errors import UserError, run_main
from utils.files import check_replaceable, replace_folder
from utils.labels import load_class_names
from utils.manifest import VERSION
from utils.prepare_data.cutting import CutOptions
from utils.prepare_data.formats.recognition import FORMATS
from utils.prepare_data.holdout import choose_groups
from utils.prepare_data.survey import survey_source
from utils.prepare_data.writing import KIND, check_apart, write_all

DEFAULT_SHARE = 0.2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m utils.prepare_data", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with pictures and annotations")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto", help="of the annotations")
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
    check_apart(args.out, args.source, *([args.clean_dir] if args.clean_dir else []))
    check_replaceable(args.out, KIND, args.overwrite)
    classes = load_class_names(args.classes) if args.classes else None
    survey = survey_source(args.source, args.format, classes, args.clean_dir, args.group_pattern)
    held = choose_groups(survey, args.holdout, args.holdout_share, args.seed)
    cut = CutOptions(
        args.tile, args.window, args.margin, args.clean_distance, args.tiles_per_image, args.seed
    )
    with replace_folder(args.out, KIND, VERSION, args.overwrite) as folder:
        report = write_all(folder, survey, held, cut, _options_text(args))
    print(report, end="")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
