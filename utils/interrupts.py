"""Ctrl-C and SIGTERM noted, to be acted on between two steps."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REPEATED = 1.0  # seconds; signals that follow the first one within this time are its repeats


@contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the signal that came, Ctrl-C or SIGTERM, else 0, so that no step is cut in two.

    The first signal is only noted; one that comes a second later or more acts as if this function were not
    there. Repeats before that are torchrun's, which passes on what the terminal has told all processes.
    """
    asked: list[tuple[float, int]] = []
    usual: dict[int, object] = {}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        asked.append((time.monotonic(), number))
        if asked[-1][0] - asked[0][0] >= REPEATED:
            restore()
            signal.raise_signal(number)

    # Python hands signals to the main thread alone.
    if threading.current_thread() is threading.main_thread():
        usual |= {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked[0][1] if asked else 0
    finally:
        restore()
