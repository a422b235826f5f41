"""Tables from rows: means, differences to both baselines, what is worth how much."""

import csv
from pathlib import Path

import pytest

from evaluation.downstream.results.tables import arm_title, groups, main_table, parse_rows, setting_text
from evaluation.downstream.runs import COLUMNS
from utils.errors import UserError

HEADS = (*COLUMNS, "ap: pit")


def write_rows(path: Path, *changes: dict) -> Path:
    """A results.csv with a row for each of `changes`."""
    usual = dict(setting="s", split="groups", split_seed=1, part="test", per_class=20, arm="real", volume=0)
    usual |= dict(real_share=0.5, detector="yolo", seed=0, real=40, synthetic=0, steps=10, seconds=1)
    usual |= {"map50_95": 0.3, "map50": 0.5, "recall": 0.4, "ap: pit": 0.3}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADS, restval="")
        writer.writeheader()
        writer.writerows({**usual, **row} for row in changes)
    return path


def seeds(values: list[float], **others) -> list[dict]:
    return [{"map50_95": value, "seed": seed, **others} for seed, value in enumerate(values)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "results.csv",
        *seeds([0.30, 0.32, 0.34]),
        *seeds([0.20, 0.20, 0.20], per_class=10, real=20),
        *seeds([0.33, 0.35, 0.37], arm="copy_paste", volume=1, synthetic=40),
        *seeds([0.31, 0.33, 0.35], arm="copy_paste_poisson", volume=1, synthetic=40),
        *seeds([0.36, 0.38, 0.40], arm="ours_filtered", volume=1, synthetic=33),
        *seeds([0.50, 0.50, 0.50], arm="all_real", real=100),
    )


def test_a_line_says_means_differences_and_worth(results: Path):
    (group,) = groups(parse_rows(results))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in main_table(group).splitlines()}
    assert "| 0.320 ± 0.020 |" in lines["real only"]
    ours = lines["real + ours, filtered, 1x"]
    assert "| 40 | 33 | 3 | 0.380 ± 0.020 |" in ours
    # Every pair differs alike: the interval has no width. 0.38 lies a third of the way from 40 to 100 real defects
    assert "| +6.0 [+6.0, +6.0] gain | +3.0 [+3.0, +3.0] gain | about 60 |" in ours
    assert "| -12.0 [-17.0, -7.0] loss |" in lines["real only, 10 a class"]
    assert list(lines)[:4] == ["arm", "---", "real only, 10 a class", "real only"]


def test_what_the_intervals_cover_is_said(tmp_path: Path, results: Path):
    assert (
        "over the seeds of one split: they cover the noise of the detector's training alone"
        in setting_text("s", parse_rows(results))
    )
    path = write_rows(
        tmp_path / "r.csv",
        *[{"split_seed": split, "map50_95": 0.3} for split in (1, 2)],
        *[
            {"split_seed": split, "map50_95": 0.3 + split / 100, "arm": "ours", "volume": 1}
            for split in (1, 2)
        ],
        *seeds([0.3, 0.4], arm="procedural", volume=1),
        {"seed": 1},
    )
    text = setting_text("s", parse_rows(path))
    assert "Intervals are over 2 splits, each the mean of its seeds." in text
    # Means 1 and 2 points, s 0.707: t(1) at 97.5 % is 12.7062
    assert "| +1.5 [-4.9, +7.9] open |" in text
    assert "+5.0 [-58.5, +68.5] open (one split) |" in text


def test_the_classifier_is_compared_by_its_accuracy(tmp_path: Path):
    off = {"map50_95": "", "map50": "", "recall": "", "ap: pit": "", "detector": "classifier"}
    path = write_rows(
        tmp_path / "r.csv",
        {**off, "accuracy": 0.5},
        {**off, "accuracy": 0.6, "arm": "ours", "volume": 1},
    )
    text = setting_text("s", parse_rows(path))
    assert "balanced accuracy" in text and "mAP" not in text
    assert "+10.0 (one pair)" in text


def test_parts_splits_and_detectors_have_tables_of_their_own(tmp_path: Path):
    path = write_rows(tmp_path / "r.csv", {}, {"part": "validation"}, {"split": "random"})
    titles = [group.title for group in groups(parse_rows(path))]
    assert titles == ["yolo, test part", "yolo, validation part", "yolo, test part, random split (leaks)"]


def test_what_is_not_usual_is_in_the_name():
    assert arm_title(("ours", 1, 20, 0.25), (20, 0.5)) == "real + ours, 1x, 25% real"
    assert arm_title(("ours, no_guidance", 1, 20, 0.5), (20, 0.5)) == "real + ours, no guidance, 1x"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(HEADS) + "\ns,groups\n"])
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, text: str):
    path = tmp_path / "r.csv"
    path.write_text(text)
    if text:
        with pytest.raises(UserError, match="not a results.csv of evaluation.downstream"):
            parse_rows(path)
    else:
        assert parse_rows(path) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [({"map50_95": ""}, "no metric"), ({"detector": ""}, "no detector"), ({"volume": "x"}, "ValueError")],
)
def test_rows_that_lack_something_are_refused(tmp_path: Path, change: dict, what: str):
    with pytest.raises(UserError, match=f"not a results.csv of evaluation.downstream .{what}"):
        parse_rows(write_rows(tmp_path / "r.csv", {}, change))


def test_a_run_that_has_not_learned_is_counted_and_left_out(tmp_path: Path):
    rows = seeds([0.30, 0.32, 0.34])
    stuck = {"map50_95": 0.0, "map50": 0.12, "seed": 3}  # a quarter of the median is 0.125
    pasted = seeds([0.33, 0.35, 0.37, 0.39], arm="copy_paste", volume=1, synthetic=40)
    path = write_rows(tmp_path / "results.csv", *rows, stuck, *pasted)
    text = setting_text("s", parse_rows(path))
    assert "| real only | 40 | 0 | 3 (and 1 failed) | 0.320 ± 0.020 |" in text
    assert "| 40 | 40 | 4 | 0.360 ± 0.026 | 0.500 ± 0.000 | 0.400 ± 0.000 | +3.0 [+3.0, +3.0] gain |" in text
    assert "Runs with less than 25% of the median mAP@50 of their arm have failed" in text
    weak = {**stuck, "map50": 0.13}
    text = setting_text("s", parse_rows(write_rows(path, *rows, weak, *pasted)))
    assert "| real only | 40 | 0 | 4 |" in text and "failed" not in text


def test_pasting_is_compared_at_the_same_volume(tmp_path: Path):
    pasted = dict(arm="copy_paste", volume=1, synthetic=40)
    ours = dict(arm="ours_filtered", volume=1, synthetic=40)
    rows = [
        *seeds([0.30, 0.32]),
        *seeds([0.33, 0.35], **pasted),
        *seeds([0.43, 0.45], **pasted | {"volume": 3, "synthetic": 120}),
        *seeds([0.34, 0.36], **ours),
        *seeds([0.40, 0.42], **ours | {"volume": 3, "synthetic": 120}),
        *seeds([0.38, 0.40], **ours | {"volume": 2, "synthetic": 80}),
    ]
    text = setting_text("s", parse_rows(write_rows(tmp_path / "results.csv", *rows)))
    (once, twice, thrice) = [line for line in text.splitlines() if "ours, filtered" in line][:3]
    assert "| +4.0 [+4.0, +4.0] gain | +1.0 [+1.0, +1.0] gain |" in once
    assert (
        "| +8.0 [+8.0, +8.0] gain | +5.0 [+5.0, +5.0] gain |" in twice
    )  # there is no pasting of this volume
    assert "| +10.0 [+10.0, +10.0] gain | -3.0 [-3.0, -3.0] loss |" in thrice
