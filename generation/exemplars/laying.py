"""Where painting begins: at a training defect of the class, laid over the clean window and noised (Meng et al. 2022,
SDEdit).

The defect brings the shape, the prior makes it one with its surroundings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from generation.exemplars.cutout import Cutout, cut_out, filled, outlined
from generation.geometry import Context, box_in_window, native_window
from generation.jobs import BatchItem, Defect, Job
from generation.placement.ground import RELIT
from generation.placement.matching import Sides, Surround, likeness_of_moments, sides_at_edge
from generation.placement.surroundings import (
    INDEX,
    OUTLINES,
    PATCHES,
    TWINS,
    allowed_turns,
    read_patches,
)
from generation.quality.checks import inset
from utils import images
from utils.files import files_sha256
from utils.shapes.boxes import pixels_in

AROUND = 16  # px around a box whose looks are compared
SHIFT = 4  # px that a defect may be off the box's center for a better match
COST_OF_SHIFT = 0.005  # likeness that a px of it costs
STRETCH = math.log(1.5)  # most that a defect is stretched to fit a box, where one of such a size is known
SIZE_MATTERS = 0.2  # likeness that a stretch by e costs
NEARLY = 0.1  # likeness that a defect of another group may lack to go first
VARIANTS = 4  # defects that take turns at one place
MOST_SHAPED = 2 / 3  # of a class's defects
KEPT = 256  # places whose ranking is remembered
PRESENT = 0.5  # how much of it is pasted where a defect counts as present
EDGE = 1.0  # px around it that may be painted anew with it


@dataclass(frozen=True)
class Exemplar:
    """A training defect, turned: its clean patch (h, w, 3) uint8 with its box in px of it, and its cutout with the same
    box; boxes are without margin.

    `hidden`: the patch is not clean, so that what is inside the box does not count. `number` is the defect's,
    `group` that of its photograph.
    """

    number: int
    group: str
    clean: Surround
    cutout: Cutout
    hidden: bool

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box in px of the patch."""
        left, top, right, bottom = self.clean.box
        return right - left, bottom - top

    def turned(self, quarters: int, mirrored: bool) -> "Exemplar":
        """Turned by quarters counterclockwise, then mirrored left to right."""
        turn = quarters, mirrored
        clean, cutout = self.clean.turned(*turn), self.cutout.turned(*turn)
        return replace(self, clean=clean, cutout=cutout)


def without_margin(box: Sequence[float], margin: float, width: int, height: int) -> Sides:
    """A box without its margin in px; up to the edge, where it lies there."""
    inner, edges = inset(box, margin), sides_at_edge(box, width, height)
    left, top, right, bottom = (
        limit if edge else side for limit, edge, side in zip((0, 0, width, height), edges, inner, strict=True)
    )
    return left, top, right, bottom


@dataclass(frozen=True)
class Place:
    """A window (S, S, 3) uint8 with the box that a defect of a class is to fill, without margin, in px of it, and how
    many native px one of them is."""

    window: np.ndarray
    box: Sides
    scale: float
    class_id: int


@dataclass(frozen=True)
class Ranking:
    """The defects that take turns at a place, best first, each with its shift (x, y) px; the likeness of the best one's
    surroundings less what its stretch costs, -inf without any."""

    turns: Sequence[tuple[Exemplar, tuple[int, int]]]
    likeness: float


@dataclass(frozen=True)
class Laid:
    """A window (S, S, 3) uint8 with a defect laid over it, and where that is with its edge (S, S) bool."""

    pixels: np.ndarray
    support: np.ndarray


@dataclass(frozen=True)
class Exemplars:
    """The training defects of every class, by its id, in all allowed turns. Requested boxes keep `margin` native px
    from what is visible of a defect."""

    of_class: Mapping[int, Sequence[Exemplar]]
    margin: float = 0.0
    min_likeness: float = 0.0
    _ranked: dict[tuple[Any, ...], Ranking] = field(default_factory=dict, compare=False, repr=False)

    def fit(self, job: Job, item: BatchItem, before: np.ndarray, side: int) -> bool:
        """Whether training defects look like they belong into the windows of `side` px of a context (S, S, 3) uint8:
        `min_likeness` is reached in all of them."""
        corners = zip(item.defects, item.context.windows, strict=True)
        places = [self.place(before, job.defects[k], item.context, corner, side) for k, corner in corners]
        return not self.min_likeness or all(self.ranked(one).likeness >= self.min_likeness for one in places)

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
        self, pairs: Sequence[tuple[Job, BatchItem]], contexts: Sequence[np.ndarray], side: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the sampling of `contexts` (S, S, 3) uint8 starts, (N, 3, S, S) in [-1, 1], and where in their windows
        of `side` px the defects may be, (M, 1, side, side) of 0 and 1.

        The candidates of a place, and its samples, begin with other defects.
        """
        starts, support = [], []
        for (job, item), before in zip(pairs, contexts, strict=True):
            pixels = before.copy()
            for k, (x, y) in zip(item.defects, item.context.windows, strict=True):
                place = self.place(pixels, job.defects[k], item.context, (x, y), side)
                laid = self.laid_over(place, job.index + item.attempt)
                pixels[y : y + side, x : x + side] = laid.pixels
                support.append(laid.support)
            starts.append(images.to_tensor(pixels))
        return torch.cat(starts), torch.from_numpy(np.stack(support))[:, None].float()

    def laid_over(self, place: Place, variant: int) -> Laid:
        """The defect that fits best in a place; nothing is laid over it, and all is left open, for an unknown class.

        `variant` 0 takes the defect whose surroundings are most like those of the box, 1 the next one, up to VARIANTS;
        then it begins again. One of another group goes before those of groups that had their turn, which may be the
        same defect at another time, if its surroundings are nearly as much alike.
        """
        turns = self.ranked(place).turns
        if not turns:
            return Laid(place.window, np.ones(place.window.shape[:2], bool))
        return _pasted(place, *turns[variant % len(turns)])

    def ranked(self, place: Place) -> Ranking:
        """The defects for a place; candidates and samples of a place ask again, so it is kept for a while."""
        key = place.window.tobytes(), place.box, place.scale, place.class_id
        if key not in self._ranked:
            if len(self._ranked) >= KEPT:
                self._ranked.clear()
            self._ranked[key] = _ranking(place, self.of_class.get(place.class_id, ()))
        return self._ranked[key]


def _ranking(place: Place, known: Sequence[Exemplar]) -> Ranking:
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


def read_exemplars(
    folder: Path,
    classes: Mapping[str, int],
    rotate90: bool,
    flip: bool,
    margin: float = 0.0,
    least: float = 0.0,
) -> Exemplars:
    """The training defects of a folder that `utils.prepare_data` wrote, whose boxes keep `margin` px from what is
    visible; `least` is their `min_likeness`. Where the shapes of most defects of a class are known, the others, with
    whose boxes the ground around them would come, are left out. Raises UserError if the folder has none."""
    turns = allowed_turns(rotate90, flip)
    found: dict[int, list[Exemplar]] = {}
    shaped = set()
    for number, (query, file) in enumerate(read_patches(folder, classes, "exemplars.folder")):
        surround = query.surround
        pixels = images.load_rgb(folder / PATCHES / file)
        cutout = _cutout(pixels, surround, folder / OUTLINES / file)
        if surround.is_clean or (folder / OUTLINES / file).is_file():
            shaped.add(number)
        inner = without_margin(surround.box, margin / surround.scale, pixels.shape[1], pixels.shape[0])
        x, y = (int(surround.box[k]) - int(cutout.box[k]) for k in (0, 1))  # the cutout's corner in the patch
        left, top, right, bottom = inner
        one = Exemplar(
            number,
            query.group,
            replace(surround, box=inner),
            replace(cutout, box=(left - x, top - y, right - x, bottom - y)),
            not surround.is_clean,
        )
        found.setdefault(query.class_id, []).extend(one.turned(*turn) for turn in turns)
    for class_id, known in found.items():
        rest = [one for one in known if one.number in shaped]
        if len(rest) >= MOST_SHAPED * len(known):
            found[class_id] = rest
    return Exemplars(found, margin, least)


def _cutout(pixels: np.ndarray, surround: Surround, outline: Path) -> Cutout:
    """The defect of a patch (h, w, 3) uint8, by the image of its outline, if there is one, else by its clean twin, if
    `surround` is that, else by its box."""
    found = cut_out(pixels, surround.box, surround.pixels if surround.is_clean else None)
    x, y = (int(surround.box[k]) - int(found.box[k]) for k in (0, 1))
    part = np.s_[y : y + found.alpha.shape[0], x : x + found.alpha.shape[1]]
    if outline.is_file() and (shape := images.load_rgb(outline)[..., 0]).shape == pixels.shape[:2]:
        return outlined(found, shape[part] > 127)
    return filled(found, surround.pixels[part]) if surround.is_clean else found


def exemplars_sha256(folder: Path) -> str:
    """A hash of all that `read_exemplars` reads."""
    below = [path for part in (PATCHES, TWINS, OUTLINES) for path in (folder / part).glob("*")]
    return files_sha256(folder, [path for path in (folder / INDEX, *below) if path.is_file()])


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


# Matching


def likeness_in_window(place: Place, looks: Sequence[Exemplar]) -> tuple[list[float], list[tuple[int, int]]]:
    """How alike each patch, laid so that its box fills the place's, is to the window (see matching), and with what
    shift (x, y) in px it is so."""
    window, box, side = place.window, place.box, len(place.window)
    near, around = _near(box, side)
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


def _near(box: Sequence[float], side: int) -> tuple[np.ndarray, np.ndarray]:
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
    laid = _laid(one.clean.pixels, one.clean.box, box, side, SHIFT)
    return torch.from_numpy(laid.transpose(2, 0, 1) / 127.5 - 1)


def _laid(
    pixels: np.ndarray, inner: Sequence[float], box: Sequence[float], side: int, reach: int
) -> np.ndarray:
    """`pixels` (h, w) or (h, w, 3) stretched so that `inner` fills `box` of a window: float32, with `reach` px around
    it."""
    fx, fy = (((inner[k + 2] - inner[k]) / (box[k + 2] - box[k])) for k in (0, 1))
    pad = 2 * side
    padded = np.pad(pixels, [(pad, pad), (pad, pad), (0, 0)][: pixels.ndim], mode="edge")
    x0 = inner[0] + pad - (box[0] + reach) * fx
    y0 = inner[1] + pad - (box[1] + reach) * fy
    size = side + 2 * reach
    planes = [padded] if pixels.ndim == 2 else [padded[..., k] for k in range(3)]
    made = [
        Image.fromarray(np.ascontiguousarray(plane, np.float32)).transform(
            (size, size), Image.Transform.AFFINE, (fx, 0, x0, 0, fy, y0), Image.Resampling.BILINEAR
        )
        for plane in planes
    ]
    found = np.stack([np.asarray(plane) for plane in made], axis=-1)
    return found[..., 0] if pixels.ndim == 2 else found


def _pasted(place: Place, one: Exemplar, shift: tuple[int, int]) -> Laid:
    """The window with the defect in its box, moved by `shift`, as light as its new surroundings."""
    window, box, side = place.window, place.box, len(place.window)
    moved = box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1]
    pixels = _laid(one.cutout.pixels, one.cutout.box, moved, side, 0)
    height, width = one.cutout.alpha.shape
    alpha = np.zeros((height + 2, width + 2), np.float32)
    alpha[1:-1, 1:-1] = one.cutout.alpha  # nothing is pasted beyond the cutout
    left, top, right, bottom = one.cutout.box
    weight = _laid(alpha, (left + 1, top + 1, right + 1, bottom + 1), moved, side, 0)
    _, around = _near(box, side)
    if around.any():
        there = _laid(one.clean.pixels, one.clean.box, moved, side, 0)
        light = np.clip(np.median(window[around] - there[around], axis=0), -RELIT, RELIT)
        pixels = pixels + light
    mixed = window + weight[..., None] * (pixels - window)
    support = ndimage.distance_transform_edt(weight < PRESENT) <= EDGE
    return Laid(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), support)
