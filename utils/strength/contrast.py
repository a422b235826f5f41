"""What boxed patches show of their defects: how strongly they stand out, and how far their boxes keep from them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from utils.images import load_rgb
from utils.labels import Annotation, read_annotations
from utils.shapes.changed import change_of_twin

CHANGED = 14  # gray levels from which on a patch differs from its clean twin
SPECK = 6  # px; smaller changes are noise
RING = 0.3  # width of the ring around a box, in sides of the box
UTMOST = 99  # percentile of a box that a scratch from corner to corner reaches
EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Appearance:
    """What a patch shows of its defect: `contrast` in gray levels; `margin`, px of the patch between box and visible
    change, None where there is neither a clean twin in which it shows nor an outline."""

    class_name: str
    contrast: float
    margin: float | None


def appearance(path: Path, classes: Mapping[str, int]) -> Appearance:
    """Measure a patch by its clean twin, the image of the same name in the folder `twins` beside the patch's folder;
    where it has none, or shows no change, by the outline in the folder `outlines`, if there is one, and by what
    surrounds its box, the first one of the YOLO file beside it.

    Raises UserError for files that cannot be read.
    """
    patch = load_rgb(path).astype(np.float32)
    annotation = read_annotations(path.with_suffix(".txt"), classes)[0]
    box = _nearest_box(annotation, *patch.shape[:2])
    twin_path = path.parent.parent / "twins" / path.name
    if twin_path.is_file():
        twin = load_rgb(twin_path).astype(np.float32)
        if twin.shape == patch.shape and (visible := change_in_box(patch, twin, box)):
            return Appearance(annotation.class_name, *visible)
    shape = _outline(path.parent.parent / "outlines" / path.name, box, patch.shape[:2])
    margin = None if shape is None else _margin(shape)
    return Appearance(annotation.class_name, contrast_to_ring(patch, box, shape), margin)


def class_contrasts(patches: Iterable[Appearance]) -> dict[str, float]:
    """Class -> median contrast of its patches, in gray levels, to two decimals."""
    found: dict[str, list[float]] = {}
    for patch in patches:
        found.setdefault(patch.class_name, []).append(patch.contrast)
    return {name: round(float(np.median(values)), 2) for name, values in found.items()}


def _nearest_box(annotation: Annotation, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, rounded to the nearest px of an image of that size."""
    x, y, w, h = annotation.cx, annotation.cy, annotation.w or 0.0, annotation.h or 0.0
    left, top = max(0, round((x - w / 2) * width)), max(0, round((y - h / 2) * height))
    return left, top, max(left + 1, round((x + w / 2) * width)), max(top + 1, round((y + h / 2) * height))


def change_in_box(
    patch: np.ndarray, twin: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[float, float] | None:
    """Mean change, in gray levels, of what differs inside a box, and the mean distance in px of its sides from the
    box's; None where nothing does. Both images (h, w, 3) float32."""
    left, top, right, bottom = box
    inside = np.zeros(patch.shape[:2], bool)
    inside[top:bottom, left:right] = True
    change = change_of_twin(patch, twin, inside)[top:bottom, left:right]
    labeled, _ = ndimage.label(change > CHANGED, structure=EIGHT)
    sizes = np.bincount(labeled.ravel())
    sizes[0] = 0
    mask = (sizes >= SPECK)[labeled]
    if not mask.any():
        return None
    return float(change[mask].mean()), _margin(mask)


def _margin(mask: np.ndarray) -> float:
    """The mean distance in px of the sides of a shape (h, w) bool, which is not empty, from those of its image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    sides = (rows[0], columns[0], mask.shape[0] - 1 - rows[-1], mask.shape[1] - 1 - columns[-1])
    return float(np.mean(sides))


def _outline(path: Path, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray | None:
    """The pixels (h, w) bool of an outline in the box of a patch of `size` (height, width); None without any."""
    if not path.is_file() or (shape := load_rgb(path)[..., 0] > 127).shape != size:
        return None
    left, top, right, bottom = box
    inside = shape[top:bottom, left:right]
    return inside if inside.any() else None


def contrast_to_ring(
    patch: np.ndarray, box: tuple[int, int, int, int], shape: np.ndarray | None = None
) -> float:
    """How far the tenth of a defect that stands out most is from the gray around its box, beyond what is usual there.

    The defect is its `shape` (h, w) bool in the box, or else all of the box; of that a scratch is a few hundredths,
    so where the utmost hundredth is farther off that of what is around it, that counts.
    """
    gray = patch.mean(axis=2)
    left, top, right, bottom = box
    reach = max(3, round(RING * max(right - left, bottom - top)))
    ring = np.zeros(gray.shape, bool)
    ring[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach] = True
    ring[top:bottom, left:right] = False
    around = gray[ring] if ring.any() else gray.ravel()
    middle = float(np.median(around))
    inside, usual = np.abs(gray[top:bottom, left:right] - middle), np.abs(around - middle)
    contrast = float(np.percentile(inside if shape is None else inside[shape], 90) - np.median(usual))
    if shape is None:
        contrast = max(contrast, float(np.percentile(inside, UTMOST) - np.percentile(usual, UTMOST)))
    return max(0.0, contrast)
