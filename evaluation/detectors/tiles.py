"""Large images as square tiles at their own scale, and detections in tiles as detections in the image."""

from collections.abc import Sequence

import numpy as np

from evaluation.detectors.interface import Detections, Example

VISIBLE = 0.5  # share of a box that a tile must show to hold it
SAME = 0.6  # share of the smaller box that two detections of one defect have in common
EDGE = 2.0  # px from a tile's edge within which a detection may be cut off
DETECTIONS = 300  # kept in an image

Origin = tuple[int, int]  # left, top of a tile in px


def tiles(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    side: int,
    overlap: int = 0,
    rng: np.random.Generator | None = None,
) -> list[Example]:
    """Square tiles of `side` px of an image (H, W, 3) uint8 with boxes (n, 4) and classes (n,).

    `rng` None: all tiles of `grid`, in its order. Else training tiles: one for each box, the box anywhere in it, or a
    random tile if there are no boxes. A box that a tile's edge cuts is clipped, and dropped when less than half of it
    is to see. What is missing to `side` px right or below is filled up with the edge's pixels.
    """
    height, width = image.shape[:2]
    if rng is None:
        corners = grid((height, width), side, overlap)
    elif len(boxes):
        corners = [_around(box, (height, width), side, rng) for box in boxes]
    else:
        corners = [(_anywhere(width, side, rng), _anywhere(height, side, rng))]
    return [_cut(Example(image, boxes, classes), corner, side) for corner in corners]


def grid(size: tuple[int, int], side: int, overlap: int) -> list[Origin]:
    """Corners of tiles that cover an image of `size` (height, width), row by row, evenly spaced; neighbors share at
    least `overlap` px."""
    assert 0 <= overlap < side, (overlap, side)
    tops, lefts = (_starts(length, side, overlap) for length in size)
    return [(left, top) for top in tops for left in lefts]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    free = max(length - side, 0)
    count = 1 + -(-free // (side - overlap))
    return [round(free * k / max(count - 1, 1)) for k in range(count)]


def _around(box: np.ndarray, size: tuple[int, int], side: int, rng: np.random.Generator) -> Origin:
    """A random tile that shows the whole box, or its middle where the box is larger."""
    left, top = (
        _spot(float(box[axis]), float(box[axis + 2]), size[1 - axis], side, rng) for axis in range(2)
    )
    return left, top


def _spot(low: float, high: float, length: int, side: int, rng: np.random.Generator) -> int:
    least, most = int(np.ceil(high)) - side, int(low)
    if least > most:
        least = most = int((low + high - side) / 2)
    return int(np.clip(rng.integers(least, most + 1), 0, max(length - side, 0)))


def _anywhere(length: int, side: int, rng: np.random.Generator) -> int:
    return int(rng.integers(0, max(length - side, 0) + 1))


def _cut(example: Example, corner: Origin, side: int) -> Example:
    left, top = corner
    image = example.image[top : top + side, left : left + side]
    missing = [(0, side - image.shape[0]), (0, side - image.shape[1]), (0, 0)]
    moved = np.asarray(example.boxes, np.float32).reshape(-1, 4) - np.array(
        [left, top, left, top], np.float32
    )
    seen = moved.clip(0, side)
    kept = _areas(seen) >= VISIBLE * np.maximum(_areas(moved), 1e-6)
    classes = np.asarray(example.classes, np.int64).reshape(-1)
    return Example(np.pad(image, missing, mode="edge"), seen[kept], classes[kept])


def merged(found: Sequence[Detections], corners: Sequence[Origin], side: int) -> Detections:
    """The detections of an image from those in its tiles at `corners`.

    Of two of one class and different tiles that share 60 % of the smaller box, the better stays: one that is away from
    its tile's edges before one that an edge may cut, then the one with the higher score.
    """
    shifts = [np.array([left, top, left, top], np.float32) for left, top in corners]
    boxes = np.concatenate([one.boxes + shift for one, shift in zip(found, shifts, strict=True)])
    cut = np.concatenate([((one.boxes < EDGE) | (one.boxes > side - EDGE)).any(axis=1) for one in found])
    scores, classes = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("scores", "classes")
    )
    tile = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    left = np.lexsort((-scores, cut))
    kept: list[int] = []
    while len(left):
        best, rest = left[0], left[1:]
        kept.append(int(best))
        twin = (tile[rest] != tile[best]) & (classes[rest] == classes[best])
        left = rest[~(twin & (_shared(boxes[best], boxes[rest]) > SAME))]
    chosen = np.array(kept, np.int64)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:DETECTIONS]
    return Detections(boxes[chosen], scores[chosen], classes[chosen])


def _areas(boxes: np.ndarray) -> np.ndarray:
    """(n,) areas of (n, 4) boxes."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _shared(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) intersections of a box (4,) with others (n, 4), as shares of the smaller of the two."""
    common = np.concatenate([np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])], axis=1)
    smaller = np.minimum(_areas(box[None]), _areas(others))
    return _areas(common) / np.maximum(smaller, 1e-6)
