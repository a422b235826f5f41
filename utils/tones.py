"""The tones of images that have only a few: scans, drawings and thresholded photographs of two levels.

What is painted on such an image can be made of the same tones, with edges as sharp as the image's own.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy import ndimage
from scipy.special import erfinv

from utils.images import resize_float

NEAR = 8  # levels from a tone at most for a pixel to be of it; JPEG moves pixels so far
EXACT, PURE = (
    2,
    0.9,
)  # this fraction of the flat pixels is at most EXACT levels from a tone: no noise, no shading
SHARE, APART = 2e-3, 32  # a tone's fraction of the flat pixels, and levels between tones, at least
MOST = 4  # tones at most
BETWEEN, REACH = (
    1e-3,
    2,
)  # of the pixels at most have no pixel of a tone within REACH px: other colors are at edges
HARD = 0.9  # of the step between two tones from one pixel to the next: a hard edge, but for JPEG
PROBES = 2**16  # pixels looked at first, which tell ordinary photographs
SMOOTHING = (
    1.0  # px of the model, sigma of the Gaussian by which specks of what was painted go before it gets tones
)
EIGHT = np.ones((3, 3), bool)
THICK = 3  # px that a piece of a tone has at least, of two tones one less: a soft edge passes the tones between its two


@dataclass(frozen=True)
class Tones:
    """The `colors` (k, 3) uint8 of an image, and the `softness` of the edges between them: the sigma in px of the
    Gaussian that a hard edge would have to be blurred with, 0 for a hard edge."""

    colors: np.ndarray
    softness: float

    def nearest(self, image: np.ndarray) -> np.ndarray:
        """(h, w) uint8, the number of the tone that each pixel of (h, w, 3) is nearest to."""
        return np.argmin([_distance(image, color) for color in self.colors], axis=0).astype(np.uint8)

    def redrawn(self, native: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """A square `native` (side, side, 3) uint8 with the change from `before` to `after`, both (S, S, 3) uint8 at
        model size, made of the tones: (side, side, 3) uint8.

        Where both are of one tone the square stays as it is, but for one px of the model around the change, where the
        edges of `before` would be left. New edges are as soft as the image's own.
        """
        side, pixel = len(native), len(native) / len(before)
        old, new = (
            self._pieces(resize_float(part, (side, side)), SMOOTHING * pixel) for part in (before, after)
        )
        redrawn = ndimage.binary_dilation(old != new, EIGHT, iterations=ceil(pixel))
        return self._drawn(native, np.where(redrawn, new, self.nearest(native)), redrawn)

    def _pieces(self, image: np.ndarray, smoothing: float) -> np.ndarray:
        """The tone (h, w) uint8 of each pixel of (h, w, 3) float; thin pieces go to what is next to them."""
        nearest = self.nearest(ndimage.gaussian_filter(image, (smoothing, smoothing, 0)))
        piece = np.ones((min(len(self.colors), THICK),) * 2, bool)
        thick = np.zeros(nearest.shape, bool)
        for tone in range(len(self.colors)):
            thick |= ndimage.binary_opening(nearest == tone, piece)
        if not thick.any():
            return nearest
        rows, columns = ndimage.distance_transform_edt(~thick, return_distances=False, return_indices=True)
        return nearest[rows, columns]

    def _drawn(self, native: np.ndarray, tones: np.ndarray, where: np.ndarray) -> np.ndarray:
        """`native` (h, w, 3) uint8 with the numbers `tones` (h, w) drawn `where` (h, w) bool, and around it softly."""
        drawn = self.colors[tones]
        if self.softness > 0:
            s = self.softness
            where = ndimage.binary_dilation(where, EIGHT, iterations=ceil(2 * s))
            drawn = np.rint(ndimage.gaussian_filter(drawn.astype(np.float32), (s, s, 0))).astype(np.uint8)
        return np.where(where[..., None], drawn, native)


def find_tones(image: np.ndarray) -> Tones | None:
    """The tones of (H, W, 3) uint8; None for an ordinary photograph, and for an image of one tone.

    An image has few tones when pixels that are no edge are of 2 to 4 colors, without noise or shading, and all others
    are within REACH px of those.
    """
    step = max(1, int((image.shape[0] * image.shape[1] / PROBES) ** 0.5))
    colors = _frequent(_flat(image, step))
    if colors is None:
        return None
    away = np.min([_distance(image, color) for color in colors], axis=0) > NEAR
    if ndimage.minimum_filter(away, 2 * REACH + 1).mean() > BETWEEN:
        return None
    return Tones(colors, _softness(image, Tones(colors, 0.0)))


def _distance(image: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Largest difference of a channel from `color`, (h, w)."""
    red, green, blue = (np.abs(image[..., c] - np.float32(color[c])) for c in range(3))
    return np.maximum(np.maximum(red, green), blue)


def _flat(image: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th pixel in both directions that is no edge: (n, 3) uint8."""
    pixels, right, below = (
        image[y : y - 1 or None : step, x : x - 1 or None : step].astype(np.int16)
        for y, x in ((0, 0), (0, 1), (1, 0))
    )
    change = np.maximum(*(np.abs(pixels.astype(np.int16) - other).max(axis=2) for other in (right, below)))
    return pixels[change <= NEAR].astype(np.uint8)


def _frequent(pixels: np.ndarray) -> np.ndarray | None:
    """The tones (k, 3) uint8 that flat pixels (n, 3) are of, the most frequent first; None unless they are 2 to MOST,
    and hold the pixels without noise."""
    if not len(pixels):
        return None
    packed, counts = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
    found: list[np.ndarray] = []
    exact = 0
    while counts.max() > 0 and len(found) <= MOST:
        tone = colors[counts.argmax()]
        distance = _distance(colors, tone)
        if counts[distance <= NEAR].sum() < SHARE * len(pixels):
            break
        found.append(tone)
        exact += counts[distance <= EXACT].sum()
        counts[distance < APART] = 0
    if not 2 <= len(found) <= MOST or exact < PURE * len(pixels):
        return None
    return np.array(found)


def _softness(image: np.ndarray, tones: Tones) -> float:
    """From how much of the step between two tones is taken from one pixel to the next, the median along all edges: by a
    Gaussian of sigma s, erf(1 / (s sqrt 8)) of it."""
    nearest, values = tones.nearest(image), image.astype(np.float32)
    shares = []
    for axis in (0, 1):
        one, other = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        edge = nearest[one] != nearest[other]
        step = tones.colors[nearest[other][edge]].astype(np.float32) - tones.colors[nearest[one][edge]]
        taken = (values[other][edge] - values[one][edge]) * step
        shares.append(taken.sum(axis=1) / (step**2).sum(axis=1))
    share = float(np.median(np.concatenate(shares)))
    return 0.0 if share >= HARD else float(1 / (8**0.5 * erfinv(max(share, 0.05))))
