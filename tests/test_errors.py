"""Exit codes and messages of the command lines."""

import errno
import os
import signal
import subprocess
import sys
import threading
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


def test_one_of_several_processes_ends_before_the_interpreter_is_finalized():
    program = (
        "import atexit, os, sys\n"
        "from utils.errors import run_main\n"
        "class Late:\n"
        "    def __del__(self): os.abort()\n"
        "late = Late()\n"
        "atexit.register(print, 'exit functions')\n"
        "def main(argv):\n"
        "    print('buffered')\n"
        "    if argv: raise SystemExit(2)\n"
        "sys.exit(run_main(main))"
    )

    def end(count: str, *words: str) -> tuple[int, str]:
        environment = {**os.environ, "WORLD_SIZE": count}
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout

    assert end("1") == (-signal.SIGABRT, "buffered\nexit functions\n")
    assert end("2") == (0, "buffered\nexit functions\n")
    assert end("2", "stop") == (2, "buffered\nexit functions\n")


def test_what_the_system_refuses_a_thread_is_one_line(capsys: pytest.CaptureFixture):
    def fail(error: Exception) -> None:
        raise error

    def main(argv: list[str]) -> None:
        for error in (OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError("ours")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()

    usual, threading.excepthook = threading.excepthook, threading.__excepthook__  # pytest has its own
    try:
        assert run_main(main, []) == 0 and threading.excepthook is threading.__excepthook__
    finally:
        threading.excepthook = usual
    said = capsys.readouterr().err
    assert said.startswith("warning: [Errno 28] No space left on device\n") and said.count("Traceback") == 1
