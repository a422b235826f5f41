"""How good are the painted defects of a run, beside real ones?

    python -m evaluation.quality images/set --real data/board

Trains a judge on all real defects of a folder that utils.prepare_data wrote, held-out ones included, and prints for
each class: samples; rate that the judge takes for their class, and its rate on real defects that it was not trained on;
visible change that the masks cover; overlap (IoU) of the label's box, without its margin, with the visible change, and
of the box with the request; fine texture of the window as a ratio to before; difference of channels on gray images, in
gray levels. Then the overlap of real boxes with visible changes; the distance between painted and real defects in the
judge's features, and how well the scores predict the verdicts. A table (quality.csv) and a contact sheet (quality.png)
go to the run's folder.
"""

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.quality_sheet import contact_sheet
from generation.quality.checks import (
    PaintedWindow,
    box_iou,
    coverage,
    grown,
    inset,
    texture_ratio,
    tint,
    visible_box,
)
from generation.training_defects import read_patches
from training.folds import read_origins
from training.judge import (
    JudgeOptions,
    Patch,
    auc,
    centered,
    defect_examples,
    load_patches,
    load_tiles,
    train_judge,
)
from utils import images, labels
from utils.command_line import make_parser
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.files import SETTINGS
from utils.judging.judge import SIDE, Judge, Reliability, WindowBox, load_judge, save_judge
from utils.manifest import mask_of, read_manifest
from utils.prepare_data.boxed import boxed_patch
from utils.prepare_data.sources import DefectBox
from utils.schema.prepared import INDEX, PATCHES, PIECES
from utils.shapes.changed import change_of_twin
from utils.verdicts import read_verdicts

JUDGE = "judge-all.safetensors"  # beside the real data
NEAR = 4  # px around a real box in which a change still belongs to the defect
SUBSETS = 50  # of the distance's error bar
COLUMNS = ("coverage", "visible_iou", "request_iou", "texture", "tint", "score")


@dataclass(frozen=True)
class JudgedDefect:
    """A painted defect: its sample and place there, class, window, and `values` by the names of COLUMNS."""

    name: str
    number: int
    class_name: str
    window: PaintedWindow
    values: Mapping[str, float]
    probability: float = 0.0
    believable: bool = False


# Reading


def read_run(run: Path) -> list[JudgedDefect]:
    """The painted defects of a run. Raises UserError where there are none."""
    margin = label_margin(run)
    found = [
        one
        for entry in read_manifest(run / "manifest.jsonl")
        if entry["status"] == "painted"
        for one in sample_defects(
            entry, images.load_rgb(entry["source"]), images.load_rgb(run / entry["files"]["sample"]), margin
        )
    ]
    if not found:
        raise UserError(f"{run}: no painted defects; expected a finished run")
    return found


def label_margin(run: Path) -> float:
    """Px that the boxes of a run's labels keep from what is visible of their defects; 0 where they are tight, or the
    run's settings are missing. Raises UserError for settings that cannot be read."""
    if not (run / SETTINGS).is_file():
        return 0.0
    return load_generation_config(run / SETTINGS).label_margin


def sample_defects(
    entry: Mapping[str, Any], before: np.ndarray, after: np.ndarray, margin: float = 0.0
) -> Iterator[JudgedDefect]:
    """The defects of one sample, images (H, W, 3) uint8; a clean image of another size is squashed to the sample's.
    Boxes keep `margin` px from what is visible."""
    before = images.resize_squash(before, after.shape[:2])
    masks = [None if one["mask"] is None else mask_of(one["mask"]) for one in entry["defects"]]
    for number, (defect, mask) in enumerate(zip(entry["defects"], masks, strict=True)):
        if defect["status"] != "painted" or mask is None:
            continue
        left, top, side = defect["window"]
        part = np.s_[top : top + side, left : left + side]
        others = [other[part] for k, other in enumerate(masks) if other is not None and k != number]
        box = _inside(defect["box"], left, top)
        window = PaintedWindow(
            before[part], after[part], mask[part], box, _request(entry, defect), margin=margin
        )
        yield JudgedDefect(
            entry["name"],
            number,
            defect["class_name"],
            window,
            measure(window, others) | {"score": defect["scores"]["score"]},
        )


def _inside(box: Sequence[int], left: int, top: int) -> tuple[int, int, int, int]:
    return box[0] - left, box[1] - top, box[2] - left, box[3] - top


def _request(entry: Mapping[str, Any], defect: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    """The requested box in px of the window; None where only a center was requested."""
    place = defect.get("annotation")
    if place is None or place[2] is None:
        return None
    annotation = labels.Annotation(defect["class_id"], defect["class_name"], *place)
    return _inside(labels.pixel_box(annotation, *entry["size"]), *defect["window"][:2])


def measure(window: PaintedWindow, others: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of one window; `others` are masks (h, w) of the sample's other defects."""
    change = window.change
    for mask in others:
        change = np.where(grown(mask, 2), 0, change)
    inner = None if window.box is None else inset(window.box, window.margin)
    requested = float("nan") if window.wanted is None else box_iou(window.box, window.wanted)
    return {
        "coverage": coverage(change, window.mask),
        "visible_iou": box_iou(inner, visible_box(change)),
        "request_iou": requested,
        "texture": texture_ratio(window.before, window.after),
        "tint": tint(window.before, window.after, window.mask),
    }


def real_overlaps(folder: Path, names: Mapping[str, int], margin: float) -> list[float]:
    """Of the training defects with a clean twin: overlap of the box without `margin` px and what the twin lacks."""
    found: list[float] = []
    if not (folder / INDEX).is_file():
        return found
    for query, file in read_patches(folder, names, "--real"):
        clean = query.surround
        if clean.is_clean:
            pixels = images.load_rgb(folder / PATCHES / file).astype(np.float32)
            near = np.zeros(pixels.shape[:2], bool)
            left, top, right, bottom = (round(side) for side in clean.box)
            near[max(top - NEAR, 0) : bottom + NEAR, max(left - NEAR, 0) : right + NEAR] = True
            change = np.where(near, change_of_twin(pixels, clean.pixels, near), 0)
            found.append(box_iou(inset(clean.box, margin / clean.scale), visible_box(change)))
    return found


def real_patches(folder: Path, names: Mapping[str, int]) -> list[Patch]:
    """All real defects of a prepared folder: the training patches, and patches of the held-out images."""
    found, origins = load_patches(folder / PATCHES, names), read_origins(folder)
    for path in images.list_images(folder / "test") if (folder / "test").is_dir() else []:
        pixels = images.load_rgb(path)
        for one in labels.read_annotations(path.with_suffix(".txt"), names):
            if one.w is not None:
                box = labels.pixel_box(one, pixels.shape[1], pixels.shape[0])
                patch, inner, _ = boxed_patch(pixels, DefectBox(one.class_name, *box), SIDE)
                found.append(Patch(patch, [inner], one.class_id, origins.get(path.resolve())))
    return found


# Judging


def judged(defects: Sequence[JudgedDefect], judge: Judge) -> list[JudgedDefect]:
    """The defects with the judge's probability of their class, and whether it names that class. Raises UserError for a
    class that it does not know."""
    found = judge.predict(*judge_windows(defects))
    ids = {name: k for k, name in enumerate(judge.labels)}
    wanted = [labels.match_class(one.class_name, ids) for one in defects]
    return [
        replace(one, probability=float(p[k]), believable=int(p.argmax()) == k)
        for one, k, p in zip(defects, wanted, found, strict=True)
    ]


def judge_windows(defects: Sequence[JudgedDefect]) -> tuple[np.ndarray, list[WindowBox]]:
    """The painted windows as a judge sees them, and the requested boxes (else the painted ones) in them."""
    shown = np.stack([images.resize_squash(one.window.after, SIDE) for one in defects])
    boxes: list[WindowBox] = []
    for one in defects:
        box, scale = one.window.wanted or one.window.box, SIDE / one.window.after.shape[0]
        assert box is not None  # every exported defect has one
        left, top, right, bottom = (side * scale for side in box)
        boxes.append((left, top, right, bottom))
    return shown, boxes


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, F) and (M, F) with a cubic kernel (Binkowski et al.
    2018, KID)."""
    kernel = [(a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((one, one), (other, other), (one, other))]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    return float(sum(within) - 2 * kernel[2].mean())


def distance_with_error(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of `kernel_distance` over random halves of both sets, nan below 4 of
    one."""
    if min(len(one), len(other)) < 4:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SUBSETS):
        halves = [part[rng.permutation(len(part))[: len(part) // 2]] for part in (one, other)]
        found.append(kernel_distance(*halves))
    return float(np.mean(found)), float(np.std(found))


def halves_distance(real: np.ndarray) -> float:
    """The distance of two random halves of real features (N, F): what is none."""
    half = np.random.default_rng(1).permutation(len(real)) < len(real) // 2
    return distance_with_error(real[half], real[~half])[0]


def real_judge(
    folder: Path, path: Path, patches: Sequence[Patch], names: Mapping[str, int]
) -> tuple[Judge, Reliability]:
    """The judge of `path`, trained on `patches` and written there if there is none."""
    if not path.is_file():
        clean = folder / PIECES
        tiles = load_tiles(clean if clean.is_dir() else None)
        options = JudgeOptions(show_progress=True)
        judge, reliability = train_judge(patches, tiles, sorted(names, key=names.__getitem__), options)
        save_judge(judge, path, reliability)
    return load_judge(path)


# Telling


def table(defects: Sequence[JudgedDefect], reliability: Reliability) -> str:
    """A line for each class, and one for all."""
    heads = (
        "class",
        "samples",
        "believable",
        "real",
        "coverage",
        "visible",
        "request",
        "texture",
        "tint",
        "score",
    )
    lines = [f"{heads[0]:<20}" + "".join(f"{head:>11}" for head in heads[1:])]
    classes = sorted({one.class_name for one in defects})
    counts = {name: count for name, count in reliability.counts.items() if name != "clean"}
    overall = sum(reliability.right[name] * count for name, count in counts.items()) / sum(counts.values())
    for name in (*classes, "all"):
        group = [one for one in defects if name in ("all", one.class_name)]
        real = overall if name == "all" else _matching(name, reliability.right)
        values = [float(np.mean([one.believable for one in group])), real]
        values += [_mean(one.values[key] for one in group) for key in COLUMNS]
        lines.append(f"{name:<20}{len(group):>11}" + "".join(f"{value:>11.3f}" for value in values))
    return "\n".join(lines)


def _matching(name: str, rates: Mapping[str, float]) -> float:
    plain = labels.normalize_class_name(name)
    return next((v for key, v in rates.items() if labels.normalize_class_name(key) == plain), float("nan"))


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def score_auc(defects: Sequence[JudgedDefect], good: Mapping[tuple[str, int], bool]) -> float:
    """AUC of the scores against verdicts on some of the defects."""
    split: dict[bool, list[float]] = {True: [], False: []}
    for one in defects:
        if (one.name, one.number) in good:
            split[good[one.name, one.number]].append(one.values["score"])
    return auc(split[True], split[False])


def write_csv(path: Path, defects: Sequence[JudgedDefect]) -> None:
    """A row for each defect."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "number", "class", "probability", "believable", *COLUMNS])
        for one in defects:
            values = [f"{one.values[key]:.4f}" for key in COLUMNS]
            verdict = [f"{one.probability:.4f}", int(one.believable)]
            rows.writerow([one.name, one.number, one.class_name, *verdict, *values])


def parser_with_real(program: str, description: str) -> ArgumentParser:
    """A parser for a run and the real data that it is compared with."""
    parser = make_parser(program, description)
    add = parser.add_argument
    add("run", type=Path, help="outdir of a finished run")
    add("--real", type=Path, required=True, metavar="DIR", help="real data, as utils.prepare_data wrote it")
    add("--judge", type=Path, help=f"weights of the judge, trained if missing (default: DIR/{JUDGE})")
    return parser


def main(argv: list[str]) -> None:
    parser = parser_with_real("python -m evaluation.quality", __doc__)
    add = parser.add_argument
    add("--verdicts", type=Path, metavar="CSV", help="verdicts by eye, as the report page saves them")
    args = parser.parse_args(argv)
    names = labels.load_class_names(args.real / "classes.json")
    verdicts = read_verdicts(args.verdicts) if args.verdicts else None
    defects, patches = read_run(args.run), real_patches(args.real, names)
    judge, reliability = real_judge(args.real, args.judge or args.real / JUDGE, patches, names)
    defects = judged(defects, judge)
    print(table(defects, reliability))
    real_boxes = real_overlaps(args.real, names, label_margin(args.run))
    if real_boxes:
        print(f"visible, real defects with clean twins: {np.mean(real_boxes):.3f} of {len(real_boxes)}")
    real = judge.features(*centered(defect_examples(patches)))
    mean, deviation = distance_with_error(judge.features(*judge_windows(defects)), real)
    same = halves_distance(real)
    print(f"distance painted to real: {mean:.3f} +- {deviation:.3f}; two halves of the real ones: {same:.3f}")
    believed = {(one.name, one.number): one.believable for one in defects}
    print(f"AUC of the score against the judge: {score_auc(defects, believed):.3f}")
    if verdicts is not None:
        print(f"AUC of the score against {args.verdicts}: {score_auc(defects, verdicts):.3f}")
    write_csv(args.run / "quality.csv", defects)
    cells = [(one.window, one.class_name, one.values["score"], one.believable) for one in defects]
    images.save_png(args.run / "quality.png", contact_sheet(cells))


if __name__ == "__main__":
    sys.exit(run_main(main))
