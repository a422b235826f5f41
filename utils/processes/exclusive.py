"""One run at a time in a folder, which all its processes share."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import UserError
from utils.files import write_text
from utils.processes.group import decided


@contextmanager
def only_run_in(folder: Path, key: str) -> Iterator[None]:
    """No other run works in `folder`, the value of the setting `key`, at the same time.

    The processes of this run share it. The operating system frees the lock of a killed process. A folder that was
    made for the lock and has nothing else in the end is removed. Raises UserError naming the process that works
    there, and when the folder cannot be written.
    """
    with ExitStack() as held:
        decided(lambda: held.enter_context(_locked(folder, key)))
        yield


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    check_writable(folder, key)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock, holder = folder / ".run.lock", folder / ".run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with FileLock(lock, timeout=0), _named_in(holder):
            try:
                yield
            finally:
                if made and {path.name for path in folder.iterdir()} <= {lock.name, holder.name}:
                    holder.unlink(missing_ok=True)
                    lock.unlink(missing_ok=True)
                    for path in made:
                        path.rmdir()
    except Timeout:
        raise UserError(
            f"{key} {folder}: {_told_of(holder)} works there; wait until it has ended, or set another {key}"
        ) from None


@contextmanager
def _named_in(holder: Path) -> Iterator[None]:
    """A file that says who works in a folder, for the message to others."""
    told = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_text(holder, json.dumps(told))
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)


def _told_of(holder: Path) -> str:
    try:
        told = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']} (since {told['since']})"
    except (OSError, ValueError, TypeError, KeyError):  # it has only just begun
        return "another process"


def check_writable(folder: Path, key: str) -> None:
    """Raises UserError when the folder, the value of the setting `key`, cannot be written or made."""
    given, folder = folder, folder.absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise UserError(unwritable(given, key, f"{nearest} is not a folder"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(unwritable(given, key, f"no permission to write in {nearest}"))


def unwritable(folder: Path, key: str, why: str) -> str:
    return f"{key} {folder} cannot be written ({why}); fix that or set another {key}"
