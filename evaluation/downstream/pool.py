"""Synthetic defects of a stage: a list of them, from which arms take as many as they need."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation.downstream.scenes import Scene
from utils.files import write_text
from utils.images import load_rgb
from utils.manifest import read_manifest
from utils.reading import read_json

POOL = "pool.json"


@dataclass(frozen=True)
class PooledDefect:
    """A synthetic defect: its image and the clean one (paths), class, box in px and score (1 where there is none)."""

    image: str
    clean: str
    class_name: str
    box: tuple[float, float, float, float]
    score: float = 1.0


def write_pool(folder: Path, pool: Sequence[PooledDefect]) -> None:
    write_text(folder / POOL, json.dumps([asdict(one) for one in pool], indent=0))


def read_pool(folder: Path) -> list[PooledDefect]:
    return [PooledDefect(**{**one, "box": tuple(one["box"])}) for one in read_json(folder / POOL)]


def painted_pool(run: Path) -> list[PooledDefect]:
    """The painted defects of a run of sample_generation.py, with the boxes that it exports."""
    return [
        PooledDefect(
            str(run / entry["files"]["sample"]),
            entry["source"],
            defect["class_name"],
            tuple(defect["box"]),
            defect["scores"]["score"],
        )
        for entry in read_manifest(run / "manifest.jsonl")
        if entry["status"] == "painted"
        for defect in entry["defects"]
        if defect["status"] == "painted" and defect["box"] is not None
    ]


def select(
    pool: Sequence[PooledDefect], wanted: Mapping[str, int], seed: int, min_score: float = 0.0
) -> list[PooledDefect]:
    """For each class the first `wanted` defects of at least `min_score`, in an order that `seed` draws once: a
    larger number has those of a smaller one, too."""
    order = np.random.default_rng([seed, 11]).permutation(len(pool))
    left = dict(wanted)
    chosen = []
    for one in (pool[i] for i in order):
        if one.score >= min_score and left.get(one.class_name, 0) > 0:
            left[one.class_name] -= 1
            chosen.append(one)
    return chosen


def pool_scenes(
    pool: Sequence[PooledDefect], chosen: Sequence[PooledDefect], classes: Mapping[str, int]
) -> Iterator[Scene]:
    """The images with chosen defects; the others of the pool are hidden behind the clean image."""
    keys = {(one.image, one.box) for one in chosen}
    for path in sorted({one.image for one in chosen}):
        own = [one for one in pool if one.image == path]
        shown = [one for one in own if (path, one.box) in keys]
        hidden = [one.box for one in own if (path, one.box) not in keys]
        yield Scene(
            load_rgb(path),
            np.array([one.box for one in shown], np.float32),
            np.array([classes[one.class_name] for one in shown], np.int64),
            np.array(hidden, np.float32).reshape(-1, 4),
            load_rgb(own[0].clean),
        )
