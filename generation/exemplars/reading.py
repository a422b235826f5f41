"""The training defects of a folder that `utils.prepare_data` wrote, cut out of their patches."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from generation.exemplars.cutout import Cutout, cut_out, of_defect, outlined
from generation.exemplars.exemplar import Exemplar, without_margin
from generation.exemplars.laying import Exemplars
from generation.placement.matching import Surround
from generation.training_defects import allowed_turns, read_patches
from utils import images
from utils.schema.prepared import OUTLINES, PATCHES

MOST_SHAPED = 2 / 3  # of a class's defects


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
    for number, (query, file) in enumerate(read_patches(folder, classes, "exemplars.folder")):
        surround = query.surround
        pixels = images.load_rgb(folder / PATCHES / file)
        cutout = _cutout(pixels, surround, folder / OUTLINES / file)
        inner = without_margin(surround.box, margin / surround.scale, pixels.shape[1], pixels.shape[0])
        x, y = (int(surround.box[k]) - int(cutout.box[k]) for k in (0, 1))  # the cutout's corner in the patch
        left, top, right, bottom = inner
        one = Exemplar(
            number,
            query.group,
            replace(surround, box=inner),
            replace(cutout, box=(left - x, top - y, right - x, bottom - y)),
            not surround.is_clean,
            surround.is_clean or (folder / OUTLINES / file).is_file(),
        )
        found.setdefault(query.class_id, []).extend(one.turned(*turn) for turn in turns)
    for class_id, known in found.items():
        rest = [one for one in known if one.shaped]
        if len(rest) >= MOST_SHAPED * len(known):
            found[class_id] = rest
    return Exemplars(found, margin)


def _cutout(pixels: np.ndarray, surround: Surround, outline: Path) -> Cutout:
    """The defect of a patch (h, w, 3) uint8, by the image of its outline, if there is one, else by its clean twin, if
    `surround` is that, else by its box."""
    found = cut_out(pixels, surround.box, surround.pixels if surround.is_clean else None)
    x, y = (int(surround.box[k]) - int(found.box[k]) for k in (0, 1))
    part = np.s_[y : y + found.alpha.shape[0], x : x + found.alpha.shape[1]]
    if outline.is_file() and (shape := images.load_rgb(outline)[..., 0]).shape == pixels.shape[:2]:
        return outlined(found, shape[part] > 127)
    return of_defect(found, surround.pixels[part]) if surround.is_clean else found
