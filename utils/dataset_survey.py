"""From what a reader found to a sound list of pictures: everything checked, groups formed, parts chosen."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.annotation_formats import READERS, recognise
from utils.dataset_pictures import Box, FileTree, Found, Picture
from utils.errors import UserError
from utils.images import list_images, load_rgb
from utils.labels import normalise_class_name

SPLIT_TRIALS = 200
# Names of PKU-Market-PCB (HRIPCB): the board's number, the class, a number
HRIPCB_NAME = re.compile(r"\d+_(missing_hole|mouse_bite|open_circuit|short|spur|spurious_copper)_\d+", re.I)
LEADING_DIGITS = r"^(\d+)"


@dataclass
class Survey:
    """The pictures of a source, fit for use; `classes` is {name: id}, `format` how it was read.

    joined tells for a group that was joined to another which one that is.
    """

    tree: FileTree
    format: str
    group_pattern: str | None
    pictures: list[Picture]
    classes: dict[str, int]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    joined: dict[str, str] = field(default_factory=dict)

    @property
    def defective(self) -> list[Picture]:
        """The pictures with defects."""
        return [picture for picture in self.pictures if picture.boxes]

    @property
    def clean(self) -> list[Picture]:
        """The pictures known to be free of defects."""
        return [picture for picture in self.pictures if picture.is_clean]


class _Tally:
    """Things of one kind that happened to boxes or pictures: how many, and the first as an example."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, where: str) -> None:
        self.seen[what].append(where)

    def sentences(self) -> list[str]:
        return [f"{len(places)} {what}, e.g. {places[0]}" for what, places in self.seen.items()]


def survey_source(
    source: Path,
    format_name: str = "auto",
    classes: Mapping[str, int] | None = None,
    clean_dir: Path | None = None,
    group_pattern: str | None = None,
) -> Survey:
    """Read a source folder and check all of it; every picture is decoded once, one at a time.

    Raises UserError that lists all problems: unreadable pictures, broken annotations, unknown classes,
    annotations made for another size, file names that `group_pattern` does not fit.
    """
    tree = FileTree(source)
    name = recognise(tree) if format_name == "auto" else format_name
    found = READERS[name](tree, classes)
    if not found.pictures and not found.problems:
        raise UserError(
            f"{source}: got no {name} annotations in it, expected some; check the folder, or --format"
        )
    pattern = group_pattern or _usual_pattern(found.pictures)
    _add_clean_pictures(found, tree, name, clean_dir)
    table = _unify_classes(found, classes)
    tally = _Tally()
    problems = found.problems + _set_groups(found, tree, pattern)
    for picture in tqdm(found.pictures, desc="checking pictures", disable=None):
        problems += _inspect(picture, tally)
    if problems:
        raise UserError.from_problems(f"{source} cannot be used", list(dict.fromkeys(problems)))
    survey = Survey(tree, name, pattern, found.pictures, table, found.notes, tally.sentences())
    if not survey.defective:
        raise UserError(
            f"{source}: got {len(survey.pictures)} pictures, none with a box; expected some defects"
        )
    if found.equal_names_pair:
        _match_counterparts(survey)
    _check_counterparts(survey)
    _join_groups(survey)
    _set_names(survey)
    return survey


# What there is


def _add_clean_pictures(found: Found, tree: FileTree, format_name: str, clean_dir: Path | None) -> None:
    """Add pictures from folders of clean ones; note how many pictures nobody speaks for."""
    known = {picture.path for picture in found.pictures}
    if clean_dir is not None:
        extra = list_images(clean_dir)
        if not extra:
            raise UserError(f"--clean-dir {clean_dir}: no pictures in it; expected pictures without defects")
    elif format_name in ("deeppcb", "mvtec"):  # whose readers know the clean ones
        extra = []
    else:
        extra = [path for path in tree.images if tree.in_clean_folder(path)]
    found.pictures += [Picture(path, is_clean=True) for path in extra if path not in known]
    known.update(extra)
    rest = [path for path in tree.images if path not in known]
    if rest and format_name != "mvtec":  # whose masks are pictures
        found.notes.append(
            f"{len(rest)} pictures have no annotation and are left out, e.g. {tree.relative(rest[0])}; if "
            "they show no defects, give their folder as --clean-dir"
        )


def _unify_classes(found: Found, classes: Mapping[str, int] | None) -> dict[str, int]:
    """{name: id}, with the boxes renamed to it; names that differ in case and signs alone are one class.

    Without `classes` the ids count up in the reader's order. Unknown names become problems.
    """
    names: dict[str, str] = {}
    for name in classes or found.classes:
        names.setdefault(normalise_class_name(name), name)
    unknown: Counter[str] = Counter()
    for picture in found.pictures:
        for box in picture.boxes:
            if not normalise_class_name(box.class_name) or normalise_class_name(box.class_name) not in names:
                unknown[box.class_name] += 1
        picture.boxes = [
            replace(box, class_name=names.get(normalise_class_name(box.class_name), box.class_name))
            for box in picture.boxes
        ]
    for name, count in sorted(unknown.items()):
        expected = f"one of {', '.join(classes)}" if classes else "a name with letters or digits"
        found.problems.append(f"class {name!r} of {count} boxes: expected {expected}")
    return dict(classes) if classes else {name: index for index, name in enumerate(names.values())}


def _usual_pattern(pictures: Sequence[Picture]) -> str | None:
    """The board's number as the group, where all defective pictures are called as in PKU-Market-PCB.

    None otherwise: a picture's group is what the reader gave it, else its file name without suffix.
    """
    names = [picture.path.stem for picture in pictures if picture.boxes]
    return LEADING_DIGITS if names and all(map(HRIPCB_NAME.fullmatch, names)) else None


def _set_groups(found: Found, tree: FileTree, pattern: str | None) -> list[str]:
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


# Each picture


def _inspect(picture: Picture, tally: _Tally) -> list[str]:
    """Decode a picture, note its size and digest, clip its boxes; returns problems."""
    try:
        pixels = load_rgb(picture.path)
    except UserError as error:
        return [str(error)]
    height, width = pixels.shape[:2]
    picture.size = (width, height)
    picture.digest = f"{width}x{height} {hashlib.blake2b(np.ascontiguousarray(pixels)).hexdigest()}"
    if picture.declared_size not in (None, picture.size):
        return [
            f"{picture.path}: got {width}x{height} px, but its annotation was made for "
            f"{picture.declared_size[0]}x{picture.declared_size[1]} px"
        ]
    boxes = _sound_boxes(picture.boxes, width, height, tally)
    if picture.boxes and not boxes:
        tally.add("pictures have lost all their boxes and are left out", str(picture.path))
    picture.boxes = boxes
    return []


def _sound_boxes(boxes: Sequence[Box], width: int, height: int, tally: _Tally) -> list[Box]:
    """The boxes clipped to the picture, without those outside it, without extent, or given twice."""
    kept: dict[tuple, Box] = {}
    for box in boxes:
        left, right = max(0.0, box.left), min(float(width), box.right)
        top, bottom = max(0.0, box.top), min(float(height), box.bottom)
        if box.left > width or box.right < 0 or box.top > height or box.bottom < 0:
            tally.add("boxes lie outside their picture and were dropped", box.where)
            continue
        if not box.is_point and (right - left < 1 or bottom - top < 1):
            tally.add("boxes are thinner than 1 px (within the picture) and were dropped", box.where)
            continue
        clipped = replace(box, left=left, top=top, right=right, bottom=bottom)
        if clipped != box:
            tally.add("boxes reached over the picture's edge and were clipped", box.where)
        key = (box.class_name, round(left), round(top), round(right), round(bottom))
        if key in kept:
            tally.add("boxes are given twice and were dropped", box.where)
        kept.setdefault(key, clipped)
    return list(kept.values())


# All pictures together


def _match_counterparts(survey: Survey) -> None:
    """Find the clean picture of each defective one that has none: of the same file name, or named like the group."""
    by_name: dict[str, list[Picture]] = defaultdict(list)
    for picture in survey.clean:
        by_name[picture.path.stem.lower()].append(picture)
    for picture in survey.defective:
        for name in (picture.path.stem, picture.group):
            if picture.counterpart is None and len(by_name[name.lower()]) == 1:
                picture.counterpart = by_name[name.lower()][0]


def _check_counterparts(survey: Survey) -> None:
    """Drop counterparts of another size, and those that equal the defective picture; warn of them."""
    tally = _Tally()
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


def _join_groups(survey: Survey) -> None:
    """Join groups that share a picture, and keep one of equal pictures: nothing leaks over a split."""
    union = _Union()
    first_of: dict[str, Picture] = {}
    kept, tally = [], _Tally()
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
        first.boxes = _sound_boxes([*first.boxes, *picture.boxes], *first.size, _Tally())
        first.counterpart = first.counterpart or picture.counterpart
    survey.joined = {name: union.root(name) for name in union.links}
    for picture in survey.pictures:
        picture.group = union.root(picture.group)
    if survey.joined:
        pairs = [f"{name} with {first}" for name, first in sorted(survey.joined.items())]
        survey.notes.append(f"groups that share a picture stay together: {shorten(pairs, separator=', ')}")
    survey.pictures = kept
    survey.warnings += tally.sentences()


def _set_names(survey: Survey) -> None:
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


def file_name(text: str) -> str:
    """`text` with letters, digits, '-', '_' and '.' kept and all else replaced by '_'."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


def shorten(names: Sequence[str], limit: int = 20, separator: str = " ") -> str:
    """'a b c', or the first `limit` names and how many more."""
    return separator.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# Training part and test part


def choose_groups(survey: Survey, wanted: Sequence[str] | None, share: float, seed: int) -> set[str]:
    """The groups that are kept out of training: those `wanted`, or about `share` of the defects.

    With `share`, of 200 random choices the one is taken that leaves the fewest classes missing in a part,
    if need be in the test part, then the one nearest to the share; groups of clean pictures alone are held
    out by the same share. Raises UserError for unknown groups, or when nothing would be left to train on.
    """
    groups = sorted({picture.group for picture in survey.pictures})
    if wanted is not None:
        wanted = {survey.joined.get(group, group) for group in wanted}
        unknown = sorted(wanted - set(groups))
        if unknown:
            raise UserError(
                f"--holdout {' '.join(unknown)}: no such group; the groups are {shorten(groups, 40)}"
            )
        held = wanted
    else:
        with_defects = sorted({picture.group for picture in survey.defective})
        rng = np.random.default_rng([seed, 0])
        held = _draw_groups(survey, with_defects, share, rng)
        clean_only = sorted(set(groups) - set(with_defects))
        count = math.floor(share * len(clean_only))
        held |= {clean_only[i] for i in rng.permutation(len(clean_only))[:count]}
    if not any(picture.group not in held for picture in survey.defective):
        raise UserError(
            f"no picture with defects is left to train on: {shorten(sorted(held))} would be held out; "
            "hold out less"
        )
    return held


def _draw_groups(survey: Survey, groups: list[str], share: float, rng: np.random.Generator) -> set[str]:
    if share <= 0 or len(groups) < 2:
        return set()
    rows = {group: index for index, group in enumerate(groups)}
    columns = {name: index for index, name in enumerate(survey.classes)}
    counts = np.zeros((len(groups), len(columns)))
    for picture in survey.defective:
        for box in picture.boxes:
            counts[rows[picture.group], columns[box.class_name]] += 1
    total = counts.sum(axis=0)
    best: tuple[tuple[int, int, float], np.ndarray] | None = None
    for _ in range(SPLIT_TRIALS):
        order = rng.permutation(len(groups))
        held = np.cumsum(counts[order], axis=0)[:-1]  # after 1, 2, ... all but one groups
        number = int(np.argmin(np.abs(held.sum(axis=1) / total.sum() - share)))
        part = held[number]
        untrained, untested = (int(((total > 0) & (part == value)).sum()) for value in (total, 0))
        score = (untrained + untested, untrained, abs(part.sum() / total.sum() - share))
        if best is None or score < best[0]:
            best = (score, order[: number + 1])
    return {groups[index] for index in best[1]}
