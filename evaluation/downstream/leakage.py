"""Do two parts show the same thing? Equal files, pixel-aligned photographs, and shifted, turned or mirrored copies.

Not seen: copies whose content is zoomed or turned by other angles than quarters (2 % and 1 degree are enough), parts of
a photograph below about four fifths of its area, strong noise, shifted or turned copies at another resolution, and
photographs of one place at other times or in other light, unless they are aligned and hardly differ. Groups must tell
of these.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from evaluation.downstream.looks import (
    AS_IT_IS,
    COARSE,
    LIKE,
    SIDE,
    Thumbnail,
    Turn,
    candidates,
    shared_likeness,
)
from utils.files import file_sha256
from utils.images import load_rgb

DETAIL = 128  # px of the thumbnail that is compared pixel by pixel
ALIKE = 0.99  # correlation of the details of aligned photographs of one thing; cameras on one rig share up to 0.98


@dataclass(frozen=True)
class Looks:
    """What is compared of an image: hash of the file, details (DETAIL, DETAIL) of the whole as a square, and a
    thumbnail at a scale that is the same for all images."""

    path: Path
    digest: str
    details: np.ndarray
    thumbnail: Thumbnail


@dataclass(frozen=True)
class Leak:
    """Two images of different parts and why they are one: equal files, aligned, shifted, turned or mirrored."""

    why: str
    first: Path
    second: Path


def looks_of(path: Path, scale: float) -> Looks:
    """Read an image for comparison; `scale`: its px per px of the thumbnail."""
    image = Image.fromarray(load_rgb(path)).convert("L")
    details = np.asarray(image.resize((DETAIL, DETAIL), Image.Resampling.BOX), np.float32)
    details = details - ndimage.gaussian_filter(details, 4)
    details = (details - details.mean()) / max(float(details.std()), 1e-6)
    width, height = (max(1, round(side / scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return Looks(path, file_sha256(path), details, Thumbnail(small))


def scale_for(paths: Iterable[Path]) -> float:
    """Px per px of the thumbnails of these images: 1, or more where the largest does not fit."""
    longest = 0
    for path in paths:
        with Image.open(path) as image:
            longest = max(longest, *image.size)
    return max(1.0, longest / SIDE)


def find_leaks(train: Sequence[Path], held: Sequence[Path]) -> list[Leak]:
    """Every pair of a training image and a held-out one that shows the same thing, the surest reason alone."""
    if not train or not held:
        return []
    scale = scale_for([*train, *held])
    known = [looks_of(path, scale) for path in train]
    coarse = np.stack([one.thumbnail.spectrum(COARSE) for one in known])
    leaks = []
    for path in held:
        other = looks_of(path, scale)
        turns: dict[int, list[Turn]] = defaultdict(list)
        for k, turn in candidates(other.thumbnail, coarse):
            turns[k].append(turn)
        found = [(reason(one, other, turns[k]), one) for k, one in enumerate(known)]
        leaks += [Leak(why, one.path, path) for why, one in found if why]
    return leaks


def reason(one: Looks, other: Looks, turns: Sequence[Turn]) -> str | None:
    """Why two images count as the same; None where they do not. `turns`: how the other may be turned."""
    if one.digest == other.digest:
        return "equal files"
    if float((one.details * other.details).mean()) >= ALIKE:
        return "aligned"
    for turn in turns:
        if shared_likeness(other.thumbnail, one.thumbnail, turn) >= LIKE:
            return "shifted" if turn == AS_IT_IS else "turned or mirrored"
    return None
