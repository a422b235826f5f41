"""Parts for cross-validation that keep together what belongs together: patches of one group, of one photograph."""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.schema.prepared import INDEX


@dataclass(frozen=True)
class PatchOrigin:
    """The photograph that a patch or a tile is cut from, and that photograph's group (a board, a camera position)."""

    group: str
    image: str


def read_origins(folder: Path) -> dict[Path, PatchOrigin]:
    """The origins of the files that `index.csv` names, by resolved path: that of a folder or the next one above it.

    Empty where there is none that utils.prepare_data wrote.
    """
    for root in (folder.resolve(), *folder.resolve().parents[:2]):
        try:
            with (root / INDEX).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        if rows and {"file", "source", "group"} <= rows[0].keys():
            return {root / row["file"]: PatchOrigin(row["group"], row["source"]) for row in rows}
    return {}


def spread(
    kinds: Sequence[Mapping[int, PatchOrigin | None]], folds: int, rng: np.random.Generator
) -> dict[int, int]:
    """Source -> fold of the sources of each kind (a class, or tiles), and of their origins.

    A group lies in one fold with all its kinds. A kind of which one group has more than half is kept together by
    photograph instead: without that group too few are left to say anything of it; where one photograph has more than
    half, or where they are unknown, its patches go each for itself. The largest units go first, each to the
    fold that has least of the same kinds, so that every kind is spread as evenly as its units let it.
    """
    members: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)  # unit -> kind and source
    for number, kind in enumerate(kinds):
        for source, unit in _units(kind).items():
            members[unit].append((number, source))
    units = list(members)
    shares = np.zeros((len(units), len(kinds)))  # of a kind, in a unit
    for row, unit in enumerate(units):
        for number, _ in members[unit]:
            shares[row, number] += 1 / len(kinds[number])
    load = np.zeros((folds, len(kinds)))
    found: dict[int, int] = {}
    drawn = rng.permutation(len(units))
    for row in drawn[np.argsort(-shares[drawn].sum(axis=1), kind="stable")]:
        overlap, total = load @ shares[row], load.sum(axis=1)
        fold = int(np.lexsort((total, overlap.round(9)))[0])
        load[fold] += shares[row]
        found |= {source: fold for _, source in members[units[row]]}
    return found


def _units(kind: Mapping[int, PatchOrigin | None]) -> dict[int, tuple[str, ...]]:
    """Source -> what it is kept together with: the coarsest of group, photograph, and itself that is no more than half
    of the kind."""
    for level in ("group", "image"):
        names = {source: getattr(origin, level, "") for source, origin in kind.items()}
        if None not in kind.values() and 2 * max(Counter(names.values()).values()) <= len(kind):
            return {source: (level, name) for source, name in names.items()}
    return {source: ("source", str(source)) for source in kind}
