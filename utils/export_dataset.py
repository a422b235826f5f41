"""A data set for a detector from a run's manifest: `python -m utils.export_dataset RUN [--out DIR] [...]`.

Ultralytics' layout (`images/`, `labels/`, `data.yaml`), COCO's annotations (Lin et al. 2014) with boxes and run
length encoded masks, and mask pictures, split by source picture.
"""

import argparse
import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils import images, labels
from utils.config import GenerationConfig, load_generation_config
from utils.errors import UserError, run_main
from utils.images import picture_files
from utils.manifest import Entry, read_manifest
from utils.seeding import sample_seed

PARTS = ("train", "val")
MARKER = "data.yaml"  # a folder without it was not made here
SHOWN = 8  # missing files named in one message


@dataclass
class Report:
    """What an exported data set holds."""

    folder: Path
    pictures: dict[str, int] = field(default_factory=dict)  # part -> samples
    backgrounds: dict[str, int] = field(default_factory=dict)  # part -> clean pictures
    defects: dict[str, dict[str, int]] = field(default_factory=dict)  # class -> part -> defects
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = {part: self.pictures[part] + self.backgrounds[part] for part in PARTS}
        lines = [
            f"{self.folder}: {total['train']} pictures to train on, {total['val']} to validate "
            f"({sum(self.backgrounds.values())} of them clean)"
        ]
        lines += [
            f"  {name}: " + ", ".join(f"{count[part]} {part}" for part in PARTS)
            for name, count in self.defects.items()
        ]
        return "\n".join([*lines, *(f"  note: {text}" for text in self.warnings)])


@dataclass(frozen=True)
class Item:
    """One picture of the set: a sample's files, or a clean source (`entry` None)."""

    name: str
    source: str
    part: str
    size: tuple[int, int]
    entry: Entry | None


def export_dataset(
    run: str | Path,
    out: str | Path | None = None,
    val_share: float = 0.2,
    background_share: float = 0.1,
    seed: int = 0,
    min_score: float = 0.0,
    link: bool = False,
) -> Report:
    """Write the data set of a run to `out` (default RUN/dataset), whole or not at all; an earlier one is replaced.

    `val_share` of the source pictures, with all their samples, make the validation part; `background_share` of
    all pictures are clean sources without labels. Samples with a defect below `min_score` stay out. `link`: hard
    links instead of copies. Raises UserError for a run without samples or with files missing, and for an `out`
    that is not an earlier data set.
    """
    run = Path(run)
    out = run / "dataset" if out is None else Path(out)
    entries = chosen_entries(run, min_score)
    config = load_generation_config(run / "config.yml")
    classes = labels.load_class_names(config.crop_class_json_path)
    check_target(out)
    parts = split_sources(entries, val_share, seed)
    report = Report(out)
    items = [
        Item(e["name"], e["source"], parts[e["source"]], tuple(e["size"]), e) for e in entries
    ] + backgrounds(entries, parts, config, background_share, seed, report)
    check_names(items)
    with building(out) as folder:
        for item in items:
            write_item(item, run, folder, config, link)
        write_yaml(folder, classes, any(item.part == "val" for item in items), report)
        for name, part in (("annotations", None), *((f"annotations_{p}", p) for p in PARTS)):
            write_coco(folder / f"{name}.json", [i for i in items if part in (None, i.part)], classes)
    count(items, classes, report)
    return report


# What goes in


def chosen_entries(run: Path, min_score: float) -> list[Entry]:
    """The painted samples of a run with their painted defects from `min_score` on; UserError if there is none, or
    if files are missing."""
    entries = []
    for entry in read_manifest(run / "manifest.jsonl"):
        kept = [d for d in entry["defects"] if d["status"] == "painted" and d["box"] is not None]
        good = [d for d in kept if d["scores"]["score"] >= min_score]
        # A defect that is on the picture but not good enough would be an object without a label
        if entry["status"] == "painted" and good and len(good) == len(kept):
            entries.append({**entry, "defects": good})
    if not entries:
        raise UserError(
            f"{run}: no sample to export; expected painted samples with labels in manifest.jsonl"
            + (f" and scores from {min_score:g} on" if min_score else "")
        )
    needed = [run / entry["files"][kind] for entry in entries for kind in ("sample", "mask")]
    needed += sorted({Path(entry["source"]) for entry in entries})
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        more = [f"... and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
        raise UserError.from_problems(
            f"{run}: files that its manifest names are not there (paths of sources are relative to where the run "
            "was started)",
            [*(f"{path}: missing" for path in missing[:SHOWN]), *more],
        )
    return entries


def split_sources(entries: Sequence[Entry], val_share: float, seed: int) -> dict[str, str]:
    """Source picture -> part. With a share and two sources or more, neither part is empty.

    Sources are drawn in random order; one that holds a class's last training defects is passed over for a later
    one, as long as there is one.
    """
    sources = sorted({entry["source"] for entry in entries})
    order = np.random.default_rng(sample_seed(seed, "split")).permutation(len(sources))
    wanted = min(max(1, round(val_share * len(sources))), len(sources) - 1) if val_share > 0 else 0
    held = {source: Counter[int]() for source in sources}
    for entry in entries:
        held[entry["source"]].update(d["class_id"] for d in entry["defects"])
    left, chosen, passed = sum(held.values(), Counter()), [], []
    for source in (sources[i] for i in order):
        robs = any(left[class_id] == number for class_id, number in held[source].items())
        if len(chosen) < wanted and not robs:
            chosen.append(source)
            left -= held[source]
        else:
            passed.append(source)
    chosen += passed[: wanted - len(chosen)]
    return {source: "val" if source in chosen else "train" for source in sources}


def backgrounds(
    entries: Sequence[Entry],
    parts: dict[str, str],
    config: GenerationConfig,
    share: float,
    seed: int,
    report: Report,
) -> list[Item]:
    """Clean pictures, each at most once: sources of the samples, which stay in their part, and pictures of the run's
    folder that were not painted on, which train."""
    wanted = round(share * len(entries) / (1 - share))
    sizes = {entry["source"]: tuple(entry["size"]) for entry in entries}
    folder = Path(config.defect_free_dir)
    spare = [path.as_posix() for path in picture_files(folder)] if folder.is_dir() else []
    known = {Path(source).resolve() for source in sizes}
    for source in spare:
        if Path(source).resolve() not in known:
            size = (
                (config.network.image_size,) * 2 if config.resize == "squash" else images.image_size(source)
            )
            sizes[source] = size
    sources = sorted(sizes)
    order = np.random.default_rng(sample_seed(seed, "backgrounds")).permutation(len(sources))
    if wanted > len(sources):
        report.warnings.append(
            f"{wanted} clean pictures would make {share:.0%} of the set, but there are {len(sources)}"
        )
    chosen = sorted(sources[i] for i in order[:wanted])
    return [
        Item(f"clean_{Path(source).stem}", source, parts.get(source, "train"), sizes[source], None)
        for source in chosen
    ]


def check_names(items: Sequence[Item]) -> None:
    """Raises UserError for two pictures that would have one file name, be it on a disk that ignores case."""
    names = Counter(item.name.casefold() for item in items)
    problems = [f"{item.name} (from {item.source})" for item in items if names[item.name.casefold()] > 1]
    if problems:
        raise UserError.from_problems("pictures of the data set would have the same name", problems)


# Writing


def check_target(out: Path) -> None:
    """Raises UserError when `out` is something that this programme did not make."""
    if out.is_dir() and (not any(out.iterdir()) or (out / MARKER).is_file()):
        return
    if out.exists():
        raise UserError(f"{out}: there, and not an earlier data set (no {MARKER} in it); give another --out")


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends well, else goes."""
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        for kind in ("images", "labels", "masks"):
            for part in PARTS:
                (new / kind / part).mkdir(parents=True)
        yield new
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error}); mend that or give another --out") from error
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def write_item(item: Item, run: Path, folder: Path, config: GenerationConfig, link: bool) -> None:
    """Picture, label and mask of one item."""
    picture = folder / "images" / item.part / f"{item.name}.png"
    label = folder / "labels" / item.part / f"{item.name}.txt"
    mask = folder / "masks" / item.part / f"{item.name}.png"
    if item.entry is None:
        clean = images.load_rgb(item.source)
        squash = config.resize == "squash"
        images.save_png(picture, images.resize_squash(clean, config.network.image_size) if squash else clean)
        images.save_png(mask, np.zeros((item.size[1], item.size[0]), np.uint8))
        label.write_text("")
        return
    for kind, target in (("sample", picture), ("mask", mask)):
        source = run / item.entry["files"][kind]
        (os.link if link else shutil.copyfile)(source, target)
    lines = (
        labels.format_annotation(d["class_id"], *labels.relative_box(d["box"], *item.size))
        for d in item.entry["defects"]
    )
    label.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_yaml(folder: Path, classes: dict[str, int], validates: bool, report: Report) -> None:
    """`data.yaml` as Ultralytics reads it; without `path`, its parts lie beside it wherever the folder goes."""
    if not validates:
        report.warnings.append("one source picture alone: val is the training part")
    names = {class_id: name for name, class_id in sorted(classes.items(), key=lambda pair: pair[1])}
    names = {k: names.get(k, f"unused_{k}") for k in range(max(names) + 1)}  # ids without gaps
    content = {"train": "images/train", "val": "images/val" if validates else "images/train", "names": names}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / MARKER).write_text(f"# yolo detect train data={MARKER}\n{text}", encoding="utf-8")


def write_coco(path: Path, items: Sequence[Item], classes: dict[str, int]) -> None:
    """COCO's object detection format: boxes [left, top, width, height], masks as run lengths, areas in px."""
    pictures, annotations = [], []
    for number, item in enumerate(items, start=1):
        name = f"images/{item.part}/{item.name}.png"
        pictures.append({"id": number, "file_name": name, "width": item.size[0], "height": item.size[1]})
        for defect in item.entry["defects"] if item.entry else ():
            annotations.append(coco_annotation(len(annotations) + 1, number, defect))
    content = {
        "info": {"description": "synthetic defects, CRG-Diffusion"},
        "images": pictures,
        "annotations": annotations,
        "categories": [
            {"id": class_id, "name": name, "supercategory": "defect"} for name, class_id in classes.items()
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def coco_annotation(number: int, picture: int, defect: dict[str, Any]) -> dict[str, Any]:
    """One defect; COCO's areas are those of the masks."""
    left, top, right, bottom = defect["box"]
    return {
        "id": number,
        "image_id": picture,
        "category_id": defect["class_id"],
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": defect["mask"],
        "area": sum(defect["mask"]["counts"][1::2]),
        "iscrowd": 0,
        "score": defect["scores"]["score"],
    }


def count(items: Sequence[Item], classes: dict[str, int], report: Report) -> None:
    """Fill in the report's numbers, and warn about classes that a part lacks."""
    report.pictures = {p: sum(i.part == p and i.entry is not None for i in items) for p in PARTS}
    report.backgrounds = {p: sum(i.part == p and i.entry is None for i in items) for p in PARTS}
    found = Counter((d["class_id"], item.part) for item in items if item.entry for d in item.entry["defects"])
    report.defects = {name: {p: found[class_id, p] for p in PARTS} for name, class_id in classes.items()}
    for part in PARTS:
        lacking = [name for name, counts in report.defects.items() if not counts[part]]
        if lacking and report.pictures[part]:
            report.warnings.append(f"no {', '.join(lacking)} in {part}")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].split(":")[0])
    parser.add_argument("run", type=Path, help="outdir of a run, with manifest.jsonl and config.yml")
    parser.add_argument("--out", type=Path, help="folder of the data set (default: RUN/dataset)")
    parser.add_argument("--val-share", type=share, default=0.2, help="share of source pictures that validate")
    parser.add_argument("--background-share", type=share, default=0.1, help="share of clean pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the choice of clean pictures")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out samples with a worse defect")
    parser.add_argument("--link", action="store_true", help="hard links instead of copies")
    args = parser.parse_args(argv)
    print(export_dataset(**vars(args)))


def share(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not (math.isfinite(value) and 0 <= value < 1):
        raise argparse.ArgumentTypeError(f"got {text}, expected a share from 0 to below 1")
    return value


if __name__ == "__main__":
    sys.exit(run_main(main))
