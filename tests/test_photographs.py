"""What docs/photographs.md says of the score agrees with the verdicts that are kept beside it."""

import csv
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_counts_and_area_under_the_curve_are_those_of_the_verdicts():
    with open(DOCS / "photographs/verdicts-pku-planned.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    good = [float(row["score"]) for row in rows if row["good"] == "1"]
    others = [float(row["score"]) for row in rows if row["good"] == "0"]
    wins = sum((a > b) + 0.5 * (a == b) for a in good for b in others)
    text = " ".join((DOCS / "photographs.md").read_text(encoding="utf-8").split())
    assert f"{len(good)} of {len(rows)} (85 %)" in text
    kept = [sum(score >= 0.5 for score in group) for group in (good, others)]
    area = wins / len(good) / len(others)
    found = re.search(r"score of these runs \| (\S+) \(.*?\) \| (\d+) \| (\d+) \|", text)
    assert found and found.groups() == (f"{area:.2f}", str(kept[0]), str(kept[1]))
    for name, words in (("missing_hole", "missing hole"), ("spurious_copper", "spurious copper")):
        verdicts = [int(row["good"]) for row in rows if row["class"] == name]
        assert (
            f"{sum(verdicts)} of {len(verdicts)} |"
            in text.partition(f"| {words} |")[2].partition("| all |")[0]
        )
