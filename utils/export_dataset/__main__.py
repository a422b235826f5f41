"""A data set for a detector from finished runs.

    python -m utils.export_dataset images/demo --out data/synthetic
    python -m utils.export_dataset images/one images/two --real data/board --real-train --out data/synthetic

Writes Ultralytics' layout (`images/`, `labels/`, `data.yaml`), COCO's annotations with boxes and run-length encoded
masks, mask images and a README.md, split by source image. Defects that RUN/verdicts.csv rejects (the report page saves
it) are taken back, or their images left out.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import argparse
import math
from pathlib import Path

from utils.command_line import make_parser
from utils.errors import run_main
from utils.export_dataset import ExportOptions, export_dataset


def main(argv: list[str]) -> None:
    """Export as configured on the command line and print its contents; raises UserError."""
    args = vars(_parser().parse_args(argv))
    runs, out, overwrite = (args.pop(name) for name in ("runs", "out", "overwrite"))
    print(export_dataset(runs, out, ExportOptions(**args), overwrite))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m utils.export_dataset", __doc__)
    default = ExportOptions()
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="outdir of a run, with manifest.jsonl and config.yml",
    )
    parser.add_argument("--out", type=Path, help="folder of the data set (default of one run: RUN/dataset)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier data set there")
    parser.add_argument(
        "--val-share",
        type=fraction,
        default=default.val_share,
        help="fraction of source images in val",
    )
    parser.add_argument(
        "--background-share",
        type=fraction,
        default=default.background_share,
        help="fraction of clean images",
    )
    parser.add_argument(
        "--labels",
        choices=("boxes", "segments"),
        default=default.labels,
        help="format of labels/: boxes, or polygons for segmentation; the other is written beside it",
    )
    parser.add_argument(
        "--first-category-id",
        type=int,
        choices=(0, 1),
        default=default.first_category_id,
        help="COCO's id of class 0",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split and the choice of clean images")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out samples with a worse defect")
    _add_verdicts(parser.add_mutually_exclusive_group())
    _add_real(parser.add_argument_group("real images"))
    parser.add_argument("--link", action="store_true", help="hard links instead of copies")
    return parser


def _add_verdicts(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--verdicts",
        type=Path,
        metavar="FILE",
        help="verdicts by eye (default: RUN/verdicts.csv, if there is one)",
    )
    group.add_argument(
        "--all", action="store_false", dest="use_verdicts", help="also samples that were rejected by eye"
    )


def _add_real(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--real",
        type=Path,
        metavar="DIR",
        help="real images with defects, instead of painted ones, validate: a folder that utils.prepare_data wrote (its "
        "held-out images) or one that it reads",
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--real-train",
        action="store_true",
        help="of a folder that utils.prepare_data wrote, the images that it did not hold out train",
    )
    how.add_argument(
        "--real-train-share",
        type=fraction,
        default=0.0,
        metavar="FRACTION",
        help="of another folder's defects, in whole groups, in the training part",
    )


def fraction(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not (math.isfinite(value) and 0 <= value < 1):
        raise argparse.ArgumentTypeError(f"got {text}, expected a fraction from 0 to below 1")
    return value


if __name__ == "__main__":
    raise SystemExit(run_main(main))
