"""Writes docs/results.md from the results kept in docs/results/*.csv.

    python -m evaluation.downstream.report
    python -m evaluation.downstream.report runs/downstream-pku/results.csv     # copies these there first

A test checks that the two agree. Rows measured on the validation part are development, and are not shown.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.downstream.results.figure import write_figure
from evaluation.downstream.results.tables import parse_rows, setting_text
from utils.command_line import make_parser
from utils.errors import UserError, run_main
from utils.schema.fields import PROJECT

RESULTS, PAGE = PROJECT / "docs/results", PROJECT / "docs/results.md"
HEAD = """# Does it help a detector?

Written by `python -m evaluation.downstream.report` from `docs/results/*.csv`, which hold a row for every run; edit
neither. [protocol.md](protocol.md) says what the arms are, what was fixed beforehand, and what counts as a gain.
Differences are in points (hundredths) of pairs of one split and seed, with 95 % confidence intervals: over splits where
there are several, else over seeds, and then they say nothing of other draws of the data. *open* means that these runs
show neither a gain nor a loss."""
NONE_YET = "No setting has been measured on its test part yet."


def results_text(folder: Path) -> str:
    """The page for the CSV files of a folder, by the names of the files."""
    parts = [HEAD]
    for path in sorted(folder.glob("*.csv")):
        rows = [row for row in parse_rows(path) if row["part"] == "test"]
        if rows:
            text = setting_text(path.stem, rows).rstrip()
            figure = folder / f"{path.stem}.png"
            parts += [f"{text}\n\n![mAP against recall](results/{figure.name})" if figure.is_file() else text]
    return "\n\n".join(parts if len(parts) > 1 else [HEAD, NONE_YET]) + "\n"


def keep(paths: Sequence[Path], folder: Path) -> None:
    """Copy results to `folder`, named by their setting, with their figure. Raises UserError for rows of several."""
    for path in paths:
        rows = parse_rows(path)
        settings = {row["setting"] for row in rows}
        if len(settings) != 1:
            raise UserError(f"{path}: got {len(settings)} settings, expected the rows of one")
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{settings.pop()}.csv"
        shutil.copyfile(path, target)
        write_figure(target.with_suffix(".png"), [row for row in rows if row["part"] == "test"])


def main(argv: list[str]) -> None:
    parser = make_parser("python -m evaluation.downstream.report", __doc__)
    parser.add_argument("results", nargs="*", type=Path, metavar="CSV", help="results.csv of runs to keep")
    args = parser.parse_args(argv)
    keep(args.results, RESULTS)
    PAGE.write_text(results_text(RESULTS), encoding="utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    sys.exit(run_main(main))
