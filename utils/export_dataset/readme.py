"""The README.md of an exported data set: how it was made, what it holds, how to train with it."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.export_dataset.contents import PARTS, ExportOptions, Report, SourceRun
from utils.export_dataset.writing import TASKS, other_labels
from utils.manifest import VERSION, Entry

TEXT = """\
# Synthetic defects

Made by CRG-Diffusion {version}: defects painted by a diffusion model on defect-free images. Labels and masks show what
was really painted.

| | |
|---|---|
{facts}

## Contents

| class | id | {heads} |
|---|---|{rules}|
{rows}
| **images** | | {images} |
| clean ones among them | | {clean} |
{real}
{notes}All samples of a source image are in one part.

- `images/`, `labels/`, `data.yaml`: Ultralytics' layout. `labels/` has {chosen}, `{other}/` has {others}.
- `annotations/instances_train.json`, `instances_val.json`: COCO's format, file names from `images/<part>/` on.
- `annotations.json`, `annotations_<part>.json`: the same with file names from this folder on. A category's id is the
  class id + {first}.
- `masks/`: 255 where defects were painted. `class_masks/`: 0 for the background, else class id + 1.
- {settings}: all settings of the {runs}.

## Training

```bash
yolo {task} train data=data.yaml
```

```python
from pycocotools.coco import COCO

coco = COCO("annotations/instances_train.json")
```

For `yolo {other_task}`, swap the names of `labels` and `{other}`.

## License

The images are derived from those in {source}: their license, and that of the images the weights were trained on,
applies to this data set. CRG-Diffusion itself (MIT license) adds no restriction.
"""

FORMS = {"boxes": "boxes", "segments": "polygons"}


def write_readme(folder: Path, runs: Sequence[SourceRun], options: ExportOptions, report: Report) -> None:
    """README.md, and copies of the runs' settings."""
    for run in runs:
        shutil.copyfile(run.folder / "config.yml", folder / _settings(run))
    other = other_labels(options.labels)
    text = TEXT.format(
        version=VERSION,
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(runs, options)),
        heads=" | ".join(PARTS),
        rules="|".join("---" for _ in PARTS),
        rows="\n".join(_class_rows(report)),
        images=" | ".join(str(report.total[part]) for part in PARTS),
        clean=" | ".join(str(report.backgrounds[part]) for part in PARTS),
        real=_real(report),
        notes="".join(f"Note: {warning}.\n\n" for warning in report.warnings),
        chosen=FORMS[options.labels],
        others=FORMS[other],
        other=other,
        first=options.first_category_id,
        settings=_listed(_settings(run) for run in runs),
        runs="runs" if len(runs) > 1 else "run",
        task=TASKS[options.labels],
        other_task=TASKS[other],
        source=_listed(
            sorted(
                {*(run.config.defect_free_dir for run in runs), *([options.real] if options.real else [])},
                key=str,
            )
        ),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _settings(run: SourceRun) -> str:
    return f"{run.prefix}generation.yml"


def _listed(names: Iterable[str | Path]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _real(report: Report) -> str:
    if not any(report.real.values()):
        return ""
    counts = " | ".join(str(report.real[part]) for part in PARTS)
    return f"| real ones among them | | {counts} |\n\nMasks and polygons of real defects are their boxes.\n"


def _facts(runs: Sequence[SourceRun], options: ExportOptions) -> list[tuple[str, str]]:
    """What the set was made from, as names and values."""
    facts = []
    for run in runs:
        versions, seeds, settings = (
            _distinct(run.entries, key) for key in ("version", "seed", "config_sha256")
        )
        config, count = run.config, len({entry["source"] for entry in run.entries})
        facts += [
            ("run", f"`{run.folder}`, painted by version {versions}, seed {seeds}"),
            ("settings", f"`{_settings(run)}`, SHA-256 of what shapes the images: {settings}"),
            ("weights", f"`{config.model_path}`, `{config.crop_model_path}`"),
            ("clean images", f"`{config.defect_free_dir}`, {count} painted on"),
            ("scores", f"from {options.min_score:g} on (run: {config.min_score:g})"),
        ]
    validation = f"{options.val_share:g} of the source images in val"
    if options.real:
        validation = f"real images of `{options.real}` in val"
        if options.real_train:
            validation = f"real images that `{options.real}` holds out in val, the others in train"
        elif options.real_train_share:
            validation += f", {options.real_train_share:g} of their defects in train"
    return [
        *facts,
        ("shares", f"{validation}, {options.background_share:g} clean images"),
        ("seed", f"{options.seed} of the split"),
    ]


def _distinct(entries: Sequence[Entry], key: str) -> str:
    return ", ".join(sorted({str(entry[key]) for entry in entries if key in entry})) or "unknown"


def _class_rows(report: Report) -> list[str]:
    return [
        f"| {name.replace('|', chr(92) + '|')} | {report.classes[name]} | "
        + " | ".join(str(counts[part]) for part in PARTS)
        + " |"
        for name, counts in report.defects.items()
    ]
