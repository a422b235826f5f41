"""Contents of a data set: samples with a sufficient score, clean images, and the part that each source belongs to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from utils import images
from utils.errors import UserError
from utils.export_dataset.contents import ExportOptions, Item, SourceRun
from utils.export_dataset.restoring import can_be_restored
from utils.files import file_sha256
from utils.images import image_files
from utils.manifest import Entry
from utils.reading import is_file
from utils.seeds import sample_seed
from utils.verdicts import VERDICTS_FILE, Verdicts, read_verdicts

SHOWN = 8  # files named in one message


def chosen_entries(
    run: Path, lines: Sequence[Entry], outdated: Sequence[str], options: ExportOptions, masked: bool = False
) -> tuple[list[Entry], list[str]]:
    """The painted samples among the `lines` of a run's manifest with their painted defects, and warnings; UserError if
    there is none, or if files are missing or do not match the manifest.

    A defect below `min_score`, or rejected by eye, would be an object without a label. Of a run whose background is
    `masked` the clean image comes back there, if other defects of the sample are good and apart from it (`rejected` of
    an entry); else the sample is left out. So are those of the names `outdated`, whose annotations no longer exist.
    """
    entries, gone, rejected, removed, least = [], [], [], 0, options.min_score
    left_out = set(outdated)
    path, verdicts = verdicts_on(run, options)
    for entry in lines:
        painted = [
            k for k, d in enumerate(entry["defects"]) if d["status"] == "painted" and d["box"] is not None
        ]
        if entry["name"] in left_out:
            gone.append(entry["name"])
        elif entry["status"] == "painted" and painted:
            seen = [k for k in painted if verdicts.get((entry["name"], k), True)]
            good = [k for k in seen if entry["defects"][k]["scores"]["score"] >= least]
            defects, bad = (
                [entry["defects"][k] for k in painted if (k in good) == kept] for kept in (True, False)
            )
            if not bad or (masked and defects and can_be_restored(bad, defects)):
                entries.append({**entry, "defects": defects, "rejected": bad})
                removed += len(painted) - len(seen)
            elif len(seen) < len(painted):
                rejected.append(entry["name"])
    if not entries:
        raise UserError(
            f"{run}: no sample to export; expected painted samples with labels in manifest.jsonl"
            + (f" and scores from {least:g} on" if least else "")
            + (f", not all rejected by eye in {path}" if rejected else "")
            + (f"; {_some(gone)} left out: their annotations no longer exist" if gone else "")
        )
    _check_files(run, entries)
    warnings = [f"{_some(gone)} left out: their annotations no longer exist"] if gone else []
    if verdicts:
        more = f"; where {removed} more were rejected, the clean image came back" if removed else ""
        warnings.append(f"{_some(rejected)} left out: rejected by eye in {path}{more}")
    if strange := sorted({name for name, _ in verdicts} - {entry["name"] for entry in lines}):
        warnings.append(f"{path} judges {_some(strange)} not of this run")
    return entries, warnings


def verdicts_on(run: Path, options: ExportOptions) -> tuple[Path, Verdicts]:
    """The verdicts by eye that the options ask for, and their file; none without one."""
    path = options.verdicts or run / VERDICTS_FILE
    wanted = options.use_verdicts and (options.verdicts or is_file(path))
    return path, read_verdicts(path) if wanted else {}


def _some(names: Sequence[str]) -> str:
    """'2 samples (a, b)', not more names than are shown."""
    more = ", ..." if len(names) > SHOWN else ""
    told = f" ({', '.join(names[:SHOWN])}{more})" if names else ""
    return f"{len(names)} {'sample' if len(names) == 1 else 'samples'}{told}"


def _check_files(run: Path, entries: Sequence[Entry]) -> None:
    """Raises UserError for files that are missing, lie outside the run, or are other images than at the time."""
    problems = []
    for entry in entries:
        for path in (run / entry["files"][kind] for kind in ("sample", "mask")):
            if not path.is_file():
                problems.append(f"{path}: missing")
            elif not path.resolve().is_relative_to(run.resolve()):
                problems.append(f"{path}: a link to a file outside the run's folder")
            elif problem := _other_size(path, entry["size"]):
                problems.append(problem)
    recorded = {entry["source"]: entry.get("source_sha256") for entry in entries}
    for source, sha256 in sorted(recorded.items()):
        if not is_file(source):
            problems.append(f"{source}: missing")
        elif sha256 not in (None, file_sha256(source)):
            problems.append(f"{source}: has changed since it was painted on")
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError.from_problems(
            f"{run}: files do not match its manifest (paths of sources are relative to where the run was started)",
            [*problems[:SHOWN], *more],
        )


def _other_size(path: Path, size: Sequence[int]) -> str | None:
    try:
        found = images.image_size(path)
    except images.READ_ERRORS as error:
        return f"{path}: not a readable image: {error}"
    return (
        None
        if found == tuple(size)
        else f"{path}: got {found[0]}x{found[1]} px, expected {size[0]}x{size[1]}"
    )


def split_sources(entries: Sequence[Entry], val_share: float, seed: int) -> tuple[dict[str, str], list[str]]:
    """Source image -> part, and warnings. The training part keeps every class.

    Greedy: the next source of the validation part is, among those without which every class remains in the
    training part, the one that adds most classes to the validation part; ties in random order. When no source
    is left to choose from, the validation part stays smaller than `val_share` asks for, or empty.
    """
    sources = sorted({entry["source"] for entry in entries})
    ids = sorted({defect["class_id"] for entry in entries for defect in entry["defects"]})
    held = np.zeros((len(sources), len(ids)), dtype=int)  # (sources, classes), number of defects
    row, column = ({key: i for i, key in enumerate(keys)} for keys in (sources, ids))
    for entry in entries:
        for defect in entry["defects"]:
            held[row[entry["source"]], column[defect["class_id"]]] += 1
    wanted = min(max(1, round(val_share * len(sources))), len(sources) - 1) if val_share > 0 else 0
    free = np.random.default_rng(sample_seed(seed, "split")).permutation(len(sources))
    left, covered = held.sum(0), np.zeros(len(ids), dtype=bool)
    chosen: list[str] = []
    while len(chosen) < wanted:
        free = free[(left > held[free]).all(1)]
        if not len(free):
            break
        best = free[np.argmax(((held[free] > 0) & ~covered).sum(1))]
        chosen.append(sources[best])
        left, covered, free = left - held[best], covered | (held[best] > 0), free[free != best]
    parts = {source: "val" if source in chosen else "train" for source in sources}
    return parts, _split_warnings(len(chosen), wanted, len(sources), val_share)


def _split_warnings(chosen: int, wanted: int, sources: int, val_share: float) -> list[str]:
    if val_share > 0 and sources == 1:
        return ["there is only one source image: val in data.yaml is the training part"]
    if wanted and not chosen:
        return [
            "every source image has the only defects of some class: all of them train, and val in data.yaml is the "
            "training part; paint each class on two source images or more"
        ]
    if chosen < wanted:
        return [
            f"{chosen} of {wanted} source images are in val: each of the others has the last training defects of some "
            "class"
        ]
    return []


def backgrounds(
    runs: Sequence[SourceRun], parts: Mapping[str, str], share: float, seed: int
) -> tuple[list[Item], list[str]]:
    """Clean images, each at most once, and warnings: sources of the samples, which stay in their part, and
    images of the runs' folders that were not painted on, which train."""
    wanted = round(share * sum(len(run.entries) for run in runs) / (1 - share))
    found: dict[str, tuple[tuple[int, int], int | None]] = {}  # source -> size, side that it is squashed to
    for run in runs:
        for entry in run.entries:
            found.setdefault(entry["source"], (tuple(entry["size"]), run.squash))
    known = {Path(source).resolve() for source in found}
    for run in runs:
        folder = Path(run.config.defect_free_dir)
        for path in image_files(folder) if folder.is_dir() else []:
            if path.resolve() not in known:
                known.add(path.resolve())
                size = (run.squash, run.squash) if run.squash else images.image_size(path)
                found[path.as_posix()] = (size, run.squash)
    sources = sorted(found)
    order = np.random.default_rng(sample_seed(seed, "backgrounds")).permutation(len(sources))
    warnings = []
    if wanted > len(sources):
        warnings.append(
            f"{wanted} clean images would make {share:.0%} of the set, but only {len(sources)} exist"
        )
    items = []
    for source in sorted(sources[i] for i in order[:wanted]):
        size, squash = found[source]
        name, part = f"clean_{Path(source).stem}", parts.get(source, "train")
        items.append(Item(name, "clean", source, part, size, Path(source), squash=squash))
    return items, warnings


def check_names(items: Sequence[Item]) -> None:
    """Raises UserError for two images that would have one file name, including on case-insensitive file systems."""
    names = Counter(item.name.casefold() for item in items)
    problems = [f"{item.name} (from {item.source})" for item in items if names[item.name.casefold()] > 1]
    if problems:
        raise UserError.from_problems("images of the data set would have the same name", problems)
