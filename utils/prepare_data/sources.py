"""What is known about a source folder: its images, their defects, classes and groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.prepare_data.tree import FileTree

Classes = Mapping[str, int] | None


@dataclass(frozen=True)
class DefectBox:
    """A defect in pixels of its picture, right and bottom exclusive; `where` says where it was read.

    A point has no size: left = right, top = bottom.
    """

    class_name: str
    left: float
    top: float
    right: float
    bottom: float
    is_point: bool = False
    where: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) in pixels."""
        return self.right - self.left, self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass
class SourceImage:
    """A picture file with its defects, or one known to be free of them (`is_clean`).

    declared_size is (width, height) as the annotation says, size as the file says; counterpart is the same
    part without defects. Readers fill the first fields, the survey those from `group` on.
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


@dataclass
class ReadResult:
    """What a reader made of a folder: `classes` in the order of their ids, problems, notes for the report.

    equal_names_pair: a clean picture shows the same part as the defective one of its file name;
    clean_is_known: all clean images are listed, folder names tell no more; masks_are_images: the folder's other
    images are masks.
    """

    pictures: list[SourceImage] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    equal_names_pair: bool = True
    clean_is_known: bool = False
    masks_are_images: bool = False

    def set_sorted_classes(self) -> None:
        """Take the names of all boxes, sorted, for formats that have no list of classes."""
        self.classes = sorted({box.class_name for picture in self.pictures for box in picture.boxes})


@dataclass
class Survey:
    """The pictures of a source, fit for use; `classes` is {name: id}, `format` how it was read.

    joined tells for a group that was joined to another which one that is.
    """

    tree: FileTree
    format: str
    group_pattern: str | None
    pictures: list[SourceImage]
    classes: dict[str, int]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    joined: dict[str, str] = field(default_factory=dict)

    @property
    def defective(self) -> list[SourceImage]:
        """The pictures with defects."""
        return [picture for picture in self.pictures if picture.boxes]

    @property
    def clean(self) -> list[SourceImage]:
        """The pictures known to be free of defects."""
        return [picture for picture in self.pictures if picture.is_clean]


class Tally:
    """Things of one kind that happened to boxes or pictures: how many, and the first as an example."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, where: str) -> None:
        self.seen[what].append(where)

    def sentences(self) -> list[str]:
        return [f"{len(places)} {what}, e.g. {places[0]}" for what, places in self.seen.items()]


def file_name(text: str) -> str:
    """`text` with letters, digits, '-', '_' and '.' kept and all else replaced by '_'."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


def shorten(names: Sequence[str], limit: int = 20, separator: str = " ") -> str:
    """'a b c', or the first `limit` names and how many more."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
