"""Folders of images -> training tensors, in an order that depends on the seed and the step alone."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from utils.images import is_gray, resize_squash

Key = tuple[int, int]  # (index of an image, seed of its augmentation)


@dataclass(frozen=True)
class Augmentation:
    """What may change between two visits of an image; none of it changes a defect's class.

    `jitter`: px by which a centered crop may be off center. `color`: largest relative change of brightness and
    contrast, and of each channel's gain (half of it); 0 is off. `shrink`: crops of defect-free images cover up to
    so many times the side and are resampled to size, as painting does for long defects; 1 is off. `zoom`: windows
    around a box cover between zoom^-0.5 and zoom times their usual side; 1 is off.
    """

    flip: bool
    rotate90: bool
    jitter: int
    color: float
    shrink: float
    zoom: float


def augment(
    image: np.ndarray, size: int, centered: bool, how: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Crop (H, W, 3) uint8 to (size, size, 3) float32 in [-1, 1], turned and colored at random.

    `centered` crops around the middle (defect patches), otherwise anywhere (defect-free images).
    """
    limits = np.array(image.shape[:2]) - size  # largest top and left
    if centered:
        offset = limits // 2 + rng.integers(-how.jitter, how.jitter + 1, 2)
        top, left = np.clip(offset, 0, limits)
        crop = image[top : top + size, left : left + size]
    else:
        crop = resize_squash(_square(image, size, how.shrink, rng), size)
    return colored(turned(crop, how, rng), how, rng)


def turned(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """(S, S, C) turned by a random quarter and mirrored at random, left-right and top-bottom."""
    if how.rotate90:
        image = np.rot90(image, int(rng.integers(0, 4)))
    elif how.flip and rng.random() < 0.5:
        image = image[::-1]
    if how.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    return image


def colored(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8 -> float32 in [-1, 1] with random gains and brightness; a gray image keeps its channels equal."""
    values = image.astype(np.float32) / 127.5 - 1.0
    if how.color > 0:
        tint = 0.5 * rng.uniform(-1, 1, 3)
        if is_gray(image):
            tint = tint[:1]
        gain = 1 + how.color * (rng.uniform(-1, 1) + tint)
        values = np.clip(values * gain + how.color * rng.uniform(-1, 1), -1, 1)
    return np.ascontiguousarray(values, dtype=np.float32)


def _square(image: np.ndarray, size: int, shrink: float, rng: np.random.Generator) -> np.ndarray:
    """A square anywhere in (H, W, 3), its side `size` times a factor from 1 to `shrink` (uniform in the logarithm)."""
    side = size
    if shrink > 1:
        side = min(round(size * shrink ** rng.random()), *image.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


class PatchDataset(Dataset):
    """Images (H, W, 3) uint8 held in memory, or read at every visit when `read` is given.

    `images` holds arrays, or whatever `read` turns into one. An item is asked for by (index, seed) and is
    (3, size, size) float32 in [-1, 1] with its class id (0 without classes).
    """

    def __init__(
        self,
        images: Sequence[Any],
        labels: Sequence[int] | None,
        size: int,
        how: Augmentation,
        read: Callable[[Any], np.ndarray] | None = None,
    ):
        self.images, self.labels, self.size, self.how, self.read = images, labels, size, how, read

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        index, seed = key
        image = self.images[index] if self.read is None else self.read(self.images[index])
        centered = self.labels is not None
        values = augment(image, self.size, centered, self.how, np.random.default_rng(seed))
        return torch.from_numpy(values).permute(2, 0, 1), 0 if self.labels is None else self.labels[index]


class StepSampler(Sampler):
    """For each training step from `start_step` on, the keys of this rank's share of the global batch.

    Every image is visited once per epoch in a shuffled order; with `class_balanced` labels, classes are
    visited in turn and each class's images in shuffled order. The keys of a step depend on (seed, step)
    alone, so that a resumed run, and a run on any number of ranks, sees the same data.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        labels: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ):
        groups = [np.arange(count)] if labels is None else _by_class(labels)
        self.groups, self.seed, self.start_step, self.shuffle = groups, seed, start_step, shuffle
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def _visit(self, position: int) -> Key:
        """The key of the `position`-th image of the whole run."""
        turn, group = divmod(position, len(self.groups))
        members = self.groups[group]
        epoch, place = divmod(turn, len(members))
        if self.shuffle:
            place = self._order(group, epoch)[place]
        return int(members[place]), (self.seed * 1_000_003 + position) % 2**63

    def _order(self, group: int, epoch: int) -> np.ndarray:
        if (group, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != group}
            rng = np.random.default_rng([self.seed, group, epoch])
            self._orders[group, epoch] = rng.permutation(len(self.groups[group]))
        return self._orders[group, epoch]

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.start_step
        while True:
            first = step * self.batch_size * self.world_size + self.rank * self.batch_size
            yield [self._visit(first + i) for i in range(self.batch_size)]
            step += 1


def _by_class(labels: Sequence[int]) -> list[np.ndarray]:
    array = np.asarray(labels)
    return [np.flatnonzero(array == c) for c in np.unique(array)]


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the workers too; the training process decides when they stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(dataset: Dataset, sampler: StepSampler, num_workers: int) -> Iterator[list[Tensor]]:
    """Endless batches of what `dataset` holds, one per training step: x (N, 3, S, S) in [-1, 1], y (N,) int64, and
    what else belongs to an example."""
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_ignore_interrupts,
    )
    yield from loader
