"""A picture while it is painted: the clean one from its file, and the contexts painted into it so far."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from utils import images
from utils.contexts import Context, Window, paste_context

Loader = Callable[[Path], np.ndarray]


class PictureCache:
    """Decoded pictures (H, W, 3) uint8, the latest ones up to `limit` bytes, and always the last one.

    With `size`, every picture is squashed to size x size px.
    """

    def __init__(self, size: int | None = None, limit: int = 512 * 2**20):
        self.size, self.limit = size, limit
        self.pictures: OrderedDict[Path, np.ndarray] = OrderedDict()

    def __call__(self, path: Path) -> np.ndarray:
        if path in self.pictures:
            self.pictures.move_to_end(path)
            return self.pictures[path]
        picture = images.load_rgb(path)
        if self.size is not None:
            picture = images.resize_squash(picture, self.size)
        self.pictures[path] = picture
        while len(self.pictures) > 1 and sum(p.nbytes for p in self.pictures.values()) > self.limit:
            self.pictures.popitem(last=False)
        return picture


class Canvas:
    """One picture with what was painted on it, kept as patches, so that many large ones may be open at once.

    Squares that were looked at are kept as well: a large picture need not be decoded again for them.
    """

    def __init__(self, path: Path, load: Loader):
        self.path, self.load = path, load
        self.patches: list[tuple[int, int, np.ndarray]] = []  # left, top, (h, w, 3) uint8
        self.clean: dict[Window, np.ndarray] = {}

    def keep(self, contexts: Iterable[Context]) -> None:
        """Cut out the squares of all contexts while the picture is at hand."""
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
        """The context's place in px of the picture: left, top, side."""
        if context.side is None:
            return 0, 0, len(self.load(self.path))
        return context.left, context.top, context.side

    def context(self, context: Context, image_size: int) -> np.ndarray:
        """The context at model size: (image_size, image_size, 3) uint8."""
        return images.resize_squash(self.region(*self.square(context)), image_size)

    def painted(
        self, context: Context, before: np.ndarray, after: np.ndarray, alpha: np.ndarray
    ) -> np.ndarray:
        """The context's square, native, with a painting of it put in (see `paste_context`)."""
        return paste_context(self.region(*self.square(context)), before, after, alpha)

    def put(self, context: Context, square: np.ndarray) -> None:
        """Keep a painted square."""
        left, top, _ = self.square(context)
        self.patches.append((left, top, square))

    def picture(self) -> np.ndarray:
        """The whole picture as it is now: (H, W, 3) uint8."""
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
