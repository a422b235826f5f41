"""Which training defects fit a place: those whose surroundings look like its own, in all sizes and turns allowed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from generation.exemplars.exemplar import Exemplar, Place, warp_to_box
from generation.placement.matching import likeness_of_moments, sides_at_edge
from utils.shapes.boxes import pixels_in

AROUND = 16  # px around a box whose looks are compared
SHIFT = 4  # px that a defect may be off the box's center for a better match
COST_OF_SHIFT = 0.005  # likeness that a px of it costs
STRETCH = math.log(1.5)  # most that a defect is stretched to fit a box, where one of such a size is known
SIZE_MATTERS = 0.2  # likeness that a stretch by e costs
NEARLY = 0.1  # likeness that a defect of another group may lack to go first
VARIANTS = 4  # defects that take turns at one place


@dataclass(frozen=True)
class Ranking:
    """The defects that take turns at a place, best first, each with its shift (x, y) px; the likeness of the best one's
    surroundings less what its stretch costs, -inf without any."""

    turns: Sequence[tuple[Exemplar, tuple[int, int]]]
    likeness: float


def rank(place: Place, known: Sequence[Exemplar]) -> Ranking:
    side = len(place.window)
    edges = sides_at_edge(place.box, side, side)
    known = [one for one in known if one.clean.edges == edges] or known
    fits = [(_stretch(one, place), one) for one in known]
    least = min((stretch for stretch, _ in fits), default=0.0)
    fits = [(stretch, one) for stretch, one in fits if stretch <= max(STRETCH, least + 1e-6)]
    if not fits:
        return Ranking([], -math.inf)
    alike, shifts = likeness_in_window(place, [one for _, one in fits])
    value = [a - SIZE_MATTERS * stretch for (stretch, _), a in zip(fits, alike, strict=True)]
    best: dict[int, int] = {}
    for k in np.argsort(value)[::-1]:
        best.setdefault(fits[k][1].number, int(k))
    chosen = _in_turn(list(best.values()), value, [one.group for _, one in fits])
    return Ranking([(fits[k][1], shifts[k]) for k in chosen], value[chosen[0]])


def _in_turn(ranked: Sequence[int], value: Sequence[float], groups: Sequence[str]) -> list[int]:
    """At most VARIANTS of the indices `ranked`, best first: groups take turns while they are nearly as good."""
    rest, chosen = list(ranked), list[int]()
    while rest and len(chosen) < VARIANTS:
        seen = {groups[k] for k in chosen}
        others = [k for k in rest if groups[k] not in seen and value[k] > value[rest[0]] - NEARLY]
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


def likeness_in_window(place: Place, looks: Sequence[Exemplar]) -> tuple[list[float], list[tuple[int, int]]]:
    """How alike each patch, laid so that its box fills the place's, is to the window (see matching), and with what
    shift (x, y) in px it is so."""
    window, box, side = place.window, place.box, len(place.window)
    near, around = near_box(box, side)
    if not around.any():
        around = near
    here = torch.from_numpy(window.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1)
    fields = torch.stack([_field(one, box, side) for one in looks])
    steps = torch.arange(-SHIFT, SHIFT + 1)
    off = (steps[:, None].square() + steps.square()).sqrt()
    found, shifts = [], []
    for one, laid in zip(looks, fields, strict=True):
        weights = torch.from_numpy(around if one.hidden else near).float()
        alike = _likeness(here, laid, weights) - COST_OF_SHIFT * off
        index = int(alike.argmax())
        y, x = divmod(index, alike.shape[1])
        found.append(float(alike.max()))
        shifts.append((SHIFT - x, SHIFT - y))
    return found, shifts


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


def _field(one: Exemplar, box: Sequence[float], side: int) -> torch.Tensor:
    """The clean patch as it lies in the window and SHIFT px around it, (3, side + 2 SHIFT, ...) in [-1, 1]."""
    laid = warp_to_box(one.clean.pixels, one.clean.box, box, side, SHIFT)
    return torch.from_numpy(laid.transpose(2, 0, 1) / 127.5 - 1)
