"""MVTec AD (Bergmann et al. 2019): folders of defects, with masks."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from utils.errors import UserError
from utils.images import READ_ERRORS
from utils.prepare_data.sources import Classes, DefectBox, ReadResult, SourceImage
from utils.prepare_data.tree import FileTree, size_of_image

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
SPECK = 4  # px; smaller components of a mask are noise


def read_mvtec(tree: FileTree, classes: Classes = None) -> ReadResult:
    """`train/good`, `test/<defect>`, `ground_truth/<defect>/<n>_mask.png`: a box per connected component.

    Components smaller than 4 px are noise and left out. Groups carry the folder's name, since numbers repeat:
    the good picture of a number is another part than the defective one.
    """
    found = ReadResult(equal_names_pair=False, clean_is_known=True, masks_are_images=True)
    specks = 0
    for image in tree.images:
        parts = Path(tree.relative(image)).parts
        if len(parts) != 3 or parts[0] not in ("train", "test"):
            continue
        part, kind = parts[:2]
        if kind == "good":
            found.pictures.append(SourceImage(image, is_clean=True, group=f"{part}/good/{image.stem}"))
            continue
        folder = tree.root / "ground_truth" / kind
        masks = [
            path
            for stem in (f"{image.stem}_mask", image.stem)
            for path in tree.images_named(stem)
            if path.parent == folder
        ]
        if not masks:
            found.problems.append(f"{image}: no mask {folder / image.stem}_mask.png for it")
            continue
        try:
            boxes, small = _mask_boxes(masks[0], kind)
            size = size_of_image(masks[0])
        except UserError as error:
            found.problems.append(str(error))
            continue
        specks += small
        found.pictures.append(SourceImage(image, boxes, False, size, group=f"{kind}/{image.stem}"))
    if specks:
        found.notes.append(f"{specks} components of masks are smaller than {SPECK} px and are left out")
    found.set_sorted_classes()
    return found


def mvtec_evidence(tree: FileTree) -> str:
    """The evidence for the layout of MVTec AD, '' if there is none."""
    folders = ("test", "ground_truth", "train/good")
    return (
        "folders train/good, test and ground_truth"
        if all((tree.root / name).is_dir() for name in folders)
        else ""
    )


def _mask_boxes(path: Path, class_name: str) -> tuple[list[DefectBox], int]:
    """The boxes of a mask's connected components (8-connected), and how many were specks."""
    try:
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable picture: {error}") from error
    components, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(components.ravel())
    boxes = [
        DefectBox(
            class_name,
            columns.start,
            rows.start,
            columns.stop,
            rows.stop,
            where=f"{path}, component {number}",
        )
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1)
        if areas[number] >= SPECK
    ]
    return boxes, len(areas) - 1 - len(boxes)
