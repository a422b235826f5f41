"""The training defects of a folder that `utils.prepare_data` wrote, cut out of their patches."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from generation.exemplars.cutout import Cutout, cut_out, of_defect, outlined
from generation.exemplars.exemplar import Exemplar, without_margin
from generation.exemplars.laying import Exemplars
from generation.scoring import EIGHT
from generation.training_defects import Query, allowed_turns, read_patches
from utils import images
from utils.schema.prepared import OUTLINES, PATCHES, TWINS, in_native_px
from utils.shapes.boxes import Sides

MOST_SHAPED = 2 / 3  # of a class's defects
HALF = 0.5  # of a pixel, from which on it is of a shape
ALIKE = 0.7  # of a defect that is the same in two sizes, at least


def read_exemplars(
    folder: Path,
    classes: Mapping[str, int],
    rotate90: bool,
    flip: bool,
    margin: float = 0.0,
) -> Exemplars:
    """The training defects of a folder that `utils.prepare_data` wrote, whose boxes keep `margin` px from what is
    visible. Where the shapes of most defects of a class are known, the others, with
    whose boxes the ground around them would come, are left out. Raises UserError if the folder has none."""
    turns = allowed_turns(rotate90, flip)
    found: dict[int, list[Exemplar]] = {}
    for query, file in read_patches(folder, classes, "exemplars.folder"):
        one = _read_exemplar(folder, query, file, margin)
        found.setdefault(query.class_id, []).extend(one.turned(*turn) for turn in turns)
    for class_id, known in found.items():
        rest = [one for one in known if one.shaped]
        if len(rest) >= MOST_SHAPED * len(known):
            found[class_id] = rest
    return Exemplars(found, margin)


@dataclass(frozen=True)
class Boxed:
    """A patch (h, w, 3) uint8 with the box of a defect in px of it, as annotators drew it and `inner`, without margin,
    the clean `twin` of the patch and the defect's `shape` (h, w) bool, as far as they are known."""

    pixels: np.ndarray
    box: Sides
    inner: Sides
    twin: np.ndarray | None
    shape: np.ndarray | None

    def cutout(self) -> Cutout:
        """The defect by its shape, if that is known, else by its clean twin, else by its box."""
        found = cut_out(self.pixels, self.box, self.twin)
        x, y = (int(self.box[k]) - int(found.box[k]) for k in (0, 1))  # the cutout's corner in the patch
        part = np.s_[y : y + found.alpha.shape[0], x : x + found.alpha.shape[1]]
        if self.shape is not None:
            found = outlined(found, self.shape[part])
        elif self.twin is not None:
            found = of_defect(found, self.twin[part])
        left, top, right, bottom = self.inner
        return replace(found, box=(left - x, top - y, right - x, bottom - y))


def _read_exemplar(folder: Path, query: Query, file: str, margin: float) -> Exemplar:
    surround = query.surround
    pixels = images.load_rgb(folder / PATCHES / file)
    height, width = pixels.shape[:2]
    inner = without_margin(surround.box, margin / surround.scale, width, height)
    twin = surround.pixels if surround.is_clean else None
    boxed = Boxed(pixels, surround.box, inner, twin, _read_shape(folder / OUTLINES / file, (height, width)))
    cutout, native = boxed.cutout(), _read_native(folder, file, boxed)
    return Exemplar(
        query.number,
        query.group,
        replace(surround, box=inner),
        cutout,
        not surround.is_clean,
        surround.is_clean or boxed.shape is not None,
        None if native is None else _if_alike(native.cutout(), cutout),
    )


def _read_native(folder: Path, file: str, boxed: Boxed) -> Boxed | None:
    """The same in px of the photograph, if the patch was shrunk; None if it was not."""
    path, twin, outline = (folder / in_native_px(part) / file for part in (PATCHES, TWINS, OUTLINES))
    if not path.is_file() or (boxed.twin is not None and not twin.is_file()):
        return None
    pixels = images.load_rgb(path)
    height, width = size = pixels.shape[0], pixels.shape[1]
    across, down = width / boxed.pixels.shape[1], height / boxed.pixels.shape[0]
    box, inner = (
        (left * across, top * down, right * across, bottom * down)
        for left, top, right, bottom in (boxed.box, boxed.inner)
    )
    shape = None
    if boxed.shape is not None:
        known = images.resize_float(boxed.shape[..., None], size)[..., 0] >= HALF
        finer = _read_shape(outline, size)  # none where the shape was seen in the shrunk patch
        shape = finer if finer is not None and _close(finer, known, math.ceil(max(across, down))) else known
    return Boxed(pixels, box, inner, None if boxed.twin is None else images.load_rgb(twin), shape)


def _close(one: np.ndarray, other: np.ndarray, reach: int) -> bool:
    """Whether nearly all of each of two shapes (h, w) bool is within `reach` px of the other: one of them may have been
    corrected by hand."""
    far = [
        (a & ~ndimage.binary_dilation(b, EIGHT, iterations=reach)).sum()
        for a, b in ((one, other), (other, one))
    ]
    return max(far) <= (1 - ALIKE) * min(one.sum(), other.sum())


def _if_alike(native: Cutout, cutout: Cutout) -> Cutout | None:
    """A native cutout, if it is of about the same area as that of the shrunk patch."""
    areas = [
        (one.alpha >= HALF).sum() / ((one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))
        for one in (native, cutout)
    ]
    return native if min(areas) >= ALIKE * max(areas) else None


def _read_shape(path: Path, size: tuple[int, int]) -> np.ndarray | None:
    """The shape (h, w) bool of a defect from its image, if there is one of this size."""
    if not path.is_file():
        return None
    shape = images.load_rgb(path)[..., 0] > 127
    return shape if shape.shape == size else None
