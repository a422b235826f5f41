"""The one exception that stands for a mistake of the user's, not of the program's."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from utils.processes.interrupts import (
    Stopped,
    exit_without_finalization,
    ignore_signals,
    message_of,
    raised_signals,
)

SHOWN_LINES = 40  # of one message: a screen
SHOWN_CHARACTERS = 1000  # of a line of it


class UserError(Exception):
    """Something the user can fix: one clear sentence saying what, where, got, expected and what to do.

    Several problems found together are listed in one error, a line each.
    """

    @classmethod
    def from_problems(cls, title: str, problems: list[str]) -> "UserError":
        """One error listing all `problems` (at least one) under `title`."""
        if len(problems) == 1:
            return cls(problems[0])
        return cls("\n".join([f"{title} ({len(problems)} problems):", *(f"  - {p}" for p in problems)]))


def shortened(text: str, length: int = 120) -> str:
    """The text, or its two ends when it is longer than `length` characters."""
    half = (length - 5) // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


def on_a_screen(message: str) -> str:
    """The message with its longest lines shortened, and those beyond SHOWN_LINES counted."""
    lines = message.splitlines()
    more = [f"  ... and {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else []
    return "\n".join([*(shortened(line, SHOWN_CHARACTERS) for line in lines[:SHOWN_LINES]), *more])


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or PyTorch on any device, found no memory."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told


@contextmanager
def short_thread_errors() -> Iterator[None]:
    """What the system refuses a thread, as on a full disk, is one line; libraries raise it again where they are called.

    TensorBoard writes its files in a thread.
    """
    usual = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if isinstance(failed.exc_value, OSError):
            print(f"warning: {shortened(str(failed.exc_value))}", file=sys.stderr)
        else:
            usual(failed)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = usual


def run_main(main: Callable[[list[str]], int | None], argv: list[str] | None = None) -> int:
    """Run `main(argv)`, by default with the program's arguments; returns the exit code.

    `main`'s own, 0 for None; 2 with one message on stderr after a UserError; 130 after Ctrl-C and 143 after
    SIGTERM, as shells expect, with one line; 141 when what is printed finds no reader any more (`... | head`). A
    program that is one of several processes ends here.
    """
    if argv is not None or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return _run(main, argv)
    try:
        code = _run(main, argv)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    exit_without_finalization(code)


def _run(main: Callable[[list[str]], int | None], argv: list[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what no terminal shows
    try:
        with raised_signals(), short_thread_errors():
            code = main(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
    except UserError as error:
        if argv is None:  # the program ends here with this message; torchrun's SIGTERM adds nothing to it
            ignore_signals()
        print(f"error: {on_a_screen(str(error))}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        told = "the memory does not suffice; choose a smaller batch_size, smaller images or fewer samples"
        print(f"error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        if argv is None:  # the program ends here: what comes now is a repeat
            ignore_signals()
        stop = interrupt if isinstance(interrupt, Stopped) else Stopped(signal.SIGINT)
        if not stop.told:
            print(message_of(stop.number), file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        return 141
    return code or 0
