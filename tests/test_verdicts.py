"""Verdicts by eye, as a file holds them."""

from pathlib import Path

import pytest

from utils.errors import UserError
from utils.verdicts import read_verdicts


def test_the_last_verdict_on_a_defect_counts(tmp_path: Path):
    path = tmp_path / "verdicts.csv"
    path.write_text('\ufeffname,number,good\r\na,0,1\r\n"b,""x""",2,0\r\na,0,0\r\n', encoding="utf-8")
    assert read_verdicts(path) == {("a", 0): False, ('b,"x"', 2): False}
    path.write_text("number,good,name,note\n1,1,a,fine\n")
    assert read_verdicts(path) == {("a", 1): True}


@pytest.mark.parametrize(
    "text",
    ["name,good\na,1\n", "name,number,good\na,0,yes\n", "name,number,good\na,x,1\n", "name,number,good\na\n"],
)
def test_other_files(tmp_path: Path, text: str):
    path = tmp_path / "verdicts.csv"
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"verdicts\.csv:2: got .*expected a CSV file with the columns name, number"
    ):
        read_verdicts(path)


def test_no_file(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        read_verdicts(tmp_path / "verdicts.csv")
