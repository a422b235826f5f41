"""Sampling: a contextual model and a defect prior, denoised together and refined at every step.

Luo et al. 2025, on DDIM (Song et al. 2021) with time travel (Lugmayr et al. 2022). N full images hold M >= N
windows; each window has its own crop state and class.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from guided_diffusion.attention_mask import (
    AttentionOptions,
    accumulate,
    background_mask,
    begin_attention,
    beta_at,
)
from guided_diffusion.gaussian_diffusion import GaussianDiffusion, Model, Prediction
from guided_diffusion.refinement import (
    Descent,
    ImageEstimate,
    Networks,
    Objective,
    Point,
    State,
    live_estimate,
    refine,
    warm_start,
)
from guided_diffusion.rows import select_rows
from guided_diffusion.surroundings import Surroundings
from guided_diffusion.timesteps import estimate_chain
from guided_diffusion.windows import Target, Windows


class Noise(Protocol):
    """Standard normal noise, one stream per image; drawn for the images first, then for their windows."""

    def image(self, like: Tensor, images: Sequence[int] | None = None) -> Tensor:
        """(N, 3, H, W), or (n, 3, H, W) for some `images` only."""

    def crop(self, like: Tensor) -> Tensor:
        """(M, 3, h, w)"""


@dataclass(frozen=True)
class SamplerOptions:
    """Plain values of the configuration's `ddim`, `optimize_xt` and `attention_features` (utils/schema/generation.py).

    `timesteps` is the sequence of chain indices, `start_index` where the clean image is noised, and
    `gradient_steps[t]` the number of gradient steps at t.
    """

    timesteps: Sequence[int]
    start_index: int
    gradient_steps: Sequence[int]
    ddim_sigma: float
    optimize_xt: bool
    lr_xt: float
    lr_crop: bool
    lr_xt_decay: float
    use_smart_lr_xt_decay: bool
    use_adaptive_lr_xt: bool
    carry_lr_xt: bool
    coef_xt_reg: float
    coef_xt_reg_decay: float
    mid_interval_num: int
    optimize_before_time_travel: bool
    clip_denoised: bool
    prior_guidance: float
    attention: AttentionOptions

    @property
    def refines_before_jumps(self) -> bool:
        """Without refinement there is none before a jump either: plain DDIM."""
        return self.optimize_xt and self.optimize_before_time_travel

    def estimate_chain(self, t: int) -> list[int]:
        """Chain behind the estimate that the energy compares; plain DDIM needs the one-step estimate only."""
        return estimate_chain(t, self.mid_interval_num if self.optimize_xt else 1)


def guided_steps(options: SamplerOptions) -> list[int]:
    """The index t of every call of `Sampler.guided_step` in a sampling run, in order."""
    steps, refined = [], False
    for t, s in pairwise(options.timesteps):
        if s < t or (options.refines_before_jumps and not refined):
            steps.append(t)
        refined = s > t
    return steps


class StepRecord(Protocol):
    """What a sampler reports at t: its clean estimates, and its attention (M, 1, h, w), None without attention."""

    @property
    def t(self) -> int: ...

    @property
    def image_x0(self) -> Tensor:
        """Clean estimate of the full image (N, 3, H, W)."""

    @property
    def crop_x0(self) -> Tensor:
        """Clean estimate of the prior (M, 3, h, w)."""

    @property
    def instant(self) -> Tensor | None:
        """This step's attention."""

    @property
    def accumulated(self) -> Tensor | None:
        """The mask used at this step."""


@dataclass(frozen=True)
class RefinementStep:
    """A refinement at t: where it ended, and its attention."""

    t: int
    point: Point
    instant: Tensor | None
    accumulated: Tensor | None

    @property
    def image_x0(self) -> Tensor:
        return self.point.image.prediction.x0

    @property
    def crop_x0(self) -> Tensor:
        return self.point.prior.x0


@dataclass(frozen=True)
class Result:
    """`sample` (N, 3, H, W) and `crop` (M, 3, h, w) in about [-1, 1]; `noised`, the image before the first step.

    `attention` (M, 1, h, w) in [0, 1] is the mask of the last denoising step, None without attention.
    """

    sample: Tensor
    crop: Tensor
    noised: Tensor
    attention: Tensor | None


class Sampler:
    """The two models on one chain; `sample` is the algorithm, the other methods its parts.

    `clean_class` is the id of the class "clean" of a prior that sees its surroundings.
    """

    def __init__(
        self,
        contextual: Model,
        prior: Model,
        diffusion: GaussianDiffusion,
        options: SamplerOptions,
        clean_class: int | None = None,
    ):
        self.contextual, self.prior, self.clean_class = contextual, prior, clean_class
        self.diffusion, self.options = diffusion, options

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
        """
        o = self.options
        noised = self.diffusion.q_sample(clean if start is None else start, o.start_index, noise.image(clean))
        target = Target.of_clean(clean, windows)
        state = State(noised, windows.cut(noised), None, o.lr_xt, o.coef_xt_reg)
        for t, s in pairwise(o.timesteps):
            denoising = s < t
            # Collaborative refinement at t; before a jump only once, at its foot.
            if denoising or (o.refines_before_jumps and not state.refined):
                step = self.guided_step(state, t, target, classes, noise)
                if on_step is not None:
                    on_step(step)
                state = self.at_point(state, step.point)
                if t == 0:  # only a jump begins here: the crop anew from the refined image, as published
                    state = replace(state, crop=self.redrawn_crop(step.point, windows, noise))
            # DDIM step (Song et al. 2021, eq. 12).
            if denoising:
                state = self.denoised(replace(state, mask=step.accumulated), step.point, t, s, noise)
            # Undo step (RePaint, alg. 1). The mask of a refinement before a jump is not accumulated, as published.
            else:
                state = self.renoised(state, t, s, noise)
        return Result(state.x, state.crop, noised, state.mask)

    def guided_step(
        self, state: State, t: int, target: Target, classes: Tensor, noise: Noise
    ) -> RefinementStep:
        """Refine x and, with `lr_crop`, the crop at t, toward `target`, whose masks are computed here."""
        networks = self.networks(t, target, classes, noise)
        images, descent = range(len(state.x)), self.descent(t, state.lr, state.reg)
        prior = networks.crop(state.crop, range(len(state.crop)))
        attention, instant, mask = self.options.attention, None, state.mask
        finish = begin_attention(prior.x0, target.clean_windows, attention) if attention.enabled else None
        # Queued before the attention is finished: a GPU computes it while the host labels components
        first = live_estimate(networks, state.x, images, graph=descent.steps > 0)
        if finish is not None:
            instant = finish()
            mask = self.blend(instant, mask, t)
            target = replace(target, defect=mask, background=background_mask(mask))
        point = refine(Objective(target, networks, descent, state, t), prior, first)
        return RefinementStep(t, point, instant, mask)

    def at_point(self, state: State, point: Point) -> State:
        """The state at the end of a refinement."""
        scale = warm_start(state.step_scale, point.step_scale) if self.options.carry_lr_xt else None
        return replace(state, x=point.x, crop=point.crop, step_scale=scale)

    def denoised(self, state: State, point: Point, t: int, s: int, noise: Noise) -> State:
        """The state at s < t, from the estimates at `point`; the rates decay."""
        o = self.options
        x, crop = self.ddim_update(point, t, s, noise)
        lr, reg = state.lr * o.lr_xt_decay, state.reg * o.coef_xt_reg_decay
        return replace(state, x=x, crop=crop, lr=lr, reg=reg, refined=False)

    def renoised(self, state: State, t: int, s: int, noise: Noise) -> State:
        """The state at s > t with noise added; the decay of the rates is undone."""
        o, d = self.options, self.diffusion
        x = d.renoise_step(state.x, t, s, noise.image(state.x))
        crop = d.renoise_step(state.crop, t, s, noise.crop(state.crop))
        lr, reg = state.lr / o.lr_xt_decay, state.reg / o.coef_xt_reg_decay
        return replace(state, x=x, crop=crop, lr=lr, reg=reg, refined=True)

    def redrawn_crop(self, point: Point, windows: Windows, noise: Noise) -> Tensor:
        """(M, 3, h, w) at index 0: the windows of the contextual model's clean estimate, noised."""
        fresh = windows.cut(point.image.end)
        return self.diffusion.q_sample(fresh, 0, noise.crop(fresh))

    def blend(self, instant: Tensor, mask: Tensor | None, t: int) -> Tensor:
        """The mask used at this step: its attention, blended with `mask`, the accumulated one so far."""
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

    def networks(self, t: int, target: Target, classes: Tensor, noise: Noise) -> Networks:
        """Both models at t; `classes` (M,), and `noise` for the sub-steps of the contextual model's estimate."""
        chain, eta = self.options.estimate_chain(t), self.options.ddim_sigma
        sigmas = [self.diffusion.ddim_sigma(a, b, eta) for a, b in pairwise(chain)]

        def image(x: Tensor, images: Sequence[int]) -> ImageEstimate:
            return self._image_estimate(x, chain, sigmas, lambda like: noise.image(like, images))

        def crop(c: Tensor, index: Sequence[int]) -> Prediction:
            known = None if target.known is None else target.known.select(index)
            return self._prior(c, t, select_rows(classes, index), known)

        return Networks(image, crop, noisy=any(sigmas))

    def estimates(
        self, crop: Tensor, t: int, class_ids: Sequence[int]
    ) -> tuple[Iterator[Prediction], Prediction]:
        """What the prior sees in a noised crop (M, 3, h, w) at t for each class, one after another, and what the
        contextual model sees."""
        plain = self._plain(crop, t)
        ids = (torch.full((len(crop),), class_id, device=crop.device) for class_id in class_ids)
        return (self._prior(crop, t, y, plain=plain) for y in ids), plain

    def _call(self, model: Model, x: Tensor, t: int, y: Tensor | None) -> Tensor:
        """The one place where a network is called."""
        return model(x, self.diffusion.network_times(t, x.device).expand(len(x)), y)

    def _predict(self, model: Model, x: Tensor, t: int, y: Tensor | None, clip: bool) -> Prediction:
        return self.diffusion.predict(self._call(model, x, t, y), x, t, clip)

    def _plain(self, crop: Tensor, t: int) -> Prediction:
        """The contextual model's prediction at a crop, which it takes for a small defect-free image."""
        return self._predict(self.contextual, crop, t, None, self.options.clip_denoised)

    def _prior(
        self,
        crop: Tensor,
        t: int,
        y: Tensor,
        known: Surroundings | None = None,
        plain: Prediction | None = None,
    ) -> Prediction:
        """The prior's prediction; with guidance s, eps = eps_prior + s (eps_prior - eps_plain).

        `plain` is the prediction of a window without a defect: the contextual model's, or that of a prior that sees its
        surroundings, `known`, for the class "clean" (classifier-free guidance, Ho & Salimans 2022).
        """
        s, clip = self.options.prior_guidance, self.options.clip_denoised
        prior = self.prior if known is None else known.seen_by(self.prior)
        prediction = self._predict(prior, crop, t, y, clip)
        if s > 0:
            if known is not None:
                assert self.clean_class is not None  # of every prior that sees its surroundings
                plain = self._predict(prior, crop, t, torch.full_like(y, self.clean_class), clip)
            plain = plain or self._plain(crop, t)
            eps = prediction.eps + s * (prediction.eps - plain.eps)
            prediction = self.diffusion.from_eps(eps, crop, t, clip)
        return prediction if known is None else known.restore(prediction, crop, t, self.diffusion)

    def _image_estimate(
        self, x: Tensor, chain: Sequence[int], sigmas: Sequence[float], draw: Callable[[Tensor], Tensor]
    ) -> ImageEstimate:
        """One-step prediction at (x, chain[0]), and the clipped end of the DDIM chain from there.

        `sigmas` are the sub-steps' noise levels; `draw`(x) is called where one is above 0, and is constant to the
        gradient.
        """
        clip = self.options.clip_denoised
        prediction = self._predict(self.contextual, x, chain[0], None, clip)
        if len(chain) == 1:
            return ImageEstimate(prediction, prediction.x0)
        step = Prediction(prediction.x0.clamp(-1, 1), prediction.eps)
        for n, (a, b) in enumerate(pairwise(chain)):
            if n > 0:
                step = self._predict(self.contextual, x, a, None, clip=True)
            x = self.diffusion.ddim_step(step, b, sigmas[n], draw(x) if sigmas[n] > 0 else None)
        return ImageEstimate(prediction, x.clamp(-1, 1))
