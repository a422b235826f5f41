"""The export from runs to a data set: the order of the work."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError
from utils.export_dataset.coco import write_coco
from utils.export_dataset.contents import PARTS, ExportOptions, Item, Report, SourceRun
from utils.export_dataset.readme import write_readme
from utils.export_dataset.real import check_not_held_out, real_items
from utils.export_dataset.runs import read_runs, shared_classes
from utils.export_dataset.selection import backgrounds, check_names, split_sources
from utils.export_dataset.writing import make_folders, write_item, write_yaml
from utils.files import check_replaceable, replace_folder
from utils.manifest import VERSION

KIND = "exported data set"  # in the folder's mark


def export_dataset(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> Report:
    """Write the data set of one or more runs to `out` (default for one: RUN/dataset), whole or not at all.

    `val_share` of the source images, with all their samples, make the validation part, or the `real` images do;
    `background_share` of all images painted on or not are clean sources without labels. Raises UserError for a run
    without samples or with files missing, for runs with other class ids than the first, and for an `out` that is not
    empty, unless it is an earlier data set and `overwrite` is given.
    """
    folders = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    options = options or ExportOptions()
    if out is None and len(folders) > 1:
        raise UserError(f"got {len(folders)} runs and no --out; expected a folder for their data set")
    out = folders[0] / "dataset" if out is None else Path(out)
    check_replaceable(out, KIND, overwrite)
    read, warnings = read_runs(folders, options)
    sources = [Path(entry["source"]) for run in read for entry in run.entries]
    check_apart(out, [*folders, *sources, *([options.real] if options.real else [])])
    report = Report(out, shared_classes(read), warnings=warnings)
    items = contents(read, options, report)
    check_names(items)
    count(items, report)
    with replace_folder(out, KIND, VERSION, overwrite) as folder:
        make_folders(folder, options.labels)
        for item in items:
            write_item(item, folder, options)
        write_yaml(folder, report.classes, any(item.part == "val" for item in items), options.labels)
        write_coco(folder, items, report.classes, options.first_category_id)
        write_readme(folder, read, options, report)
    return report


def contents(runs: Sequence[SourceRun], options: ExportOptions, report: Report) -> list[Item]:
    """The images of the set: painted, clean and real ones; warnings go to the report."""
    real, told = list[Item](), list[str]()
    if options.real:
        check_not_held_out(options.real, runs)
        real, told = real_items(options.real, report.classes, options)
    entries = [entry for run in runs for entry in run.entries]
    share = 0.0 if options.real else options.val_share
    parts, more = split_sources(entries, share, options.seed)
    clean, rest = backgrounds(runs, parts, options.background_share, options.seed)
    report.warnings += [*told, *more, *rest]
    painted = [
        Item(
            run.prefix + entry["name"],
            "painted",
            entry["source"],
            parts[entry["source"]],
            tuple(entry["size"]),
            run.folder / entry["files"]["sample"],
            None if entry["rejected"] else run.folder / entry["files"]["mask"],
            defects=entry["defects"],
            rejected=entry["rejected"],
        )
        for run in runs
        for entry in run.entries
    ]
    return [*painted, *clean, *real]


def check_apart(out: Path, needed: Sequence[Path]) -> None:
    """Raises UserError when one of the `needed` files or folders lies in the folder that would be replaced."""
    folder = out.resolve()
    for path in needed:
        if path.resolve().is_relative_to(folder):
            raise UserError(f"{out}: contains {path}, which the data set is made from; choose another folder")


def count(items: Sequence[Item], report: Report) -> None:
    """Fill in the report's numbers, and warn about classes that a part lacks."""
    kinds = Counter((item.kind, item.part) for item in items)
    report.images = {part: kinds["painted", part] for part in PARTS}
    report.backgrounds = {part: kinds["clean", part] for part in PARTS}
    report.real = {part: kinds["real", part] for part in PARTS}
    found = Counter((defect["class_id"], item.part) for item in items for defect in item.defects)
    report.defects = {
        name: {part: found[class_id, part] for part in PARTS} for name, class_id in report.classes.items()
    }
    for part in PARTS:
        lacking = [name for name, counts in report.defects.items() if not counts[part]]
        if lacking and report.images[part] + report.real[part]:
            report.warnings.append(f"no {', '.join(lacking)} in {part}")
