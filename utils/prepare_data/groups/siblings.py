"""A clean twin of a place from another photograph of its group, where that shows the same part without the defect."""

from collections.abc import Sequence

import numpy as np

from utils.images import ImageCache
from utils.prepare_data.sources import DefectBox, SourceImage

NEAR = 8  # px around a box in which the other photograph has no defect
AROUND = 0.5  # of the box's longer side: how far around it the photographs are compared,
LEAST = 16  # px, at least
ALIKE = 0.9  # correlation from which on they show the same place
SURE = 0.98  # and from which on no other one is asked
MOST = 6  # photographs that are compared


class Siblings:
    """The photographs of each group, of which one may show what another one's defect hides."""

    def __init__(self, images: Sequence[SourceImage]):
        self.groups: dict[tuple[str, tuple[int, int]], list[SourceImage]] = {}
        for image in images:
            self.groups.setdefault((image.group, image.size), []).append(image)
        self.load = ImageCache()

    def twin(self, image: SourceImage, pixels: np.ndarray, box: DefectBox) -> SourceImage | None:
        """The photograph that is most like an image with these `pixels` (H, W, 3) uint8 around one of its boxes, and
        has no defect there; None where none shows the same place."""
        others = [
            other
            for other in self.groups.get((image.group, image.size), [])
            if other is not image and not any(_near(box, one) for one in other.boxes)
        ][:MOST]
        best, value = None, ALIKE
        for other in others:
            alike = _likeness(pixels, self.load(other.path), box)
            if alike >= value:
                best, value = other, alike
            if value >= SURE:
                break
        return best


def _near(one: DefectBox, other: DefectBox) -> bool:
    return (
        one.left - NEAR < other.right
        and other.left - NEAR < one.right
        and one.top - NEAR < other.bottom
        and other.top - NEAR < one.bottom
    )


def _likeness(pixels: np.ndarray, other: np.ndarray, box: DefectBox) -> float:
    """The correlation of two images around a box; 0 where one of them is even."""
    height, width = pixels.shape[:2]
    reach = max(LEAST, AROUND * max(box.right - box.left, box.bottom - box.top))
    left, top = (max(0, int(side - reach)) for side in (box.left, box.top))
    right, bottom = min(width, int(box.right + reach)), min(height, int(box.bottom + reach))
    around = np.ones((bottom - top, right - left), bool)
    x0, y0, x1, y1 = (
        int(side) - start
        for side, start in zip((box.left, box.top, box.right, box.bottom), (left, top) * 2, strict=True)
    )
    around[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] = False
    one, two = (part[top:bottom, left:right][around].astype(np.float32).ravel() for part in (pixels, other))
    if not one.size or one.std() < 1 or two.std() < 1:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])
