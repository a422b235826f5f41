"""docs/results.md is what the kept CSV files say."""

from pathlib import Path

import pytest

from evaluation.downstream.report import NONE_YET, PAGE, RESULTS, keep, results_text
from tests.downstream.test_tables import write_rows
from utils.errors import UserError


def test_the_page_agrees_with_the_kept_results():
    assert PAGE.read_text(encoding="utf-8") == results_text(RESULTS), (
        "run python -m evaluation.downstream.report"
    )


def test_rows_of_the_validation_part_are_not_shown(tmp_path: Path):
    write_rows(tmp_path / "s.csv", {"part": "validation"})
    assert NONE_YET in results_text(tmp_path)
    write_rows(tmp_path / "s.csv", {"part": "validation", "map50_95": 0.9}, {"map50_95": 0.2})
    text = results_text(tmp_path)
    assert "0.200" in text and "0.900" not in text and NONE_YET not in text


def test_results_are_kept_by_the_name_of_their_setting(tmp_path: Path):
    path = write_rows(tmp_path / "results.csv", {"setting": "pku"})
    keep([path], tmp_path / "kept")
    assert (tmp_path / "kept/pku.csv").read_bytes() == path.read_bytes()
    assert "(results/pku.png)" in results_text(tmp_path / "kept")
    with pytest.raises(UserError, match="got 2 settings"):
        keep([write_rows(tmp_path / "two.csv", {"setting": "a"}, {"setting": "b"})], tmp_path / "kept")
