"""An image while it is painted: the clean one from its file, and the contexts painted into it so far."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generation.geometry import Context, Window
from generation.painting.detail import Fine, detail_kept
from utils import images
from utils.images import Loader
from utils.tones import Tones, find_tones


@dataclass(frozen=True)
class PaintedContext:
    """A context at model size as the model got it, `before`, and as it was painted, `after`, (S, S, 3) uint8 both; and
    what it looks like with the detail of training defects, in native px, where that is known."""

    before: np.ndarray
    after: np.ndarray
    fine: Fine | None = None


class Canvas:
    """One image with what was painted on it, kept as patches, so that many large ones may be open at once.

    Squares that were looked at are kept as well: a large image need not be decoded again for them. With `keep_tones`,
    what is painted on an image of few tones is made of them.
    """

    def __init__(self, path: Path, load: Loader, keep_tones: bool = False):
        self.path, self.load = path, load
        self.tones: Tones | None = find_tones(load(path)) if keep_tones else None
        self.patches: list[tuple[int, int, np.ndarray]] = []  # left, top, (h, w, 3) uint8
        self.clean: dict[Window, np.ndarray] = {}

    def keep(self, contexts: Iterable[Context]) -> None:
        """Cut out the squares of all contexts while the image is at hand."""
        for context in contexts:
            self._clean(*self.square(context))

    def _clean(self, left: int, top: int, side: int) -> np.ndarray:
        key = left, top, side
        if key not in self.clean:
            self.clean[key] = self.load(self.path)[top : top + side, left : left + side].copy()
        return self.clean[key]

    def region(self, left: int, top: int, side: int) -> np.ndarray:
        """A square as it is now: (side, side, 3) uint8."""
        square = self._clean(left, top, side).copy()
        for x, y, patch in self.patches:
            _overlay(square, patch, x - left, y - top)
        return square

    def square(self, context: Context) -> Window:
        """The context's place in px of the image: left, top, side."""
        return context.square or (0, 0, len(self.load(self.path)))

    def context(self, context: Context, image_size: int) -> np.ndarray:
        """The context at model size: (image_size, image_size, 3) uint8."""
        return images.resize_squash(self.region(*self.square(context)), image_size)

    def painted(self, context: Context, painting: PaintedContext, alpha: np.ndarray) -> np.ndarray:
        """The context's square, native, with a painting of it put in (see `paste_context`)."""
        return paste_context(self.region(*self.square(context)), painting, alpha, self.tones)

    def put(self, context: Context, square: np.ndarray) -> None:
        """Keep a painted square."""
        left, top, _ = self.square(context)
        self.patches.append((left, top, square))

    def picture(self) -> np.ndarray:
        """The whole image as it is now: (H, W, 3) uint8."""
        whole = self.load(self.path).copy()
        for left, top, patch in self.patches:
            _overlay(whole, patch, left, top)
        return whole


def _overlay(target: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Copy `patch` into `target` at (left, top), which may lie outside; what does not overlap is left out."""
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + patch.shape[1], target.shape[1])
    y1 = min(top + patch.shape[0], target.shape[0])
    if x0 < x1 and y0 < y1:
        target[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]


def paste_context(
    native: np.ndarray, painting: PaintedContext, alpha: np.ndarray, tones: Tones | None = None
) -> np.ndarray:
    """A native context (side, side, 3) uint8 with its painting put in.

    At scale 1 the painted pixels replace the image's, at larger scales the change is resampled and added, and what the
    model did not see stays as far as `detail_kept` says, unless the painting has all detail.
    `alpha` (side, side) in [0, 1] says how much of the painting is taken; where it is 0, pixels stay byte for byte. Of
    an image of few `tones` the change is redrawn in them.
    """
    before, after = painting.before, painting.after
    if tones is not None:
        return images.blend(native, tones.redrawn(native, before, after), alpha)
    change, side = after.astype(np.float32) - before, len(native)
    if side == len(before):
        return images.blend(native, native + change, alpha)
    size = side, side
    detail = native - images.resize_float(before.astype(np.float32), size)
    kept = images.resize_float(detail_kept(before, after), size)
    made = native + images.resize_float(change, size) + (kept - 1) * detail
    if painting.fine is not None:
        made += painting.fine.weight[..., None] * (painting.fine.pixels - made)
    return images.blend(native, made, alpha)


def soft_windows(square: Window, windows: Sequence[Window], feather: float) -> np.ndarray:
    """1 inside `windows` with a soft edge of `feather` px, 0 elsewhere: (side, side) float32 in px of `square`.

    All in px of the image. Made at native size: resampled, the edge would reach beyond the window.
    """
    left, top, side = square
    weight = np.zeros((side, side), np.float32)
    for x, y, size in windows:
        weight = np.maximum(weight, feathered_window(side, (x - left, y - top), size, feather))
    return weight


def placed_masks(square: Window, masks: Sequence[tuple[Window, np.ndarray]]) -> np.ndarray:
    """Soft masks (h, w) of windows, in px of the image, together in `square`: (side, side) float32, the largest where
    they overlap."""
    left, top, side = square
    weight = np.zeros((side, side), np.float32)
    for (x, y, size), mask in masks:
        part = weight[y - top : y - top + size, x - left : x - left + size]
        np.maximum(part, mask, out=part)
    return weight


def feathered_window(image_size: int, corner: tuple[int, int], size: int, feather: float) -> np.ndarray:
    """1 inside the window, falling to 0 at its edge over `feather` px, 0 outside: (image_size, image_size) float32."""
    distance = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    ramp = np.clip((distance - 0.5) / max(feather, 0.5), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    alpha = np.zeros((image_size, image_size), np.float32)
    left, top = corner
    alpha[top : top + size, left : left + size] = ramp[:, None] * ramp[None]
    return alpha
