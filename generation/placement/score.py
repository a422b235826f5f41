"""Placement score: how well a place suits a class, by its surroundings and by the change that the prior predicts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from guided_diffusion.ddim import Sampler

NOISE_SEED = 0  # one noise for all windows, so that scores do not differ by noise
CENTER = 0.125  # sigma of the Gaussian around the center, share of a window's side
SURROUNDINGS = 0.1875, 0.5  # inner and outer radius around the center, shares of a window's side
MOST_OTHERS = 7
CHANGE_FLOOR, ERROR_FLOOR = 1e-3, 1e-6  # keep logarithms of 0 finite


@torch.no_grad()
def placement_score(sampler: Sampler, clean: Tensor, class_id: int, others: Sequence[int] = ()) -> Tensor:
    """How well windows `clean` (B, 3, h, w) in [-1, 1] suit a defect of `class_id`: (B,), higher is better.

    The windows are noised as painting begins, and both models estimate the clean image behind the noise. The
    score is a sum of three logarithms of ratios:

    - contextual model's error in the surroundings / the prior's: does this class occur in such surroundings at all?
    - the prior's error there for the `others` (their geometric mean) / for this class: do others fit better?
    - change in the center / in the surroundings, |x0_prior - x0_contextual|, against the same of the `others`:
      does the prior predict a defect at the center, and nothing else?

    Errors of a conditional denoiser as a measure of likelihood: Li et al. 2023, "Your Diffusion Model is Secretly a
    Zero-Shot Classifier". Costs one forward pass of the contextual model, and one of the prior for the class and for
    each of at most 7 `others`. Without them the second term is left out, and the third is absolute.
    """
    options, diffusion = sampler.options, sampler.diffusion
    t = options.start_index
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn(clean.shape[1:], generator=generator).to(clean.device).expand_as(clean)
    noised = diffusion.q_sample(clean, t, noise)
    priors, plain = sampler.estimates(noised, t, [class_id, *some_of(others)])
    center, around = (
        weight.to(clean) for weight in (center_weight(*clean.shape[-2:]), ring(*clean.shape[-2:]))
    )

    def error(x0: Tensor) -> Tensor:
        """Logarithm of the mean square error in the surroundings, (B,)."""
        square = ((x0 - clean) ** 2).mean(dim=1)
        return ((square * around).sum(dim=(1, 2)) + ERROR_FLOOR).log()

    def centrality(x0: Tensor) -> Tensor:
        """Logarithm of the change in the center over that in the surroundings, (B,)."""
        change = (x0 - plain.x0).abs().mean(dim=1)
        inner, outer = ((change * weight).sum(dim=(1, 2)) + CHANGE_FLOOR for weight in (center, around))
        return (inner / outer).log()

    (own_error, own_centrality), *rest = ((error(prior.x0), centrality(prior.x0)) for prior in priors)
    score = error(plain.x0) - own_error + own_centrality
    if rest:
        other_error, other_centrality = (
            torch.stack(values).mean(dim=0) for values in zip(*rest, strict=True)
        )
        score = score + other_error - own_error - other_centrality
    return score


def some_of(others: Sequence[int]) -> list[int]:
    """At most MOST_OTHERS of them, spread evenly: more would cost time and tell little."""
    count = min(len(others), MOST_OTHERS)
    return [others[k * len(others) // count] for k in range(count)]


def radius(height: int, width: int) -> Tensor:
    """Distance of each pixel from the center in shares of the window's sides: (height, width)."""
    y, x = ((torch.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    return torch.hypot(y[:, None], x[None])


def center_weight(height: int, width: int) -> Tensor:
    """(height, width) weights that sum to 1: a Gaussian around the center."""
    weight = torch.exp(-0.5 * (radius(height, width) / CENTER) ** 2)
    return weight / weight.sum()


def ring(height: int, width: int) -> Tensor:
    """(height, width) weights that sum to 1: equal in the surroundings, 0 in the center and in the corners."""
    inner, outer = SURROUNDINGS
    distance = radius(height, width)
    weight = ((distance > inner) & (distance < outer)).float()
    return weight / weight.sum()
