"""Series: images that show the same part, found by a field of their names and confirmed by what they show.

The fields of a name are what separators leave of it. Each run of fields divides the images into groups. A division is
taken for one into parts if images that show the same thing mostly share a group: the same defects at the same places,
or all but equal images.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from utils.prepare_data.sources import SourceImage

FIELD, SEPARATOR = r"[^_.-]+", r"[_.-]+"
MOST_FIELDS = 10
MOST_IMAGES = 400  # that are compared
FEWEST_IMAGES, FEWEST_GROUPS = 6, 3
MANY = 5  # images of a class that one group should not hold all of
VIEW = 64  # px a side of what is kept of an image
DETAIL = 5  # px, side of the mean that is taken from a view: light counts less than structure
ALIKE = 0.95  # correlation of views above which images show the same
SAME_PLACE = 0.5  # intersection over union of boxes of the same defect
ASSORTED = 0.5  # coefficient from which on a division counts
LINKED = 0.5  # of the images must have one that shows the same


@dataclass(frozen=True)
class Series:
    """A pattern whose one (group) is an image's group, and why it is taken for that."""

    pattern: str
    reason: str


def view_of(pixels: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: an image (H, W, 3) uint8 in gray, squashed."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((VIEW, VIEW), Image.Resampling.BOX))


def find_series(images: Sequence[SourceImage]) -> Series | None:
    """The series of images that have been inspected, None without any.

    Of several divisions that count the finest one is taken: a coefficient alone prefers coarse ones.
    """
    shown = [image for image in images if image.boxes and image.view is not None]
    if len(shown) < FEWEST_IMAGES or any(image.group for image in images):
        return None
    divisions = list(_divisions(shown))
    if not divisions:
        return None
    chosen = np.arange(len(shown))
    if len(shown) > MOST_IMAGES:
        chosen = np.sort(np.random.default_rng(0).permutation(len(shown))[:MOST_IMAGES])
    seen = [shown[i] for i in chosen]
    for links, what in (
        (recurring(seen), "defects recur at their places"),
        (alike([image.view for image in seen if image.view is not None]), "images are all but equal"),
    ):
        if links.any(axis=1).mean() < LINKED:
            continue
        rated = [(assortativity(links, keys[chosen]), keys, pattern) for pattern, keys in divisions]
        good = [one for one in rated if one[0] >= ASSORTED]
        if good:
            value, keys, pattern = max(good, key=lambda one: int(one[1].max()))
            told = f"{what} within these {keys.max() + 1} groups, rarely beyond (assortativity {value:.2f})"
            return Series(pattern, told)
    return None


def _divisions(images: Sequence[SourceImage]) -> Iterator[tuple[str, np.ndarray]]:
    """Patterns that match the name of every image, and the number (n,) of each one's group; different divisions."""
    known: set[bytes] = set()
    for pattern in _patterns():
        matches = [re.search(pattern, image.path.name) for image in images]
        if not all(matches):
            continue
        names = [match[1] for match in matches if match]
        keys = np.unique(names, return_inverse=True)[1]
        first = np.unique(keys, return_index=True)[1]  # the same division, whatever its groups are called
        same = np.argsort(np.argsort(first))[keys].tobytes()
        if same not in known and _is_possible(keys, images):
            known.add(same)
            yield pattern, keys


def _patterns() -> Iterator[str]:
    """Runs of fields, short ones first, counted from either end of a name; its suffix is the last field."""
    for count in range(1, MOST_FIELDS):
        run = FIELD + f"{SEPARATOR}{FIELD}" * (count - 1)
        for skipped in range(MOST_FIELDS - count):
            yield rf"^(?:{FIELD}{SEPARATOR}){{{skipped}}}({run})" if skipped else rf"^({run})"
        for skipped in range(1, MOST_FIELDS - count):
            yield rf"({run})(?:{SEPARATOR}{FIELD}){{{skipped}}}$"


def _is_possible(keys: np.ndarray, images: Sequence[SourceImage]) -> bool:
    """Whether a division leaves something to hold out and to train on, of each class."""
    sizes = np.bincount(keys)
    if not FEWEST_GROUPS <= len(sizes) <= len(keys) / 2 or sizes.max() > len(keys) / 2:
        return False
    for name in {box.class_name for image in images for box in image.boxes}:
        holds = [any(box.class_name == name for box in image.boxes) for image in images]
        if sum(holds) >= MANY and len(set(keys[holds])) == 1:
            return False
    return True


def assortativity(links: np.ndarray, keys: np.ndarray) -> float:
    """How far links (n, n) bool, symmetric, stay within groups `keys` (n,): 1 is all, 0 as many as by chance (Newman
    2003, "Mixing patterns in networks", eq. 2)."""
    total = links.sum()
    if not total:
        return 0.0
    inside = links[keys[:, None] == keys].sum() / total
    chance = ((np.bincount(keys, links.sum(axis=1)) / total) ** 2).sum()
    return float((inside - chance) / (1 - chance)) if chance < 1 else 0.0


# What shows the same


def alike(views: Sequence[np.ndarray]) -> np.ndarray:
    """(n, n) bool: which of `views` (64, 64) uint8 are all but equal, up to light; none is linked with itself."""
    links = likeness(views, views) >= ALIKE
    np.fill_diagonal(links, False)
    return links


def likeness(views: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """(n, m): correlation of the details of views (64, 64) uint8."""
    return _details(views) @ _details(others).T


def _details(views: Sequence[np.ndarray]) -> np.ndarray:
    """(n, 4096), each of length 1, or 0 for a plain image."""
    stack = np.stack(views).astype(np.float32)
    stack -= ndimage.uniform_filter(stack, (0, DETAIL, DETAIL))
    flat = stack.reshape(len(stack), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)


def recurring(images: Sequence[SourceImage]) -> np.ndarray:
    """(n, n) bool: which of `images`, each with boxes, have their boxes at the same places, as fractions of their
    sides, and of the same sizes; none is linked with itself."""
    boxes = np.array(
        [
            (box.left / image.size[0], box.top / image.size[1], box.right / image.size[0], box.bottom / image.size[1])
            for image in images
            for box in image.boxes
        ],
        np.float32,
    )  # fmt: skip
    counts = [len(image.boxes) for image in images]
    starts = np.cumsum([0, *counts[:-1]])
    mean = np.stack(
        [
            np.maximum.reduceat(_overlaps(boxes[start : start + count], boxes), starts, axis=1).mean(axis=0)
            for start, count in zip(starts, counts, strict=True)  # an image at a time, for the memory
        ]
    )
    links = np.minimum(mean, mean.T) >= SAME_PLACE
    np.fill_diagonal(links, False)
    return links


def _overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4): left, top, right, bottom."""
    sides = np.minimum(some[:, None, 2:], others[:, 2:]) - np.maximum(some[:, None, :2], others[:, :2])
    both = np.maximum(sides, 0).prod(axis=2)
    areas, other_areas = ((one[:, 2:] - one[:, :2]).prod(axis=1) for one in (some, others))
    return both / np.maximum(areas[:, None] + other_areas - both, 1e-12)
