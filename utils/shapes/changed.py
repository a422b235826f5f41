"""What a defect changes of its clean twin, which may be off by a little."""

import numpy as np
from scipy import ndimage

OFF = 20.0  # gray levels off the twin that are no noise,
MOST_OFF = 0.005  # of the pixels outside a defect's box, from which share on the twin is taken to be off by a px more,
FARTHEST = 2  # but by no more than this


def change_of_twin(image: np.ndarray, twin: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How far each pixel of an image (h, w, 3), 0 to 255, is off its clean twin: (h, w) float32, gray levels, the
    largest over the channels.

    Hard edges that are a fraction of a pixel apart differ as much as a defect does. So where the twin differs outside
    the defect's box, which is `inside` (h, w) bool, each pixel is compared with the likest one of those around it:
    within 1 px, else within 2. What is as near to a change that is left counts as it is: a spur begins at its trace.
    """
    outside = ~inside
    for reach in range(FARTHEST + 1):
        side = (2 * reach + 1, 2 * reach + 1, 1)
        low = ndimage.minimum_filter(twin, side).astype(np.float32)
        high = ndimage.maximum_filter(twin, side).astype(np.float32)
        found = np.maximum(low - image, image - high).clip(0).max(axis=2)
        if not outside.any() or (found[outside] > OFF).mean() <= MOST_OFF:
            break
    if reach:
        beside = ndimage.binary_dilation(found > OFF, np.ones((3, 3), bool), iterations=reach)
        found = np.where(beside, np.abs(image.astype(np.float32) - twin).max(axis=2), found)
    return np.asarray(found, np.float32)
