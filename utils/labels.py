"""YOLO annotations and class names, in and out.

A line of an annotation file is `class cx cy [w h [confidence]]`, or `class x1 y1 x2 y2 x3 y3 ...` for a
polygon (YOLO segmentation), all in fractions of the image's width and height.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError, shortened
from utils.reading import is_file, read_json, read_text

LARGEST_CLASS_FILE = 2**20  # bytes
LARGEST_ID = 2**16 - 2  # of a class: class masks of 16 bits hold id + 1
BOX_SHARE = 0.75  # the largest fraction of the window that the larger side of a defect's box may take


@dataclass(frozen=True)
class Annotation:
    """One wanted or painted defect: center and size in [0, 1] of the image's width and height.

    `w` and `h` are None when the line gives only the center; `line` is its number in the file, from 1. `corners` (x, y)
    in [0, 1] are those of a polygon, around which center and size are.
    """

    class_id: int
    class_name: str
    cx: float
    cy: float
    w: float | None = None
    h: float | None = None
    line: int = 0
    corners: tuple[tuple[float, float], ...] = ()

    @property
    def place(self) -> list[float | None]:
        """What manifests record of it beside its class: [cx, cy, w, h]."""
        return [self.cx, self.cy, self.w, self.h]


# Class names


def normalize_class_name(name: str) -> str:
    """Lower case, letters and digits only: 'Missing_hole' -> 'missinghole'."""
    return "".join(character for character in name.lower() if character.isalnum())


def same_classes(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether two mappings of class names to ids differ at most in the names' spelling."""
    first, second = ({normalize_class_name(name): i for name, i in ids.items()} for ids in (one, other))
    return first == second


def load_class_names(path: str | Path) -> dict[str, int]:
    """Read the JSON file {class name: id}; ids are whole numbers from 0 to LARGEST_ID, each given once.

    Raises UserError when the file is missing, is not such a mapping, or two names are equal once normalized.
    """
    path = Path(path)
    if not is_file(path):
        raise UserError(f'{path}: no such class file; expected JSON like {{"mousebite": 0, "spur": 1}}')
    classes = read_json(path, LARGEST_CLASS_FILE)
    if not isinstance(classes, dict) or not classes:
        raise UserError(f"{path}: got {str(classes)[:40]!r}, expected {{class name: id, ...}}")
    problems = []
    seen_names: dict[str, str] = {}
    seen_ids: dict[int, str] = {}
    for name, class_id in classes.items():
        if isinstance(class_id, bool) or not isinstance(class_id, int) or not 0 <= class_id <= LARGEST_ID:
            got = shortened(repr(class_id))
            problems.append(
                f"{path}: class {name!r}: got id {got}, expected a whole number from 0 to {LARGEST_ID}"
            )
        elif (other := seen_ids.setdefault(class_id, name)) != name:
            problems.append(f"{path}: classes {other!r} and {name!r} have the same id {class_id}")
        plain = normalize_class_name(name)
        if not plain or (other := seen_names.setdefault(plain, name)) != name:
            problems.append(f"{path}: class {name!r}: expected a name with letters or digits of its own")
    if problems:
        raise UserError.from_problems(f"{path} cannot be used", problems)
    return classes


def match_class(name: str, classes: Mapping[str, int]) -> int:
    """The id of the class whose normalized name equals `name`'s; UserError lists the classes if none does."""
    wanted = normalize_class_name(name)
    for candidate, class_id in classes.items():
        if normalize_class_name(candidate) == wanted:
            return class_id
    raise UserError(f"class {name!r} is unknown; expected one of {', '.join(classes)}")


def class_from_filename(filename: str | Path) -> str:
    """What stands before the last `_<digits>` of a training file's name: 'mousebite_017.png' -> 'mousebite'.

    Raises UserError when the name has no such ending.
    """
    match = re.fullmatch(r"(.+)_\d+", Path(filename).stem)
    if match is None:
        raise UserError(
            f"{filename}: got no class in the file name, expected <class>_<number>, as in spur_017.png"
        )
    return match[1]


# Annotation files


def label_files(folder: Path) -> dict[str, Path]:
    """Stem -> annotation file of a folder, suffix .txt in any case, the lower-case one first choice; hidden files are
    left out."""
    texts = (path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".txt" and path.is_file())
    return {path.stem: path for path in texts if not path.name.startswith(".")}


def read_annotations(path: str | Path, class_names: Mapping[str, int]) -> list[Annotation]:
    """All annotations of a file, in order; UserError names every bad line as file:line."""
    annotations, problems = read_annotations_and_problems(path, class_names)
    if problems:
        raise UserError.from_problems(f"{path} cannot be used", problems)
    return annotations


def read_annotations_and_problems(
    path: str | Path, class_names: Mapping[str, int]
) -> tuple[list[Annotation], list[str]]:
    """The good lines as annotations, and one sentence per bad line, so that those of a folder can be collected."""
    if not is_file(path):
        return [], [f"{path}: no such annotation file; expected lines of `class cx cy w h`"]
    try:
        lines = read_text(path).splitlines()
    except UserError as error:
        return [], [str(error)]
    names = {class_id: name for name, class_id in class_names.items()}
    annotations, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            annotations.append(_parse_line(line.split(), number, names))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    return annotations, problems


def _parse_line(columns: list[str], line: int, names: Mapping[int, str]) -> Annotation:
    """One line's annotation; ValueError says what is wrong with it."""
    try:
        values = [float(column) for column in columns]
    except ValueError:
        raise ValueError(f"got {shortened(' '.join(columns))!r}, expected numbers") from None
    class_id, coordinates = values[0], values[1:]
    count = len(columns)
    is_polygon = count >= 7 and count % 2 == 1
    if count not in (3, 5, 6) and not is_polygon:
        raise ValueError(
            f"got {count} columns, expected 3 (class cx cy), 5 (class cx cy w h), 6 (with confidence) "
            "or 1 + 2 per corner of a polygon"
        )
    if not class_id.is_integer() or int(class_id) not in names:
        raise ValueError(f"got class {shortened(columns[0])}, expected one of {_list_ids(names)}")
    if count == 6:  # the confidence of a detector
        coordinates = coordinates[:4]
    outside = [text for text, value in zip(columns[1:], coordinates, strict=False) if not 0 <= value <= 1]
    if outside:
        raise ValueError(
            f"got {shortened(', '.join(outside))}, expected coordinates in [0, 1] (fractions of the image)"
        )
    cx, cy, *size = _polygon_box(coordinates) if is_polygon else coordinates
    if size == [0, 0]:  # a point written as a box
        size = []
    if 0 in size:
        raise ValueError(f"got a box of {size[0]:g} x {size[1]:g}, expected a width and a height above 0")
    w, h = size or (None, None)
    corners = tuple(zip(coordinates[0::2], coordinates[1::2], strict=True)) if is_polygon else ()
    return Annotation(int(class_id), names[int(class_id)], cx, cy, w, h, line, corners)


def _list_ids(names: Mapping[int, str]) -> str:
    return ", ".join(f"{class_id} ({name})" for class_id, name in sorted(names.items()))


def _polygon_box(coordinates: Collection[float]) -> list[float]:
    """[x1, y1, x2, y2, ...] -> [cx, cy, w, h] of the bounding box."""
    xs, ys = list(coordinates)[0::2], list(coordinates)[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def format_annotation(
    class_id: int, cx: float, cy: float, w: float | None = None, h: float | None = None
) -> str:
    """One YOLO line without newline, six decimals: '0 0.500000 0.250000 0.100000 0.200000'.

    All of cx, cy, w, h in [0, 1]; without w and h the line has three columns. Raises ValueError otherwise.
    """
    if (w is None) != (h is None):
        raise ValueError("w and h are given together or not at all")
    values = [value for value in (cx, cy, w, h) if value is not None]
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        raise ValueError(f"got {values}, expected fractions of the image in [0, 1]")
    return " ".join([str(class_id), *(f"{value:.6f}" for value in values)])


# Size of a defect


def auto_scale(width_px: float, height_px: float, window: int = 64) -> float:
    """How much an image is shrunk so that a box of this size (native px) fits the model's window.

    The smallest s >= 1 with max(width, height) <= 0.75 * window * s: window and context then cover
    window * s native px. A point (0 x 0) has s = 1. Raises ValueError for sizes that are negative or not
    finite.
    """
    if not (math.isfinite(width_px) and math.isfinite(height_px)) or min(width_px, height_px) < 0:
        raise ValueError(f"got a box of {width_px} x {height_px} px, expected sizes >= 0")
    if window <= 0:
        raise ValueError(f"got a window of {window} px, expected more than 0")
    return max(1.0, max(width_px, height_px) / (BOX_SHARE * window))


def relative_box(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in px of an image -> YOLO's cx, cy, w, h as fractions of its sides."""
    left, top, right, bottom = box
    return (
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        (right - left) / width,
        (bottom - top) / height,
    )


def pixel_box(annotation: Annotation, width: int, height: int) -> tuple[int, int, int, int]:
    """The box of an annotation in px of an image, (left, top, right, bottom), rounded outwards and clipped to it.

    Raises ValueError for a point.
    """
    w, h = annotation.w, annotation.h
    if w is None or h is None:
        raise ValueError("a point has no box")
    left, right = ((annotation.cx + side * w / 2) * width for side in (-1, 1))
    top, bottom = ((annotation.cy + side * h / 2) * height for side in (-1, 1))
    return pixel_sides((left, top, right, bottom), width, height)


def pixel_sides(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) in px, rounded outwards and clipped to its image."""
    left, top, right, bottom = box
    return (
        max(math.floor(left), 0),
        max(math.floor(top), 0),
        min(math.ceil(right), width),
        min(math.ceil(bottom), height),
    )
