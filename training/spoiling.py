"""Defects spoiled as paintings of them go wrong, which a judge learns to tell from real ones."""

import numpy as np
from scipy import ndimage

from training.boxed_patches import Box
from utils import images
from utils.judging.judge import SIDE, box_mask

EDGE = (0.7, 2.5)  # px, sigma of the soft edge of what is spoiled
BLUR = (1.5, 4.0)  # px, sigma
TINT = (12.0, 30.0)  # gray levels that a channel is off at most
VEIL = (10.0, 40.0)  # gray levels
FAINT = (0.15, 0.45)  # share of a defect that is left

Shown = tuple[np.ndarray, Box]  # a window (64, 64, 3) uint8 and a box in it


def spoil(defect: Shown, clean: Shown, rng: np.random.Generator) -> Shown:
    """The window of a defect with the inside of its box blurred or, where there is color, tinted; or a clean window
    whose box holds a veil of one brightness, or a faint trace of the defect."""
    way = ("blur", "tint", "veil", "trace")[int(rng.integers(4))]
    shown, box = defect if way in ("blur", "tint") else clean
    before = shown.astype(np.float32)
    if way == "veil":
        after = before + rng.choice([-1, 1]) * rng.uniform(*VEIL)
    elif way == "trace":
        after = before + rng.uniform(*FAINT) * (_moved(defect, clean) - before)
    elif way == "tint" and not images.is_gray(shown):
        shift = rng.normal(size=3)
        shift -= shift.mean()
        after = before + shift / np.abs(shift).max() * rng.uniform(*TINT)
    else:
        sigma = rng.uniform(*BLUR)
        after = ndimage.gaussian_filter(before, (sigma, sigma, 0))
    soft = ndimage.gaussian_filter(box_mask(box).astype(np.float32), (*[rng.uniform(*EDGE)] * 2, 0))
    return np.clip(np.rint(before + soft * (after - before)), 0, 255).astype(np.uint8), box


def _moved(defect: Shown, clean: Shown) -> np.ndarray:
    """The clean window, its box filled with what the defect's box holds."""
    (left, top, right, bottom), (x, y, x_end, y_end) = (_whole(box) for _, box in (defect, clean))
    moved = clean[0].copy()
    content = images.resize_squash(defect[0][top:bottom, left:right], (y_end - y, x_end - x))
    moved[y:y_end, x:x_end] = content
    return moved.astype(np.float32)


def _whole(box: Box) -> tuple[int, int, int, int]:
    """The box in whole px inside the window, 1 px or more in each direction."""
    left, top = (min(max(round(side), 0), SIDE - 1) for side in box[:2])
    right, bottom = (
        min(max(round(side), low + 1), SIDE) for side, low in zip(box[2:], (left, top), strict=True)
    )
    return left, top, right, bottom
