"""Are the painted defects of a run as real ones are, in clean surroundings, diverse, and no copies?

    python -m evaluation.fidelity images/set --real data/board [--inception weights.pth]

Prints for each class: painted defects; kernel distance (KID, Binkowski et al. 2018) to the real ones with its
deviation, in the features of the judge that evaluation.quality trains, or of Inception; PSNR to the clean image outside
the masks, in dB; diversity, the mean distance of defects painted at one place as a ratio to that of training patches;
distance to the nearest training patch; rate of copies, three times nearer to one training patch than to any other. With
Inception's weights, in torch-fidelity's form, the Frechet distance (FID) as well. A table (fidelity.csv) and a sheet of
each painted defect beside its nearest training patch (fidelity.png, likeliest copies first) go to the run's folder.
"""

import csv
import pickle
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.quality import (
    JUDGE,
    JudgedDefect,
    distance_with_error,
    halves_distance,
    judge_windows,
    parser_with_real,
    real_judge,
    real_patches,
    sample_defects,
)
from evaluation.resemblance import Nearest, content, nearest_patches, spread, turns
from training.boxed_patches import window
from training.judge import Patch, centered, defect_examples, load_patches
from utils import images, labels
from utils.errors import UserError, run_main, shortened
from utils.judging.judge import SIDE, WindowBox
from utils.manifest import mask_of, read_manifest
from utils.schema.prepared import PATCHES

CELL = 128  # px of an image on the sheet
PAIRS = 6  # in a row of it
RED = (200, 0, 0)  # frame of a copy
BATCH = 32
Features = Callable[
    [np.ndarray, Sequence[WindowBox]], np.ndarray
]  # windows (N, 64, 64, 3) and boxes -> (N, F)


@dataclass(frozen=True)
class PlacedDefect:
    """A painted defect: where, and the mean squared error of its sample outside all masks, in squared gray levels."""

    defect: JudgedDefect
    place: tuple[Any, ...]
    background: float


@dataclass(frozen=True)
class Fidelity:
    """What is printed for a class: see the top of this module."""

    samples: int
    kid: float
    kid_error: float
    psnr: float
    diversity: float
    nearest: float
    copies: float


# Reading


def read_painted(run: Path) -> list[PlacedDefect]:
    """The painted defects of a run. Raises UserError where there are none."""
    found = []
    for entry in read_manifest(run / "manifest.jsonl"):
        if entry["status"] == "painted":
            after = images.load_rgb(run / entry["files"]["sample"])
            before = images.resize_squash(images.load_rgb(entry["source"]), after.shape[:2])
            error = background_error(entry, before, after)
            found += [
                PlacedDefect(one, place_of(entry, one.number), error)
                for one in sample_defects(entry, before, after)
            ]
    if not found:
        raise UserError(f"{run}: no painted defects; expected a finished run")
    return found


def place_of(entry: Mapping[str, Any], number: int) -> tuple[Any, ...]:
    """What samples painted at the same place of the same image share."""
    defect = entry["defects"][number]
    return entry["source"], defect["class_name"], str(defect.get("annotation"))


def background_error(entry: Mapping[str, Any], before: np.ndarray, after: np.ndarray) -> float:
    """Mean squared difference (gray levels) of a sample and its clean image outside all masks; nan without any."""
    outside = np.ones(after.shape[:2], bool)
    for defect in entry["defects"]:
        if defect["mask"] is not None:
            outside &= ~mask_of(defect["mask"])
    change = after.astype(np.float32) - before
    return float((change[outside] ** 2).mean()) if outside.any() else float("nan")


def psnr(errors: Sequence[float]) -> float:
    """Peak signal-to-noise ratio in dB of the mean of squared errors; inf for 0."""
    mean = float(np.nanmean(errors))
    return float("inf") if mean == 0 else float(10 * np.log10(255**2 / mean))


def inception_features(path: Path) -> Features:
    """Features (N, 2048) of Inception v3 by torch-fidelity, with the weights of `path`. Raises UserError."""
    if not path.is_file():
        raise UserError(
            f"--inception {path}: no such file; expected Inception's weights in torch-fidelity's form"
        )
    try:
        from torch_fidelity.utils import create_feature_extractor
    except ImportError as error:
        raise UserError(
            "--inception: torch-fidelity is missing; pip install -r requirements-eval.txt"
        ) from error
    try:
        torch.load(
            path, map_location="cpu", weights_only=True
        )  # torch-fidelity would run what else the file holds
        network = create_feature_extractor(
            "inception-v3-compat",
            ["2048"],
            cuda=False,
            feature_extractor_weights_path=str(path),
            feature_extractor_compile=False,
            verbose=False,
        )
    except (
        pickle.UnpicklingError,
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        told = shortened(str(error).partition("\n")[0])
        raise UserError(
            f"--inception {path}: got {told}, expected Inception's weights in torch-fidelity's form"
        ) from error

    @torch.no_grad()
    def features(windows: np.ndarray, boxes: Sequence[WindowBox]) -> np.ndarray:
        parts = torch.from_numpy(windows).permute(0, 3, 1, 2).contiguous().split(BATCH)
        return torch.cat([network(part)[0] for part in parts]).numpy()

    return features


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """FID (Heusel et al. 2017) of features (N, F) and (M, F), by torch-fidelity."""
    from torch_fidelity import metric_fid

    both = [metric_fid.fid_features_to_statistics(torch.from_numpy(part)) for part in (one, other)]
    return float(metric_fid.fid_statistics_to_metric(*both, verbose=False)[metric_fid.KEY_METRIC_FID])


# Measuring


def box_of(one: JudgedDefect) -> WindowBox:
    """The requested box in px of the window, else the painted one."""
    box = one.window.wanted or one.window.box
    assert box is not None  # every exported defect has one
    return box


def measure(
    painted: Sequence[PlacedDefect],
    nearest: Sequence[Nearest],
    patches: Sequence[Patch],
    distance: tuple[float, float],
) -> Fidelity:
    """The measures of some painted defects and their `nearest`, beside training patches of their classes."""
    places = defaultdict(list)
    for one in painted:
        places[one.place].append(content(one.defect.window.after, box_of(one.defect)))
    spreads = [spread(group) for group in places.values() if len(group) > 1]
    real = spread([content(one.image, one.boxes[0]) for one in patches])
    return Fidelity(
        len(painted),
        *distance,
        psnr([one.background for one in painted]),
        float(np.mean(spreads)) / real if spreads else float("nan"),
        float(np.mean([one.distance for one in nearest])),
        float(np.mean([one.memorized for one in nearest])),
    )


def by_class(
    painted: Sequence[PlacedDefect],
    nearest: Sequence[Nearest],
    train: Sequence[Patch],
    names: Mapping[str, int],
    distances: Mapping[str, tuple[float, float]],
) -> dict[str, Fidelity]:
    """The measures for each class, and "all"."""
    found = {}
    for name in distances:
        chosen = [k for k, one in enumerate(painted) if name in ("all", one.defect.class_name)]
        patches = [one for one in train if name == "all" or one.class_id == labels.match_class(name, names)]
        ours, near = [painted[k] for k in chosen], [nearest[k] for k in chosen]
        found[name] = measure(ours, near, patches, distances[name])
    return found


def class_distances(
    painted: Sequence[PlacedDefect],
    ours: np.ndarray,
    real: np.ndarray,
    patches: Sequence[Patch],
    names: Mapping[str, int],
) -> dict[str, tuple[float, float]]:
    """Class or "all" -> kernel distance of painted defects with features `ours` to real ones, and its deviation."""
    classes = [one.defect.class_name for one in painted]
    kinds = np.array([one.class_id for one in patches])
    found = {}
    for name in sorted(set(classes)):
        mine = np.array([other == name for other in classes])
        found[name] = distance_with_error(ours[mine], real[kinds == labels.match_class(name, names)])
    return found | {"all": distance_with_error(ours, real)}


# Telling


def table(found: Mapping[str, Fidelity]) -> str:
    """A line for each class, and one for all."""
    heads = ("samples", "KID", "+-", "PSNR", "diversity", "nearest", "copies")
    lines = [f"{'class':<20}" + "".join(f"{head:>11}" for head in heads)]
    for name, one in found.items():
        values = (one.kid, one.kid_error, one.psnr, one.diversity, one.nearest, one.copies)
        lines.append(f"{name:<20}{one.samples:>11}" + "".join(f"{value:>11.3f}" for value in values))
    return "\n".join(lines)


def write_csv(path: Path, painted: Sequence[PlacedDefect], nearest: Sequence[Nearest]) -> None:
    """A row for each painted defect, in the order of the sheet."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "number", "class", "psnr", "nearest_patch", "distance", "second", "copy"])
        for one, near in in_order(painted, nearest):
            defect = one.defect
            values = [f"{value:.4f}" for value in (near.distance, near.second)]
            row = [defect.name, defect.number, defect.class_name, f"{psnr([one.background]):.2f}", near.patch]
            rows.writerow([*row, *values, int(near.memorized)])


def in_order(
    painted: Sequence[PlacedDefect], nearest: Sequence[Nearest]
) -> list[tuple[PlacedDefect, Nearest]]:
    """The likeliest copies first."""
    pairs = zip(painted, nearest, strict=True)
    return sorted(pairs, key=lambda pair: pair[1].distance / max(pair[1].second, 1e-6))


def sheet(painted: Sequence[PlacedDefect], nearest: Sequence[Nearest], train: Sequence[Patch]) -> np.ndarray:
    """(H, W, 3) uint8: each painted defect beside its nearest training patch, turned alike, copies framed in red."""
    cells = []
    for one, near in in_order(painted, nearest):
        patch = train[near.patch]
        shown, _ = window(one.defect.window.after, box_of(one.defect), SIDE, 1.0, None)
        other, _ = window(patch.image, patch.boxes[0], SIDE, 1.0, None)
        other = np.ascontiguousarray(turns(other)[near.turn])
        pair = np.concatenate([images.resize_squash(part, CELL) for part in (shown, other)], axis=1)
        if near.memorized:
            for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
                pair[edge] = RED
        cells.append(pair)
    return images.grid(cells, PAIRS, pad=6)


def main(argv: list[str]) -> None:
    parser = parser_with_real("python -m evaluation.fidelity", __doc__)
    inception = "measure in Inception's features, of torch-fidelity's weights"
    parser.add_argument("--inception", type=Path, metavar="WEIGHTS", help=inception)
    args = parser.parse_args(argv)
    names = labels.load_class_names(args.real / "classes.json")
    painted, train = read_painted(args.run), load_patches(args.real / PATCHES, names)
    if len(train) < 2:
        raise UserError(f"{args.real / PATCHES}: got one patch, expected two or more")
    patches = real_patches(args.real, names)
    if args.inception:
        features = inception_features(args.inception)
    else:
        features = real_judge(args.real, args.judge or args.real / JUDGE, patches, names)[0].features
    ours = features(*judge_windows([one.defect for one in painted]))
    real = features(*centered(defect_examples(patches)))
    contents = [content(one.defect.window.after, box_of(one.defect)) for one in painted]
    nearest = nearest_patches(contents, [content(one.image, one.boxes[0]) for one in train])
    distances = class_distances(painted, ours, real, patches, names)
    print(table(by_class(painted, nearest, train, names, distances)))
    print(f"KID of two halves of the real ones: {halves_distance(real):.3f}")
    if args.inception:
        print(
            f"FID painted to real: {frechet_distance(ours, real):.1f} ({len(ours)} and {len(real)} defects)"
        )
    write_csv(args.run / "fidelity.csv", painted, nearest)
    images.save_png(args.run / "fidelity.png", sheet(painted, nearest, train))


if __name__ == "__main__":
    sys.exit(run_main(main))
