"""The defect prior on its own: every window is denoised by the prior alone, without a contextual model.

For a prior that sees its surroundings (surroundings.py): it knows what the rest of the window looks like, which is
put back at every step, so that nothing has to be refined. DDIM (Song et al. 2021), time travel (Lugmayr et al. 2022).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from guided_diffusion.ddim import Noise, Result, Sampler, SamplerOptions, StepRecord
from guided_diffusion.gaussian_diffusion import GaussianDiffusion, Model
from guided_diffusion.windows import Target, Windows


@dataclass(frozen=True)
class PriorStep:
    """A denoising step at t: the windows' clean estimates, and the images with these in place. No attention."""

    t: int
    image_x0: Tensor  # (N, 3, H, W)
    crop_x0: Tensor  # (M, 3, h, w)
    instant: None = None
    accumulated: None = None


class PriorSampler(Sampler):
    """Samples windows with the prior alone; the interface is `Sampler`'s, without its refinement."""

    def __init__(self, prior: Model, diffusion: GaussianDiffusion, options: SamplerOptions, clean_class: int):
        super().__init__(prior, prior, diffusion, options, clean_class)

    @torch.no_grad()
    def sample(
        self,
        clean: Tensor,
        windows: Windows,
        classes: Tensor,
        noise: Noise,
        on_step: Callable[[StepRecord], None] | None = None,
        start: Tensor | None = None,
    ) -> Result:
        """Paint a defect of `classes` (M,) in every window of `clean` (N, 3, H, W) in [-1, 1].

        Sampling starts from `start` (N, 3, H, W), noised, where there is one (Meng et al. 2022), else from `clean`.

        The sample is `clean` with its windows replaced, in their order where they overlap.
        """
        o, d = self.options, self.diffusion
        noised = d.q_sample(clean if start is None else start, o.start_index, noise.image(clean))
        crop, known = windows.cut(noised), Target.of_clean(clean, windows).known
        for t, s in pairwise(o.timesteps):
            # DDIM step (Song et al. 2021, eq. 12).
            if s < t:
                prediction = self._prior(crop, t, classes, known)
                if on_step is not None:
                    on_step(PriorStep(t, windows.pasted(clean, prediction.x0), prediction.x0))
                sigma = d.ddim_sigma(t, s, o.ddim_sigma)
                crop = d.ddim_step(prediction, s, sigma, noise.crop(crop) if sigma > 0 else None)
            # Undo step (RePaint, alg. 1).
            else:
                crop = d.renoise_step(crop, t, s, noise.crop(crop))
        # The state at index 0 still holds a little noise; its clean estimate does not.
        crop = self._prior(crop, o.timesteps[-1], classes, known).x0
        return Result(windows.pasted(clean, crop), crop, noised, None)
