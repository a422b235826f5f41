"""The parts of an experiment: scarce training set, all training data, validation, test; and what prepare_data makes of
the scarce one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.downstream.scenes import Scene
from evaluation.downstream.world import GROUP_PATTERN
from generation.placement.matching import Surround
from generation.training_defects import shows_same_place
from utils.errors import UserError
from utils.files import replace_folder
from utils.images import load_rgb
from utils.manifest import VERSION
from utils.prepare_data.boxed import Chosen, boxed_patch, choose_defects, sized
from utils.prepare_data.cutting import CutOptions, fitting_tile
from utils.prepare_data.groups.holdout import choose_groups
from utils.prepare_data.sources import DefectBox, SourceImage, Survey
from utils.prepare_data.survey import survey_source
from utils.prepare_data.writing import KIND, Destination, write_all
from utils.schema.downstream import DownstreamConfig

TEST, VALIDATION = "test part", "validation part"  # groups that images are moved to
WINDOW = CutOptions.window


@dataclass(frozen=True)
class Split:
    """The images of a source by part, and the class names in the order of their indices in `Example`."""

    survey: Survey
    names: tuple[str, ...]

    @property
    def held(self) -> set[str]:
        """The groups that nothing is trained on."""
        return {image.group for image in self.survey.images} & {TEST, VALIDATION}

    def images(self, part: str) -> list[SourceImage]:
        """The images of the part TEST, VALIDATION or "train", clean ones included."""
        if part == "train":
            return [image for image in self.survey.images if image.group not in (TEST, VALIDATION)]
        return [image for image in self.survey.images if image.group == part]

    def chosen(self, per_class: int | None, seed: int) -> Chosen:
        """The defects of a scarce training set, by the name of their image; those that prepare_data cuts."""
        return choose_defects(self.survey, self.held, per_class, seed)

    def training_scenes(self, chosen: Chosen) -> Iterator[Scene]:
        """The images with chosen defects; the other defects in them are hidden."""
        for image in self.images("train"):
            if image.name in chosen:
                yield self.scene(image, chosen[image.name])

    def scenes(self, part: str) -> Iterator[Scene]:
        """All images of a part that have defects, and of the held-out parts the clean ones, too."""
        for image in self.images(part):
            if image.boxes or part != "train":
                yield self.scene(image, image.boxes)

    def clean_images(self) -> list[SourceImage]:
        """The clean training images; where there are none, those with defects."""
        train = self.images("train")
        return [image for image in train if image.is_clean] or [image for image in train if image.boxes]

    def scene(self, image: SourceImage, shown: Sequence[DefectBox]) -> Scene:
        """An image as a scene; points are squares of half a window. It has its clean counterpart where a tile may have
        to hide a defect, and where the two are aligned."""
        pixels = load_rgb(image.path)
        hidden = [box for box in image.boxes if all(box is not one for one in shown)]
        classes = np.array([self.names.index(box.class_name) for box in shown], np.int64)
        clean = clean_twin(image, pixels) if shown and len(image.boxes) > 1 else None
        return Scene(pixels, _sides(shown), classes, _sides(hidden), clean)


def clean_twin(image: SourceImage, pixels: np.ndarray) -> np.ndarray | None:
    """The clean counterpart (H, W, 3) uint8 of an image with these `pixels`; None where there is none, where its size
    is another, and where it looks different around one of the defects."""
    if image.counterpart is None:
        return None
    clean = load_rgb(image.counterpart.path)
    if clean.shape != pixels.shape:
        return None
    for box in image.boxes:
        patch, inner, scale = boxed_patch(pixels, box, WINDOW)
        if not shows_same_place(Surround(patch, inner, scale), boxed_patch(clean, box, WINDOW)[0]):
            return None
    return clean


def _sides(boxes: Sequence[DefectBox]) -> np.ndarray:
    found = [sized(box, WINDOW) for box in boxes]
    sides = [(box.left, box.top, box.right, box.bottom) for box in found]
    return np.array(sides, np.float32).reshape(-1, 4)


def count_classes(chosen: Chosen, names: Sequence[str]) -> dict[str, int]:
    """Class -> number of chosen defects; classes without any are left out."""
    counts = dict.fromkeys(names, 0)
    for boxes in chosen.values():
        for box in boxes:
            counts[box.class_name] += 1
    return {name: count for name, count in counts.items() if count}


# Making the parts


def make_split(config: DownstreamConfig, source: Path, seed: int) -> Split:
    """Read the source and move its images to parts. Raises UserError for unknown groups and parts without defects."""
    clean_dir = Path(config.clean_dir) if config.clean_dir else None
    pattern = config.group_pattern if config.source else GROUP_PATTERN
    survey = survey_source(source, config.format, None, clean_dir, pattern)
    if config.split == "random":
        _separate(survey)
    holdout, validation = held_groups(config)
    _move(survey, choose_groups(survey, holdout or None, config.holdout_share, seed), TEST)
    if validation:
        _move(survey, choose_groups(survey, validation, 0, seed), VALIDATION)
    else:
        _move_images(survey, config.validation_share, seed)
    split = Split(survey, tuple(sorted(survey.classes, key=survey.classes.__getitem__)))
    wanted = TEST if config.evaluate == "test" else VALIDATION
    if not any(image.boxes for image in split.images(wanted)):
        raise UserError(
            f"evaluate: {config.evaluate}: no defect in the {wanted}; give its groups as "
            f"{'holdout' if wanted == TEST else 'validation'}, or a larger share"
        )
    return split


def held_groups(config: DownstreamConfig) -> tuple[Sequence[str], Sequence[str]]:
    """The named groups of the test and the validation part; where there are none, a share is drawn. The synthetic world
    has its own, which a random split does not heed."""
    if config.source or config.split == "random":
        return config.holdout, config.validation
    return ("test",), ("validation",)


def _separate(survey: Survey) -> None:
    """Every image with defects becomes a group of its own, whatever it shares with others."""
    for image in survey.defective:
        image.group = image.name


def _move(survey: Survey, groups: set[str], part: str) -> None:
    for image in survey.images:
        if image.group in groups:
            image.group = part


def _move_images(survey: Survey, share: float, seed: int) -> None:
    """Move a share of the training images with defects to the validation part: every class keeps some in both, where
    it has two images."""
    images = [image for image in survey.defective if image.group != TEST]
    rng = np.random.default_rng([seed, 7])
    images = [images[i] for i in rng.permutation(len(images))]
    wanted = round(share * len(images))
    taken: list[SourceImage] = []
    while images and len(taken) < wanted:
        seen = _classes(taken)
        image = max(images, key=lambda image: len(_classes([image]) - seen))
        images.remove(image)
        if _classes([image]) <= _classes(images):
            taken.append(image)
    for image in taken:
        image.group = VALIDATION


def _classes(images: Sequence[SourceImage]) -> set[str]:
    return {box.class_name for image in images for box in image.boxes}


# What the painter trains on


def write_prepared(split: Split, folder: Path, per_class: int, seed: int, minutes: float) -> None:
    """What `python -m utils.prepare_data --per-class` makes of the training part, in `folder`."""
    cut = CutOptions(
        tile=fitting_tile(split.survey, split.held, CutOptions(per_class=per_class, seed=seed)),
        per_class=per_class,
        seed=seed,
    )
    with replace_folder(folder, KIND, VERSION, overwrite=True) as new:
        where = Destination(new, folder, f"--per-class {per_class} --seed {seed}")
        write_all(where, split.survey, split.held, cut, minutes)
