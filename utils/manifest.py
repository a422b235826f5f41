"""`manifest.jsonl`: one line per finished sample, where it came from and what it holds. It says what is done."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from utils.errors import UserError, shortened
from utils.files import replacing
from utils.reading import parse_json
from utils.schema.manifest import check_line

Entry = dict[str, Any]
CLASSES_FILE = "classes.json"  # beside the manifest: the class names and ids of its samples
LONGEST_LINE = 64 * 2**20  # bytes
VERSION = "0.3.0"  # of the program, which manifests name


def read_manifest(path: str | Path) -> list[Entry]:
    """The samples of a manifest, in the order of their first lines; of several lines of a name the last counts.

    A last line without its end, which a killed run leaves, is passed over. Raises UserError when the file is
    missing or another line is not of the layout in utils/schema/manifest.py.
    """
    return list({entry["name"]: entry for entry in iterate_manifest(path)}.values())


def iterate_manifest(path: str | Path) -> Iterator[Entry]:
    """The lines of a manifest one by one, as in `read_manifest`, but with repeated names."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; expected the outdir of a run of sample_generation.py")
    with open(path, "rb") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if line.endswith(b"\n") and line.strip():
                yield _checked(line, path, number)
            elif len(line) == LONGEST_LINE:
                raise UserError(
                    f"{path}:{number}: longer than {LONGEST_LINE} bytes; expected a sample as JSON"
                )


def _checked(line: bytes, path: Path, number: int) -> Entry:
    try:
        entry = parse_json(line)
        check_line(line)
    except ValueError as error:
        raise UserError(
            f"{path}:{number}: got {line[:60]!r}, expected a sample as JSON ({shortened(str(error))}); "
            "remove that line (its sample is then painted anew)"
        ) from error
    return entry


def append_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line, whole, also while other processes add theirs; what a kill cut short before it goes."""
    with locked(path), open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size > 0:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.write(_line(entry).encode())


def rewrite(path: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Replace the lines by `change` of them, atomically; nothing is written when it changes nothing."""
    with locked(path):
        before = read_manifest(path)
        after = change(before)
        if after != before:
            with replacing(path) as temporary:
                temporary.write_text("".join(map(_line, after)), encoding="utf-8")


def locked(path: Path) -> FileLock:
    """A lock on the manifest between the processes of a run."""
    return FileLock(path.parent / "log" / "manifest.lock")


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def mask_rle(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, list[int]]:
    """Uncompressed COCO RLE of a mask (h, w) bool at `corner` (left, top) of an image of `size` (width, height):
    run lengths down the columns, zeros first.

    `{"size": [H, W], "counts": [...]}`, as pycocotools reads it (Lin et al. 2014).
    """
    (left, top), (width, height) = corner, size
    columns = np.zeros((mask.shape[1], height), dtype=bool)  # the mask's columns, whole
    columns[:, top : top + mask.shape[0]] = mask.T
    bounded = np.concatenate([[False], columns.reshape(-1), [False]])
    changes = np.flatnonzero(bounded[1:] != bounded[:-1]) + left * height
    inner = changes[changes < width * height].tolist()
    return {"size": [height, width], "counts": np.diff([0, *inner, width * height]).tolist()}


def mask_of(rle: Mapping[str, Sequence[int]]) -> np.ndarray:
    """(H, W) bool of an uncompressed COCO RLE."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T
