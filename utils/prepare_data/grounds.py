"""Where defects can be painted: clean images, else the largest squares without a defect of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.labels import auto_scale
from utils.prepare_data.cutting import CutOptions, places_between
from utils.prepare_data.report import IndexRow
from utils.prepare_data.sources import SourceImage, Survey, counted

MOST = 200  # images that are kept to paint on
SMALLER = 0.85  # the next side that is tried, where no square of one is free
SQUARES = 2  # of an image
FEW = 8  # training defects of a class; with fewer, what is painted repeats them


@dataclass(frozen=True)
class Square:
    """A square of an image without a defect, in px."""

    left: int
    top: int
    side: int


def drawn(images: Sequence[SourceImage], seed: int) -> list[SourceImage]:
    """At most MOST of the images, in their order."""
    if len(images) <= MOST:
        return list(images)
    rng = np.random.default_rng([seed, 5])
    return [images[i] for i in sorted(rng.permutation(len(images))[:MOST])]


def free_squares(survey: Survey, held: set[str], cut: CutOptions) -> list[tuple[SourceImage, list[Square]]]:
    """The largest squares of the training images that keep `cut.clean_distance` px from every box."""
    images = drawn([image for image in survey.defective if image.group not in held], cut.seed)
    found = [(image, squares_of(image, cut, cut.seed)) for image in images]
    return [(image, squares) for image, squares in found if squares]


def squares_of(image: SourceImage, cut: CutOptions, seed: int) -> list[Square]:
    """At most SQUARES of an image, as large as possible and of one side; none where not even a window fits."""
    side = min(image.size)
    while side >= cut.window:
        where = replace(cut, tile=side, tiles_per_image=SQUARES)
        places = places_between(image, where, np.random.default_rng([seed, 6]))
        if places:
            return [Square(left, top, side) for left, top in places]
        side = int(side * SMALLER)
    return []


def paintable(
    rows: Sequence[IndexRow], sizes: Mapping[str, Sequence[tuple[float, float]]], window: int
) -> tuple[list[str], list[str]]:
    """The classes of which a box fits on what there is to paint on (`rows` of the index), and sentences about the
    others, and about those with few training defects; `sizes`: class -> (width, height) of its training boxes, px."""
    grounds = [row for row in rows if row.file.startswith("train_clean/")]
    largest = max((min(row.right - row.left, row.bottom - row.top) for row in grounds), default=0)
    fit, told = [], []
    for name, boxes in sizes.items():
        if not boxes:
            continue
        least = min(round(window * auto_scale(*box, window)) for box in boxes)
        if least <= largest:
            fit.append(name)
        else:
            told.append(
                f"class {name} cannot be painted: its smallest defect needs a square of {least} px without others, the "
                f"largest has {largest:g} px; give clean images (--clean-dir)"
            )
        if len(boxes) < FEW:
            told.append(
                f"class {name} has {counted(len(boxes), 'defect')} to train on: what is painted will look like "
                f"{'it' if len(boxes) == 1 else 'them'}; about 20 are enough"
            )
    return fit, told
