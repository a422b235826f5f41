"""A small network that names the defect in the middle of a 64 px window, or says that there is none.

It judges painted images: a painted defect counts when the network, which has seen synthetic boards only, gives
it the class that was requested. The class "clean" is learned at the very places where defects are made (the
same pads, traces, gaps and bare laminate before the edit), so that the surroundings cannot give the answer.
The defect has to be where it was requested: training shifts it by up to 4 px, and from 6 px on hits get lost.

    python -m evaluation.classifier --out runs/classifier.safetensors
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from utils.command_line import make_parser
from utils.errors import UserError, run_main
from utils.files import replacing
from utils.judging.classifier import WindowClassifier, fit, index_batches, relight
from utils.synthetic_pcb.board import CLASSES, MAX_EXTENT, Board, BoardDefect, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render
from utils.synthetic_pcb.sites import candidate_sites

LABELS: tuple[str, ...] = (*CLASSES, "clean")
PEAK_RATE = 3e-3  # of the one-cycle learning rate
TRAINING_SEED = 0
CLEAN = len(CLASSES)
WINDOW = 64
JITTER = 4
PATCH = WINDOW + 2 * JITTER
BOARD = 256
CLEAN_SHARE = 2  # clean patches for each patch of one defect class
TRAIN_SEED, HELD_OUT_SEED = 900_000, 950_000  # board seeds, far from those of the samples
DEFAULT_PATH = Path("runs/classifier.safetensors")


# Patches


def draw_patches(per_class: int, first_seed: int, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw (N, 72, 72, 3) uint8 patches and their (N,) int64 labels, indices into LABELS.

    Each class has `per_class` patches, the defect's center in the middle and no other defect in sight; the
    clean class has twice as many. Boards have the seeds first_seed, first_seed + 1, ...; equal arguments give
    equal patches. Patches are larger than the network's window to leave room for shifts.
    """
    missing = np.full(len(LABELS), per_class)
    missing[CLEAN] *= CLEAN_SHARE
    patches, labels = [], []
    seed = first_seed
    with tqdm(total=int(missing.sum()), desc="patches", disable=not progress) as bar:
        while missing.any():
            for label, patch in _draw_board_patches(seed, missing):
                if missing[label]:
                    missing[label] -= 1
                    patches.append(patch)
                    labels.append(label)
                    bar.update()
            seed += 1
    return np.stack(patches), np.array(labels, dtype=np.int64)


def _draw_board_patches(seed: int, missing: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(label, patch) of one board's defects, of the missing classes, and of the same board without them."""
    rng = np.random.default_rng([seed, 5])
    wanted = [str(name) for name in rng.permutation([CLASSES[k] for k in np.nonzero(missing[:CLEAN])[0]])]
    wanted.sort(key=lambda name: -missing[CLASSES.index(name)])
    board = draw_board(seed, BOARD, BOARD)
    edited, defects = add_defects(board, wanted, seed, PATCH // 2, PATCH // 2 + MAX_EXTENT // 2)
    found = []
    if defects:
        image = render(edited)
        for defect in defects:
            x, y = defect_center(defect)
            found.append((CLASSES.index(defect.class_name), cut_window(image, x, y, PATCH)))
    if missing[CLEAN]:
        image = render(board)
        for x, y in _clean_places(board, defects, rng):
            found.append((CLEAN, cut_window(image, x, y, PATCH)))
    return found


def _clean_places(
    board: Board, defects: Sequence[BoardDefect], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to three centers on the clean board: under a defect, where one could be, and anywhere."""
    margin = PATCH // 2
    places = [(int(x), int(y)) for x, y in rng.integers(margin, BOARD - margin + 1, size=(1, 2))]
    if defects:
        places.append(defect_center(defects[int(rng.integers(len(defects)))]))
    sites = candidate_sites(board, str(rng.choice(CLASSES)), margin)
    if sites:
        places.append(sites[int(rng.integers(len(sites)))])
    return places


def window_origin(height: int, width: int, x: int, y: int, side: int = WINDOW) -> tuple[int, int]:
    """(left, top) of the window of `side` px centered at (x, y), moved inside the image where it leaves it.

    left is x - side // 2, clamped to 0..width - side, and top alike. Raises ValueError for an image smaller
    than the window.
    """
    if min(height, width) < side:
        raise ValueError(f"a window of {side} px needs an image as large, got {width}x{height}")
    return min(max(x - side // 2, 0), width - side), min(max(y - side // 2, 0), height - side)


def cut_window(image: np.ndarray, x: int, y: int, side: int = WINDOW) -> np.ndarray:
    """The (side, side, 3) window of an (H, W, 3) image at `window_origin`, as a copy."""
    height, width = image.shape[:2]
    left, top = window_origin(height, width, x, y, side)
    return image[top : top + side, left : left + side].copy()


# Variation of the patches


def _augment(patches: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(N, 72, 72, 3) uint8 -> (N, 3, 64, 64) float32 in [-1, 1]: shifted, turned, softened, relit, noisy."""
    count = len(patches)
    shifts = torch.randint(0, 2 * JITTER + 1, (count, 2), generator=generator).tolist()
    turns = torch.randint(0, 8, (count,), generator=generator).tolist()
    windows = []
    for patch, (top, left), turn in zip(patches, shifts, turns, strict=True):
        window = patch[top : top + WINDOW, left : left + WINDOW].permute(2, 0, 1)  # (3, 64, 64)
        window = torch.rot90(window, turn % 4, (1, 2))
        windows.append(window.flip(2) if turn >= 4 else window)
    return relight(torch.stack(windows), generator)


# Network


class DefectClassifier(WindowClassifier):
    """(N, 3, 64, 64) in [-1, 1] -> (N, 7) logits, in the order of LABELS."""

    def __init__(self) -> None:
        super().__init__(len(LABELS))


def train_classifier(
    patches: np.ndarray,
    labels: np.ndarray,
    steps: int = 2000,
    batch_size: int = 64,
    progress: bool = True,
) -> tuple[DefectClassifier, list[float]]:
    """Train on (N, 72, 72, 3) uint8 patches with (N,) labels; returns the model in eval mode and the losses.

    AdamW with a one-cycle learning rate that peaks at PEAK_RATE; every sample is varied anew. Runs on the CPU in
    bfloat16. TRAINING_SEED fixes the initial weights, the order and the variation; the global random state stays.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINING_SEED)
        model = DefectClassifier()
    generator = torch.Generator().manual_seed(TRAINING_SEED)
    pixels, targets = torch.from_numpy(patches), torch.from_numpy(labels)
    batches = index_batches(len(targets), batch_size, generator)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = next(batches)
        return _augment(pixels[chosen], generator), targets[chosen]

    return model, fit(model, batch, steps, PEAK_RATE, hidden=not progress)


@torch.no_grad()
def predict(model: nn.Module, patches: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """(N, 64, 64, 3) uint8 windows -> (N, 7) float32 probabilities in the order of LABELS."""
    assert patches.dtype == np.uint8 and patches.shape[1:] == (WINDOW, WINDOW, 3), patches.shape
    found = [np.zeros((0, len(LABELS)), dtype=np.float32)]
    for start in range(0, len(patches), batch_size):
        batch = torch.from_numpy(patches[start : start + batch_size]).permute(0, 3, 1, 2)
        found.append(model(batch.float() / 127.5 - 1).softmax(dim=1).numpy())
    return np.concatenate(found)


# Files


def save_classifier(model: DefectClassifier, path: str | Path) -> None:
    """Write the weights as safetensors, atomically; makes the folder. Raises UserError."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(model.state_dict(), temporary)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}; choose another place") from error


def load_classifier(path: str | Path) -> DefectClassifier:
    """The classifier saved at `path`, in eval mode. Raises UserError when it is missing or something else."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; train it with python -m evaluation.classifier --out {path}")
    model = DefectClassifier()
    try:
        model.load_state_dict(load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: not a classifier saved by this program: {error}") from error
    return model.eval()


# Measuring


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(7, 7) counts: row = true label, column = predicted label. Both inputs (N,) indices into LABELS."""
    table = np.zeros((len(LABELS), len(LABELS)), dtype=int)
    np.add.at(table, (truth, predicted), 1)
    return table


def format_confusion(table: np.ndarray) -> str:
    """The confusion matrix as text, with each class's fraction of right answers at the end of its line."""
    names = [name[:10] for name in LABELS]
    lines = [" " * 16 + "".join(f"{name:>12}" for name in (*names, "right"))]
    for name, row, right in zip(LABELS, table, table.diagonal(), strict=True):
        share = f"{right / row.sum():.1%}" if row.sum() else "-"
        lines.append(f"{name:<16}" + "".join(f"{count:>12}" for count in (*row, share)))
    return "\n".join(lines)


def held_out_report(model: nn.Module, per_class: int, progress: bool = True) -> str:
    """Confusion matrices on new synthetic boards, as drawn and varied as in training, as text."""
    patches, labels = draw_patches(per_class, HELD_OUT_SEED, progress)
    middle = patches[:, JITTER:-JITTER, JITTER:-JITTER]
    augmented = _augment(torch.from_numpy(patches), torch.Generator().manual_seed(0))
    varied = ((augmented + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    parts = []
    for title, windows in (("held-out patches as drawn", middle), ("shifted, softened, relit", varied)):
        predicted = predict(model, np.ascontiguousarray(windows)).argmax(axis=1)
        parts.append(f"{title}\n{format_confusion(confusion(labels, predicted))}")
    return "\n\n".join(parts)


def train_and_save(path: str | Path, per_class: int = 1200, steps: int = 2000) -> DefectClassifier:
    """Draw the training patches, train, write the weights to `path`; minutes on one core."""
    patches, labels = draw_patches(per_class, TRAIN_SEED)
    model, _ = train_classifier(patches, labels, steps)
    save_classifier(model, path)
    return model


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m evaluation.classifier", __doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_PATH, help="where the weights go")
    parser.add_argument("--per-class", type=int, default=1200, help="training patches drawn for each class")
    parser.add_argument("--held-out", type=int, default=200, help="test patches drawn for each class")
    parser.add_argument("--steps", type=int, default=2000, help="training steps of 64 patches")
    return parser


def main(argv: list[str]) -> None:
    """Train, save and test the classifier; raises UserError."""
    args = _parser().parse_args(argv)
    problems = [
        f"--{name.replace('_', '-')} must be 1 or more, got {getattr(args, name)}"
        for name in ("per_class", "held_out", "steps")
        if getattr(args, name) < 1
    ]
    if problems:
        raise UserError.from_problems("these options cannot be used", problems)
    model = train_and_save(args.out, args.per_class, args.steps)
    print(held_out_report(model, args.held_out))
    print(f"saved: {args.out}")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
