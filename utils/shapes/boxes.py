"""Boxes in px, and the pixels in them."""

import math
from collections.abc import Sequence


def pixels_in(box: Sequence[float], reach: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box (left, top, right, bottom) touches, and of `reach` px around it; the
    image's edge cuts them off."""
    left, top, right, bottom = (*map(math.floor, box[:2]), *map(math.ceil, box[2:]))
    return (
        slice(max(top - reach, 0), max(bottom + reach, 0)),
        slice(max(left - reach, 0), max(right + reach, 0)),
    )
