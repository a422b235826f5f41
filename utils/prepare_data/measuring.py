"""What boxed patches show of their defects: how strongly they stand out, and how far their boxes keep from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from utils.images import load_rgb
from utils.prepare_data.report import IndexRow

CHANGED = 14  # gray levels from which on a patch differs from its clean twin
SPECK = 6  # px; smaller changes are noise
RING = 0.3  # width of the ring around a box, in sides of the box
EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Appearance:
    """`contrasts`: class -> median contrast in gray levels; `margins`: native px between box and visible change, of
    each defect that has a clean twin."""

    contrasts: Mapping[str, float]
    margins: Sequence[float]


def appearance(folder: Path, rows: Sequence[IndexRow]) -> Appearance:
    """Measure the patches in train/boxed of `folder`, by their clean twins in train/twins where they have them."""
    found: dict[str, list[float]] = {}
    margins = []
    for row in rows:
        path = folder / row.file
        patch = load_rgb(path).astype(np.float32)
        box = _box_of(path, *patch.shape[:2])
        twin = folder / "train/twins" / path.name
        visible = None
        if twin.is_file():
            visible = change_in_box(patch, load_rgb(twin).astype(np.float32), box)
        if visible is None:
            contrast = contrast_to_ring(patch, box)
        else:
            contrast, margin = visible
            margins.append(margin * row.scale)
        found.setdefault(row.class_name, []).append(contrast)
    return Appearance({name: float(np.median(values)) for name, values in found.items()}, margins)


def _box_of(path: Path, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in px, of the first box in the YOLO file beside a patch of that size."""
    x, y, w, h = map(float, path.with_suffix(".txt").read_text(encoding="utf-8").split()[1:5])
    left, top = max(0, round((x - w / 2) * width)), max(0, round((y - h / 2) * height))
    return left, top, max(left + 1, round((x + w / 2) * width)), max(top + 1, round((y + h / 2) * height))


def change_in_box(
    patch: np.ndarray, twin: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[float, float] | None:
    """Mean change, in gray levels, of what differs inside a box, and the mean distance in px of its sides from the
    box's; None where nothing does. Both images (h, w, 3) float32."""
    left, top, right, bottom = box
    change = np.abs(patch - twin).max(axis=2)[top:bottom, left:right]
    labeled, _ = ndimage.label(change > CHANGED, structure=EIGHT)
    sizes = np.bincount(labeled.ravel())
    sizes[0] = 0
    mask = (sizes >= SPECK)[labeled]
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    sides = (rows[0], columns[0], mask.shape[0] - 1 - rows[-1], mask.shape[1] - 1 - columns[-1])
    return float(change[mask].mean()), float(np.mean(sides))


def contrast_to_ring(patch: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """How far the tenth of a box that stands out most is from the gray around the box, beyond what is usual there."""
    gray = patch.mean(axis=2)
    left, top, right, bottom = box
    reach = max(3, round(RING * max(right - left, bottom - top)))
    ring = np.zeros(gray.shape, bool)
    ring[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach] = True
    ring[top:bottom, left:right] = False
    around = gray[ring] if ring.any() else gray.ravel()
    middle = float(np.median(around))
    inside = np.abs(gray[top:bottom, left:right] - middle)
    return max(0.0, float(np.percentile(inside, 90)) - float(np.median(np.abs(around - middle))))
