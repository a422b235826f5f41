"""How true are masks and boxes? Exact defects in place of painted ones.

    python -m evaluation.recovery images/demo

Takes from a run the residual noise of its painted windows, what changed outside the painted regions. Draws boards
with defects whose masks are known, puts that noise around them, and recovers masks and boxes from the images
as for painted defects, with one step's attention at the published settings. Prints the mean overlap (intersection over
union) with the exact masks and boxes, per class, at several strengths of the change and scales.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from generation.quality.checks import box_iou
from generation.scoring import box_of, painted_region
from guided_diffusion.attention_mask import AttentionOptions, defect_attention
from utils.command_line import make_parser
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.images import ImageCache, resize_float, to_tensor
from utils.manifest import read_manifest
from utils.schema.sampling import AttentionConfig
from utils.synthetic_pcb.board import CLASSES, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render

ATTENTION = AttentionOptions(**AttentionConfig().model_dump())  # the configuration's defaults
SIDE = 64  # px of a window
BOARD_SEED = 980_000  # of the first board; no training saw it
MARGIN = 3  # px around a painted region that are not yet noise
VISIBLE = 16.0  # gray levels from which on a change is a painted one, however much of the window has it
MOST_PAINTED = 0.6  # fraction of a window; with more, too little noise is left


@dataclass(frozen=True)
class Case:
    """An exact defect in its window: clean and edited image (h, w, 3) uint8, mask (h, w) bool."""

    class_name: str
    clean: np.ndarray
    edited: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """Intersection over union with the exact mask and the exact box."""

    class_name: str
    mask: float
    box: float


# Noise


def residuals(run: Path) -> np.ndarray:
    """What painting changed outside the painted regions, (N, 64, 64, 3) int16, of a run's windows of 64 px at scale 1.

    Painted regions are filled with their mirror images in the window, and where those are painted too with
    values drawn from the rest. Raises UserError when there is no such window.
    """
    config = load_generation_config(run / "config.yml")
    load, found = ImageCache(config.network.image_size if config.resize == "squash" else None), []
    for entry in read_manifest(run / "manifest.jsonl"):
        if entry["status"] != "painted":
            continue
        clean, sample = load(Path(entry["source"])), ImageCache()(run / entry["files"]["sample"])
        for left, top, side in (d["window"] for d in entry["defects"] if d["scale"] == 1):
            part = np.s_[top : top + side, left : left + side]
            if side == SIDE and (noise := residual(clean[part], sample[part])) is not None:
                found.append(noise)
    if not found:
        raise UserError(f"{run}: no painted window of {SIDE} px at scale 1; expected a run with some")
    return np.stack(found)


def residual(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """One window's noise, see `residuals`; None where almost all of the window was painted."""
    noise = after.astype(np.int16) - before
    strength = np.sqrt((ndimage.gaussian_filter(noise.astype(np.float32), (0.8, 0.8, 0)) ** 2).mean(axis=2))
    middle = np.median(strength)
    usual = middle + 3 * 1.4826 * np.median(np.abs(strength - middle))
    painted = strength > min(max(usual, 0.15 * strength.max()), VISIBLE)
    painted = ndimage.binary_dilation(painted, iterations=MARGIN)
    if painted.mean() > MOST_PAINTED:
        return None
    for turn in (np.fliplr, np.flipud, lambda a: np.flipud(np.fliplr(a)), lambda a: np.swapaxes(a, 0, 1)):
        take = painted & ~turn(painted)
        noise = np.where(take[..., None], turn(noise), noise)
        painted = painted & ~take
    rest = noise[~painted]
    noise[painted] = rest[np.random.default_rng(0).integers(0, len(rest), painted.sum())]
    return noise


# Exact defects


def cases(boards: int) -> Iterator[Case]:
    """Windows around the defects of new synthetic boards, all six classes on each as far as there is room."""
    for seed in range(BOARD_SEED, BOARD_SEED + boards):
        board = draw_board(seed)
        edited, defects = add_defects(board, CLASSES, seed, margin=40, min_spacing=68)
        before, after = render(board), render(edited)
        for defect in defects:
            left, top = (int(np.clip(v - SIDE // 2, 0, 256 - SIDE)) for v in defect_center(defect))
            part = np.s_[top : top + SIDE, left : left + SIDE]
            yield Case(defect.class_name, before[part], after[part], defect.mask[part])


def recover(case: Case, noise: np.ndarray, strength: float = 1.0, scale: int = 1) -> Overlap:
    """Put the noise around the defect, whose change has `strength`, in a window of `scale` px per model px."""
    change = strength * (case.edited.astype(np.float32) - case.clean)
    outside = ~ndimage.binary_dilation(case.mask)
    painted = np.clip(np.rint(case.clean + change + noise * outside[..., None]), 0, 255).astype(np.uint8)
    attention = defect_attention(to_tensor(case.clean), to_tensor(painted), ATTENTION)[0, 0].numpy()
    before, mask = case.clean, case.mask
    if scale > 1:  # as images are painted: the change is resampled and added
        before, mask = (a.repeat(scale, axis=0).repeat(scale, axis=1) for a in (before, mask))
        grown = resize_float(painted.astype(np.float32) - case.clean, mask.shape)
        painted = np.clip(np.rint(before + grown), 0, 255).astype(np.uint8)
    found = painted_region(before, painted, attention)
    both = (found.mask & mask).sum() / (found.mask | mask).sum()
    return Overlap(case.class_name, float(both), box_iou(found.box, box_of(mask)))


def measure(
    found: Sequence[Case], noises: np.ndarray, strength: float = 1.0, scale: int = 1
) -> list[Overlap]:
    """`recover` for every case, the noises (N, 64, 64, 3) taking turns."""
    return [recover(case, noises[n % len(noises)], strength, scale) for n, case in enumerate(found)]


def mean_overlap(overlaps: Sequence[Overlap]) -> tuple[float, float]:
    """Means of masks and of boxes."""
    return float(np.mean([one.mask for one in overlaps])), float(np.mean([one.box for one in overlaps]))


def main(argv: list[str]) -> None:
    parser = make_parser("python -m evaluation.recovery", __doc__)
    parser.add_argument("run", type=Path, help="outdir of a run with painted samples")
    parser.add_argument("--boards", type=int, default=30, help="boards to draw defects on")
    args = parser.parse_args(argv)
    if args.boards < 1:
        raise UserError(f"--boards: got {args.boards}, expected 1 or more")
    noises, exact = residuals(args.run), list(cases(args.boards))
    print(f"{len(exact)} exact defects, residual noise of {len(noises)} painted windows")
    print(f"{'strength':>8}{'scale':>7}{'':>3}{'class':<18}{'mask':>7}{'box':>7}")
    for strength, scale in ((1.0, 1), (0.5, 1), (1.0, 2), (0.5, 2)):
        overlaps = measure(exact, noises, strength, scale)
        groups = {name: [one for one in overlaps if one.class_name == name] for name in CLASSES}
        for name, group in {**groups, "all": overlaps}.items():
            if group:
                mask, box = mean_overlap(group)
                print(f"{strength:>8g}{scale:>7}{'':>3}{name:<18}{mask:>7.3f}{box:>7.3f}")


if __name__ == "__main__":
    sys.exit(run_main(main))
