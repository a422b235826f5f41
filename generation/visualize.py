"""Images of how the attention (Luo et al. 2025) evolves while a defect is painted, fed by a callback.

`AttentionRecorder` is called with a record of every refinement and draws one sheet or an animation from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from guided_diffusion.ddim import StepRecord
from utils.images import to_uint8

# Sizes in pixels; a cell's side is the multiple of the window's side that comes nearest to CELL.
CELL, GAP, LABEL, TITLE, BAR = 192, 8, 116, 52, 46
DPI = 100
ROWS = 12  # steps shown in a figure at most
LINE = (255, 40, 200)  # a color no board has
LINE_WIDTH = 2
CONTOUR = 0.5  # the attention's value along the contour
COLORS = colormaps["inferno"]

CLEAN = "Clean image\nand window"
WINDOWS = ("Contextual model (CSM)\nwindow", "Defect prior (DPM)\nwindow")
MASKS = ("Accumulated\nmask", "Instant\nmask", f"Accumulated = {CONTOUR}\non the CSM window")
FULL = "Contextual model (CSM)\nfull image"


@dataclass(frozen=True)
class Step:
    """What is kept of a record, all uint8 on the CPU; masks are in 255ths, None without attention."""

    number: int  # of the record among all, from 1
    t: int
    full: np.ndarray  # (N, cell, cell, 3), scaled to the figure's cell
    contextual: np.ndarray  # (M, h, w, 3)
    prior: np.ndarray  # (M, h, w, 3)
    accumulated: np.ndarray | None  # (M, h, w)
    instant: np.ndarray | None  # (M, h, w)


class AttentionRecorder:
    """Collects records of one batch; `figure` and `frames` draw them for one of its M windows.

    `clean` (N, 3, H, W) in [-1, 1], the defect-free images; `corners` (left, top) in px and `owner`, the
    image of each window; `size` their side. `steps` holds what is kept of the records, in order; `figure` shows
    at most ROWS of them. Raises ValueError for windows that are not on their image.
    """

    def __init__(self, clean: Tensor, corners: Sequence[tuple[int, int]], size: int, owner: Sequence[int]):
        self.corners = [(int(left), int(top)) for left, top in corners]
        self.owner = [int(image) for image in owner]
        self.size = size
        self.height, self.width = clean.shape[-2:]
        for (left, top), image in zip(self.corners, self.owner, strict=True):
            inside = 0 <= left <= self.width - size and 0 <= top <= self.height - size
            if not inside or not 0 <= image < len(clean):
                raise ValueError(f"window at ({left}, {top}) of image {image}: not on {tuple(clean.shape)}")
        self.cell = size * max(1, round(CELL / size))
        self.clean = _fit_all(to_uint8(clean), self.cell)
        self.steps: list[Step] = []

    def __call__(self, record: StepRecord) -> None:
        """Keep small copies of a record; raises ValueError when it does not belong to this batch."""
        windows = (len(self.corners), 3, self.size, self.size)
        images = (len(self.clean), 3, self.height, self.width)
        if tuple(record.crop_x0.shape) != windows or tuple(record.image_x0.shape) != images:
            got = f"{tuple(record.image_x0.shape)} and {tuple(record.crop_x0.shape)}"
            raise ValueError(f"record at t = {record.t}: got {got}, expected {images} and {windows}")
        full, size = to_uint8(record.image_x0), self.size
        cut = [
            full[image, top : top + size, left : left + size]
            for image, (left, top) in zip(self.owner, self.corners, strict=True)
        ]
        self.steps.append(
            Step(
                len(self.steps) + 1,
                record.t,
                _fit_all(full, self.cell),
                np.stack(cut),
                to_uint8(record.crop_x0),
                _mask_uint8(record.accumulated),
                _mask_uint8(record.instant),
            )
        )

    def figure(self, window: int) -> np.ndarray:
        """(H, W, 3) uint8: at most ROWS evenly chosen steps, first and last included, from the top down.

        Across: clean image with the window, the window as the contextual model and as the defect prior
        estimate it, accumulated and instant mask, the accumulated mask's contour, full estimate. Without
        attention the three columns with masks are left out. Raises ValueError before the first record.
        """
        self._check_recorded()
        steps = [self.steps[index] for index in even_selection(len(self.steps), ROWS)]
        page = _Page(self.cell, len(steps), self._masked())
        return page.render([self._label(step) for step in steps], [self._row(step, window) for step in steps])

    def frames(self, window: int) -> list[np.ndarray]:
        """Every kept step as an image of its own, (H, W, 3) uint8 of one size: a `figure` with one row.

        Raises ValueError before the first record.
        """
        self._check_recorded()
        page = _Page(self.cell, 1, self._masked())
        return [page.render([self._label(step)], [self._row(step, window)]) for step in self.steps]

    def _check_recorded(self) -> None:
        if not self.steps:
            raise ValueError("nothing to draw: no step was recorded")

    def _masked(self) -> bool:
        return all(step.accumulated is not None and step.instant is not None for step in self.steps)

    def _label(self, step: Step) -> str:
        return f"t = {step.t}\n\nstep {step.number}\nof {len(self.steps)}"

    def _row(self, step: Step, window: int) -> list[np.ndarray]:
        """One row's cells, each (cell, cell, 3) uint8."""
        image = self.owner[window]
        row = [self._clean_with_window(window), _fit(step.contextual[window], self.cell)]
        row.append(_fit(step.prior[window], self.cell))
        if step.accumulated is not None and step.instant is not None:
            accumulated, instant = step.accumulated[window], step.instant[window]
            row += [_fit(_colored(mask), self.cell) for mask in (accumulated, instant)]
            row.append(_with_contour(row[1], accumulated))
        return [*row, step.full[image]]

    def _clean_with_window(self, window: int) -> np.ndarray:
        left, top = self.corners[window]
        scale, corner = _placing(self.height, self.width, self.cell)
        x, y, extent = corner[0] + left * scale, corner[1] + top * scale, self.size * scale - 1
        box = (x, y, x + extent, y + extent)
        picture = Image.fromarray(self.clean[self.owner[window]])
        ImageDraw.Draw(picture).rectangle(box, outline=LINE, width=LINE_WIDTH)
        return np.array(picture)


def even_selection(count: int, at_most: int) -> list[int]:
    """At most `at_most` of 0..count - 1, evenly spread, ascending, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, at_most)).round().astype(int).tolist()


# The page


class _Page:
    """Titles, row labels and the masks' color bar, set by matplotlib; cells are pasted pixel by pixel."""

    def __init__(self, cell: int, rows: int, masked: bool):
        self.cell = cell
        titles = [CLEAN, *WINDOWS, *(MASKS if masked else ()), FULL]
        self.lefts = [LABEL + column * (cell + GAP) for column in range(len(titles))]
        self.tops = [TITLE + row * (cell + GAP) for row in range(rows)]
        self.width = self.lefts[-1] + cell + GAP
        self.height = self.tops[-1] + cell + GAP + (BAR if masked else 0)
        figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(figure)
        place: dict[str, Any] = {"ha": "center", "va": "center", "color": "black", "family": "DejaVu Sans"}
        for left, title in zip(self.lefts, titles, strict=True):
            figure.text(*self._point(left + cell / 2, TITLE / 2), title, fontsize=10.5, **place)
        self.labels = [
            figure.text(*self._point(LABEL / 2, top + cell / 2), "", fontsize=12, **place)
            for top in self.tops
        ]
        if masked:
            self._color_bar(figure)
        self.canvas.draw()
        self.blank = self.canvas.copy_from_bbox(figure.bbox)  # all but the labels, drawn once

    def _point(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the upper left corner -> shares of the figure from the lower left one."""
        return x / self.width, 1 - y / self.height

    def _color_bar(self, figure: Figure) -> None:
        """Under the columns of the accumulated and the instant mask."""
        left, bottom = self._point(self.lefts[3], self.height - BAR + 18)
        right, top = self._point(self.lefts[4] + self.cell, self.height - BAR + 4)
        axes = figure.add_axes((left, bottom, right - left, top - bottom))
        scale = ScalarMappable(Normalize(0, 1), COLORS)
        bar = figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.ax.tick_params(labelsize=10, pad=2, length=3)

    def render(self, labels: Sequence[str], cells: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """(H, W, 3) uint8 with a label for each row and a (cell, cell, 3) uint8 image for each place."""
        self.canvas.restore_region(self.blank)
        for text, label in zip(self.labels, labels, strict=True):
            text.set_text(label)
            self.canvas.figure.draw_artist(text)
        sheet = np.asarray(self.canvas.buffer_rgba())[..., :3].copy()
        for top, row in zip(self.tops, cells, strict=True):
            for left, picture in zip(self.lefts, row, strict=True):
                sheet[top : top + self.cell, left : left + self.cell] = picture
        return sheet


# Cells


def _placing(height: int, width: int, side: int) -> tuple[float, tuple[int, int]]:
    """Scale, and (left, top) in px, of an image that fills a square of `side` px with its longer side."""
    scale = side / max(height, width)
    return scale, ((side - round(width * scale)) // 2, (side - round(height * scale)) // 2)


def _fit(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (side, side, 3): aspect ratio kept, centered on white, sharp pixels when enlarged."""
    height, width = picture.shape[:2]
    scale, (left, top) = _placing(height, width, side)
    kernel = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    square = np.full((side, side, 3), 255, np.uint8)
    square[top : top + shape[1], left : left + shape[0]] = np.asarray(
        Image.fromarray(picture).resize(shape, kernel)
    )
    return square


def _fit_all(pictures: np.ndarray, side: int) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, side, side, 3)."""
    return np.stack([_fit(picture, side) for picture in pictures])


def _mask_uint8(mask: Tensor | None) -> np.ndarray | None:
    """(M, 1, h, w) in [0, 1] -> (M, h, w) uint8, 1 -> 255."""
    return None if mask is None else to_uint8(mask * 2 - 1)[..., 0]


def _colored(mask: np.ndarray) -> np.ndarray:
    """(h, w) uint8 -> (h, w, 3) uint8 in the colors of the bar."""
    return COLORS(mask, bytes=True)[..., :3]


def _with_contour(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of (side, side, 3) uint8 with a line where the mask (h, w), smoothly enlarged, is CONTOUR."""
    enlarged = Image.fromarray(mask).resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
    inside = np.asarray(enlarged) >= CONTOUR * 255
    line = inside & ~ndimage.binary_erosion(inside, iterations=LINE_WIDTH)
    outlined = picture.copy()
    outlined[line] = LINE
    return outlined
