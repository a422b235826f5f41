"""What is to be painted, planned before anything is loaded: one job per output picture."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils import images, labels
from utils.errors import UserError

Size = tuple[int, int]  # width, height in px


@dataclass(frozen=True)
class Context:
    """The square of a picture that the contextual model sees, and the defect window in it.

    `left`, `top`, `side` are native px of the picture (None: the whole picture, squashed); `window` is the
    defect window's corner (left, top) in model px; `scale` is native px per model px.
    """

    left: int | None
    top: int | None
    side: int | None
    window: tuple[int, int]
    scale: float


@dataclass(frozen=True)
class Job:
    """One sample: an annotation of a picture, painted with its own noise."""

    image: Path
    annotation: labels.Annotation
    centre: tuple[int, int]  # px of the output picture
    context: Context
    base: str  # name of the annotation's files, without sample index
    index: int  # sample index: round * n_samples + k

    @property
    def name(self) -> str:
        """File name of the sample, without suffix."""
        return f"{self.base}_{self.index}"


@dataclass(frozen=True)
class Geometry:
    """How pictures become model inputs: `resize` squash or native, `scale` a number or 'auto', sizes in px."""

    resize: str
    scale: float | str
    image_size: int
    crop_size: int


def centred_corner(x: int, y: int, size: int, width: int, height: int) -> tuple[int, int]:
    """Corner of the window of `size` px centred at (x, y), clamped to a picture of width x height."""
    half = size // 2
    return min(max(x - half, 0), width - size), min(max(y - half, 0), height - size)


def pixel_centre(annotation: labels.Annotation, size: Size) -> tuple[int, int]:
    """(floor(cx W), floor(cy H)), kept inside the picture."""
    width, height = size
    x, y = math.floor(annotation.cx * width), math.floor(annotation.cy * height)
    return min(x, width - 1), min(y, height - 1)


def place(annotation: labels.Annotation, size: Size, geometry: Geometry) -> Context:
    """The context and the window of an annotation on a picture of `size` (width, height).

    Raises UserError when the context does not fit into the picture.
    """
    big, small = geometry.image_size, geometry.crop_size
    if geometry.resize == "squash":
        x, y = pixel_centre(annotation, (big, big))
        return Context(None, None, None, centred_corner(x, y, small, big, big), 1.0)
    scale = annotation_scale(annotation, size, geometry)
    side = round(big * scale)
    if side > min(size):
        raise UserError(
            f"the picture is {size[0]}x{size[1]} px, but the context of annotation {annotation.line} needs "
            f"{side}x{side} px (image_size {big} at scale {scale:g}); use larger pictures, a smaller scale or "
            "resize: squash"
        )
    x, y = pixel_centre(annotation, size)
    left, top = centred_corner(x, y, side, *size)
    inner = math.floor((x - left) / scale), math.floor((y - top) / scale)
    return Context(left, top, side, centred_corner(*inner, small, big, big), scale)


def annotation_scale(annotation: labels.Annotation, size: Size, geometry: Geometry) -> float:
    """Native px per model px: the given number, or for 'auto' what lets the box fit the window well."""
    if geometry.scale != "auto":
        return float(geometry.scale)
    if annotation.w is None or annotation.h is None:
        return 1.0
    return labels.auto_scale(annotation.w * size[0], annotation.h * size[1], geometry.crop_size)


def safe_name(text: str) -> str:
    """`text` as part of a file name: everything but letters, digits, '-' and '_' becomes '-'."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text)


def plan_jobs(
    folder: str | Path, classes: Mapping[str, int], geometry: Geometry, n_samples: int, n_iter: int
) -> list[Job]:
    """One job per annotation and sample, in the order images, rounds, annotations, samples.

    Reads a folder of pictures with same-named YOLO .txt files (suffixes in any case; hidden files are left
    alone). Pictures with annotations are decoded whole, so that a file cut short is found now and not hours
    later. Every problem of the folder is collected into one UserError: unreadable pictures, bad lines, no
    annotations at all, two pictures with one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"defect_free_dir {folder}: no such folder; expected one with pictures and YOLO .txt files"
        )
    paths = [path for path in images.list_images(folder) if not path.name.startswith(".")]
    if not paths:
        raise UserError(f"defect_free_dir {folder}: no pictures in it; expected PNG, JPEG, BMP or TIFF files")
    texts = _label_files(folder)
    jobs, problems = [], _same_stems(paths)
    for path in paths:
        text = texts.get(path.stem)
        problem = _unreadable(path, whole=text is not None)
        if problem:
            problems.append(problem)
        if text is None:
            continue
        found, bad = labels.read_annotations_and_problems(text, classes)
        problems += bad
        if not problem:
            jobs += _jobs_of(path, text, found, geometry, n_samples, n_iter, problems)
    problems += _lonely_labels(texts, paths) + _colliding_names(jobs)
    if not problems and not jobs:
        problems.append(
            f"defect_free_dir {folder}: no annotations; expected, beside a picture, a .txt file of the same "
            "name with lines `class cx cy` (0 to 1)"
        )
    if problems:
        raise UserError.from_problems(f"defect_free_dir {folder} cannot be painted", problems)
    return jobs


def _label_files(folder: Path) -> dict[str, Path]:
    """Stem -> annotation file, suffix .txt in any case, the lower-case one first choice."""
    texts = (path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".txt" and path.is_file())
    return {path.stem: path for path in texts if not path.name.startswith(".")}


def _unreadable(path: Path, whole: bool) -> str | None:
    """What is wrong with a picture file, from its header or, with `whole`, from decoding it."""
    problem = images.verify_image(path)
    if problem or not whole:
        return problem
    try:
        images.load_rgb(path)
    except UserError as error:
        return str(error)
    return None


def _jobs_of(
    path: Path,
    text: Path,
    annotations: Sequence[labels.Annotation],
    geometry: Geometry,
    n_samples: int,
    n_iter: int,
    problems: list[str],
) -> list[Job]:
    """The jobs of one picture; annotations that do not fit are added to `problems`."""
    size = picture_size(path, geometry)
    placed, taken = [], Counter()
    for annotation in annotations:
        try:
            context = place(annotation, size, geometry)
        except UserError as error:
            problems.append(f"{text}: {error}")
            continue
        x, y = pixel_centre(annotation, size)
        base = f"{path.stem}_{safe_name(annotation.class_name)}_cx{x}_cy{y}"
        taken[base] += 1
        if taken[base] > 1:
            base = f"{base}-{taken[base]}"
        placed.append((annotation, (x, y), context, base))
    return [
        Job(path, annotation, centre, context, base, turn * n_samples + k)
        for turn in range(n_iter)
        for annotation, centre, context, base in placed
        for k in range(n_samples)
    ]


def picture_size(path: Path, geometry: Geometry) -> Size:
    """Width and height of the output picture: the model's size when squashed, else the file's."""
    if geometry.resize == "squash":
        return geometry.image_size, geometry.image_size
    return images.image_size(path)


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
    """Pictures of different stems whose annotations would write the same files, be it on a disk that ignores
    case."""
    owners: dict[str, Path] = {}
    clashes = {
        (owners[job.base.casefold()].name, job.image.name, job.base)
        for job in jobs
        if owners.setdefault(job.base.casefold(), job.image).stem != job.image.stem
    }
    return [f"{a} and {b}: both would write {base}_*.png; rename one" for a, b, base in sorted(clashes)]


def _lonely_labels(texts: Mapping[str, Path], paths: Sequence[Path]) -> list[str]:
    """Annotation files without a picture; classes.txt, which labelling tools write, is none."""
    stems = {path.stem for path in paths} | {"classes"}
    return [
        f"{text}: annotations without a picture of the same name"
        for stem, text in texts.items()
        if stem not in stems
    ]


def cut_context(picture: np.ndarray, context: Context, image_size: int) -> np.ndarray:
    """The context (image_size, image_size, 3) uint8 of a picture (H, W, 3) uint8, at model size."""
    if context.side is None:
        return images.resize_squash(picture, image_size)
    part = picture[context.top : context.top + context.side, context.left : context.left + context.side]
    return part if context.side == image_size else images.resize_squash(part, image_size)


def paste_context(
    picture: np.ndarray, before: np.ndarray, after: np.ndarray, context: Context, alpha: np.ndarray
) -> np.ndarray:
    """The picture with a painted context put back: (H, W, 3) uint8.

    `before` and `after` (S, S, 3) uint8 are the context as the model got it and as it was painted. At scale 1
    the painted pixels replace the picture's, at larger scales the change is resampled and added. `alpha`
    (S, S) in [0, 1] says how much of it is taken; where it is 0, pixels stay byte for byte.
    """
    if context.side is None:
        return _blend(before, after.astype(np.float32), alpha)
    rows = slice(context.top, context.top + context.side)
    columns = slice(context.left, context.left + context.side)
    native = picture[rows, columns]
    change = after.astype(np.float32) - before
    if context.side != len(before):
        size = (context.side, context.side)
        change = images.resize_float(change, size)
        alpha = images.resize_float(alpha[..., None], size)[..., 0]
    result = picture.copy()
    result[rows, columns] = _blend(native, native + change, alpha)
    return result


def _blend(old: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = np.clip(alpha, 0, 1)[..., None]
    mixed = old + weight * (new - old)
    return np.where(weight > 0, np.clip(np.rint(mixed), 0, 255), old).astype(np.uint8)


def native_window(context: Context, crop_size: int) -> tuple[int, int, int]:
    """The defect window in px of the output picture: left, top and side."""
    left, top = context.window
    if context.side is None:
        return left, top, crop_size
    s = context.scale
    side = min(round(crop_size * s), context.side)
    shift = context.side - side  # rounding must not push the window over the context's edge
    return context.left + min(round(left * s), shift), context.top + min(round(top * s), shift), side


def feathered_window(image_size: int, corner: tuple[int, int], size: int, feather: int) -> np.ndarray:
    """1 inside the window, falling to 0 at its edge over `feather` px, 0 outside: (S, S) float32."""
    distance = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    ramp = np.clip((distance - 0.5) / max(feather, 0.5), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    alpha = np.zeros((image_size, image_size), np.float32)
    left, top = corner
    alpha[top : top + size, left : left + size] = ramp[:, None] * ramp[None]
    return alpha
