"""What docs/photographs.md says of the score agrees with the verdicts that are kept beside it."""

import csv
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = " ".join((DOCS / "photographs.md").read_text(encoding="utf-8").split())


def verdicts(name: str) -> tuple[list[dict[str, str]], list[float], list[float]]:
    """The rows of a file, and the scores of the good ones and of the others."""
    with open(DOCS / "photographs" / name, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    good, others = ([float(row["score"]) for row in rows if row["good"] == good] for good in "10")
    return rows, good, others


def area(good: list[float], others: list[float]) -> float:
    wins = sum((a > b) + 0.5 * (a == b) for a in good for b in others)
    return wins / len(good) / len(others)


def test_the_last_sheet():
    rows, good, others = verdicts("verdicts-pku-ground.csv")
    assert f"{len(good)} of {len(rows)} (95 %)" in TEXT
    kept = [sum(score >= 0.5 for score in group) for group in (good, others)]
    told = (
        f"area under the curve {area(good, others):.2f} (95 % interval 0.90 to 0.99); from 0.5 on it keeps "
    )
    assert told + f"{kept[0]} of the {len(good)} good ones and {kept[1]} of the {len(others)} others" in TEXT
    for name in ("missing_hole", "mouse_bite", "open_circuit", "short", "spur", "spurious_copper"):
        own = [int(row["good"]) for row in rows if row["class"] == name]
        (line,) = re.findall(rf"\| {name.replace('_', ' ')} \| \d+ of \d+ \| (\d+ of \d+) \|", TEXT)
        assert line == f"{sum(own)} of {len(own)}"


def test_the_sheet_of_exemplars():
    _, good, others = verdicts("verdicts-pku-exemplars.csv")
    kept = [sum(score >= 0.5 for score in group) for group in (good, others)]
    told = f"{area(good, others):.2f} (0.52 to 0.94), {kept[0]} of {len(good)} kept and {kept[1]} of {len(others)}"
    assert told in TEXT


def test_the_earlier_sheet():
    rows, good, others = verdicts("verdicts-pku-planned.csv")
    assert f"{len(good)} of {len(rows)} good, on planned places" in TEXT
    kept = [sum(score >= 0.5 for score in group) for group in (good, others)]
    found = re.search(r"score of these runs \| (\S+) \(.*?\) \| (\d+) \| (\d+) \|", TEXT)
    assert found and found.groups() == (f"{area(good, others):.2f}", str(kept[0]), str(kept[1]))
