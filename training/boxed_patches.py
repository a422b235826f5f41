"""Training examples for a defect prior that sees its surroundings: windows that show a defect anywhere, and its box.

A patch shows a defect and what is around it; an example is a window of it, shifted and zoomed at random, with the
mask of the defect's box. Some examples are clean: a window of a defect-free image with a box where nothing is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from training.image_datasets import Augmentation, Key, colored, turned

FILLED = 0.9  # share of the window's side that the longer side of a box takes at most
SHIFT = 0.8  # share of the way to the window's edge that a box may be off the center
SIZE_JITTER = 1.3  # clean boxes are up to so many times smaller or larger than those of defects

Box = tuple[float, float, float, float]  # left, top, right, bottom in px, right and bottom exclusive


@dataclass(frozen=True)
class BoxedPatch:
    """An image (H, W, 3) uint8, or what `read` turns into one, and the box of its defect in px of the image."""

    image: Any
    box: Box


@dataclass(frozen=True)
class CleanExamples:
    """`ratio` of the examples are clean: windows of `images`, of the class `class_id`."""

    images: Sequence
    ratio: float
    class_id: int


class BoxedPatchDataset(Dataset):
    """Examples (3, S, S) float32 in [-1, 1], class id, and mask (1, S, S) float32 of the defect's box.

    An item is asked for by (index, seed) and depends on both alone; whether it is clean is drawn from the seed. `read`
    turns what `patches` and `clean.images` hold into (H, W, 3) uint8; None: they hold that.
    """

    def __init__(
        self,
        patches: Sequence[BoxedPatch],
        labels: Sequence[int],
        size: int,
        how: Augmentation,
        clean: CleanExamples,
        read: Callable[[Any], np.ndarray] | None = None,
    ):
        self.patches, self.labels, self.size, self.how = patches, labels, size, how
        self.clean, self.read = clean, read or (lambda image: image)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, Tensor]:
        index, seed = key
        rng = np.random.default_rng(seed)
        patch, label = self.patches[index], self.labels[index]
        if self.clean.images and rng.random() < self.clean.ratio:
            image, box, label = *self._clean(patch.box, rng), self.clean.class_id
        else:
            image, box = window(self.read(patch.image), patch.box, self.size, self.how.zoom, rng)
        mask = np.zeros((self.size, self.size, 1), np.uint8)
        left, top, right, bottom = (max(round(side), 0) for side in box)
        mask[top:bottom, left:right] = 1
        both = turned(np.concatenate([image, mask], axis=2), self.how, rng)
        values = colored(both[..., :3], self.how, rng)
        mask = np.ascontiguousarray(both[..., 3:].transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(values).permute(2, 0, 1), label, torch.from_numpy(mask)

    def _clean(self, box: Box, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
        """A window of a defect-free image with a box about as large as `box`, anywhere in it."""
        image = self.read(self.clean.images[int(rng.integers(len(self.clean.images)))])
        zoom = self.how.zoom ** rng.uniform(-0.5, 1)
        side = min(self.size * zoom, *image.shape[:2])
        left, top = (rng.uniform(0, length - side) for length in (image.shape[1], image.shape[0]))
        factors = SIZE_JITTER ** rng.uniform(-1, 1, 2) * self.size / side
        width, height = (
            min(length * f, FILLED * self.size)
            for length, f in zip((box[2] - box[0], box[3] - box[1]), factors, strict=True)
        )
        x, y = rng.uniform(0, self.size - width), rng.uniform(0, self.size - height)
        return _resampled(image, left, top, side, self.size), (x, y, x + width, y + height)


def window(
    image: np.ndarray, box: Box, size: int, zoom: float, rng: np.random.Generator | None
) -> tuple[np.ndarray, Box]:
    """A square window of (H, W, 3) uint8 that holds `box`, at a random shift and zoom (`rng` None:
    centered, at zoom 1), as (size, size, 3) uint8, and the box in px of it.

    The window never reaches over the image's edge: a defect at the edge is off its center. Its side is `size` times
    zoom^-0.5 to zoom, larger if the box asks for it, and at most the image's shorter side.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    draw = rng.uniform if rng is not None else lambda low, high: 0.0
    side = max(size * zoom ** draw(-0.5, 1), max(width, height) / FILLED)
    side = min(side, *image.shape[:2])
    corner = []
    for middle, length, limit in (
        ((left + right) / 2, width, image.shape[1]),
        ((top + bottom) / 2, height, image.shape[0]),
    ):
        free = SHIFT * max(side - length, 0) / 2
        corner.append(min(max(middle + draw(-free, free) - side / 2, 0), limit - side))
    x, y = corner
    scale = size / side
    inner = ((left - x) * scale, (top - y) * scale, (right - x) * scale, (bottom - y) * scale)
    return _resampled(image, x, y, side, size), inner


def _resampled(image: np.ndarray, left: float, top: float, side: float, size: int) -> np.ndarray:
    """The square of `side` px at (left, top) as (size, size, 3) uint8; antialiased where it shrinks."""
    square = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=square))
