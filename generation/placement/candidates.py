"""Places for defects: candidates on a grid of clean images, ranked, and drawn from the best of them.

A function passed in scores how well a window suits a class. The places drawn keep their distance from each other and
are spread evenly over the images.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from generation.geometry import Geometry, Size, Window, native_window, place
from generation.placement.request import PlacementRequest
from utils import images, labels
from utils.errors import UserError
from utils.schema.places import PlanConfig
from utils.seeds import sample_seed

log = logging.getLogger(__name__)

# Windows (B, s, s, 3) uint8 and a class id -> (B,), higher is better
Score = Callable[[np.ndarray, int], np.ndarray]

SPARE = 5  # candidates kept per requested place: spacing rules some out
MAX_CANDIDATES = 4000  # per class and image
BATCH = 64  # windows scored together


@dataclass(frozen=True)
class Candidate:
    """A possible place: the image's number, the class, center and box in px of the output image.

    `model` is the number of the training defect whose surroundings it was found by, and `turn` how many better places
    of the same one there are: places of earlier turns are taken first, so that all of them come in. One that `is_poor`
    is taken only where no other is left.
    """

    picture: int
    class_name: str
    class_id: int
    x: int
    y: int
    w: int
    h: int
    score: float = 0.0
    model: int = 0
    turn: int = 0
    is_poor: bool = False

    @property
    def order(self) -> tuple[bool, int]:
        """The lower, the earlier it is taken."""
        return self.is_poor, self.turn

    def annotation(self, size: Size) -> labels.Annotation:
        """The place as an annotation of an image of `size`; the center is the middle of pixel (x, y)."""
        x, y = self.x + 0.5, self.y + 0.5
        box = (x - self.w / 2, y - self.h / 2, x + self.w / 2, y + self.h / 2)
        return labels.Annotation(self.class_id, self.class_name, *labels.relative_box(box, *size))


@dataclass(frozen=True)
class Picture:
    """A clean image as it will be painted, (H, W, 3) uint8, and the file's width and height."""

    number: int
    path: Path
    pixels: np.ndarray
    native: Size

    @property
    def size(self) -> Size:
        """Width and height of the output image."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Wanted:
    """How many defects of a class are requested; the name is the class file's."""

    class_name: str
    class_id: int
    count: int


# Class id and image -> (H, W) bool in px of the output image, None: everywhere
Allowed = Callable[[int, Picture], np.ndarray | None]


def random_stream(seed: int, *identity: object) -> np.random.Generator:
    """Random numbers of a plan that depend on the run's seed and on what they are for."""
    return np.random.default_rng(sample_seed(seed, "plan", *identity))


# Candidates


def survey(
    request: PlacementRequest, wanted: Sequence[Wanted], allowed: Allowed, score: Score
) -> tuple[dict[str, list[Candidate]], dict[str, dict[str, int]]]:
    """The candidates that places are drawn from, by class, and how many were possible, scored and kept.

    Every image is decoded once. So many are scored that the best `plan.keep` of them hold SPARE for each requested
    place, at most MAX_CANDIDATES per class and image; the best are taken over all images together.
    """
    pictures, plan, geometry = request.pictures, request.plan, request.geometry
    ranked = plan.rank == "score"
    share = plan.keep if ranked else 1.0
    pools: dict[str, list[Candidate]] = {one.class_name: [] for one in wanted}
    counts = {one.class_name: dict.fromkeys(("possible", "looked_at", "kept"), 0) for one in wanted}
    for picture in _large_enough(pictures, plan, geometry):
        for one in wanted:
            stream = random_stream(request.seed, picture.path.name, one.class_name)
            grid = grid_centers(picture.size, plan.stride, allowed(one.class_id, picture), stream)
            enough = math.ceil(SPARE * one.count / (share * len(pictures))) if ranked else MAX_CANDIDATES
            limit = min(enough, MAX_CANDIDATES)
            found = candidates(picture, one, grid, request, limit, stream)
            pools[one.class_name] += scored(found, picture, geometry, score) if ranked else found
            counts[one.class_name]["possible"] += len(grid)
            counts[one.class_name]["looked_at"] += len(found)
    for name, pool in pools.items():
        pools[name] = best(pool, share)
        counts[name]["kept"] = len(pools[name])
    return pools, counts


def _large_enough(paths: Sequence[Path], plan: PlanConfig, geometry: Geometry) -> Iterator[Picture]:
    """The images one by one, but for those too small for a context, which a warning names; UserError if all are."""
    problems = []
    for number, path in enumerate(paths):
        picture = load_clean_image(number, path, geometry)
        if problem := _too_small(picture, plan, geometry):
            problems.append(problem)
        else:
            yield picture
    tell_of_small_images(problems, len(paths))


def _too_small(picture: Picture, plan: PlanConfig, geometry: Geometry) -> str | None:
    """Why an image cannot hold the context of the largest box that the plan may draw; None if it can."""
    largest = max(plan.size[1], *(side for sizes in plan.sizes.values() for box in sizes for side in box), 0)
    problem = misfit((largest, largest), picture, geometry)
    return f"plan.size: {problem}" if problem else None


def misfit(box: Size, picture: Picture, geometry: Geometry) -> str | None:
    """Why the context around a box (width, height) in px does not fit into an image; None if it does."""
    width, height = picture.size
    try:
        window_of(Candidate(picture.number, "", 0, width // 2, height // 2, *box), picture.size, geometry)
    except UserError as error:
        return f"a box of {box[0]}x{box[1]} px on {picture.path}: {error}"
    return None


def tell_of_small_images(problems: Sequence[str], count: int) -> None:
    """Warn of the images that are too small for a context, a sentence each; UserError if all `count` are."""
    if problems and len(problems) == count:
        raise UserError.from_problems("plan: no image is large enough", [*problems])
    for problem in problems:
        log.warning("plan: %s; it gets no defect", problem)


def load_clean_image(number: int, path: Path, geometry: Geometry) -> Picture:
    """Decode an image, squashed if it will be painted so. Raises UserError."""
    pixels = images.load_rgb(path)
    native = pixels.shape[1], pixels.shape[0]
    if geometry.resize == "squash":
        pixels = images.resize_squash(pixels, geometry.image_size)
    return Picture(number, path, pixels, native)


def grid_centers(
    size: Size, stride: int, allowed: np.ndarray | None, stream: np.random.Generator
) -> np.ndarray:
    """A random point (x, y) of every cell of `stride` px, in random order: (N, 2) int.

    `size` is (width, height); points where `allowed` (H, W) is False are left out.
    """
    columns, rows = (np.arange(0, side, stride) for side in size)
    cells = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    points = np.minimum(cells + stream.integers(0, stride, cells.shape), np.array(size) - 1)
    if allowed is not None:
        points = points[allowed[points[:, 1], points[:, 0]]]
    return stream.permutation(points)


def candidates(
    picture: Picture,
    wanted: Wanted,
    points: np.ndarray,
    request: PlacementRequest,
    limit: int,
    stream: np.random.Generator,
) -> list[Candidate]:
    """The first `limit` of the points (N, 2), each with a box, that lie well inside the image.

    The box keeps `plan.edge_margin` from the edge. The window lies inside as a whole: the networks center it on
    the defect. Raises UserError where the context around a box is larger than the image.
    """
    plan, geometry = request.plan, request.geometry
    sides = drawn_sizes(len(points), wanted.class_name, plan, stream)
    found = []
    for (x, y), (w, h) in zip(points.tolist(), sides.tolist(), strict=True):
        candidate = Candidate(picture.number, wanted.class_name, wanted.class_id, x, y, w, h)
        try:
            side = window_of(candidate, picture.size, geometry)[2]
        except UserError as error:
            raise UserError(f"plan.size: a box of {w}x{h} px on {picture.path}: {error}") from error
        clear = [max(side / 2, plan.edge_margin + box / 2) for box in (w, h)]
        middle = x + 0.5, y + 0.5
        if all(c <= m <= n - c for c, m, n in zip(clear, middle, picture.size, strict=True)):
            found.append(candidate)
        if len(found) == limit:
            break
    return found


def drawn_sizes(count: int, class_name: str, plan: PlanConfig, stream: np.random.Generator) -> np.ndarray:
    """Widths and heights of boxes, (count, 2) int: of `plan.sizes` where they hold the class, else of `plan.size`."""
    known = {labels.normalize_class_name(name): sizes for name, sizes in plan.sizes.items()}
    if sizes := known.get(labels.normalize_class_name(class_name)):
        return np.array(sizes)[stream.integers(0, len(sizes), count)]
    low, high = plan.size
    sides = np.exp(stream.uniform(math.log(low - 0.5), math.log(high + 0.5), (count, 2)))  # log-uniform
    return np.clip(np.rint(sides), low, high).astype(int)


def window_of(candidate: Candidate, size: Size, geometry: Geometry) -> Window:
    """The defect window around a candidate: (left, top, side) in px of the output image."""
    context = place(candidate.annotation(size), size, geometry)
    return native_window(context, context.windows[0], geometry.crop_size)


def scored(found: Sequence[Candidate], picture: Picture, geometry: Geometry, score: Score) -> list[Candidate]:
    """The candidates with their scores; BATCH windows at a time, resampled to the prior's size."""
    result = []
    for start in range(0, len(found), BATCH):
        batch = found[start : start + BATCH]
        windows = []
        for left, top, side in (window_of(one, picture.size, geometry) for one in batch):
            window = picture.pixels[top : top + side, left : left + side]
            windows.append(images.resize_squash(window, geometry.crop_size))
        values = np.asarray(score(np.stack(windows), batch[0].class_id))
        assert values.shape == (len(batch),), values.shape
        if not np.isfinite(values).all():
            raise UserError(
                f"{picture.path}: the networks' output is not finite; check the weights, or use precision=fp32"
            )
        result += [replace(one, score=float(value)) for one, value in zip(batch, values, strict=True)]
    return result


def best(pool: Sequence[Candidate], share: float) -> list[Candidate]:
    """The best `share` of the candidates, at least one, best first; equals keep their order."""
    ranking = sorted(pool, key=lambda one: -one.score)
    return ranking[: math.ceil(share * len(ranking))]


# The choice


def choose(
    pools: Mapping[str, Sequence[Candidate]],
    wanted: Sequence[Wanted],
    spacing: float,
    per_image: int | None,
    stream: np.random.Generator,
) -> list[Candidate]:
    """Draw places from the pools (class -> candidates): at most `per_image` on an image, `spacing` px apart.

    In turn, the class that has the fewest places gets one: not a poor one where it can be, on the image that has the
    fewest of that class, then of the earliest turn, then on the image that has the fewest of all. Ends when all counts
    are met or nothing fits any more.
    """
    queues = {one.class_name: _queues(pools[one.class_name], stream) for one in wanted}
    requested = {one.class_name: one.count for one in wanted}
    numbers = sorted({number for of_class in queues.values() for number in of_class})
    luck = dict(zip(numbers, stream.permutation(len(numbers)).tolist(), strict=True))
    chosen: list[Candidate] = []
    met: Counter[str] = Counter()
    taken: dict[int, list[Candidate]] = {number: [] for number in numbers}

    def wait(name: str, number: int) -> tuple[bool, int, int, int, int]:
        first = queues[name][number][0]
        same = sum(one.class_name == name for one in taken[number])
        return first.is_poor, same, first.turn, len(taken[number]), luck[number]

    while requested:
        name = min(requested, key=lambda name: met[name])
        rooms = [
            n for n, queue in queues[name].items() if queue and (not per_image or len(taken[n]) < per_image)
        ]
        if met[name] == requested[name] or not rooms:
            del requested[name]
            continue
        number = min(rooms, key=lambda number: wait(name, number))
        candidate = queues[name][number].popleft()
        if _apart(candidate, taken[number], spacing):
            taken[number].append(candidate)
            chosen.append(candidate)
            met[name] += 1
    return chosen


def _queues(pool: Sequence[Candidate], stream: np.random.Generator) -> dict[int, deque[Candidate]]:
    """The candidates of each image by turns, those of a turn in random order."""
    queues: dict[int, deque[Candidate]] = {}
    mixed = [pool[index] for index in stream.permutation(len(pool)).tolist()]
    for one in sorted(mixed, key=lambda one: one.order):
        queues.setdefault(one.picture, deque()).append(one)
    return queues


def _apart(candidate: Candidate, others: Sequence[Candidate], spacing: float) -> bool:
    return all(math.hypot(candidate.x - one.x, candidate.y - one.y) >= spacing for one in others)
