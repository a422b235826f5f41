"""Every image decoded once, every box checked against its image."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from utils.errors import UserError
from utils.images import load_rgb
from utils.prepare_data.sources import DefectBox, SourceImage, Tally


def inspect(picture: SourceImage, tally: Tally) -> list[str]:
    """Decode a picture, note its size and digest, clip its boxes; returns problems."""
    try:
        pixels = load_rgb(picture.path)
    except UserError as error:
        return [str(error)]
    height, width = pixels.shape[:2]
    picture.size = (width, height)
    picture.digest = f"{width}x{height} {hashlib.blake2b(np.ascontiguousarray(pixels)).hexdigest()}"
    if picture.declared_size not in (None, picture.size):
        return [
            f"{picture.path}: got {width}x{height} px, but its annotation was made for "
            f"{picture.declared_size[0]}x{picture.declared_size[1]} px"
        ]
    boxes = sound_boxes(picture.boxes, width, height, tally)
    if picture.boxes and not boxes:
        tally.add("pictures have lost all their boxes and are left out", str(picture.path))
    picture.boxes = boxes
    return []


def sound_boxes(boxes: Sequence[DefectBox], width: int, height: int, tally: Tally) -> list[DefectBox]:
    """The boxes clipped to the picture, without those outside it, without extent, or given twice."""
    kept: dict[tuple, DefectBox] = {}
    for box in boxes:
        left, right = max(0.0, box.left), min(float(width), box.right)
        top, bottom = max(0.0, box.top), min(float(height), box.bottom)
        if box.left > width or box.right < 0 or box.top > height or box.bottom < 0:
            tally.add("boxes lie outside their picture and were dropped", box.where)
            continue
        if not box.is_point and (right - left < 1 or bottom - top < 1):
            tally.add("boxes are thinner than 1 px (within the picture) and were dropped", box.where)
            continue
        clipped = replace(box, left=left, top=top, right=right, bottom=bottom)
        if clipped != box:
            tally.add("boxes reached over the picture's edge and were clipped", box.where)
        key = (box.class_name, round(left), round(top), round(right), round(bottom))
        if key in kept:
            tally.add("boxes are given twice and were dropped", box.where)
        kept.setdefault(key, clipped)
    return list(kept.values())
