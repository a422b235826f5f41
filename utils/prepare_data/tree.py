"""The files of a source folder: images and masks, looked up by name, by annotation, by folder."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from utils.errors import UserError
from utils.images import READ_ERRORS, SUFFIXES, image_size
from utils.labels import normalize_class_name
from utils.reading import read_text, text_problem

# Names of folders, normalized as class names are
CLEAN_FOLDERS = {
    "clean",
    "defectfree",
    "good",
    "normal",
    "ok",
    "pcbused",
    "reference",
    "template",
    "templates",
}
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "jpegimages"}
CLASS_MASK_FOLDERS = {"classmask", "classmasks"}  # pixels are class ids
MASK_FOLDERS = {"groundtruth", "mask", "masks"} | CLASS_MASK_FOLDERS
MASK_SUFFIX = "_mask"


class FileTree:
    """All files under `root`, sorted, without hidden ones; images and masks can be looked up by file name.

    An image file is a mask if it is in a folder called masks (see MASK_FOLDERS), or `<name>_mask.*`, and there is
    an image that it belongs to by its name. All other image files are `images`.
    """

    def __init__(self, root: Path):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; expected a folder with images and annotations")
        self.root = root
        self.files: list[Path] = []
        seen: set[str] = set()  # of folders, since a link may lead back up
        for folder, folders, names in os.walk(root, followlinks=True):
            inner = sorted(name for name in folders if not name.startswith((".", "__")))
            folders[:] = [name for name in inner if os.path.realpath(Path(folder, name)) not in seen]
            seen.update(os.path.realpath(Path(folder, name)) for name in folders)
            self.files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        if unreadable := list(filter(None, (text_problem(self.relative(path)) for path in self.files))):
            raise UserError.from_problems(
                f"{root}: rename files whose names are not text in UTF-8", unreadable
            )
        files = [path for path in self.files if path.suffix.lower() in SUFFIXES]
        self.masks = self._find_masks(files)
        masks = set(self.masks)
        self.images = [path for path in files if path not in masks]
        self._images = _by_name((path.stem, path) for path in self.images)
        self._masks = _by_name((self.image_stem(path), path) for path in self.masks)

    def _find_masks(self, files: list[Path]) -> list[Path]:
        places = {(path.parent, path.stem.lower()) for path in files}
        beside = {
            path
            for path in files
            if path.stem.endswith(MASK_SUFFIX) and (path.parent, self.image_stem(path).lower()) in places
        }
        in_folder = {path for path in files if self.has_folder(path, MASK_FOLDERS)}
        stems = {path.stem.lower() for path in set(files) - beside - in_folder}
        named = {
            path
            for path in in_folder
            if not stems.isdisjoint({path.stem.lower(), self.image_stem(path).lower()})
        }
        masks = beside | named
        return [path for path in files if path in masks]

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes (lower case, with dot)."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def images_named(self, stem: str) -> list[Path]:
        """The images with this file name without suffix, in any case."""
        return self._images.get(stem.lower(), [])

    def masks_of(self, stem: str) -> list[Path]:
        """The masks of images with this file name without suffix, in any case."""
        return self._masks.get(stem.lower(), [])

    def image_stem(self, mask: Path) -> str:
        """The file name, without suffix, of the image that a mask belongs to."""
        return mask.stem.removesuffix(MASK_SUFFIX)

    def relative(self, path: Path) -> str:
        """`path` as seen from the root, with forward slashes; unchanged if it lies elsewhere."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def has_folder(self, path: Path, names: Collection[str]) -> bool:
        """Whether a folder between the root and a file has one of these (normalized) names."""
        folders = Path(self.relative(path)).parent.parts
        return any(normalize_class_name(folder) in names for folder in folders)

    def in_clean_folder(self, path: Path) -> bool:
        """Whether one of the folders between the root and the image is named as one of defect-free images."""
        return self.has_folder(path, CLEAN_FOLDERS)

    def image_of(self, annotation: Path, filename: str | None = None) -> Path:
        """The image that an annotation file, or the `filename` in it, refers to.

        An image with the annotation's own stem comes first, then one called `filename`; among equal names the
        one in the same folder, then the one whose folders resemble the annotation's. Raises UserError.
        """
        for stem in (annotation.stem, Path(filename.replace("\\", "/")).stem if filename else ""):
            candidates = [path for path in self.images_named(stem) if not self.in_clean_folder(path)]
            if candidates:
                return self._nearest(annotation, candidates)
        expected = filename or f"{annotation.stem}.*"
        raise UserError(f"{annotation}: its image {expected} does not exist under {self.root}")

    def _nearest(self, annotation: Path, candidates: list[Path]) -> Path:
        folders = {part.lower() for part in Path(self.relative(annotation)).parent.parts}

        def likeness(path: Path) -> tuple[bool, int, bool]:
            own = {part.lower() for part in Path(self.relative(path)).parent.parts}
            return path.parent == annotation.parent, len(own & folders), bool(own & {"images", "jpegimages"})

        ranked = sorted(candidates, key=likeness, reverse=True)
        if len(ranked) > 1 and likeness(ranked[0]) == likeness(ranked[1]):
            raise UserError(
                f"{annotation}: got {ranked[0]} and {ranked[1]} for its image, expected one of that name"
            )
        return ranked[0]


def _by_name(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """Lower-case name -> files."""
    table: dict[str, list[Path]] = defaultdict(list)
    for name, path in pairs:
        table[name.lower()].append(path)
    return dict(table)


def size_of_image(path: Path) -> tuple[int, int]:
    """(width, height) of an image as it is displayed, from its header; UserError if it cannot be read."""
    try:
        return image_size(path)
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable image: {error}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; UserError if it cannot be read as such."""
    return read_text(path).splitlines()
