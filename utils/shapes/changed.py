"""What a defect changes of its clean twin, which may be off by a little."""

import numpy as np
from scipy import ndimage

OFF = 20.0  # gray levels off the twin that are no noise,
MOST_OFF = 0.005  # of the pixels outside a defect's box, from which share on the twin is taken to be off by a px more,
FARTHEST = 2  # but by no more than this,
EDGES = 0.3  # and not from which share on it is another picture
LIGHT = 24.0  # gray levels that a twin may be lighter or darker
NOISE = 3.0  # medians of the change outside the box that are noise: about two standard deviations
SQUARE = np.ones((3, 3), bool)


def change_of_twin(image: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How far each pixel of an image (h, w, 3), 0 to 255, is off its clean twin: (h, w) float32, gray levels, the
    largest over the channels.

    Hard edges that are a fraction of a pixel apart differ as much as a defect does. So where the twin differs outside
    the defect's box, which is `inside` (h, w) bool, and other defects, each pixel is compared with the likest one of
    those around it: within 1 px, else within 2. What is as near to a change that is left counts as it is: a spur begins
    at its trace. A twin that is off nearly everywhere shows another picture, and is compared by the pixel.
    """
    exact = _change(image, twin, 0)
    if not MOST_OFF < (exact > OFF)[~inside].sum() / max(1, (~inside).sum()) < EDGES:
        return exact
    changes = [exact, *(_change(image, twin, reach) for reach in range(1, FARTHEST + 1))]
    defects = ndimage.binary_dilation(changes[-1] > OFF, SQUARE, iterations=FARTHEST)
    outside = ~inside & ~defects
    fits = [not outside.any() or (change[outside] > OFF).mean() <= MOST_OFF for change in changes]
    reach = fits.index(True)  # the farthest one fits
    beside = ndimage.binary_dilation(changes[reach] > OFF, SQUARE, iterations=max(1, reach))
    return np.where(beside, exact, changes[reach])


def relit(image: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The twin (h, w, 3), float32, in the light of the image: off by the median difference outside the defect's box,
    but by no more than LIGHT."""
    outside = ~inside
    if not outside.any():
        return twin.astype(np.float32)
    light = np.median(image[outside].astype(np.float32) - twin[outside], axis=0)
    return np.asarray(twin + np.clip(light, -LIGHT, LIGHT), np.float32)


def sure_change(image: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What a defect changes, (h, w) gray levels: `change_of_twin` in the light of the image, 0 where it is no more than
    noise."""
    return above_noise(change_of_twin(image, relit(image, twin, inside), inside), inside)


def above_noise(change: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The change (h, w) of a twin without what is no more than is found outside the defect's box, where textures are
    others: 0 there. Other defects may lie there, so that at most half of the defect's own change is taken for noise."""
    smooth, outside = ndimage.gaussian_filter(change, 1), ~inside
    if not (outside.any() and inside.any()):
        return change
    middle, high = np.percentile(smooth[outside], (50, 90))
    own = np.percentile(smooth[inside], 95)
    return np.where(smooth > min(max(NOISE * middle, high), own / 2), change, 0)


def _change(image: np.ndarray, twin: np.ndarray, reach: int) -> np.ndarray:
    """How far each pixel is off the range of the twin's within `reach` px of it."""
    side = (2 * reach + 1, 2 * reach + 1, 1)
    low = ndimage.minimum_filter(twin, side).astype(np.float32)
    high = ndimage.maximum_filter(twin, side).astype(np.float32)
    return np.asarray(np.maximum(low - image, image - high).clip(0).max(axis=2), np.float32)
