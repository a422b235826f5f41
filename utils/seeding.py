"""One random stream per sample: its noise depends on the seed and on what is painted, not on its company."""

from collections.abc import Sequence

import torch
from torch import Tensor


class SampleNoise:
    """Standard normal noise for N images and their M windows, each image from its own CPU stream.

    `seeds` holds N seeds, `owner` the image of each window. The same on every device.
    """

    def __init__(self, seeds: Sequence[int], owner: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.owner = list(owner)

    def image(self, like: Tensor, images: Sequence[int] | None = None) -> Tensor:
        """(N, C, H, W), a draw for every image; or (n, C, H, W), for those of `images` only."""
        return self._draw(like, range(len(self.generators)) if images is None else images)

    def crop(self, like: Tensor) -> Tensor:
        """(M, C, h, w), a draw for every window from its image's stream."""
        return self._draw(like, self.owner)

    def _draw(self, like: Tensor, streams: Sequence[int]) -> Tensor:
        assert len(like) == len(streams), f"{len(like)} rows, {len(streams)} streams"
        rows = [torch.randn(like.shape[1:], generator=self.generators[i]) for i in streams]
        noise = torch.stack(rows)
        # From page-locked memory a copy does not wait for what the GPU has yet to do
        return noise.pin_memory().to(like, non_blocking=True) if like.is_cuda else noise.to(like)


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A CPU generator whose draws depend on (seed, step, stream) alone."""
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + step * 1_000_003 + stream) % 2**63)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the global generators, which dropout draws from; stream 0 is that of t and noise."""
    return int(torch.randint(2**62, (1,), generator=step_generator(seed, step, 1 + rank)))
