"""Writing files and folders so that a stopped run never leaves half of one under its final name."""

import csv
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils.errors import UserError
from utils.reading import read_json

# In every folder that may be replaced: its kind, the names at its top, a hash of every file as it was written
MARK = ".crg-export.json"
CACHES = ".cache"  # files that others, such as Ultralytics, write beside ours and write again
LAST = "last.safetensors"  # the newest averaged weights of a training
SETTINGS = "config.yml"  # beside the results of a run
SETTINGS_MARK = "# All settings of this run, written by CRG-Diffusion"  # its first line
SHOWN = 5  # names in one message

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # in the names of temporary files
STARTED = time.time()
DAY = 24 * 3600  # seconds; a temporary file of another host that is older belongs to no run any more

log = logging.getLogger(__name__)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes `path`'s place when the block ends well, else it goes.

    The file can be read by whom the process's umask lets read; some writers (safetensors) make private ones.

    with replacing("result.png") as temporary:
        temporary.write_bytes(data)
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8, whole or not at all (see `replacing`). Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def state_files(folder: Path) -> list[Path]:
    """Training states of a folder, oldest first."""
    return sorted((path for path in folder.glob("state_*.pt") if step_of(path) >= 0), key=step_of)


def step_of(path: Path) -> int:
    """The step in a state's file name; -1 for a name that is none of ours."""
    number = path.stem.removeprefix("state_")
    return int(number) if number.isdecimal() else -1


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes left in `folder` and the folders directly in it (see
    `replacing`); OSError is passed on."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        if match := re.fullmatch(r"\..+\.([0-9a-f]{6})-(\d+)\.tmp", path.name):
            with suppress(FileNotFoundError):  # another process sweeps too
                if _is_left_over(match[1], int(match[2]), path.stat().st_mtime):
                    path.unlink()


def _is_left_over(host: str, process: int, written: float) -> bool:
    """Whether the process that wrote a temporary file at the time `written` (s) is over."""
    if host != HOST or os.name == "nt":  # where looking would end the process
        return time.time() - written > DAY
    if process == os.getpid():  # numbers come again, in containers at every start
        return written < STARTED
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def drop_rows(path: Path, column: str, last: int) -> None:
    """Leave out of a CSV file, atomically, the rows whose `column` is above `last`, and those a kill cut short."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    kept = [row for row in rows if None not in row.values() and row.get(column, "").isdecimal()]
    kept = [row for row in kept if int(row[column]) <= last]
    if len(kept) < len(rows):
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)


def append_csv(path: str | Path, row: Mapping[str, Any]) -> None:
    """Add a line to a CSV file, below a header if it is new; a line that a kill cut short is ended first."""
    path = Path(path)
    fresh = not path.exists()
    cut_short = not fresh and not path.read_bytes().endswith(b"\n")
    with path.open("a", newline="") as file:
        if cut_short:
            file.write("\n")
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask


def file_sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes; UserError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def files_sha256(folder: Path, paths: Iterable[Path]) -> str:
    """A hash of the names, relative to `folder`, and contents of files below it, in hexadecimal digits."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return found.hexdigest()


# The settings beside a run's results


def write_settings(path: Path, text: str) -> None:
    """Write the configuration (YAML) of a run, with a first line that says so. Raises OSError."""
    write_text(path, f"{SETTINGS_MARK}\n{text}")


def check_begun_by_us(folder: Path, key: str, *others: str) -> None:
    """Raises UserError when a run that begins in `folder`, the value of the setting `key`, would replace a SETTINGS
    file, or `others`, that no run wrote. A SETTINGS file with our first line says that one did."""
    there = [path for name in (SETTINGS, *others) if (path := folder / name).is_file()]
    if there and not _written_by_us(folder / SETTINGS):
        raise UserError(
            f"{key} {folder}: {there[0].name} is there, which no run wrote and this one would replace; move it "
            f"elsewhere, or set another {key}"
        )


def _written_by_us(settings: Path) -> bool:
    try:
        with settings.open("rb") as file:
            return file.readline(100).decode(errors="replace").rstrip() == SETTINGS_MARK
    except OSError:
        return False


# Whole folders


@contextmanager
def replace_folder(out: str | Path, kind: str, version: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `out`; it takes `out`'s place when the block ends well, else it is removed.

    An earlier `out` of the same kind is replaced with `overwrite` only. The swap is two renames: after a kill at
    any point the old or the new folder is whole, at its place or put back by the next call (or by
    `check_replaceable`). Raises UserError as `check_replaceable` does, when another process is writing
    the folder, and when the disk refuses.
    """
    out = Path(out).resolve()
    with _reported(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(out):
            _recover(out)
            _check(out, kind, overwrite)
            new = _beside(out, "new")
            new.mkdir()
            _write_mark(new, kind, version)
            try:
                yield new
                _write_mark(new, kind, version)
                _swap(new, out)
            finally:
                _recover(out)


def check_replaceable(out: str | Path, kind: str, overwrite: bool) -> None:
    """Raises UserError unless `out` is missing, empty, or with `overwrite` an earlier folder of this kind.

    An earlier folder carries the mark of its kind and has nothing but what was written there, as it was written: a
    label that was corrected by hand is never replaced. A folder that an interrupted replacement left aside is put
    back first.
    """
    out = Path(out).resolve()
    with _reported(out):
        if _beside(out, "old").is_dir():
            with _exclusive(out):
                _recover(out)
        _check(out, kind, overwrite)


def _check(out: Path, kind: str, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"{out}: got a file, expected a folder that is new or empty")
    mark = read_mark(out)
    if mark.get("kind") != kind:
        raise UserError(
            f"{out}: not empty, and not an earlier {kind} (no {MARK} says so); choose another folder"
        )
    if foreign := sorted({path.name for path in out.iterdir()} - {MARK, *mark["contents"]}):
        raise UserError(
            f"{out}: has {_first(foreign)} beside the earlier {kind}; move that elsewhere, or choose another folder"
        )
    if edited := _edited(out, mark):
        raise UserError(
            f"{out}: {_first(edited)} changed since this {kind} was written; move the folder elsewhere to keep that, "
            "or delete it"
        )
    if not overwrite:
        raise UserError(
            f"{out}: there is an earlier {kind}; give --overwrite to replace it, or choose another folder"
        )


def read_mark(folder: Path) -> dict[str, Any]:
    """What `replace_folder` wrote about a folder: `kind`, `version`, `contents`; {} without a valid mark."""
    try:
        mark = read_json(folder / MARK)
        valid = isinstance(mark["kind"], str) and all(isinstance(name, str) for name in mark["contents"])
    except (UserError, TypeError, KeyError):
        return {}
    return mark if valid else {}


def _write_mark(folder: Path, kind: str, version: str) -> None:
    files = _files(folder)
    contents = sorted({path.name for path in folder.iterdir()} - {MARK})
    mark = {
        "program": "CRG-Diffusion",
        "kind": kind,
        "version": version,
        "contents": contents,
        "files": files,
    }
    (folder / MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")


def _files(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file below a folder but the mark, of a link where it leads."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {
        name: os.readlink(path) if path.is_symlink() else file_sha256(path)
        for name, path in found.items()
        if name != MARK and (path.is_symlink() or path.is_file())
    }


def _edited(folder: Path, mark: Mapping[str, Any]) -> list[str]:
    """The files that were changed or added since the mark was written; of a mark of older versions none."""
    written = mark.get("files")
    if not isinstance(written, Mapping):
        return []
    return [
        name
        for name, state in _files(folder).items()
        if written.get(name) != state and not name.endswith(CACHES)
    ]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _beside(out: Path, role: str) -> Path:
    """The hidden sibling of a folder: `new` while it is written, `old` while it is replaced (always whole),
    `trash` while it is deleted, and `lock`."""
    return out.parent / f".{out.name}.{role}"


@contextmanager
def _reported(out: Path) -> Iterator[None]:
    """OSErrors become UserErrors."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error}); choose a folder that can") from error


@contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """Only one process at a time replaces a folder; the operating system frees a killed one's lock."""
    path = _beside(out, "lock")
    try:
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except Timeout:
        raise UserError(f"{out}: another process is writing it; wait until that has ended") from None


def _swap(new: Path, out: Path) -> None:
    """Put `new` at `out`'s place; one that is there goes to its `old` sibling."""
    if out.exists():
        if any(out.iterdir()):
            os.rename(out, _beside(out, "old"))
        else:
            out.rmdir()
    os.rename(new, out)


def _recover(out: Path) -> None:
    """Finish or undo a replacement: the old folder is put back if there is no new one, the rest is deleted."""
    new, old, trash = (_beside(out, role) for role in ("new", "old", "trash"))
    for folder in (new, trash):
        _remove_own(folder)
    if old.is_dir() and not out.exists():
        os.rename(old, out)
        log.warning("%s: its replacement was interrupted; the earlier folder is back at its place", out)
    elif old.is_dir():
        os.rename(old, trash)
        _remove_own(trash)


def _remove_own(folder: Path) -> None:
    """Delete a folder, its mark last, so that a kill in between leaves one that is known to be ours."""
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()]
    if names and MARK not in names:
        raise UserError(f"{folder}: is in the way and was not made by this program; move it elsewhere")
    for path in (folder / name for name in names if name != MARK):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder)
