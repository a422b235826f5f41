"""What docs/photographs.md and docs/history.md say of the score agrees with the verdicts that are kept beside them."""

import csv
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT, HISTORY = (
    " ".join((DOCS / name).read_text(encoding="utf-8").split()) for name in ("photographs.md", "history.md")
)


def verdicts(name: str) -> tuple[list[dict[str, str]], list[float], list[float]]:
    """The rows of a file, and the scores of the good ones and of the others."""
    with open(DOCS / "photographs" / name, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    good, others = ([float(row["score"]) for row in rows if row["good"] == good] for good in "10")
    return rows, good, others


def area(good: list[float], others: list[float]) -> float:
    wins = sum((a > b) + 0.5 * (a == b) for a in good for b in others)
    return wins / len(good) / len(others)


def kept(scores: list[float]) -> int:
    return sum(score >= 0.5 for score in scores)


def sheet(name: str) -> list[str]:
    """The cells of a sheet's line in the table of history.md: good, area, kept of the good ones and of the others."""
    (line,) = re.findall(rf"\(photographs/{re.escape(name)}\)\) \|(.*?)\|(.*?)\|(.*?)\|(.*?)\|", HISTORY)
    return [cell.strip() for cell in line]


def test_the_sheet_in_the_result():
    rows, good, others = verdicts("verdicts-pku-planned-native.csv")
    assert f"| 104 / 0 (no minimum score) | {len(good)} of {len(rows)} (95 %) |" in TEXT
    assert f"area under the curve {area(good, others):.2f} (95 % interval 0.53 to 1.00)" in TEXT
    told = f"keeps {kept(good)} of the {len(good)} good ones and {kept(others)} of the {len(others)} others"
    assert f"At 0.5 or above it {told}" in TEXT
    for name in ("missing_hole", "mouse_bite", "open_circuit", "short", "spur", "spurious_copper"):
        own = [int(row["good"]) for row in rows if row["class"] == name]
        (line,) = re.findall(rf"\| {name.replace('_', ' ')} \| \d+ of \d+ \| (\d+ of \d+) \|", TEXT)
        assert line == f"{sum(own)} of {len(own)}"


def test_classes_add_up():
    lines = re.findall(
        r"\| (?:[a-z]+ )?[a-z]+ \| (\d+) of (\d+) \| (\d+) of (\d+) \| (\d+) of (\d+) \|", TEXT
    )
    (total,) = re.findall(r"\| all " + r"\| (\d+) of (\d+) \(\d+ %\) " * 3 + r"\|", TEXT)
    assert len(lines) == 6
    assert [sum(map(int, column)) for column in zip(*lines, strict=True)] == [*map(int, total)]


def test_all_sheets():
    for name in (
        "planned",
        "exemplars",
        "ground",
        "experiment",
        "turns",
        "laid",
        "registered",
        "planned-native",
    ):
        name = f"verdicts-pku-{name}.csv"
        rows, good, others = verdicts(name)
        cells = sheet(name)
        assert cells[0] == f"{len(good)} of {len(rows)}"
        assert cells[1].startswith(f"{area(good, others):.2f} (")
        assert cells[2:] == [f"{kept(good)} of {len(good)}", f"{kept(others)} of {len(others)}"]


def test_the_score_of_the_first_sheet():
    _, good, others = verdicts("verdicts-pku-planned.csv")
    found = re.search(r"score of these runs \| (\S+) \(.*?\) \| (\d+) \| (\d+) \|", HISTORY)
    assert found and found.groups() == (f"{area(good, others):.2f}", str(kept(good)), str(kept(others)))


def test_the_sheet_of_ball_screws():
    rows, good, others = verdicts("verdicts-bsdata-planned.csv")
    assert f"| 60 / 0 (no minimum score) | {len(good)} of {len(rows)} (93 %) |" in TEXT
    assert f"At planned places {len(good)} of {len(rows)} look real" in TEXT and len(others) == 4
    assert f"area under the curve is {area(good, others):.2f} (" in TEXT and min(good + others) >= 0.83


def test_annotated_boards():
    rows, good, others = verdicts("verdicts-pku-annotated-native.csv")
    assert f"{len(good)} of {len(rows)} (89 %)" in TEXT and len(others) == 13
    assert f"area {area(good, others):.2f} (95 % interval 0.81 to 0.98, 13 bad ones)" in TEXT
    left = kept(good) + kept(others)
    assert f"{left} are kept, of which {kept(good)} (97 %) look real" in TEXT
    assert f"Of the {len(good) - kept(good)} good ones that are left out" in TEXT
    for name in ("missing_hole", "mouse_bite", "open_circuit", "short", "spur", "spurious_copper"):
        own = [int(row["good"]) for row in rows if row["class"] == name]
        assert f"| {name.replace('_', ' ')} | {sum(own)} of {len(own)} |" in TEXT
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert f"{kept(good)} of {left} looked real on" in readme
    for name, told in (("annotated-laid", "had"), ("annotated", "[^.]*")):
        rows, good, others = verdicts(f"verdicts-pku-{name}.csv")
        found = f"{told} {len(good)} of {len(rows)}, an area of {area(good, others):.2f} \\([^)]*\\), and "
        assert re.search(f"{found}{kept(good)} of (the )?{kept(good) + kept(others)}", HISTORY)
    rows, good, others = verdicts("verdicts-pku-annotated-two.csv")
    told = f"{len(good)} of {len(rows)} looked real, with an area of {area(good, others):.2f} (0.49 to 0.96) and "
    assert f"{told}{kept(good)} of the {kept(good) + kept(others)} kept" in HISTORY
    _, good, others = verdicts("verdicts-deeppcb-annotated.csv")
    assert f"{kept(good)} of {kept(good) + kept(others)} on the black and white DeepPCB" in readme


@pytest.mark.parametrize("name, text", [("turns", HISTORY), ("laid", TEXT)])
def test_copper(name: str, text: str):
    copper = [row for row in verdicts(f"verdicts-pku-{name}.csv")[0] if row["class"] == "spurious_copper"]
    assert f"copper {sum(int(row['good']) for row in copper)} of {len(copper)}" in text


@pytest.mark.parametrize(
    "name, row, told",
    [
        (
            "verdicts-deeppcb-planned.csv",
            "planned places, nothing left out",
            "area 0.86 (95 % interval 0.66 to 1.00, two bad ones)",
        ),
        (
            "verdicts-deeppcb-annotated.csv",
            "annotated places of group 77000, nothing left out",
            "0.82 (0.64 to 0.94) at annotated ones",
        ),
    ],
)
def test_sheets_of_templates(name: str, row: str, told: str):
    rows, good, others = verdicts(name)
    (line,) = re.findall(rf"{row} \(\[numbers\]\(photographs/{name}\)\) \|(.*?)\(\d+ %\) \|", TEXT)
    counts = [
        f"{sum(int(one['good']) for one in own)} of {len(own)}"
        for kind in ("open", "short", "mousebite", "spur", "copper", "pin-hole")
        for own in [[one for one in rows if one["class"] == kind]]
    ]
    assert [cell.strip() for cell in line.split("|")] == [*counts, f"{len(good)} of {len(rows)}"]
    assert told in TEXT and f"{area(good, others):.2f}" in told


def test_what_the_score_keeps_of_templates():
    _, good, others = verdicts("verdicts-deeppcb-annotated.csv")
    told = f"keeps {kept(good)} of the {len(good)} good ones and {kept(others)} of the {len(others)} others"
    assert told in TEXT
    rows, good, _ = verdicts("verdicts-deeppcb-annotated-laid.csv")
    assert f"another training gave {len(good)} of {len(rows)} at the same annotated places" in TEXT
