"""The README.md of an exported data set: how it was made, what it holds, how to train with it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.export_dataset.contents import PARTS, ExportOptions, Report
from utils.export_dataset.writing import TASKS, other_labels
from utils.manifest import VERSION, Entry
from utils.schema.generation import GenerationConfig

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

{notes}All samples of a source image are in one part.

- `images/`, `labels/`, `data.yaml`: Ultralytics' layout. `labels/` has {chosen}, `{other}/` has {others}.
- `annotations/instances_train.json`, `instances_val.json`: COCO's format, file names from `images/<part>/` on.
- `annotations.json`, `annotations_<part>.json`: the same with file names from this folder on. A category's id is the
  class id + {first}.
- `masks/`: 255 where defects were painted. `class_masks/`: 0 for the background, else class id + 1.
- `generation.yml`: all settings of the run.

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

The images are derived from those in `{source}`: their license, and that of the images the weights were trained on,
applies to this data set. CRG-Diffusion itself (MIT license) adds no restriction.
"""

FORMS = {"boxes": "boxes", "segments": "polygons"}


def write_readme(
    folder: Path,
    run: Path,
    config: GenerationConfig,
    entries: Sequence[Entry],
    options: ExportOptions,
    report: Report,
) -> None:
    """README.md, and a copy of the run's settings."""
    shutil.copyfile(run / "config.yml", folder / "generation.yml")
    other = other_labels(options.labels)
    facts = [f"| {name} | {value} |" for name, value in _facts(run, config, entries, options)]
    total = {part: report.images[part] + report.backgrounds[part] for part in PARTS}
    text = TEXT.format(
        version=VERSION,
        facts="\n".join(facts),
        heads=" | ".join(PARTS),
        rules="|".join("---" for _ in PARTS),
        rows="\n".join(_class_rows(report)),
        images=" | ".join(str(total[part]) for part in PARTS),
        clean=" | ".join(str(report.backgrounds[part]) for part in PARTS),
        notes="".join(f"Note: {warning}.\n\n" for warning in report.warnings),
        chosen=FORMS[options.labels],
        others=FORMS[other],
        other=other,
        first=options.first_category_id,
        task=TASKS[options.labels],
        other_task=TASKS[other],
        source=config.defect_free_dir,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _facts(
    run: Path, config: GenerationConfig, entries: Sequence[Entry], options: ExportOptions
) -> list[tuple[str, Any]]:
    """What the set was made from, as names and values."""
    versions, seeds, settings = (_distinct(entries, key) for key in ("version", "seed", "config_sha256"))
    return [
        ("run", f"`{run}`, painted by version {versions}"),
        ("settings", f"`generation.yml`, SHA-256 of what shapes the images: {settings}"),
        ("weights", f"`{config.model_path}`, `{config.crop_model_path}`"),
        ("clean images", f"`{config.defect_free_dir}`, {len({e['source'] for e in entries})} painted on"),
        ("seeds", f"{seeds} of the noise, {options.seed} of the split"),
        (
            "shares",
            f"{options.val_share:g} of the source images in val, {options.background_share:g} clean images",
        ),
        ("scores", f"from {options.min_score:g} on (run: {config.min_score:g})"),
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
