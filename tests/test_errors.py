"""Exit codes and messages of the command lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError, run_main

ROOT = Path(__file__).resolve().parent.parent


def raising(error: BaseException):
    def main(argv: list[str]) -> None:
        raise error

    return main


def test_exit_codes_and_messages(capsys: pytest.CaptureFixture):
    assert run_main(lambda argv: None, []) == 0
    assert run_main(raising(UserError("got 3, expected 4")), []) == 2
    assert capsys.readouterr().err == "error: got 3, expected 4\n"
    assert run_main(raising(KeyboardInterrupt()), []) == 130
    assert "the same command goes on" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):  # ours to mend: the traceback stays
        run_main(raising(ZeroDivisionError()), [])


def test_several_problems_are_a_list_and_one_is_a_sentence():
    assert str(UserError.from_problems("bad", ["a"])) == "a"
    assert str(UserError.from_problems("bad", ["a", "b"])) == "bad (2 problems):\n  - a\n  - b"


def test_a_reader_that_goes_away_causes_no_traceback():
    program = (
        "import sys; from utils.errors import run_main;"
        "sys.exit(run_main(lambda argv: [print('x' * 999) for _ in range(9999)], []))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    writer.stdout.read(10)
    writer.stdout.close()
    assert writer.wait() == 141 and writer.stderr.read() == b""
