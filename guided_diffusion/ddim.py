"""Sampling: a contextual model and a defect prior, denoised together and refined at every step.

Luo et al. 2025, on DDIM (Song et al. 2021) with time travel (Lugmayr et al. 2022). N full images hold M >= N
windows; each window has its own crop state and class.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from guided_diffusion.attention_mask import (
    AttentionConfig,
    accumulate,
    background_mask,
    begin_attention,
    beta_at,
)
from guided_diffusion.gaussian_diffusion import GaussianDiffusion, Prediction
from guided_diffusion.refinement import (
    Descent,
    ImageEstimate,
    Networks,
    Point,
    Target,
    Windows,
    carried,
    live_estimate,
    refine,
)

Model = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # model(x, t, y)


class Noise(Protocol):
    """Standard normal noise, one stream per image; drawn for the images first, then for their windows."""

    def image(self, like: Tensor) -> Tensor:
        """(N, 3, H, W)"""

    def crop(self, like: Tensor) -> Tensor:
        """(M, 3, h, w)"""


@dataclass(frozen=True)
class SamplerOptions:
    """Plain values of the configuration's `ddim`, `optimize_xt` and `attention_features`.

    `timesteps` is the walk over chain indices, `start_index` where the clean image is noised, and
    `gradient_steps[t]` the number of gradient steps at t.
    """

    timesteps: Sequence[int]
    start_index: int
    gradient_steps: Sequence[int]
    ddim_sigma: float = 0.0
    optimize_xt: bool = True
    lr_xt: float = 0.1
    lr_crop: bool = False
    lr_xt_decay: float = 1.012
    use_smart_lr_xt_decay: bool = True
    use_adaptive_lr_xt: bool = True
    carry_lr_xt: bool = False
    coef_xt_reg: float = 1e-4
    coef_xt_reg_decay: float = 1.01
    mid_interval_num: int = 1
    optimize_before_time_travel: bool = True
    clip_denoised: bool = True
    prior_guidance: float = 0.0
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    @property
    def refines_before_climbs(self) -> bool:
        """Without refinement there is none before a climb either: plain DDIM."""
        return self.optimize_xt and self.optimize_before_time_travel


def guided_steps(options: SamplerOptions) -> list[int]:
    """The index t of every call of `Sampler.guided_step` in a walk, in order."""
    steps, refined = [], False
    for t, s in pairwise(options.timesteps):
        if s < t or (options.refines_before_climbs and not refined):
            steps.append(t)
        refined = s > t
    return steps


@dataclass(frozen=True)
class StepRecord:
    """What a callback sees after a refinement at t; masks are None without attention."""

    t: int
    image_x0: Tensor  # (N, 3, H, W) clean estimate of the full image
    crop_x0: Tensor  # (M, 3, h, w) clean estimate of the prior
    instant: Tensor | None  # (M, 1, h, w) this step's attention
    accumulated: Tensor | None  # (M, 1, h, w) the attention in force


@dataclass(frozen=True)
class Result:
    """`sample` (N, 3, H, W) and `crop` (M, 3, h, w) in about [-1, 1]; `noised`, what the walk began with.

    `attention` (M, 1, h, w) in [0, 1] is the last one in force, None without attention.
    """

    sample: Tensor
    crop: Tensor
    noised: Tensor
    attention: Tensor | None


class Sampler:
    """The two models on one chain; `sample` is the algorithm, the other methods its parts."""

    def __init__(
        self, contextual: Model, prior: Model, diffusion: GaussianDiffusion, options: SamplerOptions
    ):
        self.contextual, self.prior = contextual, prior
        self.diffusion, self.options = diffusion, options

    @torch.no_grad()
    def sample(
        self,
        clean: Tensor,
        windows: Windows,
        classes: Tensor,
        noise: Noise,
        on_step: Callable[[StepRecord], None] | None = None,
    ) -> Result:
        """Paint a defect of `classes` (M,) in every window of `clean` (N, 3, H, W) in [-1, 1]."""
        o, d = self.options, self.diffusion
        noised = x = d.q_sample(clean, o.start_index, noise.image(clean))
        crop = windows.cut(x)
        target = Target.of_clean(clean, windows)
        lr, reg, mask, shrunk, refined = o.lr_xt, o.coef_xt_reg, None, None, False
        for t, s in pairwise(o.timesteps):
            if s < t:
                point, mask = self.guided_step(x, crop, t, target, classes, mask, lr, reg, on_step, shrunk)
                shrunk = carried(shrunk, point.shrunk) if o.carry_lr_xt else None
                x, crop = self.ddim_update(point, t, s, noise)
                lr, reg, refined = lr * o.lr_xt_decay, reg * o.coef_xt_reg_decay, False
                continue
            if o.refines_before_climbs and not refined:
                point, _ = self.guided_step(x, crop, t, target, classes, mask, lr, reg, on_step, shrunk)
                shrunk = carried(shrunk, point.shrunk) if o.carry_lr_xt else None
                x, crop = point.x, point.crop
                if t == 0:
                    fresh = windows.cut(point.image.prediction.x0)
                    crop = d.q_sample(fresh, 0, noise.crop(fresh))
            refined = True
            x, crop = (
                d.renoise_step(x, t, s, noise.image(x)),
                d.renoise_step(crop, t, s, noise.crop(crop)),
            )
            lr, reg = lr / o.lr_xt_decay, reg / o.coef_xt_reg_decay
        return Result(x, crop, noised, mask)

    def guided_step(
        self,
        x: Tensor,
        crop: Tensor,
        t: int,
        target: Target,
        classes: Tensor,
        mask: Tensor | None,
        lr: float,
        reg: float,
        on_step: Callable[[StepRecord], None] | None = None,
        shrunk: Sequence[float] | None = None,
    ) -> tuple[Point, Tensor | None]:
        """Refine x (N, 3, H, W) and, if asked, crop (M, 3, h, w) at t; returns where they end, and the mask.

        `mask` is the accumulated attention so far, None at the first step; `shrunk` (N,) factors on the rates.
        """
        networks, how = self.networks(t, classes, target.windows), self.descent(t, lr, reg)
        prior = networks.crop(crop, range(len(crop)))
        attention, instant = self.options.attention, None
        finish = begin_attention(prior.x0, target.clean_windows, attention) if attention.enabled else None
        # Queued before the attention is finished: a GPU computes it while the host labels components
        first = live_estimate(x, networks, graph=how.steps > 0)
        if finish is not None:
            instant = finish()
            mask = self.blend(instant, mask, t)
            target = replace(target, defect=mask, background=background_mask(mask))
        point = refine(x, crop, prior, target, networks, how, t, shrunk, first)
        if on_step is not None:
            on_step(StepRecord(t, point.image.prediction.x0, point.prior.x0, instant, mask))
        return point, mask

    def blend(self, instant: Tensor, mask: Tensor | None, t: int) -> Tensor:
        """The attention in force: this step's, blended with `mask`, the accumulated one so far."""
        config = self.options.attention
        if mask is None or not config.accumulation_enabled:
            return instant
        return accumulate(instant, mask, beta_at(t, config, self.diffusion.num_timesteps))

    def descent(self, t: int, lr: float, reg: float) -> Descent:
        """Rates at t; the smart decay scales them by the signal left, sqrt(abar_t / abar_0)."""
        o, abar = self.options, self.diffusion.abar
        rate = lr * math.sqrt(abar[t] / abar[0]) if o.use_smart_lr_xt_decay else lr
        steps = o.gradient_steps[t] if o.optimize_xt else 0
        return Descent(steps, rate, rate if o.lr_crop else 0.0, reg, o.use_adaptive_lr_xt)

    def ddim_update(self, point: Point, t: int, s: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """DDIM update t -> s of the image and of the crop, with noise where eta asks for it."""
        d = self.diffusion
        sigma = d.ddim_sigma(t, s, self.options.ddim_sigma)
        draw = sigma > 0
        x = d.ddim_step(point.image.prediction, s, sigma, noise.image(point.x) if draw else None)
        crop = d.ddim_step(point.prior, s, sigma, noise.crop(point.crop) if draw else None)
        return x, crop

    def networks(self, t: int, classes: Tensor, windows: Windows) -> Networks:
        """Both models at t, as the refinement wants them."""

        def crop(c: Tensor, index: Sequence[int]) -> Prediction:
            return self._prior(c, t, classes if len(index) == len(classes) else classes[list(index)])

        return Networks(lambda x: self._image_estimate(x, t), crop)

    def estimates(
        self, crop: Tensor, t: int, class_ids: Sequence[int]
    ) -> tuple[Iterator[Prediction], Prediction]:
        """What the prior sees in a noised crop (M, 3, h, w) at t for each class, one after another, and what the
        contextual model sees."""
        plain = self._plain(crop, t)
        ids = (torch.full((len(crop),), class_id, device=crop.device) for class_id in class_ids)
        return (self._prior(crop, t, y, plain) for y in ids), plain

    def _call(self, model: Model, x: Tensor, t: int, y: Tensor | None) -> Tensor:
        """The one place where a network is called."""
        return model(x, self.diffusion.network_times(t, x.device).expand(len(x)), y)

    def _predict(self, model: Model, x: Tensor, t: int, y: Tensor | None, clip: bool) -> Prediction:
        return self.diffusion.predict(self._call(model, x, t, y), x, t, clip)

    def _plain(self, crop: Tensor, t: int) -> Prediction:
        """The contextual model's prediction at a crop, which it takes for a small picture without defects."""
        return self._predict(self.contextual, crop, t, None, self.options.clip_denoised)

    def _prior(self, crop: Tensor, t: int, y: Tensor, plain: Prediction | None = None) -> Prediction:
        """The prior's prediction; with guidance s, eps = eps_prior + s (eps_prior - eps_contextual).

        `plain` is the contextual model's prediction at the crop, if it is known.
        """
        s, clip = self.options.prior_guidance, self.options.clip_denoised
        prediction = self._predict(self.prior, crop, t, y, clip)
        if s == 0:
            return prediction
        plain = plain or self._plain(crop, t)
        return self.diffusion.from_eps(prediction.eps + s * (prediction.eps - plain.eps), crop, t, clip)

    def _image_estimate(self, x: Tensor, t: int) -> ImageEstimate:
        """One-step prediction at (x, t), and the end of a DDIM chain of `mid_interval_num` sub-steps."""
        k, clip = self.options.mid_interval_num, self.options.clip_denoised
        prediction = self._predict(self.contextual, x, t, None, clip)
        if k == 1:
            return ImageEstimate(prediction, prediction.x0)
        step = Prediction(prediction.x0.clamp(-1, 1), prediction.eps)
        walk = [i * (t // k) for i in range(k - 1, -1, -1)]
        for n, s in enumerate(walk):
            x = self.diffusion.ddim_step(step, s)
            if n < k - 1:
                step = self._predict(self.contextual, x, s, None, clip=True)
        return ImageEstimate(prediction, x.clamp(-1, 1))
