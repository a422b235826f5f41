"""Jobs: one per output image, all planned before any network is loaded."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from generation.geometry import (
    Context,
    Geometry,
    PixelBox,
    Size,
    Window,
    native_box,
    native_window,
    pixel_center,
    place,
)
from generation.passes import Pass, joint_turns
from utils import images, labels
from utils.errors import UserError
from utils.processes.group import rank, world_size
from utils.seeds import sample_seed

READERS = 4  # threads that check whether images can be decoded
MOST_JOBS = 1_000_000  # of one run
LONGEST = 200  # bytes of a sample's base name; file systems take 255, and endings are added


@dataclass(frozen=True)
class Defect:
    """One requested defect of an image, and the part of the image that may change."""

    annotation: labels.Annotation
    center: tuple[int, int]  # px of the output image
    window: Window
    box: PixelBox | None = None  # px of the output image, None without width and height


@dataclass(frozen=True)
class Job:
    """One sample: an image with one or several defects, painted with its own noise.

    The passes of a turn do not disturb each other; those of the next turn see what the turn before painted.
    """

    image: Path
    defects: tuple[Defect, ...]
    turns: tuple[tuple[Pass, ...], ...]
    base: str  # name of the sample's files, without sample index
    index: int  # sample index: round * n_samples + k

    @property
    def name(self) -> str:
        """File name of the sample, without suffix."""
        return f"{self.base}_{self.index}"

    @property
    def passes(self) -> list[Pass]:
        """All passes, turn by turn."""
        return [one for turn in self.turns for one in turn]


@dataclass(frozen=True)
class JobOptions:
    """How annotations become jobs: `together` paints all defects of an image on one sample, else one sample each.

    `whole_contexts`: a context is replaced as a whole, so contexts that overlap are painted one after the other.
    `boxes`: every annotation must have a width and a height.
    """

    n_samples: int
    n_iter: int
    together: bool
    whole_contexts: bool
    boxes: bool


def safe_name(text: str) -> str:
    """`text` as part of a file name: everything but letters, digits, '-' and '_' becomes '-'."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text)


# The folder


def plan_jobs(
    folder: str | Path,
    classes: Mapping[str, int],
    geometry: Geometry,
    options: JobOptions,
    label_folder: str | Path | None = None,
) -> list[Job]:
    """All jobs, in the order images, rounds, annotations, samples.

    Reads a folder of images with same-named YOLO .txt files, there or in `label_folder` (suffixes in any
    case; hidden files are left alone). Images with annotations are decoded whole, so that a file cut short
    is found now and not hours later. Every problem is collected into one UserError: unreadable images, bad
    lines, no annotations at all, annotations without an image, two images with one stem, names too long.
    """
    folder = Path(folder)
    paths = images.image_files(folder)
    texts = labels.label_files(folder if label_folder is None else Path(label_folder))
    with ThreadPoolExecutor(READERS) as pool:
        unreadable = pool.map(lambda path: _unreadable(path, whole=path.stem in texts), paths)
        problems = _same_stems(paths) + _orphan_labels(texts, paths)
        jobs: list[Job] = []
        for path, problem in zip(paths, unreadable, strict=True):
            if problem:
                problems.append(problem)
            if (text := texts.get(path.stem)) is None:
                continue
            found, bad = labels.read_annotations_and_problems(text, classes)
            problems += bad
            if not problem:
                _check_total(len(jobs), len(found), options)
                size = output_size(path, geometry)
                planned, misplaced = plan_image(path, size, found, geometry, options)
                jobs += planned
                problems += [f"{text}:{line}: {sentence}" for line, sentence in misplaced]
    problems += _colliding_names(jobs) + _long_names(jobs)
    if not problems and not jobs:
        problems.append(
            f"defect_free_dir {folder}: no annotations; expected, beside an image, a .txt file of the same "
            "name with lines `class cx cy` (0 to 1)"
        )
    if problems:
        raise UserError.from_problems(f"defect_free_dir {folder} cannot be painted", problems)
    return jobs


def _check_total(before: int, annotations: int, options: JobOptions) -> None:
    """Raises UserError before so many jobs are made that neither the memory nor anyone's patience holds them."""
    each = options.n_samples * options.n_iter
    if before + each * (min(annotations, 1) if options.together else annotations) > MOST_JOBS:
        raise UserError(
            f"n_samples, n_iter: got {options.n_samples} and {options.n_iter}, which with the annotations ask "
            f"for more than {MOST_JOBS} samples; ask for fewer, or share them among several folders"
        )


def _unreadable(path: Path, whole: bool) -> str | None:
    """What is wrong with an image file: from its header only or, with `whole`, from decoding it too."""
    problem = images.verify_image(path)
    return images.check_pixels(path) if whole and not problem else problem


def _same_stems(paths: Sequence[Path]) -> list[str]:
    stems: dict[str, list[str]] = {}
    for path in paths:
        stems.setdefault(path.stem, []).append(path.name)
    return [
        f"{' and '.join(names)}: the same name with different suffixes; their outputs would collide, rename one"
        for names in stems.values()
        if len(names) > 1
    ]


def _colliding_names(jobs: Sequence[Job]) -> list[str]:
    """Images of different stems whose annotations would write the same files, including on case-insensitive file
    systems."""
    owners: dict[str, Path] = {}
    clashes = {
        (owners[job.base.casefold()].name, job.image.name, job.base)
        for job in jobs
        if owners.setdefault(job.base.casefold(), job.image).stem != job.image.stem
    }
    return [f"{a} and {b}: both would write {base}_*.png; rename one" for a, b, base in sorted(clashes)]


def _long_names(jobs: Sequence[Job]) -> list[str]:
    """Images and classes whose names together are too long for the file system."""
    found = {(job.image.name, job.base): len(os.fsencode(job.base)) for job in jobs}
    return [
        f"{picture}: its samples would be named {base[:40]}..., {length} bytes; expected at most {LONGEST}: shorten "
        "the image's or the class's name"
        for (picture, base), length in found.items()
        if length > LONGEST
    ]


def _orphan_labels(texts: Mapping[str, Path], paths: Sequence[Path]) -> list[str]:
    """Annotation files without an image, except classes.txt, which labeling tools write."""
    stems = {path.stem for path in paths} | {"classes"}
    return [
        f"{text}: annotations without an image of the same name"
        for stem, text in texts.items()
        if stem not in stems
    ]


# One image


def plan_image(
    path: Path,
    size: Size,
    annotations: Sequence[labels.Annotation],
    geometry: Geometry,
    options: JobOptions,
) -> tuple[list[Job], list[tuple[int, str]]]:
    """The jobs of one image of output `size`, and (line, problem) of each annotation that cannot be painted."""
    placed: list[tuple[labels.Annotation, Context]] = []
    problems: list[tuple[int, str]] = []
    for annotation in annotations:
        try:
            context = place(annotation, size, geometry)
            if options.boxes and annotation.w is None:
                raise UserError(
                    "no width and height, which label_box: annotation, condition: surroundings and exemplars "
                    "need; add them"
                )
        except UserError as error:
            problems.append((annotation.line, str(error)))
            continue
        placed.append((annotation, context))
    if options.together:
        turns = joint_turns([context for _, context in placed], size, geometry, options.whole_contexts)
        defects = tuple(
            Defect(annotation, pixel_center(annotation, size), window, native_box(annotation, size))
            for (annotation, _), window in zip(placed, _windows(turns, geometry), strict=True)
        )
        samples = [(defects, turns, f"{path.stem}_all")] if defects else []
    else:
        samples = _singles(path.stem, placed, size, geometry)
    jobs = [
        Job(path, defects, turns, base, iteration * options.n_samples + k)
        for iteration in range(options.n_iter)
        for defects, turns, base in samples
        for k in range(options.n_samples)
    ]
    return jobs, problems


def _singles(
    stem: str, placed: Sequence[tuple[labels.Annotation, Context]], size: Size, geometry: Geometry
) -> list[tuple[tuple[Defect, ...], tuple[tuple[Pass, ...], ...], str]]:
    """Defects, turns and base name of samples with one defect each."""
    samples: list[tuple[tuple[Defect, ...], tuple[tuple[Pass, ...], ...], str]] = []
    taken: Counter[str] = Counter()
    for annotation, context in placed:
        x, y = pixel_center(annotation, size)
        base = f"{stem}_{safe_name(annotation.class_name)}_cx{x}_cy{y}"
        taken[base] += 1
        if taken[base] > 1:
            base = f"{base}-{taken[base]}"
        turns = ((Pass(context, (0,)),),)
        (window,) = _windows(turns, geometry)
        defect = Defect(annotation, (x, y), window, native_box(annotation, size))
        samples.append(((defect,), turns, base))
    return samples


def _windows(turns: Sequence[Sequence[Pass]], geometry: Geometry) -> list[Window]:
    """The window of every defect, in the order of defects."""
    found = {
        number: native_window(one.context, corner, geometry.crop_size)
        for turn in turns
        for one in turn
        for number, corner in zip(one.defects, one.context.windows, strict=True)
    }
    return [found[number] for number in sorted(found)]


def output_size(path: Path, geometry: Geometry) -> Size:
    """Width and height of the output image: the model's size when squashed, else the file's."""
    if geometry.resize == "squash":
        return geometry.image_size, geometry.image_size
    return images.image_size(path)


def plan_groups(jobs: Sequence[Job], batch_size: int, largest: int = 4) -> list[list[Job]]:
    """Consecutive jobs that are painted together and resumed as a whole, planned from all jobs, done or not, so
    that a resumed or shared run computes the same batches.

    A group ends when its contexts fill whole batches, or `largest` of them.
    """
    groups: list[list[Job]] = [[]]
    contexts = 0
    for job in jobs:
        groups[-1].append(job)
        contexts += len(job.passes)
        if contexts % batch_size == 0 or contexts >= largest * batch_size:
            groups.append([])
            contexts = 0
    return [group for group in groups if group]


def my_share(groups: list[list[Job]]) -> list[list[Job]]:
    """Under torchrun every process paints every n-th group; alone, all of them."""
    return groups[rank() :: world_size()]


def nothing_to_paint(total: int, missing: int) -> str:
    """What a process says that has no group to paint, of a run of `total` samples, of which `missing` are not there."""
    if missing:
        return (
            f"process {rank()} of {world_size()} has nothing to paint: the {missing} samples that are missing belong "
            "to other processes' batches"
        )
    return f"nothing to paint: the {total} samples are all there; overwrite=true repaints them"


def make_groups(
    jobs: Sequence[Job], batch_size: int, wanted: Callable[[Job], bool], shared: bool = True
) -> list[list[Job]]:
    """The groups that hold a `wanted` sample, each whole; `shared`: this process's.

    Shared out first: what is missing changes while the other processes paint.
    """
    groups = plan_groups(jobs, batch_size)
    return [group for group in (my_share(groups) if shared else groups) if any(map(wanted, group))]


# Batches


@dataclass(frozen=True)
class BatchItem:
    """One context of a batch: windows of one pass of a job, at one attempt."""

    job: int  # place in the group
    number: int  # of the pass in the job
    context: Context
    defects: tuple[int, ...]
    attempt: int = 0


def turn_items(group: Sequence[Job], turn: int) -> list[BatchItem]:
    """The passes of all jobs of a group in one turn."""
    items = []
    for n, job in enumerate(group):
        if turn < len(job.turns):
            first = sum(len(earlier) for earlier in job.turns[:turn])
            items += [
                BatchItem(n, first + k, one.context, one.defects) for k, one in enumerate(job.turns[turn])
            ]
    return items


def retry(item: BatchItem, windows: Sequence[int]) -> BatchItem:
    """Some windows of an item at the next attempt."""
    context = replace(item.context, windows=tuple(item.context.windows[k] for k in windows))
    defects = tuple(item.defects[k] for k in windows)
    return replace(item, context=context, defects=defects, attempt=item.attempt + 1)


def item_seed(seed: int, job: Job, item: BatchItem) -> int:
    """Noise depends on the run's seed, image, annotation and sample index, and on pass and attempt beyond the
    first; not on what else is in the batch."""
    identity = [job.image.name, job.base, job.index]
    if item.number or item.attempt:
        identity += [item.number, item.attempt]
    return sample_seed(seed, *identity)


def candidates(item: BatchItem, count: int) -> list[BatchItem]:
    """The same windows with `count` different noises; the only one of the first attempt has the noise of `item`."""
    return [replace(item, attempt=item.attempt * count + k) for k in range(count)]
