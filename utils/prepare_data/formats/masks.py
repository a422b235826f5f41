"""Masks: images of the defects' pixels beside the images, or in a folder called masks; also the layout of MVTec AD.

Every value above 0 is part of a defect. Each connected component (8-connected) of a mask becomes a box;
components smaller than 4 px are noise and left out.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from scipy import ndimage

from utils.errors import UserError
from utils.images import READ_ERRORS, open_image
from utils.labels import normalize_class_name
from utils.prepare_data.sources import Classes, DefectBox, Outline, ReadResult, SourceImage, counted
from utils.prepare_data.tree import CLASS_MASK_FOLDERS, IMAGE_FOLDERS, MASK_FOLDERS, FileTree, size_of_image

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
SPECK = 4  # px; smaller components of a mask are noise
ONLY_CLASS = "defect"  # the name of the class where nothing names one


def read_masks(tree: FileTree, classes: Classes = None) -> ReadResult:
    """`x.png` with `x_mask.png` beside it or `masks/x.png`, a class for each folder in between if there are any.

    `masks/spur/x.png` shows the spurs of `x.png` or `images/x.png`. Without such a folder the class is the
    nearest folder called like one of `classes`, else the only one of `classes`, else "defect". An image whose
    masks are all empty is free of defects.
    """
    found = ReadResult()
    by_path: dict[Path, SourceImage] = {}
    specks = 0
    for mask in _single_masks(tree):
        try:
            path, class_name = _image_of(tree, mask, classes)
            boxes, small = _mask_boxes(mask, class_name)
            size = size_of_image(mask)
        except UserError as error:
            found.problems.append(str(error))
            continue
        specks += small
        by_path.setdefault(path, SourceImage(path, declared_size=size)).boxes += boxes
    found.images = list(by_path.values())
    for image in found.images:
        image.is_clean = not image.boxes
    _finish(found, specks)
    return found


def masks_evidence(tree: FileTree) -> str:
    """The evidence for masks of the images' names, '' if there is none."""
    masks = _single_masks(tree)
    return f"{len(masks)} masks such as {tree.relative(masks[0])}" if masks else ""


def _single_masks(tree: FileTree) -> list[Path]:
    """The masks that show one class, not the ids of several."""
    return [mask for mask in tree.masks if not tree.has_folder(mask, CLASS_MASK_FOLDERS)]


def _image_of(tree: FileTree, mask: Path, classes: Classes) -> tuple[Path, str]:
    """The image of a mask and the class that it shows; UserError if no image has its place and name."""
    place = _place(tree, mask)
    shorter = {place[:i] + place[i + 1 :]: place[i] for i in range(len(place))}
    images = tree.images_named(tree.image_stem(mask))
    for image in images:
        if _place(tree, image) == place:
            return image, _class_of_folders(place, classes)
    for image in images:
        if _place(tree, image) in shorter:
            return image, shorter[_place(tree, image)]
    raise UserError(f"{mask}: no image {tree.image_stem(mask)}.* for this mask, in its folder or beside it")


def _place(tree: FileTree, path: Path) -> tuple[str, ...]:
    """The folders from the root to a file, without those called images or masks."""
    folders = Path(tree.relative(path)).parent.parts
    return tuple(name for name in folders if normalize_class_name(name) not in IMAGE_FOLDERS | MASK_FOLDERS)


def _class_of_folders(folders: tuple[str, ...], classes: Classes) -> str:
    """The class for masks without a class folder of their own."""
    known = {normalize_class_name(name): name for name in classes or ()}
    for folder in reversed(folders):
        if normalize_class_name(folder) in known:
            return known[normalize_class_name(folder)]
    return next(iter(known.values())) if len(known) == 1 else ONLY_CLASS


def _mask_boxes(path: Path, class_name: str) -> tuple[list[DefectBox], int]:
    """The boxes of a mask's components, and how many were specks."""
    try:
        with open_image(path) as image:
            mask = np.asarray(image.convert("L")) > 0
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable image: {error}") from error
    components, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(components.ravel())
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
        if areas[number] >= SPECK:
            sides = (columns.start, rows.start, columns.stop, rows.stop)
            outline = Outline(columns.start, rows.start, components[rows, columns] == number)
            where = f"{path}, component {number}"
            boxes.append(DefectBox(class_name, *sides, where=where, outline=outline))
    return boxes, len(areas) - 1 - len(boxes)


def _finish(found: ReadResult, specks: int) -> None:
    """Note what was left out, and take the classes from the boxes."""
    if specks:
        components = counted(specks, "component of masks is", "components of masks are")
        found.notes.append(f"{components} smaller than {SPECK} px and left out")
    found.set_sorted_classes()
    counts = Counter(box.class_name for image in found.images for box in image.boxes)
    if set(counts) == {ONLY_CLASS}:
        found.notes.append(
            f'nothing names the class of the masks, which is called "{ONLY_CLASS}"; for several classes, put the '
            "masks into masks/<class>/"
        )


# MVTec AD


def read_mvtec(tree: FileTree, classes: Classes = None) -> ReadResult:
    """`train/good`, `test/<defect>`, `ground_truth/<defect>/<n>_mask.png`.

    Groups carry the folder's name, since numbers repeat: the good image of a number shows another part than
    the defective one.
    """
    found = ReadResult(equal_names_pair=False, clean_is_known=True)
    specks = 0
    for image in tree.images:
        parts = Path(tree.relative(image)).parts
        if len(parts) != 3 or parts[0] not in ("train", "test"):
            continue
        part, kind = parts[:2]
        if kind == "good":
            found.images.append(SourceImage(image, is_clean=True, group=f"{part}/good/{image.stem}"))
            continue
        folder = tree.root / "ground_truth" / kind
        masks = [mask for mask in tree.masks_of(image.stem) if mask.parent == folder]
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
        found.images.append(SourceImage(image, boxes, False, size, group=f"{kind}/{image.stem}"))
    _finish(found, specks)
    return found


def mvtec_evidence(tree: FileTree) -> str:
    """The evidence for the layout of MVTec AD, '' if there is none."""
    there = all((tree.root / name).is_dir() for name in ("test", "ground_truth", "train/good"))
    return "folders train/good, test and ground_truth" if there else ""
