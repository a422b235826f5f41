"""The images of a run: files -> data set, with every problem of the folders in one error."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from training.boxed_patches import BoxedPatch, BoxedPatchDataset, CleanExamples
from training.image_datasets import Augmentation, PatchDataset
from utils import images, labels
from utils.errors import UserError
from utils.files import files_sha256
from utils.schema.training import TrainingConfig
from utils.strength.contrast import appearance, class_contrasts

LEAST = 16  # px; smaller images show no surroundings


@dataclass
class Loaded:
    """Images of a folder, or their paths, and what stands beside each; `problems` are sentences."""

    images: list[Any] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def load_dataset(config: TrainingConfig, names: Mapping[str, int]) -> PatchDataset | BoxedPatchDataset:
    """The training images and, with class_cond, their class ids; with `condition` surroundings also the box of each,
    from the YOLO file beside it, and the defect-free images of `clean_dir`.

    The images stay in memory with `cache`, otherwise they are read at every visit. All are decoded here in either case:
    a file cut short must not end a run of hours. Raises UserError with every problem of a folder.
    """
    boxed = config.network.condition == "surroundings"
    loaded = _load_folder(config, "data_dir", names, boxed)
    own = {f.name for f in fields(Augmentation)}
    how = Augmentation(**{k: v for k, v in config.augment.model_dump().items() if k in own})
    size, read = config.network.image_size, None if config.cache else images.load_rgb
    if not boxed:
        return PatchDataset(
            loaded.images, loaded.classes if config.network.class_cond else None, size, how, read
        )
    clean = _load_folder(config, "clean_dir", {}, boxed) if config.clean_dir else Loaded()
    count = config.num_classes or len(names)
    patches = [BoxedPatch(image, box) for image, box in zip(loaded.images, loaded.boxes, strict=True)]
    examples = CleanExamples(clean.images, config.clean_ratio, count)
    return BoxedPatchDataset(patches, loaded.classes, size, how, examples, read)


def measure_contrasts(config: TrainingConfig, names: Mapping[str, int]) -> dict[str, float]:
    """Class name -> contrast, in gray levels, of the defects in `data_dir`; {} for patches without boxes.

    Raises UserError for files that cannot be read.
    """
    if config.network.condition != "surroundings":
        return {}
    return class_contrasts(appearance(path, names) for path in images.list_images(config.data_dir))


def read_files(config: TrainingConfig) -> dict[str, Any]:
    """`images` (their number) and `sha256` of the names and contents of all files that a run learns from."""
    hashes, count = [], 0
    for folder in filter(None, (config.data_dir, config.clean_dir)):
        paths = images.list_images(folder)
        boxes = [path.with_suffix(".txt") for path in paths]
        hashes.append(files_sha256(Path(folder), [*paths, *(path for path in boxes if path.is_file())]))
        count += len(paths)
    return {"images": count, "sha256": hashlib.sha256(" ".join(hashes).encode()).hexdigest()}


def _load_folder(config: TrainingConfig, key: str, names: Mapping[str, int], boxed: bool) -> Loaded:
    """The images of the folder that `key` names; `names` (class name -> id) are empty where images have no class."""
    folder = Path(getattr(config, key))
    paths = images.list_images(folder)
    if not paths:
        raise UserError(f"{key} {folder}: no images in it; expected files {', '.join(images.SUFFIXES)}")
    loaded, least = Loaded(), LEAST if boxed else config.network.image_size
    for path in paths:
        try:
            image = images.load_rgb(path)
        except UserError as error:
            loaded.problems.append(str(error))
            continue
        height, width = image.shape[:2]
        if min(height, width) < least:
            loaded.problems.append(f"{path}: got {width}x{height} px, expected at least {least}x{least}")
        loaded.images.append(image if config.cache else path)
        if names:
            _load_class(path, names, loaded)
        if names and boxed:
            _load_box(path, names, (width, height), loaded)
    if loaded.problems:
        raise UserError.from_problems(f"{key} {folder}", loaded.problems)
    return loaded


def _load_class(path: Path, names: Mapping[str, int], loaded: Loaded) -> None:
    """Add the class that the file's name tells."""
    try:
        loaded.classes.append(labels.match_class(labels.class_from_filename(path.name), names))
    except UserError as error:
        text = str(error)
        loaded.problems.append(f"{path.parent}/{text}" if text.startswith(path.name) else f"{path}: {text}")


def _load_box(path: Path, names: Mapping[str, int], size: tuple[int, int], loaded: Loaded) -> None:
    """Add the box of the first line of the YOLO file beside an image of `size` (width, height), in px."""
    file = path.with_suffix(".txt")
    annotations, problems = labels.read_annotations_and_problems(file, names)
    if not problems and (not annotations or annotations[0].w is None):
        problems = [f"{file}: got no box, expected a line `class cx cy w h`"]
    if problems:
        loaded.problems += problems
        return
    left, top, right, bottom = map(float, labels.pixel_box(annotations[0], *size))
    loaded.boxes.append((left, top, right, bottom))
