"""The export from a run to a data set: the order of the work."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from utils import labels
from utils.config import load_generation_config
from utils.errors import UserError
from utils.export_dataset.coco import write_coco
from utils.export_dataset.contents import PARTS, ExportOptions, Item, Report
from utils.export_dataset.readme import write_readme
from utils.export_dataset.selection import backgrounds, check_names, chosen_entries, split_sources
from utils.export_dataset.writing import make_folders, write_item, write_yaml
from utils.files import check_replaceable, replace_folder
from utils.manifest import CLASSES_FILE, VERSION, Entry
from utils.network_metadata import class_names
from utils.schema.generation import GenerationConfig

KIND = "exported data set"  # in the folder's mark


def export_dataset(
    run: str | Path,
    out: str | Path | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> Report:
    """Write the data set of a run to `out` (default RUN/dataset), whole or not at all.

    `val_share` of the source images, with all their samples, make the validation part; `background_share` of
    all images are clean sources without labels. Raises UserError for a run without samples or with files missing,
    and for an `out` that is not empty, unless it is an earlier data set and `overwrite` is given.
    """
    run, options = Path(run), options or ExportOptions()
    out = run / "dataset" if out is None else Path(out)
    check_replaceable(out, KIND, overwrite)
    entries, outdated = chosen_entries(run, options.min_score)
    check_apart(out, [run, *(Path(entry["source"]) for entry in entries)])
    config = load_generation_config(run / "config.yml")
    classes = classes_of(run, config, entries)
    report = Report(out, classes)
    parts, warnings = split_sources(entries, options.val_share, options.seed)
    clean, more = backgrounds(entries, parts, config, options.background_share, options.seed)
    report.warnings += [*outdated, *warnings, *more]
    items = [Item(e["name"], e["source"], parts[e["source"]], tuple(e["size"]), e) for e in entries] + clean
    check_names(items)
    count(items, report)
    with replace_folder(out, KIND, VERSION, overwrite) as folder:
        make_folders(folder, options.labels)
        for item in items:
            write_item(item, run, folder, config, options)
        write_yaml(folder, classes, any(item.part == "val" for item in items), options.labels)
        write_coco(folder, items, classes, options.first_category_id)
        write_readme(folder, run, config, entries, options, report)
    return report


def classes_of(run: Path, config: GenerationConfig, entries: Sequence[Entry]) -> dict[str, int]:
    """Class names and ids that the run recorded, else those of its class file, which may have changed since.

    Raises UserError when the samples were labeled with others.
    """
    recorded = run / CLASSES_FILE
    if recorded.is_file():
        classes = labels.load_class_names(recorded)
    else:
        classes = class_names(config.crop_class_json_path, config.crop_model_path)
    pairs = {(d["class_name"], d["class_id"]) for entry in entries for d in entry["defects"]}
    if others := sorted(pairs - set(classes.items())):
        told = ", ".join(f"{name}: {class_id}" for name, class_id in others)
        source = recorded if recorded.is_file() else config.crop_class_json_path or config.crop_model_path
        raise UserError(
            f"{run}: its samples have the classes {told}, which {source} does not have (any more); put back the class "
            "file that they were painted with"
        )
    return classes


def check_apart(out: Path, needed: Sequence[Path]) -> None:
    """Raises UserError when one of the `needed` files or folders lies in the folder that would be replaced."""
    folder = out.resolve()
    for path in needed:
        if path.resolve().is_relative_to(folder):
            raise UserError(f"{out}: contains {path}, which the data set is made from; choose another folder")


def count(items: Sequence[Item], report: Report) -> None:
    """Fill in the report's numbers, and warn about classes that a part lacks."""
    report.images = {p: sum(i.part == p and i.entry is not None for i in items) for p in PARTS}
    report.backgrounds = {p: sum(i.part == p and i.entry is None for i in items) for p in PARTS}
    found = Counter((d["class_id"], item.part) for item in items if item.entry for d in item.entry["defects"])
    report.defects = {
        name: {p: found[class_id, p] for p in PARTS} for name, class_id in report.classes.items()
    }
    for part in PARTS:
        lacking = [name for name, counts in report.defects.items() if not counts[part]]
        if lacking and report.images[part]:
            report.warnings.append(f"no {', '.join(lacking)} in {part}")
