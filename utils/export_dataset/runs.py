"""The runs that a data set is made from: their samples, settings and classes, which must agree."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils import labels
from utils.config import load_generation_config
from utils.errors import UserError
from utils.export_dataset.contents import ExportOptions, SourceRun
from utils.export_dataset.outdated import label_folder, outdated_samples
from utils.export_dataset.selection import chosen_entries
from utils.manifest import CLASSES_FILE, Entry, read_manifest
from utils.network_metadata import class_names
from utils.schema.generation import GenerationConfig


def read_runs(folders: Sequence[Path], options: ExportOptions) -> tuple[list[SourceRun], list[str]]:
    """The runs and warnings. Raises UserError for a run without samples, with files missing, or given twice.

    A source image has one spelling of its path in all runs, so that all its samples are in one part.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("a run was given twice; expected each once")
    if options.verdicts and len(folders) > 1:
        raise UserError(
            f"--verdicts {options.verdicts}: got {len(folders)} runs, expected one; put each run's file into its folder"
        )
    runs, warnings = [], []
    spelled: dict[Path, str] = {}
    for folder, prefix in zip(folders, prefixes(folders), strict=True):
        lines = read_manifest(folder / "manifest.jsonl")
        config = load_generation_config(folder / "config.yml")
        named = {one["class_name"]: one["class_id"] for line in lines for one in line["defects"]}
        outdated = outdated_samples(lines, label_folder(folder, config), named)
        entries, told = chosen_entries(
            folder,
            lines,
            outdated,
            options,
            masked=config.background == "masked" and config.resize == "native",
        )
        for entry in entries:
            entry["source"] = spelled.setdefault(Path(entry["source"]).resolve(), entry["source"])
        runs.append(SourceRun(folder, config, entries, prefix))
        warnings += told
    return runs, warnings


def prefixes(folders: Sequence[Path]) -> list[str]:
    """What names begin with, so that those of several runs differ: the folder's name, its place among others of that
    name, nothing for a single run."""
    if len(folders) == 1:
        return [""]
    names = [folder.resolve().name for folder in folders]
    count, seen = Counter(name.casefold() for name in names), Counter[str]()
    found = []
    for name in names:
        seen[name.casefold()] += 1
        found.append(f"{name}-{seen[name.casefold()]}_" if count[name.casefold()] > 1 else f"{name}_")
    return found


def shared_classes(runs: Sequence[SourceRun]) -> dict[str, int]:
    """Class names and ids of all runs. Raises UserError where they differ."""
    first = classes_of(runs[0].folder, runs[0].config, runs[0].entries)
    for run in runs[1:]:
        others = classes_of(run.folder, run.config, run.entries)
        if not labels.same_classes(first, others):
            raise UserError(
                f"{run.folder}: got the classes {_told(others.items())}, expected those of {runs[0].folder}, "
                f"{_told(first.items())}; export them apart"
            )
    return first


def classes_of(folder: Path, config: GenerationConfig, entries: Sequence[Entry]) -> dict[str, int]:
    """Class names and ids that the run recorded, else those of its class file, which may have changed since.

    Raises UserError when the samples were labeled with others.
    """
    recorded = folder / CLASSES_FILE
    if recorded.is_file():
        classes = labels.load_class_names(recorded)
    else:
        classes = class_names(config.crop_class_json_path, config.crop_model_path)
    pairs = {(d["class_name"], d["class_id"]) for entry in entries for d in entry["defects"]}
    if others := sorted(pairs - set(classes.items())):
        source = recorded if recorded.is_file() else config.crop_class_json_path or config.crop_model_path
        raise UserError(
            f"{folder}: its samples have the classes {_told(others)}, which {source} does not have (any more); put "
            "back the class file that they were painted with"
        )
    return classes


def _told(classes: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name}: {class_id}" for name, class_id in classes)
