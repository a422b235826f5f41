"""`manifest.jsonl`: one line per finished sample, where it came from and what it holds. It says what is done."""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import replacing

Entry = dict[str, Any]


def read_manifest(path: str | Path) -> list[Entry]:
    """The samples of a manifest, in the order of their first lines; of several lines of a name the last counts.

    A last line without its end, which a killed run leaves, is passed over. Raises UserError when the file is
    missing or another line is not a JSON object with a name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; expected the outdir of a run of sample_generation.py")
    entries: dict[str, Entry] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline was cut short
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entries[entry["name"]] = entry
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}:{number}: got {line[:60]!r}, expected a sample as JSON with a name; remove that line "
                "(its sample is then painted anew)"
            ) from error
    return list(entries.values())


def append_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line, whole, also while other processes add theirs; a line cut short before it is ended first."""
    line = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    with open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                cut_to = _end_of_last_line(path)
                file.truncate(cut_to)
        file.write(line)


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


def write_entries(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """The whole manifest anew, atomically."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n")


def mask_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """Uncompressed COCO RLE of a mask (H, W) bool: run lengths down the columns, zeros first.

    `{"size": [H, W], "counts": [...]}`, as pycocotools reads it (Lin et al. 2014).
    """
    flat = mask.T.reshape(-1)  # column-major
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def mask_of(rle: Mapping[str, Sequence[int]]) -> np.ndarray:
    """(H, W) bool of an uncompressed COCO RLE."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T
