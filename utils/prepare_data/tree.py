"""The files of a source folder: images looked up by name, by annotation, by folder."""

import os
from collections import defaultdict
from pathlib import Path

from PIL import Image

from utils.errors import UserError
from utils.images import READ_ERRORS, SUFFIXES
from utils.labels import normalise_class_name

# Folders whose pictures are taken as free of defects, names normalised as class names are
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
EXIF_ORIENTATION = 0x0112
QUARTER_TURNED = (5, 6, 7, 8)


class FileTree:
    """All files under `root`, sorted, hidden ones left out; pictures can be looked up by file name."""

    def __init__(self, root: Path):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; expected a folder with pictures and annotations")
        self.root = root
        self.files: list[Path] = []
        seen: set[str] = set()  # of folders, since a link may lead back up
        for folder, folders, names in os.walk(root, followlinks=True):
            inner = sorted(name for name in folders if not name.startswith((".", "__")))
            folders[:] = [name for name in inner if os.path.realpath(Path(folder, name)) not in seen]
            seen.update(os.path.realpath(Path(folder, name)) for name in folders)
            self.files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        self.images = [path for path in self.files if path.suffix.lower() in SUFFIXES]
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            self._by_stem[path.stem.lower()].append(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes (lower case, with dot)."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def images_named(self, stem: str) -> list[Path]:
        """The pictures with this file name without suffix, in any case."""
        return self._by_stem.get(stem.lower(), [])

    def relative(self, path: Path) -> str:
        """`path` as seen from the root, with forward slashes; unchanged when it lies elsewhere."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def in_clean_folder(self, path: Path) -> bool:
        """Whether one of the folders between the root and the picture promises defect-free pictures."""
        folders = Path(self.relative(path)).parent.parts
        return any(normalise_class_name(folder) in CLEAN_FOLDERS for folder in folders)

    def image_of(self, annotation: Path, filename: str | None = None) -> Path:
        """The picture that an annotation file, or the `filename` in it, means.

        One with the annotation's own stem comes first, then one called `filename`; among equal names the one
        in the same folder, then the one whose folders resemble the annotation's. Raises UserError.
        """
        for stem in (annotation.stem, Path(filename.replace("\\", "/")).stem if filename else ""):
            candidates = [path for path in self.images_named(stem) if not self.in_clean_folder(path)]
            if candidates:
                return self._nearest(annotation, candidates)
        wanted = filename or f"{annotation.stem}.*"
        raise UserError(f"{annotation}: its picture {wanted} is nowhere under {self.root}")

    def _nearest(self, annotation: Path, candidates: list[Path]) -> Path:
        folders = {part.lower() for part in Path(self.relative(annotation)).parent.parts}

        def likeness(path: Path) -> tuple[bool, int, bool]:
            own = {part.lower() for part in Path(self.relative(path)).parent.parts}
            return path.parent == annotation.parent, len(own & folders), bool(own & {"images", "jpegimages"})

        ranked = sorted(candidates, key=likeness, reverse=True)
        if len(ranked) > 1 and likeness(ranked[0]) == likeness(ranked[1]):
            raise UserError(
                f"{annotation}: got {ranked[0]} and {ranked[1]} for its picture, expected one of that name"
            )
        return ranked[0]


def size_of_image(path: Path) -> tuple[int, int]:
    """(width, height) of a picture as it is displayed, from its header; UserError when it cannot be read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNED
            return image.size[::-1] if turned else image.size
    except READ_ERRORS as error:
        raise UserError(f"{path}: not a readable picture: {error}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8; UserError when it is none."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from error
