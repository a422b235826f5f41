"""Checks of a source folder: every image is decoded once, and its boxes are checked against its size."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from utils.errors import UserError
from utils.images import load_rgb
from utils.prepare_data.groups.series import view_of
from utils.prepare_data.sources import DefectBox, SourceImage, Tally

ROUNDING = 0.5  # px beyond the edge from which on a box is not just rounded


def inspect(image: SourceImage, tally: Tally) -> list[str]:
    """Decode an image, set its size, digest and view, clip its boxes; returns problems."""
    try:
        pixels = load_rgb(image.path)
    except UserError as error:
        return [str(error)]
    height, width = pixels.shape[:2]
    image.size = (width, height)
    image.digest = f"{width}x{height} {hashlib.blake2b(pixels.tobytes()).hexdigest()}"
    image.view = view_of(pixels)
    if image.declared_size not in (None, image.size):
        return [
            f"{image.path}: got {width}x{height} px, but its annotation is for "
            f"{image.declared_size[0]}x{image.declared_size[1]} px"
        ]
    boxes = sound_boxes(image.boxes, width, height, tally)
    if image.boxes and not boxes:
        tally.add(
            "image lost all its boxes and is left out",
            "images lost all their boxes and are left out",
            str(image.path),
        )
    image.boxes = boxes
    return []


def sound_boxes(boxes: Sequence[DefectBox], width: int, height: int, tally: Tally) -> list[DefectBox]:
    """The boxes clipped to the image, without duplicates, boxes outside it, and boxes without extent."""
    kept: dict[tuple, DefectBox] = {}
    for box in boxes:
        left, right = max(0.0, box.left), min(float(width), box.right)
        top, bottom = max(0.0, box.top), min(float(height), box.bottom)
        if box.left > width or box.right < 0 or box.top > height or box.bottom < 0:
            tally.add(
                "box lies outside its image and was dropped",
                "boxes lie outside their image and were dropped",
                box.where,
            )
            continue
        if not box.is_point and (right - left < 1 or bottom - top < 1):
            tally.add(
                "box is thinner than 1 px (within the image) and was dropped",
                "boxes are thinner than 1 px (within the image) and were dropped",
                box.where,
            )
            continue
        clipped = replace(box, left=left, top=top, right=right, bottom=bottom)
        overhang = max(left - box.left, box.right - right, top - box.top, box.bottom - bottom)
        if overhang >= ROUNDING:
            tally.add(
                "box extends beyond the image's edge and was clipped",
                "boxes extend beyond the image's edge and were clipped",
                box.where,
            )
        key = (box.class_name, round(left), round(top), round(right), round(bottom))
        if key in kept:
            tally.add(
                "box is a duplicate and was dropped", "boxes are duplicates and were dropped", box.where
            )
        kept.setdefault(key, clipped)
    return list(kept.values())
