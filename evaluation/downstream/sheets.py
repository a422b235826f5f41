"""What a detector found and what it missed, as one image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from evaluation.detectors.interface import Detections, Example
from utils.images import grid

GREEN, RED, YELLOW = (0, 200, 0), (230, 0, 0), (250, 200, 0)
MOST, COLUMNS = 40, 8  # tiles on a sheet, and in a row
SURE = 0.25  # score from which a detection is shown
OVERLAP = 0.5  # IoU of a hit


def hits_and_misses(test: Sequence[Example], found: Sequence[Detections]) -> np.ndarray:
    """(H, W, 3) uint8: tiles with defects, spread over all. Green: found, red: missed or taken for another class,
    yellow: found where there is none."""
    shown = [k for k, example in enumerate(test) if len(example.boxes)]
    shown = [shown[int(i)] for i in np.linspace(0, len(shown) - 1, min(MOST, len(shown)))]
    return grid([_drawn(test[k], found[k]) for k in shown], COLUMNS)


def _drawn(example: Example, found: Detections) -> np.ndarray:
    image = Image.fromarray(example.image)
    draw = ImageDraw.Draw(image)
    for box, color in outlines(example, found):
        draw.rectangle([float(side) for side in box], outline=color, width=2)
    return np.asarray(image)


def outlines(example: Example, found: Detections) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Boxes and their colors; of a detector that was asked about given boxes, right and wrong answers."""
    if found.truth is not None:
        right = found.classes == found.truth
        return [(box, GREEN if good else RED) for box, good in zip(found.boxes, right, strict=True)]
    sure = found.scores >= SURE
    boxes, classes = found.boxes[sure], found.classes[sure]
    overlaps = box_overlaps(example.boxes, boxes)  # (n, m)
    hits = (overlaps >= OVERLAP) & (example.classes[:, None] == classes[None])
    drawn = [(box, YELLOW) for box, hit in zip(boxes, hits.any(axis=0), strict=True) if not hit]
    truth = zip(example.boxes, hits.any(axis=1), strict=True)
    return [*drawn, *((box, GREEN if hit else RED) for box, hit in truth)]


def box_overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, m) IoU of boxes (n, 4) and (m, 4)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-6)
