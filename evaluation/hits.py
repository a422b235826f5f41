"""How often does a painted defect look like its class? Paint with many seeds, let a classifier name each.

    python -m evaluation.hits --conf_path confs/demo.yml --seeds 0-19 --out runs/hits [key=value ...]

Writes one folder of images per seed, `hits.csv` (a line per sample) and `sheet.png`: a row for each
annotation, first its clean place, then the painted ones, framed green where the classifier (see
evaluation.classifier) names the requested class and red where it does not. It has seen synthetic boards only, so
its verdicts hold for images like the bundled samples.
"""

import argparse
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from evaluation.classifier import (
    DEFAULT_PATH,
    LABELS,
    WINDOW,
    DefectClassifier,
    cut_window,
    load_classifier,
    predict,
    train_and_save,
    window_origin,
)
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.files import replacing
from utils.images import list_images, load_rgb, resize_squash, save_png
from utils.labels import normalize_class_name
from utils.network_metadata import class_names
from utils.synthetic_pcb.board import CLASSES

SAMPLE_NAME = re.compile(r"(?P<head>.+)_cx(?P<x>\d+)_cy(?P<y>\d+)(?:-(?P<copy>\d+))?_(?P<index>\d+)")
CELL_SIDE = 96  # px of the image shown in a cell of the contact sheet
ZOOM = 2
GREEN, RED = (0, 170, 60), (215, 30, 30)


# Samples and their names


@dataclass(frozen=True)
class Sample:
    """One painted image: where it lies, from which seed, and the parts of its name.

    class_name is one of CLASSES; x, y: the defect's center in px; copy: 1, or 2, 3, ... for further equal
    annotations; index: the sample's number within its run.
    """

    path: Path
    seed: int
    stem: str
    class_name: str
    x: int
    y: int
    copy: int
    index: int

    @property
    def annotation(self) -> tuple[int, str, int, int, int]:
        """Key of the samples of one annotation, in the order of the sheet's rows."""
        return CLASSES.index(self.class_name), self.stem, self.x, self.y, self.copy


@dataclass(frozen=True)
class Hit:
    """The verdict on one sample.

    predicted: name out of LABELS; probability: that of the requested class; inside, outside: mean absolute change
    against the clean image in and out of the window, in gray levels of 0..255, None without that image.
    """

    sample: Sample
    predicted: str
    probability: float
    inside: float | None
    outside: float | None

    @property
    def right(self) -> bool:
        """Whether the requested class was named."""
        return self.predicted == self.sample.class_name


def known_names(classes: Sequence[str]) -> dict[str, str]:
    """Every spelling that may stand in a file name -> the class of CLASSES; UserError for an unknown class."""
    plain = {normalize_class_name(name): name for name in CLASSES}
    names = {}
    for name in classes:
        target = plain.get(normalize_class_name(name))
        if target is None:
            raise UserError(
                f"class {name!r} cannot be judged; the classifier knows only {', '.join(CLASSES)}"
            )
        names[name] = names[normalize_class_name(name)] = target
    return names


def parse_sample_name(path: str | Path, seed: int, names: Mapping[str, str]) -> Sample | None:
    """The sample that `<stem>_<class>_cx<x>_cy<y>[-<copy>]_<index>.png` names; None for a name of another form.

    names: spelling -> class. The longest spelling wins. Raises UserError for an unknown class.
    """
    path = Path(path)
    match = SAMPLE_NAME.fullmatch(path.stem)
    if match is None:
        return None
    head = match["head"]
    for name in sorted(names, key=len, reverse=True):
        if head.lower().endswith(f"_{name.lower()}"):
            stem = head[: -len(name) - 1]
            numbers = (int(match["x"]), int(match["y"]), int(match["copy"] or 1), int(match["index"]))
            return Sample(path, seed, stem, names[name], *numbers)
    raise UserError(f"{path}: no class before _cx; expected one of {', '.join(sorted(names))}")


def parse_seeds(text: str) -> list[int]:
    """'0-3,7' -> [0, 1, 2, 3, 7]; sorted, each once. Raises UserError."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UserError(
                f"--seeds: got {text!r}, expected whole numbers and ranges such as 0-19 or 0,3,5-7"
            )
        seeds.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(seeds)


# Painting


def paint(conf_path: str, seed: int, folder: Path, overrides: Sequence[str]) -> None:
    """Run the generation with `seed` into `folder`: one sample per annotation unless `overrides` request more.

    Old samples are replaced: they might be those of other weights under the same name.
    """
    from sample_generation import main as generate  # the scripts import the packages, not the reverse

    count = [] if any(text.startswith("n_samples=") for text in overrides) else ["n_samples=1"]
    generate(
        ["--conf_path", conf_path, *count, *overrides, f"seed={seed}", f"outdir={folder}", "overwrite=true"]
    )


def collect(folder: Path, seed: int, names: Mapping[str, str]) -> list[Sample]:
    """The samples in `folder`/sample; UserError when there are none."""
    found = [parse_sample_name(path, seed, names) for path in list_images(folder / "sample")]
    samples = [sample for sample in found if sample is not None]
    if not samples:
        raise UserError(f"{folder / 'sample'}: no painted image; expected <image>_<class>_cx.._cy.._<n>.png")
    return samples


def find_clean(folder: Path, stem: str) -> np.ndarray | None:
    """The clean image of that stem in `folder`, (H, W, 3) uint8, or None."""
    for path in list_images(folder):
        if path.stem == stem:
            return load_rgb(path)
    return None


# Judging


def mean_change(painted: np.ndarray, clean: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """Mean absolute difference of two (H, W, 3) uint8 images inside and outside the window, in 0..255.

    The window is the 64 px one at (x, y); outside is 0 when it covers the whole image.
    """
    difference = np.abs(painted.astype(np.int16) - clean.astype(np.int16)).mean(axis=2)
    height, width = difference.shape
    left, top = window_origin(height, width, x, y)
    window = np.zeros(difference.shape, dtype=bool)
    window[top : top + WINDOW, left : left + WINDOW] = True
    outside = difference[~window]
    return float(difference[window].mean()), float(outside.mean()) if outside.size else 0.0


def judge(
    model: DefectClassifier, samples: Sequence[Sample], clean_images: Mapping[str, np.ndarray | None]
) -> list[Hit]:
    """Name the defect of every sample. clean_images: stem -> clean image, of any size."""
    windows: list[np.ndarray] = []
    changes: list[tuple[float, float] | tuple[None, None]] = []
    for sample in samples:
        painted = load_rgb(sample.path)
        windows.append(cut_window(painted, sample.x, sample.y))
        clean = clean_images.get(sample.stem)
        if clean is None:
            changes.append((None, None))
        else:
            clean = resize_squash(clean, painted.shape[:2])
            changes.append(mean_change(painted, clean, sample.x, sample.y))
    hits = []
    for sample, chances, change in zip(samples, predict(model, np.stack(windows)), changes, strict=True):
        wanted = float(chances[LABELS.index(sample.class_name)])
        hits.append(Hit(sample, LABELS[int(chances.argmax())], wanted, *change))
    return hits


def clean_windows_named_clean(
    model: DefectClassifier, samples: Sequence[Sample], clean_images: Mapping[str, np.ndarray | None]
) -> tuple[int, int]:
    """(named "clean", windows): the annotations' places before painting. The control of the experiment."""
    places = {}
    for sample in samples:
        clean = clean_images.get(sample.stem)
        if clean is not None and sample.annotation not in places:
            clean = resize_squash(clean, load_rgb(sample.path).shape[:2])
            places[sample.annotation] = cut_window(clean, sample.x, sample.y)
    if not places:
        return 0, 0
    named = predict(model, np.stack(list(places.values()))).argmax(axis=1)
    return int((named == LABELS.index("clean")).sum()), len(places)


# The table


@dataclass(frozen=True)
class ClassRow:
    """One line of the table: a class, or all of them. Means are over its samples; None: no clean image."""

    name: str
    samples: int
    right: int
    probability: float
    wrong_name: str
    inside: float | None
    outside: float | None


def table_rows(hits: Sequence[Hit]) -> list[ClassRow]:
    """A row per class that occurs, in the order of CLASSES, and a last one named "total"."""
    rows = []
    for name in CLASSES:
        mine = [hit for hit in hits if hit.sample.class_name == name]
        if mine:
            rows.append(_row(name, mine))
    return [*rows, _row("total", hits)]


def _row(name: str, hits: Sequence[Hit]) -> ClassRow:
    wrong = Counter(hit.predicted for hit in hits if not hit.right).most_common(1)
    return ClassRow(
        name,
        len(hits),
        sum(hit.right for hit in hits),
        sum(hit.probability for hit in hits) / len(hits),
        f"{wrong[0][0]} ({wrong[0][1]})" if wrong else "-",
        _mean([hit.inside for hit in hits if hit.inside is not None]),
        _mean([hit.outside for hit in hits if hit.outside is not None]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def format_table(rows: Sequence[ClassRow]) -> str:
    """The rows as aligned text; `inside` and `outside` are mean absolute changes in gray levels of 0..255."""
    heads = ("class", "samples", "right", "share", "mean p", "inside", "outside", "most frequent wrong name")
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        changes = ("-" if value is None else f"{value:.2f}" for value in (row.inside, row.outside))
        counts = (str(row.samples), str(row.right), f"{row.right / row.samples:.0%}")
        lines.append((row.name, *counts, f"{row.probability:.2f}", *changes, row.wrong_name))
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    text = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)]
        text.append("  ".join([line[0].ljust(widths[0]), *cells, line[-1]]))
    return "\n".join(text)


def write_csv(path: Path, hits: Sequence[Hit]) -> None:
    """One line per sample: seed, image, class, center, sample index, verdict, changes (empty: not known)."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["seed", "image", "class", "cx", "cy", "copy", "index", "predicted", "right", "probability"]
            + ["inside", "outside", "file"]
        )
        for hit in hits:
            sample = hit.sample
            changes = ["" if value is None else f"{value:.3f}" for value in (hit.inside, hit.outside)]
            writer.writerow(
                [sample.seed, sample.stem, sample.class_name, sample.x, sample.y, sample.copy, sample.index]
                + [hit.predicted, int(hit.right), f"{hit.probability:.4f}", *changes, sample.path.name]
            )


# The contact sheet


def contact_sheet(hits: Sequence[Hit], clean_images: Mapping[str, np.ndarray | None]) -> np.ndarray:
    """(H, W, 3) uint8: a row per annotation, the clean place first, then its samples by seed and index.

    Cells show up to 96 px around the center, twice enlarged, framed green (right) or red (wrong).
    """
    columns = sorted({(hit.sample.seed, hit.sample.index) for hit in hits})
    rows = sorted({hit.sample.annotation for hit in hits})
    step, left = CELL_SIDE * ZOOM + 4, 130
    sheet = Image.new("RGB", (left + step * (len(columns) + 1), 16 + step * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, text in enumerate(["clean", *(f"seed {seed} #{index}" for seed, index in columns)]):
        draw.text((left + number * step, 2), text, fill="black")
    for hit in hits:
        sample = hit.sample
        row = 16 + rows.index(sample.annotation) * step
        column = left + (1 + columns.index((sample.seed, sample.index))) * step
        painted = load_rgb(sample.path)
        _paste_cell(sheet, painted, sample, (column, row), GREEN if hit.right else RED)
        draw.text((4, row + step // 2 - 14), f"{sample.class_name}\n{sample.stem}", fill="black")
        clean = clean_images.get(sample.stem)
        if clean is not None:
            _paste_cell(sheet, resize_squash(clean, painted.shape[:2]), sample, (left, row), None)
    return np.array(sheet)


def _paste_cell(
    sheet: Image.Image,
    image: np.ndarray,
    sample: Sample,
    at: tuple[int, int],
    frame: tuple[int, int, int] | None,
) -> None:
    side = min(CELL_SIDE, *image.shape[:2])
    cell = Image.fromarray(cut_window(image, sample.x, sample.y, side))
    size = CELL_SIDE * ZOOM
    sheet.paste(cell.resize((size, size), Image.Resampling.BICUBIC), at)
    if frame is not None:
        box = (at[0], at[1], at[0] + size - 1, at[1] + size - 1)
        ImageDraw.Draw(sheet).rectangle(box, outline=frame, width=3)


# Command line


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m evaluation.hits", __doc__)
    parser.add_argument("--seeds", default="0-4", help="such as 0-19 or 0,3,5-7")
    parser.add_argument("--out", type=Path, default=Path("runs/hits"), help="folder for images and results")
    parser.add_argument("--classifier", type=Path, default=DEFAULT_PATH, help="trained here if it is missing")
    return parser


def _check_overrides(overrides: Sequence[str]) -> None:
    for text in overrides:
        key = text.split("=", 1)[0].strip()
        if key in ("seed", "outdir"):
            option = {"seed": "--seeds", "outdir": "--out"}[key]
            raise UserError(f"{text}: {key} is set for every run here; use {option} instead")


def main(argv: list[str]) -> None:
    """Paint with every seed, judge, print the table, write hits.csv and sheet.png; raises UserError."""
    args = parse_with_conf(_parser(), argv)
    seeds = parse_seeds(args.seeds)
    _check_overrides(args.overrides)
    cfg = load_generation_config(args.conf_path, args.overrides)
    names = known_names(list(class_names(cfg.crop_class_json_path, cfg.crop_model_path)))
    model = load_classifier(args.classifier) if args.classifier.is_file() else train_and_save(args.classifier)
    samples = []
    for seed in seeds:
        folder = args.out / f"seed_{seed}"
        paint(args.conf_path, seed, folder, args.overrides)
        samples += collect(folder, seed, names)
    clean_images = {
        stem: find_clean(Path(cfg.defect_free_dir), stem) for stem in {sample.stem for sample in samples}
    }
    hits = judge(model, samples, clean_images)
    write_csv(args.out / "hits.csv", hits)
    save_png(args.out / "sheet.png", contact_sheet(hits, clean_images))
    print(format_table(table_rows(hits)))
    named, places = clean_windows_named_clean(model, samples, clean_images)
    print(f'control: {named} of {places} clean windows named "clean"')
    print(f"written: {args.out / 'hits.csv'}, {args.out / 'sheet.png'}")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
