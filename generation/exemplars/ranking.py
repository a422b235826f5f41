"""Which training defects fit a place, in all sizes and turns allowed: by the looks of their surroundings, and of the
ground under them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from generation.exemplars.exemplar import Exemplar, Place, warp_to_box
from generation.placement.ground import COST, shares_of_another
from generation.placement.matching import likeness_of_moments, sides_at_edge
from utils.shapes.boxes import pixels_in

AROUND = 16  # px around a box whose looks are compared
SHIFT = 4  # px that a defect may be off the box's center for a better match
COST_OF_SHIFT = 0.005  # likeness that a px of it costs
STRETCH = math.log(1.5)  # most that a defect is stretched to fit a box, where one of such a size is known
SIZE_MATTERS = 0.2  # likeness that a stretch by e costs
NEARLY = 0.1  # likeness that a defect of another group may lack to go first
VARIANTS = 4  # defects that take turns at one place
RANKED = 2 * VARIANTS  # defects ranked for certain, which turns are drawn from
WORSE = 0.2  # likeness that a defect may lack to the best one to have a turn
GROUND_SHIFT = 2  # px off the likest position that a defect may be for a better ground
GROUND_PIXELS = 256  # of the ground that are looked at
PLACE = 64  # px around training defects that others are compared with them in
EDGES_OFF = 1  # px that edges may be off where a defect is stretched


@dataclass(frozen=True)
class Stretched:
    """A training defect stretched so that its box fills that of a place: by how much (a logarithm), its clean patch as
    it lies in the window and SHIFT px around it, (S + 2 SHIFT, S + 2 SHIFT, 3) float32, and how alike its surroundings
    are to the window (see matching) at all shifts, less what these cost: (2 SHIFT + 1, 2 SHIFT + 1), row y and column x
    being a shift of SHIFT - x, SHIFT - y."""

    exemplar: Exemplar
    stretch: float
    patch: np.ndarray
    alike: torch.Tensor

    @property
    def most(self) -> float:
        """The value of its fit on a ground as its own."""
        return float(self.alike.max()) - SIZE_MATTERS * self.stretch


@dataclass(frozen=True)
class Fit:
    """A training defect for a place: its shift (x, y) px there, and the likeness of both surroundings, less what shift,
    stretch and another ground cost."""

    exemplar: Exemplar
    shift: tuple[int, int]
    value: float


def rank(place: Place, known: Sequence[Exemplar]) -> list[Fit]:
    """The defects that take turns at a place, best first: at most VARIANTS; none if none is known.

    The ground is looked at for those of the likest surroundings, until RANKED defects are better than the others can
    be.
    """
    best: dict[int, Fit] = {}
    for laid in sorted(stretched_to(place, known), key=lambda laid: -laid.most):
        if sum(fit.value >= laid.most for fit in best.values()) >= RANKED:
            break
        fit = best_fit(place, laid)
        number = laid.exemplar.number
        if number not in best or fit.value > best[number].value:
            best[number] = fit
    return _in_turn(sorted(best.values(), key=lambda fit: -fit.value))


def usual_fit(of_class: Mapping[int, Sequence[Exemplar]]) -> float:
    """What three quarters of the training defects have at least: the best fit of another one of their class, upright,
    at their own place. 1 where no class has two.

    Rough textures are never much alike, so that it is low for them.
    """
    found = []
    for class_id, known in of_class.items():
        upright = list({one.number: one for one in reversed(known)}.values())  # the first of each
        for one in upright:
            rest = [other for other in upright if other is not one]
            if rest and (place := _own_place(one, class_id)):
                found += [fit.value for fit in rank(place, rest)[:1]]
    return float(np.percentile(found, 25)) if found else 1.0


def _own_place(one: Exemplar, class_id: int) -> Place | None:
    """The place of a training defect in a square of its clean patch, PLACE px wide or less; None if it does not fit."""
    height, width = one.clean.pixels.shape[:2]
    side, (left, top, right, bottom) = min(PLACE, height, width), one.clean.box
    if max(right - left, bottom - top) > side:
        return None
    x, y = (
        int(min(max((low + high - side) / 2, 0), limit - side))
        for low, high, limit in ((left, right, width), (top, bottom, height))
    )
    window = one.clean.pixels[y : y + side, x : x + side]
    return Place(window, (left - x, top - y, right - x, bottom - y), one.clean.scale, class_id)


def _in_turn(ranked: Sequence[Fit]) -> list[Fit]:
    """At most VARIANTS of the fits `ranked`, best first: groups take turns while they are nearly as good; what is much
    worse than the best has none."""
    rest, chosen = [fit for fit in ranked if fit.value > ranked[0].value - WORSE], list[Fit]()
    while rest and len(chosen) < VARIANTS:
        seen = {fit.exemplar.group for fit in chosen}
        others = [
            fit for fit in rest if fit.exemplar.group not in seen and fit.value > rest[0].value - NEARLY
        ]
        chosen.append(others[0] if others else rest[0])
        rest.remove(chosen[-1])
    return chosen


def _stretch(one: Exemplar, place: Place) -> float:
    """How far a defect must be stretched to fill a box, as the larger of two logarithms."""
    left, top, right, bottom = place.box
    return max(
        abs(math.log(side * place.scale / (own * one.clean.scale)))
        for side, own in zip((right - left, bottom - top), one.size, strict=True)
    )


def stretched_to(place: Place, known: Sequence[Exemplar]) -> list[Stretched]:
    """The training defects whose box is at the same edges of the image as the place's and need not be stretched much;
    where there are none, others."""
    window, box, side = place.window, place.box, len(place.window)
    edges = sides_at_edge(box, side, side)
    known = [one for one in known if one.clean.edges == edges] or known
    stretched = [(_stretch(one, place), one) for one in known]
    least = min((stretch for stretch, _ in stretched), default=0.0)
    near, around = near_box(box, side)
    if not around.any():
        around = near
    here = _planes(window.astype(np.float32))
    steps = torch.arange(-SHIFT, SHIFT + 1)
    cost = COST_OF_SHIFT * (steps[:, None].square() + steps.square()).sqrt()
    found = []
    for stretch, one in stretched:
        if stretch <= max(STRETCH, least + 1e-6):
            weights = torch.from_numpy(around if one.hidden else near).float()
            patch = warp_to_box(one.clean.pixels, one.clean.box, box, side, SHIFT)
            found.append(Stretched(one, stretch, patch, _likeness(here, _planes(patch), weights) - cost))
    return found


def best_fit(place: Place, laid: Stretched) -> Fit:
    """The defect at the shift where its surroundings and the ground under it fit best."""
    value = _on_ground(place, laid)
    y, x = divmod(int(value.argmax()), value.shape[1])
    return Fit(laid.exemplar, (SHIFT - x, SHIFT - y), float(value[y, x]) - SIZE_MATTERS * laid.stretch)


def _on_ground(place: Place, laid: Stretched) -> torch.Tensor:
    """`laid.alike` near its best shift, less what the ground there costs, -inf elsewhere; as it is where the defect's
    own ground is not known."""
    clean, side = laid.exemplar.clean, len(place.window)
    if clean.ground is None:
        return laid.alike
    near = warp_to_box(clean.ground.astype(np.float32), clean.box, place.box, side, 0) >= 0.5
    pixels = np.flatnonzero(near)
    if not len(pixels):
        return laid.alike
    near.flat[np.delete(pixels, np.s_[:: math.ceil(len(pixels) / GROUND_PIXELS)])] = False
    rows, columns = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in (rows, columns))
    own = laid.patch[SHIFT:-SHIFT, SHIFT:-SHIFT][top:bottom, left:right]
    best = divmod(int(laid.alike.argmax()), laid.alike.shape[1])
    first, last = ([min(max(k + step, 0), 2 * SHIFT) for k in best] for step in (-GROUND_SHIFT, GROUND_SHIFT))
    padded = np.pad(place.window, [(SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)], mode="edge")
    y0, x0 = (2 * SHIFT - k for k in last)  # the last row is where the patch lies highest
    y1, x1 = (2 * SHIFT - k for k in first)
    there = padded[top + y0 : bottom + y1, left + x0 : right + x1]
    looked = near[top:bottom, left:right]
    shares = shares_of_another(there, own, looked, clean.contrast, EDGES_OFF)[::-1, ::-1]
    part = np.s_[first[0] : last[0] + 1, first[1] : last[1] + 1]
    value = torch.full_like(laid.alike, -torch.inf)
    value[part] = laid.alike[part] - COST * torch.from_numpy(shares.copy()).float()
    return value


def near_box(box: Sequence[float], side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, side) bool: a box with what is within AROUND px of it, and that without the box."""
    near = np.zeros((side, side), bool)
    near[pixels_in(box, AROUND)] = True
    around = near.copy()
    around[pixels_in(box)] = False
    return near, around


def _likeness(here: torch.Tensor, field: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The likeness of `here` (3, S, S) to every place of `field` (3, S + 2 SHIFT, S + 2 SHIFT)."""
    count = 3 * weights.sum()
    mean = (here * weights).sum() / count
    variance = (here.square() * weights).sum() / count - mean**2
    kernel = weights.expand(1, 3, *weights.shape)
    product = F.conv2d(field[None], (here * weights)[None])[0, 0] / count
    mean_there = F.conv2d(field[None], kernel)[0, 0] / count
    square_there = F.conv2d(field.square()[None], kernel)[0, 0] / count
    return likeness_of_moments(product, (mean, variance), (mean_there, square_there))


def _planes(pixels: np.ndarray) -> torch.Tensor:
    """(h, w, 3) float32, 0 to 255, -> (3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 127.5 - 1)
