"""A judge of defects: a few small networks that say which defect a box in a window holds, or that there is none.

Each member is trained on another part of the patches (k-fold cross-validation); the judge's answer is their mean. A
member sees the window and the mask of the box, so that what lies beside the box is no defect of it. How usual a window
is tells the distance of its features to those of windows of the training images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utils.checkpoint import check_fit, load_state_dict, save_safetensors
from utils.errors import UserError
from utils.judging.classifier import WIDTHS, WindowClassifier
from utils.judging.palette import BINS

SIDE = 64  # px of a window
CLEAN = "clean"
FILE = "judge.safetensors"
BATCH = 256
FEWEST = 10  # examples of a class, below which right answers about them say little of others
REFERENCES = 512  # windows of the training images that distances are measured to
NEIGHBORS = 5
# Left, top, right, bottom in px of the window, right and bottom exclusive
WindowBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class Reliability:
    """How often a judge is right about windows that its members were not trained on.

    `right`: rate of right answers for each class and for clean windows, `counts` their numbers; `auc`: probability that
    a real defect scores higher for its class than a clean window does.
    """

    right: Mapping[str, float]
    counts: Mapping[str, int]
    auc: float

    def is_reliable(self, name: str) -> bool:
        """Whether the judge is surely right more often than wrong about a class: it was asked about FEWEST or more, and
        its rate of right answers, one of each kind added (Laplace), less its standard error, is above a half.

        Fewer examples are too alike: a judge that knew 6 shorts of one board to the last took none of another board's.
        """
        count = self.counts.get(name, 0)
        if count < FEWEST:
            return False
        rate = (self.right.get(name, 0.0) * count + 1) / (count + 2)
        return rate - math.sqrt(rate * (1 - rate) / (count + 3)) > 0.5

    @property
    def unreliable(self) -> list[str]:
        """The classes that the judge alone should not reject, among those that it was tested on."""
        return [name for name in self.right if name != CLEAN and not self.is_reliable(name)]

    def __str__(self) -> str:
        each = ", ".join(f"{name} {rate:.2f} (of {self.counts[name]})" for name, rate in self.right.items())
        told = (
            f"right answers on held-out windows: {each}; AUC of defects against clean windows: {self.auc:.3f}"
        )
        doubted = ", ".join(self.unreliable)
        return told + (f"; not reliable for {doubted}, which it does not reject by itself" if doubted else "")


class Judge(nn.Module):
    """The mean of `members` networks; `labels` are the classes in the order of their ids, and "clean"."""

    references: Tensor  # (N, G), statistics of windows of the training images
    unit: Tensor  # (1,), the distance that 95 % of the training windows stay below
    palettes: (
        Tensor | None
    )  # (classes, BINS, BINS) bool, the colors of each class's training defects, where known

    def __init__(
        self, classes: Sequence[str], members: int, references: int = REFERENCES, palettes: bool = True
    ):
        super().__init__()
        self.labels = (*classes, CLEAN)
        self.members = nn.ModuleList(WindowClassifier(len(self.labels), channels=4) for _ in range(members))
        self.register_buffer("references", torch.zeros(references, 2 * sum(WIDTHS)))
        self.register_buffer("unit", torch.ones(1))
        known = torch.zeros(len(classes), BINS, BINS, dtype=torch.bool) if palettes else None
        self.register_buffer("palettes", known)

    @property
    def networks(self) -> list[WindowClassifier]:
        """The members, typed."""
        return [member for member in self.members if isinstance(member, WindowClassifier)]

    @torch.no_grad()
    def predict(
        self, windows: np.ndarray, boxes: Sequence[WindowBox], members: Sequence[int] | None = None
    ) -> np.ndarray:
        """Probabilities (N, len(labels)) float32 of windows (N, 64, 64, 3) uint8 with one box each, by `members`
        (None: all)."""
        inputs = judge_inputs(windows, boxes)
        chosen = self.members if members is None else [self.members[k] for k in members]
        found = [
            torch.stack([member(part).softmax(dim=1) for member in chosen]).mean(dim=0)
            for part in inputs.split(BATCH)
        ]
        return torch.cat(found).numpy()

    @torch.no_grad()
    def features(self, windows: np.ndarray, boxes: Sequence[WindowBox]) -> np.ndarray:
        """(N, F) float32, what the heads of all members see: how a defect looks to the judge."""
        parts = judge_inputs(windows, boxes).split(BATCH)
        found = [torch.cat([member.features(part) for member in self.networks], dim=1) for part in parts]
        return torch.cat(found).numpy()

    @torch.no_grad()
    def texture(self, windows: np.ndarray) -> Tensor:
        """(N, G): means and standard deviations of the first member's layers, without a box: how a photograph looks."""
        blank = [(0.0, 0.0, 0.0, 0.0)] * len(windows)
        return torch.cat(
            [self.networks[0].statistics(part) for part in judge_inputs(windows, blank).split(BATCH)]
        )

    def remember(self, windows: np.ndarray, others: np.ndarray) -> None:
        """Measure distances to clean `windows` of the training images from now on, in units of what clean windows of
        `other` images have; (N, 64, 64, 3) uint8."""
        chosen = self.texture(windows)[: len(self.references)]
        repeats = -(-len(self.references) // len(chosen))
        self.references.copy_(chosen.repeat(repeats, 1)[: len(self.references)])
        self.unit.fill_(1.0)
        self.unit.copy_(torch.quantile(torch.from_numpy(self.distance(others)), 0.95))

    @torch.no_grad()
    def distance(self, windows: np.ndarray) -> np.ndarray:
        """(N,) float32: how far clean windows (N, 64, 64, 3) uint8 are from those of the training images. 1 is what
        1 in 20 windows of such images exceeds."""
        scale = self.references.std(dim=0) + 1e-3
        apart = torch.cdist(self.texture(windows) / scale, self.references / scale)
        near = apart.topk(min(NEIGHBORS, apart.shape[1]), largest=False).values.mean(dim=1)
        return (near / self.unit).numpy()


def judge_inputs(windows: np.ndarray, boxes: Sequence[WindowBox]) -> Tensor:
    """(N, 4, 64, 64): windows (N, 64, 64, 3) uint8 in [-1, 1], and the masks of their boxes."""
    assert windows.dtype == np.uint8 and windows.shape[1:] == (SIDE, SIDE, 3), windows.shape
    pixels = torch.from_numpy(np.ascontiguousarray(windows)).permute(0, 3, 1, 2).float() / 127.5 - 1
    masks = torch.from_numpy(np.stack([box_mask(box) for box in boxes])).permute(0, 3, 1, 2)
    return torch.cat([pixels, masks.float()], dim=1)


def box_mask(box: WindowBox) -> np.ndarray:
    """(64, 64, 1) uint8, 1 inside the box."""
    mask = np.zeros((SIDE, SIDE, 1), np.uint8)
    left, top, right, bottom = (max(round(side), 0) for side in box)
    mask[top:bottom, left:right] = 1
    return mask


# Files


def save_judge(judge: Judge, path: str | Path, reliability: Reliability) -> None:
    """Write weights, classes and reliability, atomically. Raises OSError."""
    metadata = {
        "judge_of": list(judge.labels[:-1]),
        "members": len(judge.members),
        "references": len(judge.references),
        "palettes": judge.palettes is not None,
        "reliability": asdict(reliability),
    }
    save_safetensors(path, judge.state_dict(), metadata)


def load_judge(path: str | Path) -> tuple[Judge, Reliability]:
    """A judge in eval mode, and how reliable it is. Raises UserError for a file that is missing or something else."""
    weights, metadata = load_state_dict(path)
    if "judge_of" not in metadata:
        raise UserError(
            f"{path}: got other weights, expected a judge; train one with python -m evaluation.judge"
        )
    palettes = bool(metadata.get("palettes", False))  # judges of earlier versions have none
    judge = Judge(metadata["judge_of"], int(metadata["members"]), int(metadata["references"]), palettes)
    check_fit(judge, weights, path, ["judge_path"], "the judge")
    judge.load_state_dict(weights)
    return judge.eval().requires_grad_(False), Reliability(**metadata["reliability"])
