"""Changes of color and contrast that make few kinds of patches look like the photographs of many cameras."""

from collections.abc import Sequence

import numpy as np

from utils.foundation_data.defects import PatchBox

MARGINS = (0, 0, 1, 2, 4, 6, 8)  # px that boxes are wider than their defects, as annotators draw them
GRAY, SHUFFLED, BINARY, INVERTED = 0.25, 0.25, 0.12, 0.1  # shares of the patches


def varied(image: np.ndarray, binary: bool, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 with another color, contrast and brightness; `binary`: some become black and white."""
    values = image.astype(np.float32) / 127.5 - 1
    gray = bool((image == image[..., :1]).all())
    kind = rng.random()
    if kind < GRAY:
        values, gray = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2), True
    elif kind < GRAY + SHUFFLED:
        values = values[..., rng.integers(0, 3, 3)]
        gray = bool((values == values[..., :1]).all())
    if binary and rng.random() < BINARY:
        mean = values.mean(axis=2, keepdims=True)
        values, gray = np.repeat(np.tanh((mean - np.median(mean)) * rng.uniform(8, 40)), 3, axis=2), True
    if rng.random() < INVERTED:
        values = -values
    tint = rng.uniform(0.9, 1.1, 1 if gray else 3)
    values = (values + 1) * rng.uniform(0.6, 1.3) * tint - 1 + rng.uniform(-0.1, 0.1)
    return np.clip((values + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def widened(box: PatchBox, size: Sequence[int], rng: np.random.Generator) -> PatchBox:
    """The box (left, top, right, bottom) with a random margin, inside an image of `size` (height, width)."""
    margin = MARGINS[rng.integers(len(MARGINS))]
    left, top, right, bottom = box
    height, width = size
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(right + margin, width),
        min(bottom + margin, height),
    )
