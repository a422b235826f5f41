"""The bar to clear: training defects pasted where the clean surroundings look like theirs."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from evaluation.downstream.painting import planned_conf
from evaluation.downstream.pool import PooledDefect, write_pool
from evaluation.downstream.split import Split
from generation.exemplars.cutout import Cutout, cut_out
from generation.placement.matching import at_edges, likeness, make_template, reduced, to_planes
from generation.placement.surroundings import COARSE, FINE, TurnedQuery, common_scale, read_queries
from generation.training_defects import allowed_turns
from utils.config import read_conf
from utils.errors import UserError
from utils.images import load_rgb, save_png
from utils.labels import load_class_names, pixel_box, read_annotations
from utils.schema.prepared import INDEX, PATCHES

SLACK = 8  # px that a place may move for a better match
AT_EDGE = 2 * (
    COARSE // FINE
)  # px of a template that one cut by an image's edge may be off it, as in planning


# Which defect at which place


@dataclass(frozen=True)
class Library:
    """The training defects: what surrounds each, turned in all allowed ways, and its cutout."""

    looks: Sequence[TurnedQuery]
    cutouts: Mapping[int, Cutout]  # by the id() of the query

    def cutout(self, look: TurnedQuery) -> Cutout:
        return self.cutouts[id(look.query)].turned(look.quarters, look.mirrored)


def make_library(prepared: Path, split: Split) -> Library:
    """From what prepare_data wrote, and the whole images of the source."""
    classes = load_class_names(prepared / "classes.json")
    queries = read_queries(prepared, classes)
    with (prepared / INDEX).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith(PATCHES)]
    sources = {split.survey.tree.relative(image.path): image for image in split.survey.images}
    cutouts = {}
    for query, row in zip(queries, rows, strict=True):
        image = sources[row["source"]]
        twin = load_rgb(image.counterpart.path) if image.counterpart else None
        box = [float(row[side]) for side in ("left", "top", "right", "bottom")]
        cutouts[id(query)] = cut_out(load_rgb(image.path), box, twin)
    plan = read_conf(planned_conf(prepared))["plan"]
    turns = allowed_turns(plan.get("rotate90", True), plan.get("flip", True))
    return Library([TurnedQuery(query, *turn) for query in queries for turn in turns], cutouts)


def best_match(
    image: np.ndarray, box: Sequence[int], class_id: int, library: Library
) -> tuple[TurnedQuery, tuple[int, int]]:
    """The look whose surroundings are most like those of a place, and where its box's center belongs, (x, y) px.

    Those of the place's own size are compared, else all of its class.
    """
    looks = [look for look in library.looks if look.query.class_id == class_id]
    size = box[2] - box[0], box[3] - box[1]  # rounded outwards
    same = [look for look in looks if all(0 <= a - b <= 2 for a, b in zip(size, look.size, strict=True))]
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    best: tuple[float, TurnedQuery, tuple[int, int]] | None = None
    for look in same or looks:
        score, center = _match(image, middle, look)
        if best is None or score > best[0]:
            best = score, look, center
    assert best is not None  # a class is planned only with queries
    return best[1], best[2]


def _match(
    image: np.ndarray, middle: tuple[float, float], look: TurnedQuery
) -> tuple[float, tuple[int, int]]:
    """Highest likeness of a look within SLACK of a place, and the box's center there; -1 and the place itself where
    the look does not fit.

    A look that its photograph's edge cuts fits at this edge alone.
    """
    step = FINE * common_scale(look.query.surround.scale)
    template = make_template(look.surround, step)
    sizes = image.shape[1], image.shape[0]
    (x0, x1), (y0, y1) = (
        _searched(m, center, length, size, step)
        for m, center, length, size in zip(
            middle, template.center, template.weights.shape[::-1], sizes, strict=True
        )
    )
    (alike,) = likeness(to_planes(reduced(image[y0:y1, x0:x1], step)), [template])
    beyond = x0, y0, sizes[0] - x1, sizes[1] - y1
    for k in range(4) if alike.numel() else ():
        if template.at_edge[k]:
            only = [side == k for side in range(4)]
            alike = at_edges(alike, only, AT_EDGE - math.ceil(beyond[k] / step))
    if not torch.isfinite(alike).any():
        return -1.0, (round(middle[0]), round(middle[1]))
    index = int(alike.argmax())
    x, y = index % alike.shape[1], index // alike.shape[1]
    center = round(x0 + (x + template.center[0]) * step), round(y0 + (y + template.center[1]) * step)
    return float(alike.max()), center


def _searched(middle: float, center: float, length: int, size: int, step: float) -> tuple[int, int]:
    """First and last px, exclusive, of where a template is looked for along an axis of `size` px: its `length` and its
    box's `center` are in its own px, `step` native ones each."""
    before, after = center * step + SLACK + step, (length - center) * step + SLACK + step
    return max(round(middle - before), 0), min(round(middle + after), size)


# Pasting


def paste_at(
    canvas: np.ndarray, cutout: Cutout, center: tuple[int, int], poisson: bool
) -> tuple[float, float, float, float]:
    """Paste a cutout into `canvas` (H, W, 3) uint8 with its box's center at `center`; returns the box there."""
    left, top, right, bottom = cutout.box
    x = center[0] - (left + right) // 2
    y = center[1] - (top + bottom) // 2
    height, width = cutout.alpha.shape
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
    part = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
    pixels, alpha = cutout.pixels[part], cutout.alpha[part]
    touches = x0 < 2 or y0 < 2 or x1 > canvas.shape[1] - 2 or y1 > canvas.shape[0] - 2
    if poisson and not touches:
        canvas[y0:y1, x0:x1] = _blended(canvas[y0:y1, x0:x1], pixels, alpha)
    else:
        under = canvas[y0:y1, x0:x1].astype(np.float32)
        canvas[y0:y1, x0:x1] = np.rint(under + (pixels - under) * alpha[..., None]).astype(np.uint8)
    box = np.clip([x + left, y + top, x + right, y + bottom], 0, (*canvas.shape[1::-1], *canvas.shape[1::-1]))
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _blended(under: np.ndarray, pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Poisson image editing (Perez et al. 2003) of the pixels that are pasted, (h, w, 3) uint8."""
    cv2 = require_opencv()
    inner = np.zeros(alpha.shape, np.uint8)
    inner[1:-1, 1:-1] = 255 * ndimage.binary_dilation(alpha > 0.1, iterations=2)[1:-1, 1:-1]
    rows, columns = np.nonzero(inner)
    if not len(rows):
        return under
    center = int(columns.min() + columns.max() + 1) // 2, int(rows.min() + rows.max() + 1) // 2
    source, target = np.ascontiguousarray(pixels), np.ascontiguousarray(under)
    return cv2.seamlessClone(source, target, inner, center, cv2.NORMAL_CLONE)


def require_opencv() -> Any:
    """OpenCV; UserError where it is missing."""
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "arms: copy_paste_poisson needs OpenCV, which is missing; pip install opencv-python-headless, or leave "
            "the arm out"
        ) from error
    return cv2


def image_of(label: Path) -> Path:
    """The image beside a label file, of exactly its name."""
    beside = sorted(label.parent.iterdir())
    return next(path for path in beside if path.stem == label.stem and path.suffix not in (".txt", ".json"))


def paste_all(prepared: Path, places: Path, folder: Path, split: Split, poisson: bool) -> None:
    """Paste a training defect at every place of `places`, and list what came out."""
    if poisson:
        require_opencv()
    library = make_library(prepared, split)
    classes = load_class_names(prepared / "classes.json")
    pool = []
    for label in sorted(places.glob("*.txt")):
        path = image_of(label)
        clean = load_rgb(path)
        canvas = clean.copy()
        out = folder / f"{label.stem}.png"
        for place in read_annotations(label, classes):
            box = pixel_box(place, *clean.shape[1::-1])
            look, center = best_match(clean, box, place.class_id, library)
            found = paste_at(canvas, library.cutout(look), center, poisson)
            pool.append(PooledDefect(str(out), str(path), place.class_name, found))
        save_png(out, canvas)
    write_pool(folder, pool)
