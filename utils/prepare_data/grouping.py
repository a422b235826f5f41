"""Which source images belong together: groups, clean counterparts, equal images, names."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from utils.prepare_data.checks import sound_boxes
from utils.prepare_data.sources import ReadResult, SourceImage, Survey, Tally, file_name, shorten
from utils.prepare_data.tree import FileTree

# Names of PKU-Market-PCB (HRIPCB): the board's number, the class, a number
HRIPCB_NAME = re.compile(r"\d+_(missing_hole|mouse_bite|open_circuit|short|spur|spurious_copper)_\d+", re.I)
LEADING_DIGITS = r"^(\d+)"


def usual_pattern(pictures: Sequence[SourceImage]) -> str | None:
    """The board's number as the group, where all defective pictures are called as in PKU-Market-PCB.

    None otherwise: a picture's group is what the reader gave it, else its file name without suffix.
    """
    names = [picture.path.stem for picture in pictures if picture.boxes]
    return LEADING_DIGITS if names and all(map(HRIPCB_NAME.fullmatch, names)) else None


def set_groups(found: ReadResult, tree: FileTree, pattern: str | None) -> list[str]:
    """Give every picture its group; returns problems."""
    problems, alone = [], []
    expression = re.compile(pattern) if pattern else None
    for picture in found.pictures:
        if expression is None:
            picture.group = picture.group or picture.path.stem
            continue
        text = tree.relative(picture.path) if "/" in pattern else picture.path.name
        match = expression.search(text)
        if match and match[1]:
            picture.group = match[1]
        elif picture.is_clean:
            picture.group = picture.path.stem
            alone.append(text)
        else:
            problems.append(f"{picture.path}: the group pattern {pattern} finds no group in {text}")
    if alone:
        found.notes.append(
            f"{len(alone)} clean pictures do not fit the group pattern and are groups of their own, "
            f"e.g. {alone[0]}"
        )
    return problems


def match_counterparts(survey: Survey) -> None:
    """Find the clean picture of each defective one that has none: of the same file name, or named like the group."""
    by_name: dict[str, list[SourceImage]] = defaultdict(list)
    for picture in survey.clean:
        by_name[picture.path.stem.lower()].append(picture)
    for picture in survey.defective:
        for name in (picture.path.stem, picture.group):
            if picture.counterpart is None and len(by_name[name.lower()]) == 1:
                picture.counterpart = by_name[name.lower()][0]


def check_counterparts(survey: Survey) -> None:
    """Drop counterparts of another size, and those that equal the defective picture; warn of them."""
    tally = Tally()
    for picture in survey.defective:
        if picture.counterpart is not None and picture.counterpart.size != picture.size:
            tally.add("pictures have a clean one of another size, which is no counterpart", str(picture.path))
            picture.counterpart = None
        elif picture.counterpart is not None and picture.counterpart.digest == picture.digest:
            tally.add("pictures with defects equal their clean one", str(picture.path))
            picture.counterpart = None
    survey.warnings += tally.sentences()


class _Union:
    """Names that belong together; the first in order stands for its set."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}

    def root(self, name: str) -> str:
        while name in self.links:
            name = self.links[name]
        return name

    def join(self, first: str, second: str) -> None:
        low, high = sorted((self.root(first), self.root(second)))
        if low != high:
            self.links[high] = low


def join_groups(survey: Survey) -> None:
    """Join groups that share a picture, and keep one of equal pictures: nothing leaks over a split."""
    union = _Union()
    first_of: dict[str, SourceImage] = {}
    kept, tally = [], Tally()
    for picture in sorted(survey.pictures, key=lambda picture: picture.is_clean):  # defective ones first
        if picture.counterpart is not None:
            union.join(picture.group, picture.counterpart.group)
        first = first_of.setdefault(picture.digest, picture)
        if first is picture:
            kept.append(picture)
            continue
        union.join(first.group, picture.group)
        tally.add("pictures equal another one and were merged with it", f"{picture.path} and {first.path}")
        if first.is_clean != picture.is_clean:
            tally.add("pictures count as clean, but an equal one has defects", str(picture.path))
        first.boxes = sound_boxes([*first.boxes, *picture.boxes], *first.size, Tally())
        first.counterpart = first.counterpart or picture.counterpart
    survey.joined = {name: union.root(name) for name in union.links}
    for picture in survey.pictures:
        picture.group = union.root(picture.group)
    if survey.joined:
        pairs = [f"{name} with {first}" for name, first in sorted(survey.joined.items())]
        survey.notes.append(f"groups that share a picture stay together: {shorten(pairs, separator=', ')}")
    survey.pictures = kept
    survey.warnings += tally.sentences()


def set_names(survey: Survey) -> None:
    """Names for output files, all different in lower case: the file's own, or its path where that repeats."""
    pictures = survey.pictures
    counts = Counter((picture.is_clean, picture.path.stem.lower()) for picture in pictures)
    used: set[str] = set()
    for picture in pictures:
        name = picture.path.stem
        if counts[picture.is_clean, name.lower()] > 1 or name.lower() in used:
            name = "_".join([*Path(survey.tree.relative(picture.path)).parent.parts[-2:], name])
        name = file_name(name)
        base, number = name, 2
        while name.lower() in used:
            name, number = f"{base}_{number}", number + 1
        used.add(name.lower())
        picture.name = name
