"""Collaborative refinement of x_t (Luo et al. 2025): the energy, and its descent with a line search per image.

N full images hold M >= N defect windows; `owner[m]` is the image of window m. Every number is per image, so a
batch equals its single runs. CoPaint (Zhang et al. 2023) is where descending on x_t comes from.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from guided_diffusion.gaussian_diffusion import Prediction
from guided_diffusion.transfer import to_device

log = logging.getLogger(__name__)

# Weights of the energy (Luo et al. 2025): defect and background inside the window, and everything outside it.
DEFECT_WEIGHT, BACKGROUND_WEIGHT, OUTSIDE_WEIGHT = 1e5, 1e4, 5e4
# Without attention the terms are sums instead of means.
PLAIN_WINDOW_WEIGHT, PLAIN_OUTSIDE_WEIGHT = 10.0, 0.06
SHRINK = 0.8  # factor on an image's rates after a rejected trial
MAX_REJECTIONS = 100  # per gradient step


class NonFiniteEnergy(RuntimeError):
    """The energy is not a number at the beginning of a step."""


@dataclass(frozen=True)
class Windows:
    """Where the M defect windows of N images are: corners (left, top) in px, side, and whose they are."""

    corners: Sequence[tuple[int, int]]
    size: int
    owner: Tensor  # (M,) int64, ascending

    @cached_property
    def owners(self) -> list[int]:
        """`owner` as numbers: read from its device once, not at every use."""
        return self.owner.tolist()

    def cut(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (M, C, size, size)."""
        parts = zip(self.owners, self.corners, strict=True)
        s = self.size
        return torch.stack([x[i, :, top : top + s, left : left + s] for i, (left, top) in parts])

    def outside(self, x: Tensor) -> Tensor:
        """1 off every window of an image, 0 inside one: (N, 1, H, W) for x (N, C, H, W)."""
        mask, s = torch.ones_like(x[:, :1]), self.size
        for i, (left, top) in zip(self.owners, self.corners, strict=True):
            mask[i, :, top : top + s, left : left + s] = 0
        return mask

    def of(self, images: Sequence[int]) -> tuple["Windows", list[int]]:
        """The windows of some images only, renumbered in that order, and their indices among all."""
        if list(images) == list(range(len(images))) and len(images) > max(self.owners, default=-1):
            return self, list(range(len(self.owners)))
        index = [m for i in images for m, o in enumerate(self.owners) if o == i]
        place = {i: n for n, i in enumerate(images)}
        renumbered = to_device(torch.tensor([place[self.owners[m]] for m in index]), self.owner.device)
        return Windows([self.corners[m] for m in index], self.size, renumbered), index


@dataclass(frozen=True)
class Target:
    """What the clean estimates are pulled towards.

    `clean` (N, 3, H, W) in [-1, 1]; `outside` (N, 1, H, W); `clean_windows` (M, 3, h, w); `defect` and
    `background` (M, 1, h, w) in [0, 1], both None without attention.
    """

    clean: Tensor
    windows: Windows
    clean_windows: Tensor
    outside: Tensor
    defect: Tensor | None = None
    background: Tensor | None = None

    @classmethod
    def of_clean(cls, clean: Tensor, windows: Windows) -> "Target":
        """A target without attention masks."""
        return cls(clean, windows, windows.cut(clean), windows.outside(clean))

    def of(self, images: Sequence[int]) -> "Target":
        """The target of some images only, in that order."""
        windows, index = self.windows.of(images)
        return Target(
            _rows(self.clean, images),
            windows,
            _rows(self.clean_windows, index),
            _rows(self.outside, images),
            None if self.defect is None else _rows(self.defect, index),
            None if self.background is None else _rows(self.background, index),
        )


def _rows(values: Tensor, index: Sequence[int]) -> Tensor:
    """Some rows in that order; `values` itself, not a copy, where they are all it has."""
    return values if list(index) == list(range(len(values))) else values[list(index)]


def energy(end: Tensor, crop_x0: Tensor, target: Target) -> Tensor:
    """Disagreement of the two models and of the clean image, per image (Luo et al. 2025).

    `end` (N, 3, H, W), the contextual model's clean estimate, and `crop_x0` (M, 3, h, w), the prior's; -> (N,).
    Inside the defect mask a window should equal the prior's estimate, in the background the clean window, and
    outside every window the image should equal the clean image.
    """
    window = target.windows.cut(end)
    off = (target.outside * (end - target.clean) ** 2).flatten(1)
    if target.defect is None:
        inside = PLAIN_WINDOW_WEIGHT * ((window - crop_x0) ** 2).flatten(1).sum(1)
        total = PLAIN_OUTSIDE_WEIGHT * off.sum(1)
    else:
        inside = DEFECT_WEIGHT * (target.defect * (window - crop_x0) ** 2).flatten(1).mean(1)
        inside = inside + BACKGROUND_WEIGHT * (
            target.background * (window - target.clean_windows) ** 2
        ).flatten(1).mean(1)
        total = OUTSIDE_WEIGHT * off.mean(1)
    return total.index_add(0, target.windows.owner, inside)


@dataclass(frozen=True)
class ImageEstimate:
    """The contextual model at (x, t): its one-step prediction, and the estimate the energy looks at."""

    prediction: Prediction
    end: Tensor  # (N, 3, H, W)


@dataclass(frozen=True)
class Networks:
    """Both models at one t. `image`(x) takes any rows; `crop`(c, index) is told which windows c holds."""

    image: Callable[[Tensor], ImageEstimate]
    crop: Callable[[Tensor, Sequence[int]], Prediction]


@dataclass(frozen=True)
class Descent:
    """How to descend at one t: gradient steps, rates, and the pull towards the step's beginning."""

    steps: int
    rate: float
    crop_rate: float
    coef_reg: float
    adaptive: bool


@dataclass(frozen=True)
class Point:
    """The state at one t, what the models say there, and the energy with regulariser. All detached.

    `shrunk`, at the end of a refinement: by what factor the line search shrank each image's rates.
    """

    x: Tensor  # (N, 3, H, W)
    crop: Tensor  # (M, 3, h, w)
    image: ImageEstimate
    prior: Prediction
    value: Tensor  # (N,)
    grad: Tensor | None = None  # d value / d x
    crop_grad: Tensor | None = None  # d value / d crop, None while the crop is not optimised
    shrunk: tuple[float, ...] = ()


def refine(
    x: Tensor,
    crop: Tensor,
    prior: Prediction,
    target: Target,
    networks: Networks,
    how: Descent,
    t: int,
    shrunk: Sequence[float] | None = None,
    first: "LiveEstimate | None" = None,
) -> Point:
    """Gradient steps on x (N, 3, H, W), and on the crop if it has a rate; returns where they end.

    `prior` is the prior's prediction at `crop`, `first` the `live_estimate` at x if there is one. An accepted
    trial is the next step's evaluation, the last one needs no graph, and while the crop is fixed its network is
    not called again. With `adaptive`, an image's trial is accepted when its value is a number and not larger
    than before; otherwise its rates shrink by 0.8 and it alone is tried again, from the same gradient, at most
    100 times. `shrunk` are factors on the rates to begin with, one per image (None: 1).
    Raises NonFiniteEnergy, naming t, when the energy is not a number at the beginning.
    """
    everything = list(range(len(x)))
    start, graph = _Start(x, crop), how.steps > 0
    # In one expression: a name here would keep the graph while the next one is built
    point = _settle(
        _evaluate(
            first or live_estimate(x, networks, graph),
            crop,
            prior,
            target,
            networks,
            how,
            start,
            everything,
            graph,
        ),
        graph,
    )
    if how.steps == 0:
        _require_finite(point.value.tolist(), t)
    factors, exhausted = list(shrunk or [1.0] * len(x)), set()
    for left in range(how.steps, 0, -1):
        pending, best = everything, point
        for _ in range(MAX_REJECTIONS):
            rates = [how.rate * factors[i] for i in pending]
            trial, accepted = _attempt(point, pending, rates, target, networks, how, start, t, graph=left > 1)
            if trial is not None:
                best = _merge(best, trial, pending, accepted, target.windows)
            pending = [i for i in pending if i not in accepted]
            if not pending:
                break
            for i in pending:
                factors[i] *= SHRINK
        else:
            exhausted.update(pending)
            log.warning("no smaller loss found after %d trials at t=%d; x stays as it is", MAX_REJECTIONS, t)
        point = best
    if log.isEnabledFor(logging.DEBUG):
        log.debug("t=%d: loss %s, factors on the rate %s", t, point.value.tolist(), factors)
    # Where no rate was small enough, the next t begins afresh
    return replace(point, shrunk=tuple(1.0 if i in exhausted else f for i, f in enumerate(factors)))


def carried(before: Sequence[float] | None, after: Sequence[float]) -> list[float]:
    """Factors on the rates for the next t from those before and after a refinement: each image's as the line search
    left it, a notch larger, at most 1, where no trial was rejected. A line search of Armijo's kind with memory."""
    before = before or [1.0] * len(after)
    return [min(new / SHRINK, 1.0) if new >= old else new for old, new in zip(before, after, strict=True)]


@dataclass(frozen=True)
class _Start:
    """Values at the beginning of the step, which the regulariser pulls towards."""

    x: Tensor
    crop: Tensor


@dataclass(frozen=True)
class LiveEstimate:
    """The contextual model's estimate at x (N, 3, H, W), which it can be differentiated by if it has a graph."""

    x: Tensor
    image: ImageEstimate


def live_estimate(x: Tensor, networks: Networks, graph: bool) -> LiveEstimate:
    """The contextual model at x; with `graph`, x becomes the leaf of a graph of its own."""
    with torch.set_grad_enabled(graph):
        if graph:
            x = x.detach().requires_grad_()
        return LiveEstimate(x, networks.image(x))


def _evaluate(
    at: LiveEstimate,
    crop: Tensor,
    prior: Prediction | None,
    target: Target,
    networks: Networks,
    how: Descent,
    start: _Start,
    images: list[int],
    graph: bool,
) -> Point:
    """The point at (at.x, crop) of some images; with `graph` its value can still be differentiated."""
    moving = how.crop_rate != 0
    with torch.set_grad_enabled(graph):
        if graph:
            crop = crop.detach().requires_grad_(moving)
        index = target.windows.of(images)[1]
        target = target if len(images) == len(target.clean) else target.of(images)
        if prior is None or moving:
            prior = networks.crop(crop, index)
        value = energy(at.image.end, prior.x0, target)
        pull = ((at.x - _rows(start.x, images)) ** 2).flatten(1).sum(1)
        if moving:
            change = ((crop - _rows(start.crop, index)) ** 2).flatten(1).sum(1)
            pull = pull.index_add(0, target.windows.owner, change)
        return Point(at.x, crop, at.image, prior, value + how.coef_reg * pull)


def _attempt(
    point: Point,
    images: list[int],
    rates: list[float],
    target: Target,
    networks: Networks,
    how: Descent,
    start: _Start,
    t: int,
    graph: bool,
) -> tuple[Point | None, list[int]]:
    """One gradient step of some images at their `rates`, one each: the point (None: all rejected), and those accepted.

    The graph of a rejected trial is gone on return, before the next one is built.
    """
    windows, index = target.windows.of(images)
    step = to_device(torch.tensor(rates), point.x.device)
    x = _rows(point.x, images) - step.view(-1, 1, 1, 1) * _rows(point.grad, images)
    crop, prior = _rows(point.crop, index), None
    if point.crop_grad is None:
        prior = Prediction(_rows(point.prior.x0, index), _rows(point.prior.eps, index))
    else:
        crop_step = step[windows.owner] * (how.crop_rate / how.rate)
        crop = crop - crop_step.view(-1, 1, 1, 1) * _rows(point.crop_grad, index)
    live = _evaluate(
        live_estimate(x, networks, graph), crop, prior, target, networks, how, start, images, graph
    )
    accepted = _accepted(live, point, images, how.adaptive, t)
    return _settle(live, graph) if accepted else None, accepted


def _accepted(trial: Point, point: Point, images: list[int], adaptive: bool, t: int) -> list[int]:
    """Those of `images` whose trial is accepted: the one transfer that the device is waited for."""
    before, after = torch.stack([_rows(point.value, images), trial.value]).tolist()
    _require_finite(before, t)
    if not adaptive:
        return images
    # A NaN compares false
    return [i for i, old, new in zip(images, before, after, strict=True) if new <= old]


def _require_finite(values: list[float], t: int) -> None:
    if not all(map(math.isfinite, values)):
        raise NonFiniteEnergy(
            f"the refinement's loss is {values} at t={t}; expected numbers: check the weights and images, or "
            "use a higher precision"
        )


def _settle(live: Point, graph: bool) -> Point:
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
    trial_windows = windows.of(images)[1]
    index = windows.of(accepted)[1]

    def rows(old: Tensor | None, new: Tensor | None, at: list[int], source: list[int]) -> Tensor | None:
        if old is None or new is None:
            return old if new is None else new
        merged = old.clone()
        merged[at] = new[source]
        return merged

    def of_image(old: Tensor | None, new: Tensor | None) -> Tensor | None:
        return rows(old, new, accepted, [places[i] for i in accepted])

    def of_crop(old: Tensor | None, new: Tensor | None) -> Tensor | None:
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
