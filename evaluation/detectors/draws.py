"""The order in which training images are drawn: every batch holds its share of real ones."""

import itertools
from collections.abc import Iterator

import numpy as np

from evaluation.detectors.interface import Example, TrainingTask
from utils.errors import UserError


def pool(task: TrainingTask) -> list[Example]:
    """The real images, then the synthetic ones: what indices of `batches` stand for."""
    return [*task.real, *task.synthetic]


def batches(task: TrainingTask) -> Iterator[np.ndarray]:
    """Endless batches (batch_size,) of indices into `pool`, each in random order.

    After any number of batches the count of real draws is `real_share` of all, rounded down. Both kinds are drawn
    without replacement until all of them have been seen.
    """
    real, synthetic = len(task.real), len(task.synthetic)
    rng = np.random.default_rng(task.seed)
    streams = [_shuffled(real, 0, rng), _shuffled(synthetic, real, rng)]
    for count in share_of_real(task, real > 0, synthetic > 0):
        counts = (count, task.batch_size - count)
        chosen = [next(stream) for stream, count in zip(streams, counts, strict=True) for _ in range(count)]
        yield rng.permutation(np.array(chosen))


def share_of_real(task: TrainingTask, has_real: bool, has_synthetic: bool) -> Iterator[int]:
    """Of each batch, how many images are real. Raises UserError where there is nothing to draw from."""
    if not (has_real or has_synthetic):
        raise UserError("there are no training images with boxes; expected real or synthetic ones")
    share = task.real_share if has_real and has_synthetic else float(has_real)
    before = 0
    for end in itertools.count(task.batch_size, task.batch_size):
        upto = int(share * end + 1e-9)
        yield upto - before
        before = upto


def _shuffled(count: int, first: int, rng: np.random.Generator) -> Iterator[int]:
    """first..first + count - 1 in random order, then in another one, and so on."""
    while True:
        yield from (int(k) for k in first + rng.permutation(count))
