"""Training data of the foundation prior, from which priors for photographs start: surfaces and boards with defects.

    python -m utils.foundation_data --out data/foundation --surfaces 5000 --seed 7
    python -m utils.foundation_data --out data/foundation --boards 500 --seed 2
    python train.py confs/foundation-train-64.yml

OUT gets boxed/<class>_<n>.png with YOLO labels, clean/*.png (what nothing is wrong with) and classes.json. Surfaces are
brushed, grained, striped or stepped, under uneven light, with pits, scratches, cracks, stains, inclusions and dents;
boards are those of utils.synthetic_pcb. Colors, contrast and the margins of boxes vary. No photograph is used.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import argparse
from pathlib import Path

from utils.command_line import below, make_parser
from utils.errors import UserError, run_main
from utils.foundation_data.writing import Writer


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m utils.foundation_data", __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the training set")
    add("--seed", type=int, default=0, help="the only source of randomness, 0 or more")
    add("--surfaces", type=int, default=0, metavar="N", help="patches of surfaces to write")
    add("--boards", type=int, default=0, metavar="N", help="patches of boards to write per class")
    return parser


def main(argv: list[str]) -> None:
    """Write what the command line requests; raises UserError."""
    args = _parser().parse_args(argv)
    problems = below(0, args, "seed", "surfaces", "boards")
    if not problems and args.surfaces + args.boards == 0:
        problems.append("nothing to write: give --surfaces N, --boards N, or both")
    if problems:
        raise UserError.from_problems("these options cannot be combined", problems)
    try:
        writer = Writer(args.out, args.seed)
        writer.surfaces(args.surfaces)
        writer.boards(args.boards)
    except OSError as error:
        raise UserError(
            f"cannot write the patches: {error}; choose a folder that can be written to"
        ) from error


if __name__ == "__main__":
    raise SystemExit(run_main(main))
