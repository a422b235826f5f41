"""Is the rest of the image untouched, and can the seam be seen?

    python -m evaluation.integrity images/set

Reads the manifest of a run painted with `resize: native` and `background: original`, and prints a line a sample:
pixels that differ outside the windows (0 is the promise), and the gradient's magnitude along the feathered edge
of the windows against that of the clean image there.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.command_line import make_parser
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.images import load_rgb
from utils.manifest import read_manifest

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Integrity:
    """One sample: differing pixels outside its windows, and mean gradients (gray levels a px) in the feather."""

    name: str
    outside: int
    seam: float
    clean: float


def main(argv: list[str]) -> None:
    parser = make_parser("python -m evaluation.integrity", __doc__)
    parser.add_argument("run", type=Path, help="outdir of a run, with manifest.jsonl")
    args = parser.parse_args(argv)
    rows = list(check_run(args.run))
    print(f"{'sample':<48}{'outside':>9}{'seam':>8}{'clean':>8}{'ratio':>7}")
    for row in rows:
        print(f"{row.name:<48}{row.outside:>9}{row.seam:>8.2f}{row.clean:>8.2f}{row.seam / row.clean:>7.3f}")
    seam, clean = (float(np.mean([getattr(row, key) for row in rows])) for key in ("seam", "clean"))
    print(f"{'all':<48}{sum(row.outside for row in rows):>9}{seam:>8.2f}{clean:>8.2f}{seam / clean:>7.3f}")


def check_run(run: Path) -> Iterator[Integrity]:
    """The integrity of every painted sample of a run; UserError for a run that paints whole contexts."""
    config = load_generation_config(run / "config.yml")
    if config.resize != "native" or config.background != "original":
        raise UserError(
            f"{run}: painted with resize: {config.resize} and background: {config.background}, which replace more "
            "than the windows; expected native and original"
        )
    for entry in read_manifest(run / "manifest.jsonl"):
        if entry["status"] == "painted":
            before, after = load_rgb(entry["source"]), load_rgb(run / entry["files"]["sample"])
            yield check_sample(entry, before, after, config.feather)


def check_sample(entry: Mapping[str, Any], before: np.ndarray, after: np.ndarray, feather: int) -> Integrity:
    """`before` and `after` (H, W, 3) uint8; `feather` in model px."""
    inside = np.zeros(before.shape[:2], dtype=bool)
    edge = np.zeros_like(inside)
    for defect in entry["defects"]:
        left, top, side = defect["window"]
        width = max(1, round(feather * defect["scale"]))
        inside[top : top + side, left : left + side] = True
        ring = np.ones((side, side), dtype=bool)
        ring[width:-width, width:-width] = False
        edge[top : top + side, left : left + side] |= ring
    differs = (before != after).any(axis=2)
    return Integrity(
        entry["name"],
        int((differs & ~inside).sum()),
        float(gradient(after)[edge].mean()),
        float(gradient(before)[edge].mean()),
    )


def gradient(image: np.ndarray) -> np.ndarray:
    """Magnitude of the luminance's gradient by central differences, (H, W, 3) uint8 -> (H, W) in gray levels a px."""
    down, right = np.gradient(image @ LUMA)
    return np.hypot(down, right)


if __name__ == "__main__":
    sys.exit(run_main(main))
