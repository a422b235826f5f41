"""A defect prior that sees where it paints: the surroundings of the defect's box, and the box itself.

The network takes seven channels: the noisy window, the clean window blanked inside the box, and the mask of the box
(conditioning by concatenation, as in Palette, Saharia et al. 2022). What lies outside the box is known, and is put back
into every clean estimate, as RePaint does with its known region (Lugmayr et al. 2022, equation 8). Beside the defect
classes the network knows a last one, "clean": a window without a defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, Model, Prediction
from guided_diffusion.rows import select_rows

CHANNELS = 4  # beside the noisy image: three of the surroundings, one of the box


@dataclass(frozen=True)
class Surroundings:
    """What is known of M windows: `clean` (M, 3, h, w) in [-1, 1], of which the network sees what is outside the box,
    and `box` (M, 1, h, w), 1 inside the defect's box and 0 outside.

    `support` (M, 1, h, w) is 1 where the defect may be in its box, 0 where the clean window is put back there as well;
    None: anywhere in it.
    """

    clean: Tensor
    box: Tensor
    support: Tensor | None = None

    @property
    def channels(self) -> Tensor:
        """(M, 4, h, w): the clean window with the box blanked, and the box."""
        return torch.cat([self.clean * (1 - self.box), self.box], dim=1)

    def select(self, index: Sequence[int]) -> "Surroundings":
        """Some of the windows."""
        support = None if self.support is None else select_rows(self.support, index)
        return Surroundings(select_rows(self.clean, index), select_rows(self.box, index), support)

    def seen_by(self, model: Model) -> Model:
        """`model` as a function of the noisy window (M, 3, h, w) only."""
        return lambda x, t, y: model(torch.cat([x, self.channels.to(x.dtype)], dim=1), t, y)

    def restore(self, prediction: Prediction, x: Tensor, t: int, diffusion: GaussianDiffusion) -> Prediction:
        """`prediction` at x, index t, with the known pixels put back, and the noise that follows from them."""
        free = self.box if self.support is None else self.box * self.support
        x0 = free * prediction.x0 + (1 - free) * self.clean
        return Prediction(x0, diffusion.eps_from(x0, x, t))


def box_masks(boxes: Sequence[tuple[int, int, int, int]], size: int) -> Tensor:
    """Masks (M, 1, size, size) float32 of boxes (left, top, right, bottom) in px of their windows, right and bottom
    exclusive; what lies outside the window is cut off."""
    masks = torch.zeros(len(boxes), 1, size, size)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return masks


def box_weights(box: Tensor, outside: float) -> Tensor:
    """Weights of the training loss (N, 1, h, w): 1 inside the box, `outside` elsewhere, scaled to a mean of 1 per
    image."""
    weights = outside + (1 - outside) * box
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True)
