"""A page to look through a run's results, in one file that needs no network.

    python -m utils.report images/demo

It filters by class and score, shows clean against painted, masks and attention, and takes verdicts by eye: saved as
RUN/verdicts.csv, they keep rejected images out of utils.export_dataset.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

from pathlib import Path

from utils.command_line import make_parser
from utils.errors import run_main
from utils.report import write_report


def main(argv: list[str]) -> None:
    """Write the page and print its path; raises UserError."""
    parser = make_parser("python -m utils.report", __doc__ or "")
    parser.add_argument("run", type=Path, help="outdir of a run, with manifest.jsonl")
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/report/index.html)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier page there")
    args = parser.parse_args(argv)
    print(write_report(args.run, args.out, args.overwrite))


if __name__ == "__main__":
    raise SystemExit(run_main(main))
