"""How strong an edit should be by the contrast of its defects: where on the chain painting starts, and how far a prior
needs to be trained for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NOISE_OF_CONTRAST = 6.4  # noise-to-signal at the start by contrast, in units of half the gray range; fitted
WEAKEST, STRONGEST = 0.3, 0.75  # shares of the chain for a prior that sees its surroundings
FROM_EXEMPLARS = (
    0.4  # of that share is enough where painting starts from a training defect, which has the contrast
)
ROOM = (
    0.1  # of the chain that training goes beyond the start: for the rounding of short chains, and to try more
)


@dataclass(frozen=True)
class Strength:
    """The share of the chain at which painting starts, and why."""

    share: float
    reason: str

    def start_step(self, steps: int, exemplars: bool = False) -> int:
        """Index at which the image is noised, on a chain of `steps`; `exemplars`: with a training defect laid over it.

        A defect that is already there needs no noise to come into being, only as much as its fit needs.
        """
        return round(self.share * (FROM_EXEMPLARS if exemplars else 1) * steps)

    def max_t(self, steps: int) -> int:
        """The first t of a chain of `steps` that training may leave out."""
        return min(math.ceil((self.share + ROOM) * steps), steps)


def strength_for(contrasts: Mapping[str, float], noise: Sequence[float] | np.ndarray) -> Strength:
    """By the class with the most contrast, in gray levels: painting starts where noise-to-signal is NOISE_OF_CONTRAST
    times the contrast. Scaling an image by b shifts its log SNR by 2 log b (Chen 2023, arXiv 2301.10972).

    `contrasts` holds one class or more; `noise` is sqrt((1 - abar) / abar) at every t of the chain, ascending.
    """
    name, levels = max(contrasts.items(), key=lambda item: item[1])
    wanted = NOISE_OF_CONTRAST * levels / 127.5
    share = float(np.searchsorted(noise, wanted)) / len(noise)
    bounded = min(max(share, WEAKEST), STRONGEST)
    reason = f"{name} has a contrast of {levels:.0f} gray levels"
    return Strength(bounded, reason if share == bounded else f"{reason}, the bound of what works")
