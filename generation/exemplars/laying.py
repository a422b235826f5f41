"""Where painting begins: at a training defect of the class, laid over the clean window and noised (Meng et al. 2022,
SDEdit).

The defect brings the shape, the prior makes it one with its surroundings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from generation.exemplars.cutout import Cutout
from generation.exemplars.exemplar import Exemplar, Place, warp_to_box, without_margin
from generation.exemplars.ranking import Fit, near_box, rank, usual_fit
from generation.exemplars.registration import registered
from generation.geometry import Context, box_in_window, native_window
from generation.jobs import BatchItem, Defect, Job
from generation.placement.ground import RELIT
from utils import images
from utils.shapes.boxes import Sides

KEPT = 256  # places whose ranking is remembered
WELL = 0.5  # fit with which nothing is wrong
PRESENT = 0.5  # how much of it is pasted where a defect counts as present
EDGE = 2.0  # px around it that may be painted anew with it


@dataclass(frozen=True)
class NativeDefect:
    """A training defect in px of its photograph, the box that it fills in a window (S, S), `light` (3,) gray levels
    lighter than where it is from, and how much of each pixel of the window is its own, `weight` (S, S) in 0..1."""

    cutout: Cutout
    box: Sides
    light: np.ndarray
    weight: np.ndarray

    def over(self, window: np.ndarray) -> np.ndarray:
        """The same window in native px (n, n, 3) uint8, with the defect laid over it."""
        scale = len(window) / len(self.weight)
        return mixed(window, self.cutout, [edge * scale for edge in self.box], self.light)[0]


@dataclass(frozen=True)
class Laid:
    """A window (S, S, 3) uint8 with a defect laid over it, where that is with its edge (S, S) bool, how well it fits
    there, up to 1 (see ranking), and its own box as it lies there, without margin, in px of the window. None where no
    defect is known.

    `shaped`: its own pixels alone were laid, not its box with the ground around it. `native`: the same defect in px of
    its photograph, where it was shrunk.
    """

    pixels: np.ndarray
    support: np.ndarray
    fit: float | None = None
    box: Sides | None = None
    shaped: bool = False
    native: NativeDefect | None = None

    def known(self, window: np.ndarray) -> np.ndarray:
        """The window (S, S, 3) uint8 as the prior is told that it is: with a defect that has a shape, where that is."""
        return np.where(self.support[..., None], self.pixels, window) if self.shaped else window


@dataclass(frozen=True)
class Start:
    """Where the sampling of N contexts with M windows starts: `contexts` (N, 3, S, S) in [-1, 1], the surroundings that
    are `known` of the windows (M, 3, h, w), what was laid over them, and the `misfits` of these training defects, None
    where none is known.

    A defect reaches beyond the box that is drawn around it, or is moved beyond the requested one: what of it lies
    there is known. Of a defect without a shape the photograph is.
    """

    contexts: torch.Tensor
    known: torch.Tensor
    laid: Sequence[Laid]
    misfits: Sequence[float | None]

    @property
    def support(self) -> torch.Tensor:
        """Where in the windows the defects may be: (M, 1, h, w) of 0 and 1."""
        return torch.from_numpy(np.stack([laid.support for laid in self.laid]))[:, None].float()


@dataclass(frozen=True)
class Exemplars:
    """The training defects of every class, by its id, in all allowed turns. Requested boxes keep `margin` native px
    from what is visible of a defect."""

    of_class: Mapping[int, Sequence[Exemplar]]
    margin: float = 0.0
    _ranked: dict[tuple[Any, ...], list[Fit]] = field(default_factory=dict, compare=False, repr=False)

    def place(
        self, pixels: np.ndarray, wanted: Defect, context: Context, corner: tuple[int, int], side: int
    ) -> Place:
        """The window of `side` px at a corner (x, y) of a context (S, S, 3) uint8, and the box of its defect."""
        assert wanted.box is not None  # every defect has one: `JobOptions.boxes`
        box = box_in_window(wanted.box, native_window(context, corner, side), side)
        inner = without_margin(box, self.margin / context.scale, side, side)
        x, y = corner
        part = pixels[y : y + side, x : x + side]
        return Place(part, inner, context.scale, wanted.annotation.class_id)

    def starts(
        self,
        pairs: Sequence[tuple[Job, BatchItem]],
        contexts: Sequence[np.ndarray],
        side: int,
        candidates: int = 1,
    ) -> Start:
        """Where the sampling of `contexts` (S, S, 3) uint8 starts, with windows of `side` px.

        The `candidates` of a place, and its samples, begin with other defects, as far as there are VARIANTS.
        """
        starts, laid_over, known = [], [], []
        for (job, item), before in zip(pairs, contexts, strict=True):
            pixels = before.copy()
            for k, (x, y) in zip(item.defects, item.context.windows, strict=True):
                place = self.place(pixels, job.defects[k], item.context, (x, y), side)
                laid = self.laid_over(place, job.index * candidates + item.attempt)
                known.append(images.to_tensor(laid.known(place.window)))
                pixels[y : y + side, x : x + side] = laid.pixels
                laid_over.append(laid)
            starts.append(images.to_tensor(pixels))
        return Start(
            torch.cat(starts), torch.cat(known), laid_over, [self.misfit(laid.fit) for laid in laid_over]
        )

    def laid_over(self, place: Place, variant: int) -> Laid:
        """The defect that fits best in a place; nothing is laid over it, and all is left open, for an unknown class.

        `variant` 0 takes the defect that fits best by its surroundings and the ground under it, 1 the next one, as far
        as there are such; then it begins again (see `ranking.rank`). One of another group goes before those of groups
        that had their turn, which may be the same defect at another time, if it fits nearly as well.
        """
        turns = self.ranked(place)
        if not turns:
            return Laid(place.window, np.ones(place.window.shape[:2], bool))
        return _pasted(place, turns[variant % len(turns)])

    def misfit(self, fit: float | None) -> float | None:
        """By how much a fit falls short of what is usual among the training defects, or of WELL if that is less."""
        return None if fit is None else max(0.0, min(WELL, self.usual_fit) - fit)

    @cached_property
    def usual_fit(self) -> float:
        """See `ranking.usual_fit`."""
        return usual_fit(self.of_class)

    def ranked(self, place: Place) -> list[Fit]:
        """The defects for a place; candidates and samples of a place ask again, so it is kept for a while."""
        key = place.window.tobytes(), place.box, place.scale, place.class_id
        if key not in self._ranked:
            if len(self._ranked) >= KEPT:
                self._ranked.clear()
            self._ranked[key] = rank(place, self.of_class.get(place.class_id, ()))
        return self._ranked[key]


def _pasted(place: Place, fit: Fit) -> Laid:
    """The window with the defect on the ground that is like its own, in its box or near it, as light as its new
    surroundings."""
    window, box, side = place.window, place.box, len(place.window)
    one, moved = fit.exemplar, registered(place, fit)
    light = np.zeros(3, np.float32)
    _, around = near_box(box, side)
    if around.any():
        there = warp_to_box(one.clean.pixels, one.clean.box, moved, side, 0)
        light = np.clip(np.median(window[around] - there[around], axis=0), -RELIT, RELIT)
    pixels, weight = mixed(window, one.cutout, moved, light)
    support = ndimage.distance_transform_edt(weight < PRESENT) <= EDGE
    native = None
    if one.native is not None and _is_finer(one.native.box, moved):
        native = NativeDefect(one.native, moved, light, weight)
    return Laid(pixels, support, fit.value, moved, one.shaped, native)


def _is_finer(native: Sides, place: Sides) -> bool:
    """Whether a training defect has more native px along both axes than the model has at its place."""
    return all(native[k + 2] - native[k] > place[k + 2] - place[k] for k in (0, 1))


def mixed(
    window: np.ndarray, cutout: Cutout, box: Sequence[float], light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A window (S, S, 3) uint8 with a defect that fills `box` of it, `light` (3,) gray levels lighter than where it is
    from, and how much of each pixel is the defect's own, (S, S) in 0..1."""
    side = len(window)
    pixels = warp_to_box(cutout.pixels, cutout.box, box, side, 0) + light
    height, width = cutout.alpha.shape
    alpha = np.zeros((height + 2, width + 2), np.float32)
    alpha[1:-1, 1:-1] = cutout.alpha  # nothing is pasted beyond the cutout
    left, top, right, bottom = cutout.box
    weight = warp_to_box(alpha, (left + 1, top + 1, right + 1, bottom + 1), box, side, 0)
    return images.blend(window, pixels, weight), weight
