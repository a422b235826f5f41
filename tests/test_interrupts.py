"""Ctrl-C and SIGTERM at any moment of both programs: one line and the exit code that shells expect."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_sample_generation import build, save_weights
from tests.test_train_kill import arguments
from utils.errors import run_main
from utils.processes.interrupts import Stopped

ROOT = Path(__file__).resolve().parent.parent
MOMENTS = int(os.environ.get("MOMENTS", "2"))  # random ones for each program
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
UNLABELED = (
    "no sample to export"  # what random networks paint may have no label: then a whole run ends with 2
)
LINES = {signal.SIGINT: "interrupted; the same command goes on", signal.SIGTERM: "stopped by SIGTERM"}

Moment = Callable[[str], bool]


def painting(root: Path) -> list[str]:
    """The command line of a run that takes a few seconds."""
    save_weights(root)
    place = build(root / "place", root)
    place.board("a.png", "0 0.5 0.5\n1 0.2 0.2", size=(90, 70))
    options = ["n_samples=20", "resize=native", "report=true", "dataset.export=true"]
    return ["sample_generation.py", "--conf_path", str(place.conf), *options]


PROGRAMS = {"sample_generation": painting, "train": lambda root: ["train.py", *arguments(root, "run")]}


def start(command: list[str], *options: str) -> subprocess.Popen:
    """The program in a process of its own, which heeds Ctrl-C also where this one was told to ignore it."""
    return subprocess.Popen(
        [sys.executable, *options, *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def own_lines(text: str) -> list[str]:
    """What a program says of signals, without its log and what Python tells about imports."""
    return [line for line in text.splitlines() if "goes on from" in line]


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("module", ["argparse", "torch._utils_internal"])
def test_while_the_libraries_load(tmp_path: Path, program: str, number: signal.Signals, module: str):
    process = start(PROGRAMS[program](tmp_path), "-X", "importtime")
    told = []
    for line in process.stderr:
        told.append(line)
        if line.split("|")[-1].strip() == module:
            process.send_signal(number)
            break
    rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.wait() == CODES[number], told[-3:] + rest
    assert len(rest) == 1 and rest[0].startswith(LINES[number]), rest


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_at_any_moment(tmp_path: Path, program: str, number: signal.Signals):
    command, rng = PROGRAMS[program](tmp_path), random.Random(time.time_ns())
    for _ in range(MOMENTS):
        process, delay = start(command), rng.uniform(0.3, 6)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        text = process.communicate()[1]
        whole = 2 if UNLABELED in text else 0
        assert process.returncode in (whole, CODES[number], -number), (delay, text)
        assert "Traceback" not in text and "Exception ignored" not in text, (delay, text)
        assert len(own_lines(text)) == (process.returncode == CODES[number]), (delay, text)


def test_inside_a_program_the_handlers_of_its_caller_come_back():
    before = signal.getsignal(signal.SIGTERM)

    def main(argv: list[str]) -> None:
        signal.raise_signal(signal.SIGTERM)

    assert run_main(main, []) == 143 and signal.getsignal(signal.SIGTERM) is before


def test_repeats_are_not_a_second_wish_and_what_is_told_is_not_told_again(capsys: pytest.CaptureFixture):
    def main(argv: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # torchrun's, while the program cleans up

    assert run_main(main, []) == 143
    assert re.fullmatch(r"stopped by SIGTERM; the same command goes on .*\n", capsys.readouterr().err)

    def told(argv: list[str]) -> None:
        raise Stopped(signal.SIGINT, told=True)

    assert run_main(told, []) == 130 and capsys.readouterr().err == ""


def test_an_ignored_signal_stays_ignored():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_main(lambda argv: signal.raise_signal(signal.SIGINT), []) == 0
    finally:
        signal.signal(signal.SIGINT, usual)
