"""Where the networks look: the context cut around defects, the windows in it, and the way back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from utils import labels
from utils.errors import UserError

Size = tuple[int, int]  # width, height in px
Corner = tuple[int, int]  # left, top in model px
Window = tuple[int, int, int]  # left, top, side in px of the output image
PixelBox = tuple[int, int, int, int]  # left, top, right, bottom in px, right and bottom exclusive


@dataclass(frozen=True)
class Context:
    """The square of an image that the contextual model sees, and the defect windows in it.

    `left`, `top`, `side` are native px of the image (None: the whole image, squashed); `windows` are the
    corners (left, top) of the defect windows in model px; `scale` is native px per model px.
    """

    left: int | None
    top: int | None
    side: int | None
    windows: tuple[Corner, ...]
    scale: float

    @property
    def square(self) -> Window | None:
        """Left, top and side; None for the whole image."""
        if self.left is None or self.top is None or self.side is None:
            return None
        return self.left, self.top, self.side


@dataclass(frozen=True)
class Geometry:
    """How images become model inputs: `resize` squash or native, `scale` a number or 'auto', sizes in px."""

    resize: str
    scale: float | str
    image_size: int
    crop_size: int


def centered_corner(x: int, y: int, size: int, width: int, height: int) -> tuple[int, int]:
    """Corner of the window of `size` px centered at (x, y), clamped to an image of width x height."""
    half = size // 2
    return min(max(x - half, 0), width - size), min(max(y - half, 0), height - size)


def pixel_center(annotation: labels.Annotation, size: Size) -> tuple[int, int]:
    """(floor(cx W), floor(cy H)), kept inside the image."""
    width, height = size
    x, y = math.floor(annotation.cx * width), math.floor(annotation.cy * height)
    return min(x, width - 1), min(y, height - 1)


def place(annotation: labels.Annotation, size: Size, geometry: Geometry) -> Context:
    """The context and the window of an annotation on an image of `size` (width, height).

    Raises UserError when the context does not fit into the image.
    """
    big, small = geometry.image_size, geometry.crop_size
    if geometry.resize == "squash":
        x, y = pixel_center(annotation, (big, big))
        return Context(None, None, None, (centered_corner(x, y, small, big, big),), 1.0)
    scale = annotation_scale(annotation, size, geometry)
    side = round(big * scale)
    if side > min(size):
        raise UserError(
            f"the image is {size[0]}x{size[1]} px, but the context of annotation {annotation.line} needs "
            f"{side}x{side} px (image_size {big} at scale {scale:g}); use larger images, a smaller scale or "
            "resize: squash"
        )
    x, y = pixel_center(annotation, size)
    left, top = centered_corner(x, y, side, *size)
    inner = math.floor((x - left) / scale), math.floor((y - top) / scale)
    return Context(left, top, side, (centered_corner(*inner, small, big, big),), scale)


def annotation_scale(annotation: labels.Annotation, size: Size, geometry: Geometry) -> float:
    """Native px per model px: the given number, or for 'auto' what lets the box fit the window well."""
    if geometry.scale != "auto":
        return float(geometry.scale)
    if annotation.w is None or annotation.h is None:
        return 1.0
    return labels.auto_scale(annotation.w * size[0], annotation.h * size[1], geometry.crop_size)


def native_box(annotation: labels.Annotation, size: Size) -> PixelBox | None:
    """The annotation's box in px of an image of `size`, rounded outwards; None for a point."""
    return None if annotation.w is None else labels.pixel_box(annotation, *size)


def box_in_window(box: PixelBox, window: Window, side: int) -> PixelBox:
    """A box in px of the image in px of `window` at model size, `side` px wide; rounded outwards, not cut off."""
    left, top, native = window
    scale = side / native
    return (
        math.floor((box[0] - left) * scale),
        math.floor((box[1] - top) * scale),
        math.ceil((box[2] - left) * scale),
        math.ceil((box[3] - top) * scale),
    )


def share_context(windows: Sequence[Window], scale: float, size: Size, geometry: Geometry) -> Context | None:
    """One context around several windows of one scale on an image of `size`; None when they lie too far apart."""
    big, small = geometry.image_size, geometry.crop_size
    if geometry.resize == "squash":
        return Context(None, None, None, tuple((left, top) for left, top, _ in windows), 1.0)
    side = round(big * scale)
    left, top = min(w[0] for w in windows), min(w[1] for w in windows)
    right, bottom = max(w[0] + w[2] for w in windows), max(w[1] + w[2] for w in windows)
    if max(right - left, bottom - top) > side:
        return None
    left, top = centered_corner((left + right) // 2, (top + bottom) // 2, side, *size)
    corners = tuple(
        (min(round((x - left) / scale), big - small), min(round((y - top) / scale), big - small))
        for x, y, _ in windows
    )
    return Context(left, top, side, corners, scale)


def native_window(context: Context, corner: Corner, crop_size: int) -> Window:
    """The defect window at `corner` of a context in px of the output image: left, top and side."""
    left, top = corner
    if context.square is None:
        return left, top, crop_size
    outer_left, outer_top, outer_side = context.square
    s = context.scale
    side = min(round(crop_size * s), outer_side)
    shift = outer_side - side  # rounding must not push the window over the context's edge
    return outer_left + min(round(left * s), shift), outer_top + min(round(top * s), shift), side
