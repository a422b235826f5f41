"""A sheet of painted windows to look through: clean, painted, and the mask's outline, three times enlarged."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from generation.quality.checks import PaintedWindow

ZOOM = 3
CELL = 64 * ZOOM  # px; windows of other sizes are resampled to it
GAP, CAPTION = 6, 16
COLUMNS = 3  # defects in a row, three cells each
GREEN, RED = (0, 150, 0), (200, 0, 0)

Cell = tuple[PaintedWindow, str, float, bool]  # window, class, score, whether the judge believes it


def contact_sheet(cells: Sequence[Cell]) -> np.ndarray:
    """(H, W, 3) uint8: the defects by class and falling score, captions green where the judge names the class."""
    cells = sorted(cells, key=lambda cell: (cell[1], -cell[2]))
    width, height = 3 * CELL + GAP, CELL + CAPTION + GAP
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for n, (window, name, score, believable) in enumerate(cells):
        x, y = n % COLUMNS * width, n // COLUMNS * height
        draw.text((x + 2, y + 2), f"{name} {score:.2f}", fill=GREEN if believable else RED)
        outlined = window.after.copy()
        outlined[outline(window.mask)] = (255, 0, 255)
        for k, pixels in enumerate((window.before, window.after, outlined)):
            cell = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.BICUBIC)
            sheet.paste(cell, (x + k * CELL, y + CAPTION))
    return np.array(sheet)


def outline(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool: the pixels just outside a mask."""
    return ndimage.binary_dilation(mask, structure=np.ones((3, 3))) & ~mask
