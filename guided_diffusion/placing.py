"""Which places suit a class: how much, and how centrally, the prior would change a clean window there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from guided_diffusion.ddim import Sampler

NOISE_SEED = 0  # all windows get one noise, so that their differences are not the noise's


@torch.no_grad()
def class_appeal(sampler: Sampler, clean: Tensor, class_id: int, others: Sequence[int] = ()) -> Tensor:
    """How readily the prior would paint `class_id` in each of the windows `clean` (B, 3, h, w) in [-1, 1]: (B,).

    The windows are noised as painting begins, and both models estimate the clean picture behind the noise. The
    appeal is their mean distance |x0_prior - x0_contextual|, weighted with a Gaussian around the window's centre:
    the contextual model answers what is there, the prior what it would rather see. The mean of the same for the
    `others` is taken off: where the prior changes much whatever the class, the place says nothing about this one.
    Higher is better; values of different noise levels or networks do not compare.
    """
    options, diffusion = sampler.options, sampler.diffusion
    t = options.start_index
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn(clean.shape[1:], generator=generator).to(clean.device).expand_as(clean)
    noised = diffusion.q_sample(clean, t, noise)

    def appeal(one: int) -> Tensor:
        classes = torch.full((len(clean),), one, device=clean.device)
        prior, plain = sampler.estimates(noised, t, classes)
        change = (prior.x0 - plain.x0).abs().mean(dim=1)
        return (change * centre_weight(*clean.shape[-2:]).to(change)).sum(dim=(1, 2))

    wanted = appeal(class_id)
    return wanted - torch.stack([appeal(other) for other in others]).mean(dim=0) if others else wanted


def centre_weight(height: int, width: int) -> Tensor:
    """(height, width) weights that sum to 1: a Gaussian around the centre, sigma a quarter of each side."""

    def profile(side: int) -> Tensor:
        x = (torch.arange(side) + 0.5) / side - 0.5
        return torch.exp(-0.5 * (x / 0.25) ** 2)

    weight = profile(height)[:, None] * profile(width)
    return weight / weight.sum()
