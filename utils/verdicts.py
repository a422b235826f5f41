"""Verdicts by eye on the defects of a run: what the report page saves, exports leave out and evaluations compare.

A CSV file with the columns name (of the sample), number (of the defect in it, from 0) and good (0 or 1).
"""

import csv
import io
from pathlib import Path

from utils.errors import UserError, shortened
from utils.reading import read_text

VERDICTS_FILE = "verdicts.csv"  # beside the manifest
COLUMNS = ("name", "number", "good")
LARGEST = 64 * 2**20  # bytes

Verdicts = dict[tuple[str, int], bool]  # (sample, number of the defect) -> whether it is good


def read_verdicts(path: Path) -> Verdicts:
    """The verdicts of a file; of several on one defect the last counts. Raises UserError for another layout."""
    rows = csv.DictReader(io.StringIO(read_text(path, LARGEST)), strict=True)
    found: Verdicts = {}
    try:
        for row in rows:
            name, number, good = (row[column] for column in COLUMNS)
            if good not in ("0", "1"):
                raise ValueError(f"good: {shortened(repr(good))}")
            found[name, int(number)] = good == "1"
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}:{rows.line_num}: got {error}, expected a CSV file with the columns {', '.join(COLUMNS)} (0 or 1)"
        ) from error
    return found
