"""Which source images belong together: groups, clean counterparts, equal images, names."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from utils.prepare_data.checks import sound_boxes
from utils.prepare_data.groups.series import find_series, likeness
from utils.prepare_data.sources import ReadResult, SourceImage, Survey, Tally, counted, file_name, shorten
from utils.prepare_data.tree import FileTree

# Names of PKU-Market-PCB (HRIPCB): the board's number, the class, a number
HRIPCB_NAME = re.compile(r"\d+_(missing_hole|mouse_bite|open_circuit|short|spur|spurious_copper)_\d+", re.I)
LEADING_DIGITS = r"^(\d+)"
TWIN = 0.5  # correlation of the views of one part, with a defect and without


def usual_pattern(found: ReadResult) -> str | None:
    """The pattern of the groups, None if each image is its own, or the reader knew: that of the board's number, if all
    defective images are named as in PKU-Market-PCB, else that of a series, with a note."""
    names = [image.path.stem for image in found.images if image.boxes]
    if names and all(map(HRIPCB_NAME.fullmatch, names)):
        return LEADING_DIGITS
    series = find_series(found.images)
    if series is None:
        return None
    found.notes.append(f"images are grouped by {series.pattern} in their names: {series.reason}")
    return series.pattern


def set_groups(found: ReadResult, tree: FileTree, pattern: str | None) -> list[str]:
    """Set the group of every image; returns problems."""
    problems, alone = [], []
    expression = re.compile(pattern) if pattern else None
    for image in found.images:
        if pattern is None or expression is None:
            image.group = image.group or image.path.stem
            continue
        text = tree.relative(image.path) if "/" in pattern else image.path.name
        match = expression.search(text)
        if match and match[1]:
            image.group = match[1]
        elif image.is_clean:
            image.group = image.path.stem
            alone.append(text)
        else:
            problems.append(f"{image.path}: the group pattern {pattern} finds no group in {text}")
    if alone:
        found.notes.append(
            f"{counted(len(alone), 'clean image does', 'clean images do')} not match the group pattern; each is a "
            f"separate group, e.g. {alone[0]}"
        )
    return problems


def match_counterparts(survey: Survey) -> None:
    """Find the clean image of each defective one that has none: by its file name, by the name of its group, else the
    one of its size in its group that is most like it."""
    by_name: dict[str, list[SourceImage]] = defaultdict(list)
    by_group: dict[tuple[str, tuple[int, int]], list[SourceImage]] = defaultdict(list)
    for image in survey.clean:
        by_name[image.path.stem.lower()].append(image)
        by_group[image.group, image.size].append(image)
    for image in survey.defective:
        for name in (image.path.stem, image.group):
            if image.counterpart is None and len(by_name[name.lower()]) == 1:
                image.counterpart = by_name[name.lower()][0]
        if image.counterpart is None:
            image.counterpart = _most_alike(image, by_group[image.group, image.size])


def _most_alike(image: SourceImage, others: Sequence[SourceImage]) -> SourceImage | None:
    """The one of `others` whose view correlates most with that of `image`; None where none shows the same part."""
    views = [other.view for other in others if other.view is not None]
    if image.view is None or not views:
        return None
    values = likeness([image.view], views)[0]
    return others[int(values.argmax())] if values.max() >= TWIN else None


def check_counterparts(survey: Survey) -> None:
    """Drop counterparts of another size, and those equal to the defective image, with warnings."""
    tally = Tally()
    for image in survey.defective:
        if image.counterpart is not None and image.counterpart.size != image.size:
            tally.add(
                "image differs in size from its clean image, which is not used",
                "images differ in size from their clean image, which is not used",
                str(image.path),
            )
            image.counterpart = None
        elif image.counterpart is not None and image.counterpart.digest == image.digest:
            tally.add(
                "image with defects is equal to its clean image",
                "images with defects are equal to their clean image",
                str(image.path),
            )
            image.counterpart = None
    survey.warnings += tally.sentences()


class _Union:
    """Sets of names (union-find); the first name in order represents its set."""

    def __init__(self) -> None:
        self.links: dict[str, str] = {}

    def root(self, name: str) -> str:
        """The name that represents the set of `name`."""
        while name in self.links:
            name = self.links[name]
        return name

    def join(self, first: str, second: str) -> None:
        """Merge the sets of two names."""
        low, high = sorted((self.root(first), self.root(second)))
        if low != high:
            self.links[high] = low


def join_groups(survey: Survey) -> None:
    """Merge groups that share an image, and keep one of equal images, so that nothing leaks across a split."""
    union = _Union()
    first_of: dict[str, SourceImage] = {}
    kept, tally = [], Tally()
    for image in sorted(survey.images, key=lambda image: image.is_clean):  # defective ones first
        if image.counterpart is not None:
            union.join(image.group, image.counterpart.group)
        first = first_of.setdefault(image.digest, image)
        if first is image:
            kept.append(image)
            continue
        union.join(first.group, image.group)
        tally.add(
            "image is equal to another one and was merged with it",
            "images are equal to another one and were merged with it",
            f"{image.path} and {first.path}",
        )
        if first.is_clean != image.is_clean:
            tally.add(
                "image counts as clean, but an equal one has defects",
                "images count as clean, but an equal one has defects",
                str(image.path),
            )
        first.boxes = sound_boxes([*first.boxes, *image.boxes], *first.size, Tally())
        first.counterpart = first.counterpart or image.counterpart
    survey.joined = {name: union.root(name) for name in union.links}
    for image in survey.images:
        image.group = union.root(image.group)
    if survey.joined:
        pairs = [f"{name} with {first}" for name, first in sorted(survey.joined.items())]
        survey.notes.append(f"groups that share an image stay together: {shorten(pairs, separator=', ')}")
    survey.images = kept
    survey.warnings += tally.sentences()


def set_names(survey: Survey) -> None:
    """Set the names of output files, all different in lower case: the file's name, with folders if it repeats."""
    images = survey.images
    counts = Counter((image.is_clean, image.path.stem.lower()) for image in images)
    used: set[str] = set()
    for image in images:
        name = image.path.stem
        if counts[image.is_clean, name.lower()] > 1 or name.lower() in used:
            name = "_".join([*Path(survey.tree.relative(image.path)).parent.parts[-2:], name])
        name = file_name(name)
        base, number = name, 2
        while name.lower() in used:
            name, number = f"{base}_{number}", number + 1
        used.add(name.lower())
        image.name = name
