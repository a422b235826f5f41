"""Training data of a prior that sees its surroundings: patches with the defect's box, and clean pieces."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from utils.labels import auto_scale
from utils.prepare_data.cutting import shrunk, taken
from utils.prepare_data.sources import DefectBox, SourceImage, Survey
from utils.shapes.shrinking import EIGHT, covered

REACH = 2  # sides of a patch in windows
PIECE = 4  # sides of a clean piece in windows; smaller ones where it does not fit
MOST_PIECES = 240  # of all images together: each holds many windows
ATTEMPTS = 40  # random squares that may miss all boxes, of each size

Inner = tuple[float, float, float, float]  # left, top, right, bottom in px of a patch
Chosen = dict[str, list[DefectBox]]  # name of an image -> defects that become patches


@dataclass(frozen=True)
class Piece:
    """A rectangle of an image without defects, in native px, and how much it is shrunk."""

    left: int
    top: int
    right: int
    bottom: int
    scale: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the stored image."""
        return round((self.right - self.left) / self.scale), round((self.bottom - self.top) / self.scale)


# Patches


def choose_defects(survey: Survey, held: set[str], per_class: int | None, seed: int) -> Chosen:
    """The training defects, at most `per_class` of a class: drawn by `seed`, spread over groups, then over images."""
    chosen: Chosen = {}
    train = [image for image in survey.defective if image.group not in held]
    for number, name in enumerate(survey.classes):
        pairs = [(image, box) for image in train for box in image.boxes if box.class_name == name]
        if per_class is not None:
            rng = np.random.default_rng([seed, 3, number])
            pairs = _spread_out([pairs[i] for i in rng.permutation(len(pairs))], per_class)
        for image, box in pairs:
            chosen.setdefault(image.name, []).append(box)
    return chosen


def _spread_out(
    pairs: Sequence[tuple[SourceImage, DefectBox]], count: int
) -> list[tuple[SourceImage, DefectBox]]:
    """The first `count` when every group, and every image in it, has its turn."""
    of_group: Counter[str] = Counter()
    of_image: Counter[str] = Counter()
    rest = list(pairs)
    taken: list[tuple[SourceImage, DefectBox]] = []
    while rest and len(taken) < count:
        turn = min(rest, key=lambda pair: (of_group[pair[0].group], of_image[pair[0].name]))
        rest.remove(turn)
        taken.append(turn)
        of_group[turn[0].group] += 1
        of_image[turn[0].name] += 1
    return taken


def sized(box: DefectBox, window: int) -> DefectBox:
    """The box; a point becomes a square of half the window."""
    if not box.is_point:
        return box
    x, y = box.center
    reach = window / 4
    return DefectBox(box.class_name, x - reach, y - reach, x + reach, y + reach)


@dataclass(frozen=True)
class Cut:
    """Which rectangle (left, top, right, bottom) of an image a patch shows, in whole px, perhaps beyond its edges; the
    patch's `size` (width, height), the `box` of its defect in px of it, and the `scale` that it is shrunk by."""

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    box: Inner
    scale: float


def plan_patch(size: tuple[int, int], box: DefectBox, window: int) -> Cut:
    """The patch around a defect of an image of `size` (width, height), shrunk by s (`auto_scale`).

    It covers REACH * window * s native px a side. At an edge it is shifted into the image; where the image is smaller,
    it is cut off there, and only below a window (window * s) padded by reflection.
    """
    box = sized(box, window)
    scale = auto_scale(*box.size, window)
    starts, lengths = [], []
    for middle, side in zip(box.center, size, strict=True):
        length = round(min(REACH * window * scale, max(side, window * scale)))
        lengths.append(length)
        start = min(max(middle - length / 2, 0), side - length) if side > length else (side - length) / 2
        starts.append(round(start))
    shrunk_size = round(lengths[0] / scale), round(lengths[1] / scale)
    left, top, right, bottom = (
        min(max((side - starts[k % 2]) * shrunk_size[k % 2] / lengths[k % 2], 0), shrunk_size[k % 2])
        for k, side in enumerate((box.left, box.top, box.right, box.bottom))
    )
    crop = (starts[0], starts[1], starts[0] + lengths[0], starts[1] + lengths[1])
    return Cut(crop, shrunk_size, (left, top, right, bottom), scale)


def boxed_patch(image: np.ndarray, box: DefectBox, window: int) -> tuple[np.ndarray, Inner, float]:
    """A patch (h, w, 3) uint8 around a defect (see `plan_patch`), the box in px of it, and its scale; (h, w) float32,
    not clipped, of an image (H, W) float32."""
    cut = plan_patch((image.shape[1], image.shape[0]), box, window)
    return shrunk(image, cut.crop, cut.size, cut.scale), cut.box, cut.scale


def native_patch(image: np.ndarray, box: DefectBox, window: int) -> np.ndarray | None:
    """What the patch of `boxed_patch` shows of an image (H, W, 3) uint8, in native px; None where that is the patch."""
    cut = plan_patch((image.shape[1], image.shape[0]), box, window)
    return None if cut.scale == 1 else taken(image, *cut.crop)


def outline_patch(size: tuple[int, int], box: DefectBox, window: int) -> np.ndarray | None:
    """The patch (h, w) uint8 of `boxed_patch` with the shape of a defect in white, all else black, for an image of
    `size` (width, height); None where its shape is not known. It keeps its area, and lines are not torn."""
    if box.outline is None:
        return None
    coverage, _, scale = boxed_patch(box.outline.drawn(*size).astype(np.float32), box, window)
    parts = ndimage.label(box.outline.mask, EIGHT)[1]
    return covered(coverage, scale, parts).astype(np.uint8) * 255


def boxes_beside(
    boxes: Sequence[DefectBox], inner: Inner, scale: float, size: tuple[int, int]
) -> list[tuple[str, Inner]]:
    """Class and box, in px of a patch of `size` (width, height), of the other boxes that show in the patch of the first
    one, whose own box in it is `inner`."""
    first = boxes[0]
    found: list[tuple[str, Inner]] = []
    for other in boxes[1:]:
        moved = (other.left, other.top, other.right, other.bottom)
        origin = (first.left, first.top)
        left, top, right, bottom = (
            min(max(inner[k % 2] + (side - origin[k % 2]) / scale, 0), size[k % 2])
            for k, side in enumerate(moved)
        )
        if right - left >= 1 and bottom - top >= 1:
            found.append((other.class_name, (left, top, right, bottom)))
    return found


# Clean pieces


def plan_pieces(
    survey: Survey, held: set[str], chosen: Chosen, window: int, distance: int, seed: int
) -> dict[str, list[Piece]]:
    """Name of an image -> rectangles without defects, from clean images, else from between the boxes.

    They are shrunk as the training defects are, each by the scale of one of them, so that the clean examples look
    like the others. `distance` px stay free around every box.
    """
    train = [image for image in survey.images if image.group not in held]
    images = [image for image in train if image.is_clean] or [image for image in train if image.boxes]
    boxes = [sized(box, window) for of_image in chosen.values() for box in of_image]
    scales = [auto_scale(*box.size, window) for box in boxes]
    rng = np.random.default_rng([seed, 4])
    if len(images) > MOST_PIECES:
        images = [images[i] for i in sorted(rng.permutation(len(images))[:MOST_PIECES])]
    share = MOST_PIECES // len(images)
    plan = {}
    for image in images:
        drawn = [scales[int(rng.integers(len(scales)))] for _ in range(share)]
        found = [_free_square(image, window, scale, distance, rng) for scale in drawn]
        plan[image.name] = list(dict.fromkeys(piece for piece in found if piece))
    return {name: pieces for name, pieces in plan.items() if pieces}


def _free_square(
    image: SourceImage, window: int, scale: float, distance: int, rng: np.random.Generator
) -> Piece | None:
    """A random rectangle that overlaps no box: PIECE windows a side, or half as many, or one; None if there is no room.

    It is no larger than the image, and nothing is cut that is smaller than half a window.
    """
    for windows in (PIECE, PIECE // 2, 1):
        width, height = (min(round(windows * window * scale), side) for side in image.size)
        if min(width, height) < window / 2 * scale:
            return None
        for _ in range(ATTEMPTS if image.boxes else 1):
            left, top = (
                int(rng.integers(0, side - length + 1))
                for side, length in zip(image.size, (width, height), strict=True)
            )
            piece = Piece(left, top, left + width, top + height, scale)
            if not any(_meets(sized(box, window), piece, distance) for box in image.boxes):
                return piece
    return None


def _meets(box: DefectBox, piece: Piece, distance: int) -> bool:
    return (
        piece.left < box.right + distance
        and piece.right > box.left - distance
        and piece.top < box.bottom + distance
        and piece.bottom > box.top - distance
    )


def cut_piece(image: np.ndarray, piece: Piece) -> np.ndarray:
    """The rectangle of (H, W, 3) uint8, shrunk."""
    if piece.scale == 1:
        return image[piece.top : piece.bottom, piece.left : piece.right]
    crop = (piece.left, piece.top, piece.right, piece.bottom)
    return shrunk(image, crop, piece.size, piece.scale)
