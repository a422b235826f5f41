"""Stages of an experiment: each has a folder named by a hash of what it depends on, and is made once."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.files import files_sha256, write_text
from utils.manifest import VERSION
from utils.reading import read_json

DONE = "done.json"  # in a stage's folder: what it depends on, and how long it took

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedStage:
    """A stage by its name and by `depends`, JSON values: all that decides what is in its folder."""

    name: str
    depends: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits."""
        text = json.dumps({"name": self.name, "version": VERSION, **self.depends}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Stages:
    """The stages below a folder."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, stage: CachedStage) -> Path:
        return self.root / f"{stage.name}-{stage.digest}"

    def is_done(self, stage: CachedStage) -> bool:
        return (self.folder(stage) / DONE).is_file()

    def seconds(self, stage: CachedStage) -> float:
        """How long a finished stage took."""
        return float(read_json(self.folder(stage) / DONE)["seconds"])

    def make(self, stage: CachedStage, build: Callable[[Path], None]) -> Path:
        """The folder of a stage, filled by `build` unless it is finished already.

        A build that is stopped is called again with what it left, and goes on from there or begins anew.
        """
        folder = self.folder(stage)
        if self.is_done(stage):
            return folder
        log.info("%s", folder)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        build(folder)
        done = {"version": VERSION, "seconds": round(time.monotonic() - started, 2), **stage.depends}
        write_text(folder / DONE, json.dumps(done, indent=1) + "\n")
        return folder


def folder_digest(folder: Path) -> str:
    """A hash of the names and contents of all files in a folder and below it, but for the DONE of a stage, which holds
    how long it took."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / DONE)
    return files_sha256(folder, files)[:16]
