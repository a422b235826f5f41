"""Train a judge of painted defects on real patches, and print how reliable it is.

    python -m evaluation.judge data/board

The folder is one that utils.prepare_data wrote: patches with boxes in train/boxed, clean pieces in train/clean. A few
minutes on two cores.
"""

import sys
from pathlib import Path

from training.judge import JudgeOptions, train_and_save
from utils import labels
from utils.command_line import make_parser
from utils.errors import UserError, run_main
from utils.judging.judge import FILE


def main(argv: list[str]) -> None:
    parser = make_parser("python -m evaluation.judge", __doc__)
    add = parser.add_argument
    add("data", type=Path, metavar="DIR", help="folder that utils.prepare_data wrote")
    add("--out", type=Path, help=f"weights (default: DIR/{FILE})")
    add(
        "--folds",
        type=int,
        default=JudgeOptions.folds,
        help="members, each without another part of the patches",
    )
    add("--steps", type=int, default=JudgeOptions.steps, help="training steps of each member")
    add("--keep-direction", action="store_true", help="no turns and mirror images in training")
    args = parser.parse_args(argv)
    if args.folds < 2 or args.steps < 1:
        raise UserError(
            f"got --folds {args.folds} --steps {args.steps}, expected at least 2 folds and 1 step"
        )
    names = labels.load_class_names(args.data / "classes.json")
    options = JudgeOptions(args.folds, args.steps, turns=not args.keep_direction, show_progress=True)
    train, clean = args.data / "train", args.data / "train/clean"
    out = args.out or args.data / FILE
    print(train_and_save(train / "boxed", clean if clean.is_dir() else None, names, out, options))
    print(f"saved: {out}")


if __name__ == "__main__":
    sys.exit(run_main(main))
