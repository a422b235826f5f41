"""Data types for a source folder: its images, their defects, classes and groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.prepare_data.tree import FileTree

Classes = Mapping[str, int] | None


@dataclass(frozen=True)
class Outline:
    """The shape of a defect: `mask` (h, w) bool, with its top left corner at (left, top) px of the image."""

    left: int
    top: int
    mask: np.ndarray

    def drawn(self, width: int, height: int) -> np.ndarray:
        """(height, width) bool: the shape in its image."""
        image = np.zeros((height, width), bool)
        x, y = max(self.left, 0), max(self.top, 0)
        seen = self.mask[y - self.top : height - self.top, x - self.left : width - self.left]
        image[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        return image


@dataclass(frozen=True)
class DefectBox:
    """A defect in pixels of its image, right and bottom exclusive; `where`: file and line, for messages.

    A point has no size: left = right, top = bottom. `outline`: the defect's shape, where a polygon or a mask tells it.
    """

    class_name: str
    left: float
    top: float
    right: float
    bottom: float
    is_point: bool = False
    where: str = ""
    outline: Outline | None = field(default=None, compare=False, repr=False)

    @property
    def outlined(self) -> bool:
        """Whether the sides are those of a polygon or a mask."""
        return self.outline is not None

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass
class SourceImage:
    """An image file with its defects, or one known to be free of them (`is_clean`).

    declared_size: (width, height) according to the annotation; size: that of the file; counterpart: the same part
    without defects; view: what series compare. Readers set the fields up to `group`, the survey the others.
    """

    path: Path
    boxes: list[DefectBox] = field(default_factory=list)
    is_clean: bool = False
    declared_size: tuple[int, int] | None = None
    counterpart: "SourceImage | None" = None
    group: str = ""
    name: str = ""
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    view: np.ndarray | None = None


@dataclass
class ReadResult:
    """Result of reading a folder: `classes` in the order of their ids, problems, notes for the report.

    equal_names_pair: a clean image shows the same part as the defective one of its file name;
    clean_is_known: the reader lists all clean images, whatever other folders are called.
    """

    images: list[SourceImage] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    equal_names_pair: bool = True
    clean_is_known: bool = False

    def set_sorted_classes(self) -> None:
        """Set `classes` to the names of all boxes, sorted, for formats without a list of classes."""
        self.classes = sorted({box.class_name for image in self.images for box in image.boxes})


@dataclass
class Survey:
    """The checked images of a source folder; classes: {name: id}; joined: merged group -> group it was merged into."""

    tree: FileTree
    format: str
    group_pattern: str | None
    images: list[SourceImage]
    classes: dict[str, int]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    joined: dict[str, str] = field(default_factory=dict)

    @property
    def defective(self) -> list[SourceImage]:
        """The images with defects."""
        return [image for image in self.images if image.boxes]

    @property
    def clean(self) -> list[SourceImage]:
        """The images known to be free of defects."""
        return [image for image in self.images if image.is_clean]


class Tally:
    """Counts what happened to boxes and images, with the first as an example."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, one: str, several: str, where: str) -> None:
        """Count one more case, in words for one and for several."""
        self.seen[one, several].append(where)

    def sentences(self) -> list[str]:
        """One sentence for each kind."""
        return [f"{counted(len(places), *words)}, e.g. {places[0]}" for words, places in self.seen.items()]


def file_name(text: str) -> str:
    """`text` with letters, digits, '-', '_' and '.' kept and all else replaced by '_'."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


def counted(count: float, singular: str, plural: str = "") -> str:
    """'1 box', '2 boxes'; without `plural` it is the singular with an s."""
    return f"{count:g} {singular if count == 1 else plural or f'{singular}s'}"


def shorten(names: Sequence[str], limit: int = 20, separator: str = " ") -> str:
    """'a b c', or the first `limit` names and how many more."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
