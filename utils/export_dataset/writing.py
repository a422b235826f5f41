"""The files of a data set: images, labels, masks, `data.yaml`."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils import images, labels
from utils.errors import UserError
from utils.export_dataset.contents import PARTS, ExportOptions, Item
from utils.export_dataset.outlines import outline
from utils.export_dataset.restoring import restored
from utils.manifest import mask_of

TASKS = {"boxes": "detect", "segments": "segment"}  # of Ultralytics, by what labels/ holds


def other_labels(chosen: str) -> str:
    """Name of the folder beside `labels` with the label set that was not chosen."""
    return "segments" if chosen == "boxes" else "boxes"


def make_folders(folder: Path, chosen: str) -> None:
    for kind in ("images", "labels", other_labels(chosen), "masks", "class_masks"):
        for part in PARTS:
            (folder / kind / part).mkdir(parents=True)


def write_item(item: Item, folder: Path, options: ExportOptions) -> None:
    """Image, both label sets and both masks of one item."""
    width, height = item.size
    image, mask = (folder / kind / item.part / f"{item.name}.png" for kind in ("images", "masks"))
    classes = class_mask(item.defects, item.size)
    if item.mask is not None:
        for source, target in ((item.image, image), (item.mask, mask)):
            (os.link if options.link else shutil.copyfile)(source, target)
    else:
        pixels = images.load_rgb(item.image)
        if item.rejected:
            pixels = restored(pixels, images.load_rgb(item.source), item.rejected, item.defects)
        images.save_png(image, images.resize_squash(pixels, item.squash) if item.squash else pixels)
        images.save_png(mask, (classes > 0).astype(np.uint8) * 255)
    images.save_png(folder / "class_masks" / item.part / f"{item.name}.png", classes)
    for name, write_line in (("boxes", box_line), ("segments", segment_line)):
        lines = "".join(f"{write_line(defect, width, height)}\n" for defect in item.defects)
        label = folder / ("labels" if name == options.labels else name) / item.part / f"{item.name}.txt"
        label.write_text(lines, encoding="utf-8")


def box_line(defect: dict[str, Any], width: int, height: int) -> str:
    """YOLO's line for detection: class cx cy w h."""
    return labels.format_annotation(defect["class_id"], *labels.relative_box(defect["box"], width, height))


def segment_line(defect: dict[str, Any], width: int, height: int) -> str:
    """YOLO's line for segmentation: class x1 y1 x2 y2 ..."""
    corners = outline(mask_of(defect["mask"])) / (width, height)
    return " ".join([str(defect["class_id"]), *(f"{value:.6f}" for value in corners.reshape(-1))])


def class_mask(defects: Sequence[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """(H, W): 0 for the background, else class id + 1, where defects overlap that of the later one.

    8 bits where all ids fit, else 16. Raises UserError for a class id that does not fit into 16 bits.
    """
    highest = max((defect["class_id"] for defect in defects), default=0)
    if highest > labels.LARGEST_ID:
        raise UserError(
            f"class id {highest}: does not fit into class masks; expected at most {labels.LARGEST_ID}"
        )
    mask = np.zeros(size[::-1], np.uint8 if highest < 255 else np.uint16)
    for defect in defects:
        mask[mask_of(defect["mask"])] = defect["class_id"] + 1
    return mask


def write_yaml(folder: Path, classes: dict[str, int], validates: bool, chosen: str) -> None:
    """`data.yaml` as Ultralytics reads it; without `path`, its parts lie beside it wherever the folder goes."""
    names = {class_id: name for name, class_id in sorted(classes.items(), key=lambda pair: pair[1])}
    names = {k: names.get(k, f"unused_{k}") for k in range(max(names) + 1)}  # ids without gaps
    content = {"train": "images/train", "val": "images/val" if validates else "images/train", "names": names}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(
        f"# yolo {TASKS[chosen]} train data=data.yaml\n{text}", encoding="utf-8"
    )
