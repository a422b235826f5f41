"""Synthetic photographs of printed circuit boards, with the six classic defects.

    python -m utils.synthetic_pcb --out data/demo --seed 1 --clean 1200 --per-class 1500

OUT gets defect_free/board_<n>.png, defect/<class>_<n>.png (patches, each centered on its defect), pcb.json (class
ids) and, with --boards, test/board_<n>.png with YOLO labels (.txt) and a mask (_mask.png).

A board is a stack of layers (copper, openings of the solder mask, drills, vias, silkscreen) at three times the
image's resolution. One shading function turns the layers into a photograph. A defect is an edit of the copper
or the drill layer, so a defective board is the same board under the same light with the same noise: away
from the defect the two photographs are equal, except that the JPEG step may change pixels of the 8x8 blocks
that the defect touches. The classes are those of PKU-Market-PCB (Huang and Wei, "A PCB Dataset for Defects
Detection and Classification", 2019); no photograph is used.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import argparse
import json
from pathlib import Path

from utils.command_line import below, make_parser
from utils.errors import UserError, run_main
from utils.synthetic_pcb.board import CLASSES
from utils.synthetic_pcb.writing import (
    write_clean,
    write_full_boards,
    write_patches,
    write_samples,
    write_test_boards,
)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m utils.synthetic_pcb", __doc__)
    add = parser.add_argument
    add("--out", type=Path, help="folder for the training set")
    add("--seed", type=int, default=0, help="the only source of randomness, 0 or more")
    add("--clean", type=int, default=0, metavar="N", help="clean boards to write")
    add(
        "--per-class",
        type=int,
        default=0,
        metavar="N",
        help="patches to write per class",
    )
    add("--boards", type=int, default=0, metavar="N", help="defective boards to write")
    add("--size", type=int, default=256, help="side of a board in px")
    add("--patch", type=int, default=96, help="side of a defect patch in px")
    add(
        "--margin",
        type=int,
        help="least distance of a defect from the edge, in px (default: half of --patch)",
    )
    add("--samples", type=Path, metavar="DIR", help="folder for the bundled boards of data/sample")
    add(
        "--full-boards",
        type=Path,
        metavar="DIR",
        help="folder for those of data/boards, with every class each",
    )
    return parser


def _check(args: argparse.Namespace) -> None:
    problems = []
    if args.out is None and args.samples is None and args.full_boards is None:
        problems.append(
            "nothing to write: give --out DIR for a training set, or --samples or --full-boards DIR for bundled boards"
        )
    problems += below(0, args, "seed", "clean", "per_class", "boards")
    if args.patch < 48 or args.patch % 2:
        problems.append(f"--patch must be an even number of pixels, 48 or more, got {args.patch}")
    if args.margin < args.patch // 2:
        problems.append(f"--margin must be at least half of --patch ({args.patch // 2}), got {args.margin}")
    if args.size < 2 * args.margin + 64:
        problems.append(f"--size must be at least {2 * args.margin + 64} with this margin, got {args.size}")
    if problems:
        raise UserError.from_problems("these options cannot be combined", problems)


def main(argv: list[str]) -> None:
    """Write what the command line requests; raises UserError."""
    args = _parser().parse_args(argv)
    args.margin = args.patch // 2 if args.margin is None else args.margin
    _check(args)
    try:
        if args.samples is not None:
            write_samples(args.samples)
        if args.full_boards is not None:
            write_full_boards(args.full_boards)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            ids = {name: index for index, name in enumerate(CLASSES)}
            (args.out / "pcb.json").write_text(json.dumps(ids) + "\n", encoding="utf-8")
            write_clean(args.out / "defect_free", args.clean, args.seed, args.size)
            write_patches(args.out / "defect", args.per_class, args.seed, args.size, args.patch, args.margin)
            if args.boards:
                write_test_boards(args.out / "test", args.boards, args.seed, args.size, args.margin)
    except OSError as error:
        raise UserError(
            f"cannot write the boards: {error}; choose a folder that can be written to"
        ) from error


if __name__ == "__main__":
    raise SystemExit(run_main(main))
