"""Collaborative refinement of x_t (Luo et al. 2025): the energy, and gradient descent with a line search per image.

N full images hold M >= N defect windows (see windows.py). Every number is per image, so a batch equals its single
runs. Gradient descent on x_t follows CoPaint (Zhang et al. 2023).
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from guided_diffusion.gaussian_diffusion import Prediction
from guided_diffusion.rows import select_rows
from guided_diffusion.transfer import to_device
from guided_diffusion.windows import Target, Windows

log = logging.getLogger(__name__)

# Weights of the energy (Luo et al. 2025): defect and background inside the window, and everything outside it.
DEFECT_WEIGHT, BACKGROUND_WEIGHT, OUTSIDE_WEIGHT = 1e5, 1e4, 5e4
# Without attention the terms are sums instead of means.
PLAIN_WINDOW_WEIGHT, PLAIN_OUTSIDE_WEIGHT = 10.0, 0.06
BACKTRACKING = 0.8  # factor on an image's rates after a rejected trial
MAX_REJECTIONS = 100  # per gradient step


class NonFiniteEnergy(RuntimeError):
    """The energy of some `images` of the batch is not a number at the beginning of a step, at `t`."""

    def __init__(self, images: Sequence[int], t: int):
        super().__init__(
            f"the refinement's loss is not a number at t={t}, of images {list(images)} of the batch"
        )
        self.images, self.t = tuple(images), t


def energy(end: Tensor, crop_x0: Tensor, target: Target) -> Tensor:
    """Disagreement of the two models and of the clean image, per image (Luo et al. 2025).

    `end` (N, 3, H, W), the contextual model's clean estimate, and `crop_x0` (M, 3, h, w), the prior's; -> (N,).
    Inside the defect mask a window should equal the prior's estimate, in the background the clean window, and
    outside every window the image should equal the clean image.
    """
    window = target.windows.cut(end)
    off = (target.outside * (end - target.clean) ** 2).flatten(1)
    if target.defect is None or target.background is None:
        inside = PLAIN_WINDOW_WEIGHT * ((window - crop_x0) ** 2).flatten(1).sum(1)
        total = PLAIN_OUTSIDE_WEIGHT * off.sum(1)
    else:
        inside = DEFECT_WEIGHT * (target.defect * (window - crop_x0) ** 2).flatten(1).mean(1)
        inside = inside + BACKGROUND_WEIGHT * (
            target.background * (window - target.clean_windows) ** 2
        ).flatten(1).mean(1)
        total = OUTSIDE_WEIGHT * off.mean(1)
    return total.index_add(0, target.windows.owner, inside)


# Types


@dataclass(frozen=True)
class State:
    """What the sampler carries from step to step.

    `lr` and `reg` are `lr_xt` and `coef_xt_reg` with the decays so far; `refined`: whether a refinement before
    time travel has happened since the last denoising step.
    """

    x: Tensor  # (N, 3, H, W)
    crop: Tensor  # (M, 3, h, w)
    mask: Tensor | None  # (M, 1, h, w) accumulated attention, None before the first step or without attention
    lr: float
    reg: float
    step_scale: Sequence[float] | None = None  # (N,) factors on the rates at the next t, None: 1
    refined: bool = False


@dataclass(frozen=True)
class ImageEstimate:
    """The contextual model at (x, t): its one-step prediction, and the estimate that the energy compares."""

    prediction: Prediction
    end: Tensor  # (N, 3, H, W)


@dataclass(frozen=True)
class Networks:
    """Both models at one t.

    `image`(x, images) and `crop`(c, index) take some rows, and are told which images and windows these are.
    `noisy`: `image` draws noise, so that a second evaluation at x gives another `end`.
    """

    image: Callable[[Tensor, Sequence[int]], ImageEstimate]
    crop: Callable[[Tensor, Sequence[int]], Prediction]
    noisy: bool = False


@dataclass(frozen=True)
class Descent:
    """Gradient descent at one t: number of steps, rates, weight of the regularizer, line search or not."""

    steps: int
    rate: float
    crop_rate: float
    coef_reg: float
    adaptive: bool


@dataclass(frozen=True)
class Point:
    """The state at one t, both models' estimates there, and the energy with regularizer. All detached.

    `step_scale`, at the end of a refinement: the factors on the images' rates after the line search.
    """

    x: Tensor  # (N, 3, H, W)
    crop: Tensor  # (M, 3, h, w)
    image: ImageEstimate
    prior: Prediction
    value: Tensor  # (N,)
    grad: Tensor | None = None  # d value / d x
    crop_grad: Tensor | None = None  # d value / d crop, None while the crop is not optimized
    step_scale: tuple[float, ...] = ()


@dataclass(frozen=True)
class LiveEstimate:
    """The contextual model's estimate at x, the rows of `images`; x is the leaf of its graph if it has one."""

    x: Tensor  # (n, 3, H, W)
    images: Sequence[int]
    estimate: ImageEstimate


def live_estimate(networks: Networks, x: Tensor, images: Sequence[int], graph: bool) -> LiveEstimate:
    """The contextual model at x (n, 3, H, W); with `graph`, x becomes the leaf of a graph of its own."""
    with torch.set_grad_enabled(graph):
        if graph:
            x = x.detach().requires_grad_()
        return LiveEstimate(x, images, networks.image(x, images))


@dataclass(frozen=True)
class Objective:
    """The regularized energy at one t. `origin` is the state at the step's beginning, where the regularizer is 0."""

    target: Target
    networks: Networks
    descent: Descent
    origin: State
    t: int

    @property
    def moves_crop(self) -> bool:
        """Whether the crop is optimized too."""
        return self.descent.crop_rate != 0

    @property
    def redraws(self) -> bool:
        """Whether the point that the line search takes is evaluated again, with noise of its own, as published."""
        return self.networks.noisy and self.descent.adaptive

    def estimate(self, x: Tensor, images: Sequence[int], graph: bool) -> LiveEstimate:
        """`live_estimate` at x (n, 3, H, W)."""
        return live_estimate(self.networks, x, images, graph)

    def evaluate(self, at: LiveEstimate, crop: Tensor, prior: Prediction | None, graph: bool) -> Point:
        """The point at (at.x, crop); with `graph` its value can still be differentiated.

        `prior` is the prior's prediction at `crop`, None if it is not known.
        """
        moving, origin = self.moves_crop, self.origin
        with torch.set_grad_enabled(graph):
            if graph:
                crop = crop.detach().requires_grad_(moving)
            index = self.target.windows.select(at.images)[1]
            target = self.target if len(at.images) == len(origin.x) else self.target.select(at.images)
            if prior is None or (moving and graph):
                prior = self.networks.crop(crop, index)
            value = energy(at.estimate.end, prior.x0, target)
            pull = ((at.x - select_rows(origin.x, at.images)) ** 2).flatten(1).sum(1)
            if moving:
                change = ((crop - select_rows(origin.crop, index)) ** 2).flatten(1).sum(1)
                pull = pull.index_add(0, target.windows.owner, change)
            return Point(at.x, crop, at.estimate, prior, value + self.descent.coef_reg * pull)

    def attempt(
        self, point: Point, images: list[int], rates: list[float], graph: bool
    ) -> tuple[Point | None, list[int]]:
        """One gradient step of some images at their `rates`, one each: the point (None: all rejected), and those
        accepted.

        The graph of a rejected trial is gone on return, before the next one is built.
        """
        assert point.grad is not None  # a step starts from a point with a gradient
        windows, index = self.target.windows.select(images)
        step = to_device(torch.tensor(rates), point.x.device)
        x = select_rows(point.x, images) - step.view(-1, 1, 1, 1) * select_rows(point.grad, images)
        crop, prior = select_rows(point.crop, index), None
        if point.crop_grad is None:
            prior = Prediction(select_rows(point.prior.x0, index), select_rows(point.prior.eps, index))
        else:
            crop_step = step[windows.owner] * (self.descent.crop_rate / self.descent.rate)
            crop = crop - crop_step.view(-1, 1, 1, 1) * select_rows(point.crop_grad, index)
        live = self.evaluate(self.estimate(x, images, graph), crop, prior, graph)
        accepted = self.accepted(live, point, images)
        return settle(live, graph) if accepted else None, accepted

    def accepted(self, trial: Point, point: Point, images: list[int]) -> list[int]:
        """Those of `images` whose trial is accepted: the one transfer that the device is waited for."""
        before, after = torch.stack([select_rows(point.value, images), trial.value]).tolist()
        _require_finite(before, images, self.t)
        if not self.descent.adaptive:
            return images
        # A NaN compares false
        return [i for i, old, new in zip(images, before, after, strict=True) if new <= old]


# Gradient descent


def refine(objective: Objective, prior: Prediction, first: LiveEstimate | None = None) -> Point:
    """Gradient steps on x, and on the crop if it has a rate, from `objective.origin`; returns where they end.

    `prior` is the prior's prediction at the crop, `first` the `live_estimate` at x if there is one. While the crop
    is fixed its network is not called again. Raises NonFiniteEnergy, naming t, when the energy is not a number at
    the beginning.
    """
    origin, descent, t = objective.origin, objective.descent, objective.t
    everything, graph = list(range(len(origin.x))), descent.steps > 0
    # In one expression: a name here would keep the graph while the next one is built
    point = settle(
        objective.evaluate(
            first or objective.estimate(origin.x, everything, graph), origin.crop, prior, graph
        ),
        graph,
    )
    if not graph:
        _require_finite(point.value.tolist(), everything, t)
    scale, exhausted = list(origin.step_scale or [1.0] * len(origin.x)), set()
    for left in range(descent.steps, 0, -1):
        point, rejected = _descend(objective, point, scale, graph=left > 1)
        exhausted.update(rejected)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("t=%d: loss %s, factors on the rate %s", t, point.value.tolist(), scale)
    # Where no rate was small enough, the next t begins afresh
    return replace(point, step_scale=tuple(1.0 if i in exhausted else f for i, f in enumerate(scale)))


def _descend(objective: Objective, point: Point, scale: list[float], graph: bool) -> tuple[Point, list[int]]:
    """One gradient step of every image: the point taken, and the images that no trial was accepted of.

    With `adaptive`, an image's trial is accepted when its value is a number and not larger than before; otherwise
    its entry of `scale` shrinks in place, and it alone is tried again, from the same gradient, at most 100 times.
    An accepted trial is the next step's evaluation, unless the estimate draws noise. `graph`: a step follows.
    """
    everything = list(range(len(point.x)))
    pending, best, redraws = everything, point, objective.redraws
    for _ in range(MAX_REJECTIONS):
        rates = [objective.descent.rate * scale[i] for i in pending]
        trial, accepted = objective.attempt(point, pending, rates, graph and not redraws)
        if trial is not None:
            best = _merge(best, trial, pending, accepted, objective.target.windows)
        pending = [i for i in pending if i not in accepted]
        if not pending:
            break
        for i in pending:
            scale[i] *= BACKTRACKING
    else:
        told = "no smaller loss found after %d trials at t=%d; x stays as it is"
        log.warning(told, MAX_REJECTIONS, objective.t)
    if redraws:
        # Also in one expression
        best = settle(
            objective.evaluate(objective.estimate(best.x, everything, graph), best.crop, best.prior, graph),
            graph,
        )
    return best, pending


def warm_start(before: Sequence[float] | None, after: Sequence[float]) -> list[float]:
    """Factors on the rates for the next t from those before and after a refinement: each image's as the line search
    left it, and one back-tracking factor larger, at most 1, where no trial was rejected."""
    before = before or [1.0] * len(after)
    return [
        min(new / BACKTRACKING, 1.0) if new >= old else new for old, new in zip(before, after, strict=True)
    ]


def _require_finite(values: list[float], images: Sequence[int], t: int) -> None:
    """`values` of some `images` of the batch."""
    if bad := [image for image, value in zip(images, values, strict=True) if not math.isfinite(value)]:
        raise NonFiniteEnergy(bad, t)


def settle(live: Point, graph: bool) -> Point:
    """Detach a point; with `graph`, with the gradient of its values."""
    grad = crop_grad = None
    if graph:
        moving = live.crop.requires_grad
        inputs = [live.x, live.crop] if moving else [live.x]
        # Images do not interact, so the gradient of the values' sum holds each image's own.
        grad, *rest = torch.autograd.grad(live.value, inputs, torch.ones_like(live.value))
        crop_grad = rest[0] if moving else None
    image = ImageEstimate(_detached(live.image.prediction), live.image.end.detach())
    return Point(
        live.x.detach(),
        live.crop.detach(),
        image,
        _detached(live.prior),
        live.value.detach(),
        grad,
        crop_grad,
    )


def _detached(prediction: Prediction) -> Prediction:
    return Prediction(prediction.x0.detach(), prediction.eps.detach())


def _merge(point: Point, trial: Point, images: list[int], accepted: list[int], windows: Windows) -> Point:
    """`point` with the accepted images (and their windows) replaced by their rows of the trial."""
    if len(accepted) == len(point.x):
        return trial
    places = {i: n for n, i in enumerate(images)}
    trial_windows = windows.select(images)[1]
    index = windows.select(accepted)[1]

    def rows(old: Any, new: Any, at: list[int], source: list[int]) -> Any:
        if old is None or new is None:
            return old if new is None else new
        merged = old.clone()
        merged[at] = new[source]
        return merged

    def of_image(old: Any, new: Any) -> Any:
        return rows(old, new, accepted, [places[i] for i in accepted])

    def of_crop(old: Any, new: Any) -> Any:
        return rows(old, new, index, [trial_windows.index(m) for m in index])

    old, new = point.image.prediction, trial.image.prediction
    prediction = Prediction(of_image(old.x0, new.x0), of_image(old.eps, new.eps))
    prior = Prediction(of_crop(point.prior.x0, trial.prior.x0), of_crop(point.prior.eps, trial.prior.eps))
    return Point(
        of_image(point.x, trial.x),
        of_crop(point.crop, trial.crop),
        ImageEstimate(prediction, of_image(point.image.end, trial.image.end)),
        prior,
        of_image(point.value, trial.value),
        of_image(point.grad, trial.grad),
        of_crop(point.crop_grad, trial.crop_grad),
    )
