"""COCO's object detection format (Lin et al. 2014): boxes [left, top, width, height], masks as run lengths."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.export_dataset.contents import PARTS, Item


def write_coco(folder: Path, items: Sequence[Item], classes: dict[str, int], first_id: int) -> None:
    """`annotations.json` and `annotations_<part>.json` name images from the data set's folder on;
    `annotations/instances_<part>.json`, as COCO's own files do, from `images/<part>/` on.

    Ids of images and annotations start at 1, those of categories at `first_id` for class 0.
    """
    (folder / "annotations").mkdir()
    _write(folder / "annotations.json", _content(items, classes, first_id, "images/{part}/"))
    for part in PARTS:
        chosen = [item for item in items if item.part == part]
        _write(folder / f"annotations_{part}.json", _content(chosen, classes, first_id, "images/{part}/"))
        _write(folder / f"annotations/instances_{part}.json", _content(chosen, classes, first_id, ""))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _content(items: Sequence[Item], classes: dict[str, int], first_id: int, prefix: str) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, start=1):
        name = f"{prefix.format(part=item.part)}{item.name}.png"
        width, height = item.size
        source = Path(item.source).name  # samples of one source belong in one part of any later split
        images.append({"id": number, "file_name": name, "width": width, "height": height, "source": source})
        for defect in item.defects:
            annotations.append(_annotation(len(annotations) + 1, number, defect, first_id))
    return {
        "info": {"description": "synthetic defects, CRG-Diffusion"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": class_id + first_id, "name": name, "supercategory": "defect"}
            for name, class_id in classes.items()
        ],
    }


def _annotation(number: int, image: int, defect: dict[str, Any], first_id: int) -> dict[str, Any]:
    """One defect; COCO's areas are those of the masks."""
    left, top, right, bottom = defect["box"]
    return {
        "id": number,
        "image_id": image,
        "category_id": defect["class_id"] + first_id,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": defect["mask"],
        "area": sum(defect["mask"]["counts"][1::2]),
        "iscrowd": 0,
        **({"score": defect["scores"]["score"]} if "scores" in defect else {}),  # of painted defects
    }
