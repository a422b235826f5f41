"""Do two parts show the same thing? Equal files, equal looks, and pixel-aligned photographs of one part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from utils.files import file_sha256
from utils.images import load_rgb

SIDE, LOW = 32, 8  # px of the thumbnail for the hash, and of its coarse frequencies
BITS = 6  # of 64 that two hashes of one image may differ in
DETAIL = 128  # px of the thumbnail that is compared pixel by pixel
ALIKE = 0.99  # correlation of the details of aligned photographs of one thing; cameras on one rig share up to 0.98


@dataclass(frozen=True)
class Looks:
    """What is compared of an image: hash of the file, hash of the looks (64,) bool, details (DETAIL, DETAIL)."""

    path: Path
    digest: str
    bits: np.ndarray
    details: np.ndarray


@dataclass(frozen=True)
class Leak:
    """Two images of different parts that are `why`: equal files, look alike, or aligned."""

    why: str
    first: Path
    second: Path


def looks_of(path: Path) -> Looks:
    """Read an image for comparison."""
    image = Image.fromarray(load_rgb(path)).convert("L")
    details = np.asarray(image.resize((DETAIL, DETAIL), Image.Resampling.BOX), np.float32)
    details = details - ndimage.gaussian_filter(details, 4)
    details = (details - details.mean()) / max(float(details.std()), 1e-6)
    return Looks(path, file_sha256(path), looks_hash(image), details)


def looks_hash(image: Image.Image) -> np.ndarray:
    """(64,) bool: whether each of the coarsest cosine frequencies is above their median (pHash, Zauner 2010)."""
    small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    coarse = fft.dctn(small, norm="ortho")[:LOW, :LOW].reshape(-1)
    coarse[0] = 0  # the brightness
    return coarse > np.median(coarse)


def find_leaks(train: Sequence[Path], held: Sequence[Path]) -> list[Leak]:
    """Every pair of a training image and a held-out one that shows the same thing, the surest reason alone."""
    known = [looks_of(path) for path in train]
    return [
        Leak(why, one.path, path)
        for path in held
        for other in [looks_of(path)]
        for one in known
        if (why := reason(one, other))
    ]


def reason(one: Looks, other: Looks) -> str | None:
    """Why two images count as the same; None where they do not."""
    if one.digest == other.digest:
        return "equal files"
    if float((one.details * other.details).mean()) >= ALIKE:
        return "aligned"
    if int((one.bits != other.bits).sum()) <= BITS and _shifted(one.details, other.details) >= ALIKE:
        return "look alike"
    return None


def _shifted(one: np.ndarray, other: np.ndarray) -> float:
    """The highest correlation of two (DETAIL, DETAIL) images over all cyclic shifts."""
    product = np.fft.rfft2(one) * np.conj(np.fft.rfft2(other))
    return float(np.fft.irfft2(product, one.shape).max() / one.size)
