"""Placement of tiles, and cutting of patches."""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.labels import auto_scale
from utils.prepare_data.sources import DefectBox, SourceImage, Survey

TILES = (256, 192, 128, 96, 64)  # sides of a tile to choose from

Places = dict[str, list[tuple[int, int]]]  # name of an image -> (left, top) of its tiles


@dataclass(frozen=True)
class CutOptions:
    """How tiles and patches are cut, in px (see --help of the command line); tile 0: none fits."""

    tile: int = 0
    window: int = 64
    margin: int = 16
    clean_distance: int = 16
    tiles_per_image: int | None = None
    per_class: int | None = None
    seed: int = 0

    @property
    def patch(self) -> int:
        """Side of a patch."""
        return self.window + 2 * self.margin


def cut_patch(image: np.ndarray, box: DefectBox, window: int, margin: int) -> tuple[np.ndarray, float, bool]:
    """Cut (H, W, 3) uint8 to (P, P, 3), P = window + 2 * margin, the box's center exactly in the middle.

    Returns the patch, the scale s (`auto_scale`: P * s native px were shrunk to P; with s = 1 pixels are
    copied, the center rounded down to a whole one) and whether the patch extends beyond the edge and was
    padded by reflection.
    """
    scale = auto_scale(*box.size, window)
    side = window + 2 * margin
    x, y = (math.floor(value) if scale == 1 else value for value in box.center)
    reach = side * scale / 2
    inner = [math.floor(x - reach), math.floor(y - reach), math.ceil(x + reach), math.ceil(y + reach)]
    padded = min(inner) < 0 or inner[2] > image.shape[1] or inner[3] > image.shape[0]
    if scale == 1:
        return taken(image, *inner), scale, padded
    crop = (x - reach, y - reach, x + reach, y + reach)
    return shrunk(image, crop, (side, side), scale), scale, padded


def shrunk(
    image: np.ndarray, crop: tuple[float, float, float, float], size: tuple[int, int], scale: float
) -> np.ndarray:
    """The rectangle (left, top, right, bottom) of (H, W, 3), shrunk by `scale` to `size` (width, height).

    Bicubic with antialiasing. The rectangle may extend beyond the edge, where the image is reflected.
    """
    context = math.ceil(2 * scale) + 1  # what the bicubic kernel sees beyond the crop
    left, top = math.floor(crop[0]) - context, math.floor(crop[1]) - context
    region = taken(image, left, top, math.ceil(crop[2]) + context, math.ceil(crop[3]) + context)
    inner = (crop[0] - left, crop[1] - top, crop[2] - left, crop[3] - top)
    return np.array(Image.fromarray(region).resize(size, Image.Resampling.BICUBIC, box=inner))


def taken(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A rectangle of (H, W, 3) that may extend beyond the edge, where the image is reflected."""
    rows = _reflect(np.arange(top, bottom), image.shape[0])
    columns = _reflect(np.arange(left, right), image.shape[1])
    return image[rows[:, None], columns]


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Indices mirrored at the first and the last element, which are not repeated: -1 -> 1."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * (size - 1))
    return np.where(folded < size, folded, 2 * (size - 1) - folded)


def is_crowded(image: SourceImage, box: DefectBox, window: int) -> bool:
    """Whether the window around a defect shows part of a defect of another class."""
    reach = window * auto_scale(*box.size, window) / 2
    x, y = box.center
    return any(
        other.class_name != box.class_name
        and abs(other.center[0] - x) < reach + other.size[0] / 2
        and abs(other.center[1] - y) < reach + other.size[1] / 2
        for other in image.boxes
    )


def clean_places(
    size: tuple[int, int], tile: int, limit: int | None, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """(left, top) of tiles of a clean image of `size` (width, height); none if a side is too small.

    Without `limit` they cover the whole image with as little overlap as possible. With it, that many of them are
    chosen at random, and then others at random places, as far as there are different ones.
    """
    width, height = size
    if min(width, height) < tile:
        return []
    places = [(left, top) for top in _spread(height, tile) for left in _spread(width, tile)]
    if limit is None:
        return places
    chosen = dict.fromkeys(places[i] for i in rng.permutation(len(places))[:limit])  # a set in order
    possible = (width - tile + 1) * (height - tile + 1)
    while len(chosen) < min(limit, possible):
        chosen[int(rng.integers(width - tile + 1)), int(rng.integers(height - tile + 1))] = None
    return list(chosen)


def _spread(length: int, tile: int) -> list[int]:
    """Evenly spaced starts of the fewest tiles that cover `length`."""
    count = -(-length // tile)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def places_between(image: SourceImage, cut: CutOptions, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(left, top) of tiles at least `clean_distance` px from every box, without overlap; points count as windows."""
    (width, height), tile, limit = image.size, cut.tile, cut.tiles_per_image
    step = max(1, tile // 4)
    places: list[tuple[int, int]] = []
    for top in range(0, height - tile + 1, step):
        for left in range(0, width - tile + 1, step):
            free = all(abs(left - x) >= tile or abs(top - y) >= tile for x, y in places)
            if free and not any(_meets(box, left, top, cut) for box in image.boxes):
                places.append((left, top))
    if limit is None:
        return places
    return [places[i] for i in rng.permutation(len(places))[:limit]]


def _meets(box: DefectBox, left: int, top: int, cut: CutOptions) -> bool:
    """Whether a tile is too close to a box."""
    tile, extra = cut.tile, cut.clean_distance + (cut.window / 2 if box.is_point else 0)
    return (
        left < box.right + extra
        and left + tile > box.left - extra
        and top < box.bottom + extra
        and top + tile > box.top - extra
    )


def plan_tiles(survey: Survey, held: set[str], cut: CutOptions) -> tuple[Places, bool, int]:
    """The places of all training tiles, whether they are on images with defects, and how many images have none.

    No tiles with a `cut.tile` of 0. Raises UserError if no tile fits anywhere.
    """
    train = [image for image in survey.images if image.group not in held]
    clean = [image for image in train if image.is_clean]
    images = clean or [image for image in train if image.boxes]
    if not cut.tile:
        return {}, not clean, len(images)
    plan = _tiles_of(images, cut)
    empty = sum(not places for places in plan.values())
    if empty == len(plan):
        smallest = min(min(image.size) for image in images)
        kind = "clean images" if clean else f"images with defects, {cut.clean_distance} px off the boxes"
        raise UserError(
            f"--tile {cut.tile}: no tile fits on any of {len(plan)} {kind} (smallest side {smallest} px); "
            "give a smaller --tile" + ("" if clean else ", or a folder of clean images as --clean-dir")
        )
    return plan, not clean, empty


def _tiles_of(images: list[SourceImage], cut: CutOptions) -> Places:
    plan: Places = {}
    for index, image in enumerate(images):
        rng = np.random.default_rng([cut.seed, 1, index])
        if image.is_clean:
            plan[image.name] = clean_places(image.size, cut.tile, cut.tiles_per_image, rng)
        else:
            plan[image.name] = places_between(image, cut, rng)
    return plan


def fitting_tile(survey: Survey, held: set[str], cut: CutOptions) -> int:
    """`cut.tile`, or if that is 0 the largest of TILES that fits on most of the images that tiles come from.

    Where none fits on most, the largest that fits on any; 0 where none does.
    """
    if cut.tile:
        return cut.tile
    train = [image for image in survey.images if image.group not in held]
    images = [image for image in train if image.is_clean] or [image for image in train if image.boxes]
    fits = {}
    for tile in TILES:
        plan = _tiles_of(images, replace(cut, tile=tile, tiles_per_image=1))
        fits[tile] = sum(bool(places) for places in plan.values())
        if 2 * fits[tile] > len(images):
            return tile
    return max((tile for tile, count in fits.items() if count), default=0)
