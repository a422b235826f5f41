"""What do cheaper settings cost? Paint with several variants of a conf, and judge them side by side.

    python -m evaluation.compare --conf_path confs/demo.yml --seeds 0-9 --out runs/compare \\
        --variant "no jumps: ddim.schedule_params.jump_n_sample=1" --variant "one step: g_scha.start=1 g_scha.end=1"

Prints a line for the conf itself and for each variant: operations per image, fraction of samples whose class the
classifier names (see evaluation.hits; synthetic boards only) with its standard error, and from the manifest the
distance of the painted box's center from the annotation's, mask area, contrast, agreement with the prior, and
change outside the window.
"""

import argparse
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.classifier import DEFAULT_PATH, load_classifier, train_and_save
from evaluation.hits import Hit, collect, contact_sheet, find_clean, judge, known_names, paint, parse_seeds
from generation.cost import operations
from generation.setup import make_schedule
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.images import save_png
from utils.manifest import Entry, read_manifest
from utils.network_metadata import class_names


@dataclass(frozen=True)
class Variant:
    """A name, and settings on top of the conf's."""

    name: str
    overrides: list[str]


@dataclass(frozen=True)
class Verdict:
    """Means over the samples of a variant; lengths in px, contrast and change in gray levels of 0..255."""

    samples: int
    right: float
    offset: float
    area: float
    contrast: float
    agreement: float
    outside: float

    @property
    def error(self) -> float:
        """Standard error of `right`."""
        return math.sqrt(self.right * (1 - self.right) / self.samples)


def parse_variant(text: str) -> Variant:
    """'name: key=value key=value' -> Variant; UserError for any other form."""
    name, colon, rest = text.partition(":")
    overrides = rest.split()
    if not (colon and name.strip() and overrides) or any("=" not in part for part in overrides):
        raise UserError(f"--variant: got {text!r}; expected 'name: key=value key=value ...'")
    return Variant(name.strip(), overrides)


def verdict(hits: Sequence[Hit], entries: Sequence[Entry]) -> Verdict:
    """The hits' fraction of right names, and the means of the manifest's values of each defect.

    A defect without a box has no offset; it counts with area 0.
    """
    defects = [defect for entry in entries for defect in entry["defects"]]

    def mean(key: str) -> float:
        return float(np.mean([defect["scores"][key] for defect in defects]))

    offsets = [box_offset(defect) for defect in defects if defect["box"] is not None]
    return Verdict(
        len(hits),
        sum(hit.right for hit in hits) / len(hits),
        float(np.mean(offsets)) if offsets else math.nan,
        *(mean(key) for key in ("area", "contrast", "agreement", "outside")),
    )


def box_offset(defect: Entry) -> float:
    """Distance of a painted box's center from the annotation's, px."""
    left, top, right, bottom = defect["box"]
    x, y = defect["centre"]
    return math.hypot((left + right) / 2 - x, (top + bottom) / 2 - y)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m evaluation.compare", __doc__)
    parser.add_argument(
        "--variant", action="append", default=[], help="'name: key=value ...'; may be given often"
    )
    parser.add_argument("--seeds", default="0-9", help="e.g. 0-9 or 0,3,5-7")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder for images")
    parser.add_argument("--classifier", type=Path, default=DEFAULT_PATH, help="trained here if it is missing")
    return parser


def main(argv: list[str]) -> None:
    """Paint, judge, print; writes a contact sheet per variant. Raises UserError."""
    args = parse_with_conf(_parser(), argv)
    seeds = parse_seeds(args.seeds)
    variants = [Variant("as it is", []), *map(parse_variant, args.variant)]
    model = load_classifier(args.classifier) if args.classifier.is_file() else train_and_save(args.classifier)
    print(
        f"{'variant':<28}{'GFLOP':>7}{'s':>7}{'right':>16}{'offset':>8}{'area':>7}{'contrast':>10}{'agreement':>11}"
        f"{'outside':>9}"
    )
    for variant in variants:
        config = load_generation_config(args.conf_path, variant.overrides)
        names = known_names(list(class_names(config.crop_class_json_path, config.crop_model_path)))
        folder = args.out / (re.sub(r"\W+", "-", variant.name) or "-")
        started, hits, entries = time.perf_counter(), [], []
        for seed in seeds:
            paint(args.conf_path, seed, folder / f"seed_{seed}", variant.overrides)
            samples = collect(folder / f"seed_{seed}", seed, names)
            clean = {s.stem: find_clean(Path(config.defect_free_dir), s.stem) for s in samples}
            hits += judge(model, samples, clean)
            entries += read_manifest(folder / f"seed_{seed}" / "manifest.jsonl")
        seconds = (time.perf_counter() - started) / len(hits)
        save_png(folder / "sheet.png", contact_sheet(hits, clean))
        v, cost = verdict(hits, entries), operations(config).sequence(make_schedule(config)[1])
        print(
            f"{variant.name:<28}{cost / 1e9:>7.0f}{seconds:>7.1f}"
            f"{f'{v.right:.1%} +- {v.error:.1%}':>16}{v.offset:>8.1f}{v.area:>7.0f}{v.contrast:>10.1f}"
            f"{v.agreement:>11.3f}{v.outside:>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(run_main(main))
