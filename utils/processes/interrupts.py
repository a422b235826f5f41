"""Ctrl-C and SIGTERM: one line and the exit code that shells expect, at whatever moment they come."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEATED = 1.0  # seconds; signals that follow the first one within this time are its repeats
RESUMABLE = "the same command goes on from what is finished"

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """The signal `number` ended the run. `told`: the user knows already, everything is saved and said."""

    def __init__(self, number: int, told: bool = False):
        super().__init__(f"stopped by signal {number}")
        self.number, self.told = number, told
        self.exit_code = 128 + number  # as shells expect


def message_of(number: int) -> str:
    """What is said when a signal has ended the program; of several processes each names itself."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    process = f"process {os.environ.get('RANK')} of {count}: " if count > 1 else ""
    if number == signal.SIGINT:
        return f"{process}interrupted; {RESUMABLE}"
    reason = ", as torchrun does when one of its processes ends" if count > 1 else ""
    return f"{process}stopped by SIGTERM{reason}; {RESUMABLE}"


def exit_on_signals() -> None:
    """From now on Ctrl-C and SIGTERM end the program at once.

    A program calls it before it imports libraries: that takes seconds, writes nothing, and some of them would
    print a traceback of their own.
    """
    _replace_handlers(lambda number, frame: _exit_at_once(number))


@contextmanager
def exiting_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the program at once, while it imports libraries in its course."""
    usual = _replace_handlers(lambda number, frame: _exit_at_once(number))
    try:
        yield
    finally:
        _restore(usual)


@contextmanager
def raised_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped; one that comes a second later or more ends the program at once.

    Repeats before that are torchrun's, which passes on what the terminal has told all processes.
    """
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        first.append(time.monotonic())
        if len(first) == 1:
            raise Stopped(number)
        if first[-1] - first[0] >= REPEATED:
            _exit_at_once(number)

    usual = _replace_handlers(stop)
    try:
        yield
    finally:
        _restore(usual)


@contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the signal that came, Ctrl-C or SIGTERM, else 0, so that no step is cut in two.

    The first signal is only noted; one that comes a second later or more acts as if this function were not
    there. Repeats before that are torchrun's.
    """
    asked: list[tuple[float, int]] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append((time.monotonic(), number))
        if asked[-1][0] - asked[0][0] >= REPEATED:
            _restore(usual)
            signal.raise_signal(number)

    usual = _replace_handlers(note)
    try:
        yield lambda: asked[0][1] if asked else 0
    finally:
        _restore(usual)


def ignore_signals() -> None:
    """For the end of a program, when nothing is left to stop."""
    _replace_handlers(lambda number, frame: None)


def _replace_handlers(handler: Handler) -> dict[int, Any]:
    """Set the handler of both signals; returns those before. Signals that are ignored, as in a program that a shell
    has started in the background, stay so."""
    # Python hands signals to the main thread only
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_without_finalization(code: int) -> NoReturn:
    """End a program whose `main` has returned, exit functions and buffers included, but not the interpreter.

    For processes that were joined to a group: threads that PyTorch leaves behind abort a process when they ask for
    Python while it finalizes ("terminate called without an active exception"), which torchrun reports as a crash.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_at_once(number: int) -> NoReturn:
    """Without any cleaning up: not even the buffers, one of which may be what the signal has interrupted."""
    os.write(sys.stderr.fileno(), f"{message_of(number)}\n".encode())
    os._exit(128 + number)
