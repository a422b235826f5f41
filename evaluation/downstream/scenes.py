"""Images with defects, and the square tiles that detectors see of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.detectors.interface import Example

VIEWS = 4  # tiles of a training defect, each with the defect elsewhere
ATTEMPTS = 30  # random places of a tile, of which the best is taken
VISIBLE = 0.5  # share of a box that a tile must show for the box to count
WHOLE = 1 - 1e-4  # share from which a box is seen as a whole; labels may end a hair beyond their image
GRAY = 114  # beyond the edge of an image that is smaller than a tile


def no_boxes() -> np.ndarray:
    """(0, 4) float32."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 with its defects, as in `Example`, and with `hidden` (m, 4) ones that must not be seen.

    `clean`, of the same size: what is shown in place of hidden defects; without it they are painted over in the mean
    color of the tile.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    hidden: np.ndarray = field(default_factory=no_boxes)
    clean: np.ndarray | None = None

    @property
    def all_boxes(self) -> np.ndarray:
        """(n + m, 4): shown and hidden."""
        return np.concatenate([self.boxes, self.hidden])

    def showing(self, numbers: Sequence[int]) -> "Scene":
        """The scene with these of its boxes, in this order; its others are hidden."""
        others = [k for k in range(len(self.boxes)) if k not in numbers]
        return replace(
            self,
            boxes=self.boxes[list(numbers)],
            classes=self.classes[list(numbers)],
            hidden=np.concatenate([self.hidden, self.boxes[others]]),
        )


def training_tiles(
    scenes: Iterable[Scene], side: int, rng: np.random.Generator, alone: bool = False
) -> list[Example]:
    """VIEWS tiles of every defect, with the others that are there or `alone`, the others hidden."""
    tiles = []
    for scene in scenes:
        for k, box in enumerate(scene.boxes):
            shown, target = (scene.showing([k]), 0) if alone else (scene, k)
            for _ in range(VIEWS):
                tiles.append(cut(shown, *best_corner(shown, box, side, rng), side, target=target))
    return tiles


def covering_tiles(scenes: Iterable[Scene], side: int, rng: np.random.Generator) -> list[Example]:
    """Tiles that show every defect once, and as many tiles without defects, where there is room.

    A defect is shown as a whole, as far as it fits. What a tile shows of defects of other tiles is hidden.
    """
    tiles = []
    for scene in scenes:
        missing = list(range(len(scene.boxes)))
        count = 0
        while missing:
            corner = best_corner(scene.showing(missing), scene.boxes[missing[0]], side, rng)
            inside = shown_share(scene.boxes, corner, side) >= WHOLE
            shown = [k for k in missing if inside[k] or k == missing[0]]
            missing = [k for k in missing if k not in shown]
            tiles.append(cut(scene.showing(shown), *corner, side, target=0))
            count += 1
        tiles += clean_tiles(scene, side, max(1, count), rng)
    return tiles


def clean_tiles(scene: Scene, side: int, count: int, rng: np.random.Generator) -> list[Example]:
    """Up to `count` tiles that no defect of the scene reaches into."""
    height, width = scene.image.shape[:2]
    found: list[Example] = []
    for _ in range(ATTEMPTS * count):
        left, top = (int(rng.integers(max(length - side, 0) + 1)) for length in (width, height))
        if not (shown_share(scene.all_boxes, (left, top), side) > 0).any():
            found.append(cut(scene, left, top, side))
        if len(found) == count:
            break
    return found


def best_corner(scene: Scene, box: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """(left, top) of a tile with the whole box in it, as far as it fits, at a random place.

    Of some places the one that cuts the fewest other boxes and shows the fewest hidden ones.
    """
    best, fewest = (0, 0), np.inf
    for _ in range(ATTEMPTS):
        corner = _random_corner(scene.image.shape[:2], box, side, rng)
        cuts = shown_share(scene.boxes, corner, side)
        bad = ((cuts > 0) & (cuts < WHOLE)).sum() + (shown_share(scene.hidden, corner, side) > 0).sum()
        if bad < fewest:
            best, fewest = corner, bad
        if not bad:
            break
    return best


def _random_corner(
    shape: Sequence[int], box: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[int, int]:
    corner = []
    for low, high, length in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0])):
        first, last = int(np.ceil(high)) - side, int(np.floor(low))
        if first > last:  # the box is longer than the tile
            first = last = round((low + high - side) / 2)
        limit = max(length - side, 0)
        first, last = (min(max(v, 0), limit) for v in (first, last))
        corner.append(int(rng.integers(first, last + 1)))
    return corner[0], corner[1]


def shown_share(boxes: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    """(n,): which share of each box lies in the tile."""
    low = np.array([*corner, *corner], np.float32)
    clipped = np.clip(boxes - low, 0, side)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / np.maximum(area, 1e-6)


def cut(scene: Scene, left: int, top: int, side: int, target: int | None = None) -> Example:
    """The tile at (left, top); boxes less than half visible are hidden, too, but for the number `target`."""
    tile = np.full((side, side, 3), GRAY, np.uint8)
    part = scene.image[top : top + side, left : left + side]
    tile[: part.shape[0], : part.shape[1]] = part
    share = shown_share(scene.boxes, (left, top), side)
    origin = np.array([left, top, left, top], np.float32)
    kept = share >= VISIBLE
    if target is not None:
        kept[target] = True
    boxes = np.clip(scene.boxes[kept] - origin, 0, side).astype(np.float32)
    hidden = np.concatenate([scene.hidden, scene.boxes[~kept]]) - origin
    _hide(tile, np.clip(hidden, 0, side), boxes, scene, (left, top))
    return Example(tile, boxes, scene.classes[kept].astype(np.int64))


def _hide(
    tile: np.ndarray, hidden: np.ndarray, boxes: np.ndarray, scene: Scene, corner: tuple[int, int]
) -> None:
    """Paint over what is in the hidden boxes, but for what is in shown ones."""
    masks = [np.zeros(tile.shape[:2], bool) for _ in range(2)]
    for mask, all_of in zip(masks, (hidden, boxes), strict=True):
        for x0, y0, x1, y1 in all_of:
            mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = x1 > x0 and y1 > y0
    over = masks[0] & ~masks[1]
    if not over.any():
        return
    if scene.clean is None:
        tile[over] = tile[~over].mean(axis=0).round().astype(np.uint8) if (~over).any() else GRAY
        return
    left, top = corner
    part = scene.clean[top : top + tile.shape[0], left : left + tile.shape[1]]
    inner = over[: part.shape[0], : part.shape[1]]
    tile[: part.shape[0], : part.shape[1]][inner] = part[inner]
