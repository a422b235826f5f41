"""Both programs under the real torchrun: two processes on the CPU, one of which may be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run_two(script: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes of a script to their end."""
    command = [*COMMAND, str(script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def kill_one(
    arguments: Sequence[str], when: Callable[[], bool], rank: int
) -> subprocess.CompletedProcess[str]:
    """Two processes, of which one is killed as soon as `when()` holds."""
    run = subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    while run.poll() is None and not when():
        time.sleep(0.002)
    for pid in workers(run.pid):
        if f"\0RANK={rank}\0" in _read(f"/proc/{pid}/environ"):
            os.kill(pid, signal.SIGKILL)
    errors = run.communicate()[1]
    return subprocess.CompletedProcess(arguments, run.returncode, "", errors)


def workers(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # ended meanwhile
        return ""


def own_lines(errors: str) -> list[str]:
    """What the two processes say themselves when a run ends early."""
    return [line for line in errors.splitlines() if "the same command goes on" in line]
