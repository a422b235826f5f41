"""Are two photographs one, shifted, turned or mirrored? Phase correlation of thumbnails (Kuglin and Hines 1975).

Phases alone, all frequencies of a band weighted alike, tell fine texture from what all photographs of a camera rig have
in common: that is a few strong edges. On photographs of different boards and of different positions of one rig the
correlations are up to 0.57; on parts of one photograph, of four fifths of its area and more, they are 0.7 to 1, unless
strong noise was added.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import fft, ndimage

SIDE = 256  # px of the longest side of a thumbnail
COARSE = 64  # px of those that find candidates
CUT = 0.25  # cycles per px: standard deviation of the Gaussian that limits the band
SURROUND = 4  # px of the Gaussian that is taken off
LEAST = 24  # px of a side of the part that two thumbnails share, and half of the smaller one's area
COARSE_LIKE, FINE_LIKE = 0.45, 0.58  # correlations of candidates
LIKE = 0.68  # correlation of the part that two thumbnails share, from which they are one

Turn = tuple[int, bool]  # quarters counterclockwise, then mirrored left to right
AS_IT_IS: Turn = (0, False)
TURNS: Sequence[Turn] = [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)]


class Thumbnail:
    """A gray image (h, w) uint8, at most SIDE px a side, with its spectra, made when they are first asked for."""

    def __init__(self, gray: np.ndarray):
        self.gray = gray
        self._spectra: dict[tuple[int, Turn], np.ndarray] = {}

    def turned(self, turn: Turn) -> np.ndarray:
        """(h, w) or (w, h) float32."""
        gray = np.rot90(self.gray, turn[0]).astype(np.float32)
        return gray[:, ::-1] if turn[1] else gray

    def spectrum(self, side: int, turn: Turn = AS_IT_IS) -> np.ndarray:
        """The `spectrum` of the turned image, reduced from SIDE to `side` px."""
        if (side, turn) not in self._spectra:
            self._spectra[side, turn] = spectrum(_reduced(self.turned(turn), SIDE // side), side)
        return self._spectra[side, turn]


def _reduced(gray: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` x `factor` px; the last rows and columns are repeated to fill the last ones."""
    padded = np.pad(gray, [(0, -length % factor) for length in gray.shape], mode="edge")
    height, width = (length // factor for length in padded.shape)
    return padded.reshape(height, factor, width, factor).mean(axis=(1, 3))


def spectrum(gray: np.ndarray, side: int) -> np.ndarray:
    """(side, side // 2 + 1) complex64: the phases of an image (h, w), weighted by the band."""
    detail = gray - ndimage.gaussian_filter(gray, SURROUND)
    height, width = gray.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    values = fft.rfft2((detail - detail.mean()) * window, (side, side))
    strength = np.abs(values)
    least = max(1e-6 * float(strength.max()), 1e-6)  # a plain image has no phases
    return (values / np.maximum(strength, least) * _band(side)).astype(np.complex64)


@cache
def _band(side: int) -> np.ndarray:
    """(side, side // 2 + 1): the weights of the frequencies, such that an image's correlation with itself is 1."""
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    weights = np.exp(-0.5 * (rows**2 + columns**2) / CUT**2)
    peak = float(fft.irfft2(weights**2, (side, side)).max())
    return weights / np.sqrt(peak)


def peaks(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,): the highest correlation of a spectrum with each of `others` (n, ...) over all shifts."""
    side = one.shape[0]
    return fft.irfft2(one * np.conj(others), (side, side)).max(axis=(1, 2))


def candidates(one: Thumbnail, others: np.ndarray) -> list[tuple[int, Turn]]:
    """Which of `others`, coarse spectra (n, ...), may show `one`, and how it would be turned."""
    found = []
    for turn in TURNS:
        values = peaks(one.spectrum(COARSE, turn), others)
        found += [(int(k), turn) for k in np.flatnonzero(values >= COARSE_LIKE)]
    return found


def shared_likeness(one: Thumbnail, other: Thumbnail, turn: Turn) -> float:
    """The correlation, up to 1, of the parts of `one`, turned, and of `other` that show the same where they are most
    alike; 0 where they are not alike at all, or where these parts are too small."""
    product = one.spectrum(SIDE, turn) * np.conj(other.spectrum(SIDE))
    alike = fft.irfft2(product, (SIDE, SIDE))
    index = int(alike.argmax())
    if alike.flat[index] < FINE_LIKE:
        return 0.0
    shift = [v - SIDE * (v > SIDE // 2) for v in divmod(index, SIDE)]
    parts = shared(one.turned(turn), other.turned(AS_IT_IS), shift)
    smaller = min(one.gray.size, other.gray.size)
    if min(parts[0].shape) < LEAST or parts[0].size < smaller / 2:
        return 0.0
    first, second = (spectrum(part, SIDE) for part in parts)
    return float(peaks(first, second[None])[0])


def shared(one: np.ndarray, other: np.ndarray, shift: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The parts of two images that show the same where `one` is `other` moved by `shift` (down, right)."""
    starts = [max(0, step) for step in shift]
    ends = [min(a, b + step) for a, b, step in zip(one.shape, other.shape, shift, strict=True)]
    (top, left), (bottom, right) = starts, [max(a, b) for a, b in zip(starts, ends, strict=True)]
    down, across = shift
    return one[top:bottom, left:right], other[top - down : bottom - down, left - across : right - across]
