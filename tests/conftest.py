"""Puts the repository root on the import path, so that plain `pytest` finds the packages; one thread computes."""

import os
import signal
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

# The networks of the tests are small: two threads are no faster, and several times slower where cores are shared
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts pytest in the background has it ignore Ctrl-C, and with it all programs that tests interrupt
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
