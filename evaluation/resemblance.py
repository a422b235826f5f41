"""How much painted defects resemble training patches, and one another: plain distances of what their boxes show.

What a box shows is resampled to 16 x 16 px, freed of its mean and scaled to length 1; the distance of two is that of
these vectors, 0 (equal but for brightness and contrast) to 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 16  # px
TURNS = 8  # quarters, and mirrored
MEMORIZED = 1 / 3  # of the distance to the second nearest patch

PlacedBox = tuple[float, float, float, float]  # left, top, right, bottom in px


@dataclass(frozen=True)
class Nearest:
    """The training patch nearest to a painted defect: its number, the turn in which it is nearest (see `turns`), its
    distance, and that of the second nearest."""

    patch: int
    turn: int
    distance: float
    second: float

    @property
    def memorized(self) -> bool:
        """Whether the defect is a copy: at most a third as far from one patch as from any other (Yoon et al. 2023)."""
        return self.distance <= MEMORIZED * self.second


def content(image: np.ndarray, box: PlacedBox) -> np.ndarray:
    """(SIDE, SIDE, 3) float32: what `box` of an image (H, W, 3) uint8 shows, mean 0, length 1; zeros for one color."""
    height, width = image.shape[:2]
    left, top = max(box[0], 0), max(box[1], 0)
    inner = (left, top, min(max(box[2], left + 1), width), min(max(box[3], top + 1), height))
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=inner)
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    length = float(np.sqrt((values**2).sum()))
    return values / length if length > 1e-3 else np.zeros_like(values)


def turns(image: np.ndarray) -> list[np.ndarray]:
    """The eight turns of (S, S, C): four quarters, then those of its mirror image."""
    return [np.rot90(side, k) for side in (image, image[:, ::-1]) for k in range(4)]


def nearest_patches(painted: Sequence[np.ndarray], patches: Sequence[np.ndarray]) -> list[Nearest]:
    """For every `content` of `painted` the nearest of `patches`, at least two, in any turn."""
    turned = np.stack([side.reshape(-1) for one in patches for side in turns(one)])  # (8 M, D)
    shown = np.stack([one.reshape(-1) for one in painted])
    apart = _distances(shown, turned).reshape(len(painted), len(patches), TURNS)
    best = apart.min(axis=2)  # (N, M)
    found = []
    for row, each in zip(best, apart, strict=True):
        first, second = np.argsort(row)[:2]
        found.append(Nearest(int(first), int(each[first].argmin()), float(row[first]), float(row[second])))
    return found


def spread(contents: Sequence[np.ndarray]) -> float:
    """Mean distance of two of the contents; nan for fewer than two."""
    if len(contents) < 2:
        return float("nan")
    rows = np.stack([one.reshape(-1) for one in contents])
    return float(_distances(rows, rows)[np.triu_indices(len(rows), 1)].mean())


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, M) Euclidean distances of rows."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))
