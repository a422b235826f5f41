"""Candidates whose surroundings look like those of a real defect of the class: training defects are the queries."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from generation.geometry import Geometry
from generation.placement.candidates import (
    Allowed,
    Candidate,
    Picture,
    Wanted,
    load_clean_image,
    misfit,
    random_stream,
    tell_of_small_images,
)
from generation.placement.ground import COST, other_ground
from generation.placement.matching import (
    Surround,
    Template,
    at_edges,
    likeness,
    make_template,
    peaks,
    reduced,
    to_planes,
)
from generation.placement.request import PlacementRequest
from generation.training_defects import Query, allowed_turns, read_patches
from utils.errors import UserError
from utils.schema.places import PlanConfig

COARSE, FINE = 6, 2  # px of a patch per px
WORK = 16e6  # places compared coarsely per class, in px, on all pictures together
FEWEST, MOST = 4, 64  # turned defects of a class looked for on one image
LOOKS = 400  # of a class on all images together, where that is more than FEWEST on each
IMAGES = 60  # searched; of more, these are drawn
PEAKS = 3  # places kept of each look
SPARE = 4  # candidates kept per requested place, where there are so many
POOR = 0.75  # likeness below which a place is taken only where no other is left


@dataclass(frozen=True)
class TurnedQuery:
    """A query, turned."""

    query: Query
    quarters: int
    mirrored: bool

    @cached_property
    def surround(self) -> Surround:
        return self.query.surround.turned(self.quarters, self.mirrored)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the box in native px."""
        width, height = self.query.box
        return (width, height) if self.quarters % 2 == 0 else (height, width)

    @property
    def is_upright(self) -> bool:
        """Whether it looks as it does on its photograph."""
        return self.quarters == 0 and not self.mirrored


def read_queries(folder: Path, classes: Mapping[str, int]) -> list[Query]:
    """The training defects of a folder that `utils.prepare_data` wrote. Raises UserError if it has none."""
    return [query for query, _ in read_patches(folder, classes, "plan.queries")]


def survey_surroundings(
    request: PlacementRequest, wanted: Sequence[Wanted], allowed: Allowed
) -> tuple[dict[str, list[Candidate]], dict[str, dict[str, int]]]:
    """As `candidates.survey`, with the boxes of `plan.queries`; every image is decoded once. Raises UserError."""
    plan, geometry = request.plan, request.geometry
    if geometry.resize == "squash":
        raise UserError("plan.rank: got surroundings with resize: squash, expected resize: native")
    assert plan.queries is not None  # as the schema sees to
    queries = read_queries(Path(plan.queries), request.classes)
    _check_classes(wanted, queries, plan)
    queries = [query for query in queries if query.class_id in {one.class_id for one in wanted}]
    pools: dict[str, list[Candidate]] = {one.class_name: [] for one in wanted}
    counts = {one.class_name: dict.fromkeys(("possible", "looked_at", "kept"), 0) for one in wanted}
    problems: list[str] = []
    numbers = random_stream(request.seed, "images").permutation(len(request.pictures))[:IMAGES]
    for number in tqdm(sorted(numbers.tolist()), desc="looking for places", disable=None):
        path = request.pictures[number]
        picture = load_clean_image(number, path, geometry)
        shrunk, problem = Pyramid(picture.pixels), too_small(picture, queries, geometry)
        problems += [problem] if problem else []
        for one in wanted:
            own = [query for query in queries if query.class_id == one.class_id]
            own = [query for query in own if not misfit(query.box, picture, geometry)]
            if not own:
                continue
            stream = random_stream(request.seed, path.name, one.class_name)
            looks = draw_looks(own, plan, picture, len(numbers), stream)
            every = list(matches(shrunk, looks, picture, one))
            mask = allowed(one.class_id, picture)
            found = [
                on_ground(place, look, picture)
                for place, look in every
                if acceptable(place, look, picture, plan, mask)
            ]
            pools[one.class_name] += found
            counts[one.class_name]["possible"] += len(every)
            counts[one.class_name]["looked_at"] += len(found)
    tell_of_small_images(problems, len(numbers))
    for one in wanted:
        pool = in_turns(pools[one.class_name], plan.spacing)
        enough = max(math.ceil(plan.keep * len(pool)), SPARE * one.count)
        pools[one.class_name] = pool[:enough]
        counts[one.class_name]["kept"] = len(pools[one.class_name])
    return pools, counts


def too_small(picture: Picture, queries: Sequence[Query], geometry: Geometry) -> str | None:
    """Why an image cannot hold the context of the smallest query; None if it can."""
    problem = misfit(min((query.box for query in queries), key=max), picture, geometry)
    return f"plan.queries: {problem}" if problem else None


def in_turns(pool: Sequence[Candidate], spacing: float) -> list[Candidate]:
    """The candidates turn by turn: the best place of every training defect, then the second best ones, and so on.

    So their boxes are as large as those of the training defects: small ones find their like more easily. Places less
    than POOR alike come last. Those of one defect keep `spacing` px from each other.
    """
    of_model: dict[int, list[Candidate]] = {}
    for one in pool:
        of_model.setdefault(one.model, []).append(one)
    placed = [
        replace(one, turn=turn) for own in of_model.values() for turn, one in enumerate(thinned(own, spacing))
    ]
    placed = [replace(one, is_poor=one.score < POOR) for one in placed]
    return sorted(placed, key=lambda one: (*one.order, -one.score))


def thinned(pool: Sequence[Candidate], spacing: float) -> list[Candidate]:
    """The candidates, best first, without those nearer than `spacing` to a better one."""
    kept: dict[int, list[Candidate]] = {}
    for one in sorted(pool, key=lambda one: -one.score):
        others = kept.setdefault(one.picture, [])
        if all(math.hypot(one.x - other.x, one.y - other.y) >= spacing for other in others):
            others.append(one)
    return sorted((one for of_picture in kept.values() for one in of_picture), key=lambda one: -one.score)


def _check_classes(wanted: Sequence[Wanted], queries: Sequence[Query], plan: PlanConfig) -> None:
    known = {query.class_id for query in queries}
    if missing := [one.class_name for one in wanted if one.class_id not in known]:
        raise UserError(
            f"plan.counts: {', '.join(missing)}: no defect of it in plan.queries {plan.queries}; leave it out, or set "
            "rank: uniform"
        )


def draw_looks(
    queries: Sequence[Query], plan: PlanConfig, picture: Picture, pictures: int, stream: np.random.Generator
) -> list[TurnedQuery]:
    """Which queries are looked for on an image, and how turned: every query once before any is there twice."""
    turns = allowed_turns(plan.rotate90, plan.flip)
    scale = float(np.median([query.surround.scale for query in queries]))
    places = picture.pixels.shape[0] * picture.pixels.shape[1] / (COARSE * scale) ** 2
    affordable = min(round(WORK / (places * pictures)), round(LOOKS / pictures))
    count = min(max(affordable, FEWEST), MOST, len(queries) * len(turns))
    order = stream.permutation(len(queries))
    ways = [stream.permutation(len(turns)) for _ in queries]
    all_looks = (TurnedQuery(queries[i], *turns[ways[i][k]]) for k in range(len(turns)) for i in order)
    return [look for look, _ in zip(all_looks, range(count), strict=False)]


class Pyramid:
    """An image at several reductions, each made when first asked for."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.levels: dict[float, np.ndarray] = {}

    def __call__(self, step: float) -> np.ndarray:
        """(H, W, 3) uint8 with `step` native px per px."""
        if step not in self.levels:
            self.levels[step] = reduced(self.pixels, step)
        return self.levels[step]


def common_scale(scale: float) -> float:
    """A power of sqrt(2) near `scale`, so that few reductions of an image do for all queries."""
    return 2 ** (round(2 * math.log2(scale)) / 2)


def matches(
    shrunk: Pyramid, looks: Sequence[TurnedQuery], picture: Picture, wanted: Wanted
) -> Iterator[tuple[Candidate, TurnedQuery]]:
    """The best places of each look on an image."""
    groups: dict[float, list[TurnedQuery]] = {}
    for look in looks:
        groups.setdefault(common_scale(look.query.surround.scale), []).append(look)
    for scale, members in groups.items():
        coarse = [make_template(look.surround, COARSE * scale) for look in members]
        maps = likeness(to_planes(shrunk(COARSE * scale)), coarse)
        for look, template, alike in zip(members, coarse, maps, strict=True):
            if not alike.numel():
                continue
            apart = max(1, min(template.weights.shape) // 2)
            fine = make_template(look.surround, FINE * scale)
            for corner in peaks(at_edges(alike, template.at_edge), apart, PEAKS):
                x, y, score = refined(shrunk(FINE * scale), fine, corner)
                middle = snapped((x * FINE * scale, y * FINE * scale), look, picture)
                yield _candidate(middle, score, look, picture, wanted), look


def refined(pixels: np.ndarray, template: Template, corner: tuple[int, int]) -> tuple[float, float, float]:
    """(x, y) of the box's center in px of the fine picture, and the likeness there, near a coarse `corner`."""
    ratio = COARSE // FINE
    height, width = template.weights.shape
    starts = []
    for coarse, length, limit in zip(
        corner, (width, height), (pixels.shape[1], pixels.shape[0]), strict=True
    ):
        start = min(max((coarse - 1) * ratio, 0), max(limit - length, 0))
        starts.append((start, min(start + length + 2 * ratio, limit)))
    (x0, x1), (y0, y1) = starts
    (alike,) = likeness(to_planes(pixels[y0:y1, x0:x1]), [template])
    alike = at_edges(alike, template.at_edge, slack=2 * ratio) if alike.numel() else alike
    if not alike.numel():
        return 0.0, 0.0, -math.inf
    index = int(alike.argmax())
    x, y = index % alike.shape[1], index // alike.shape[1]
    return x0 + x + template.center[0], y0 + y + template.center[1], float(alike[y, x])


def snapped(middle: tuple[float, float], look: TurnedQuery, picture: Picture) -> tuple[float, float]:
    """The center of a box, moved to the image's edge on the sides on which that of the look lies there."""
    edges, found = look.surround.edges, []
    for k in (0, 1):
        reach = look.size[k] / 2
        at = reach if edges[k] else picture.size[k] - reach if edges[k + 2] else middle[k]
        found.append(at if edges[k] != edges[k + 2] else middle[k])
    return found[0], found[1]


def _candidate(
    middle: tuple[float, float], score: float, look: TurnedQuery, picture: Picture, wanted: Wanted
) -> Candidate:
    x, y = (min(max(math.floor(v), 0), side - 1) for v, side in zip(middle, picture.size, strict=True))
    place = picture.number, wanted.class_name, wanted.class_id, x, y, *look.size
    return Candidate(*place, score, look.query.number)


def on_ground(one: Candidate, look: TurnedQuery, picture: Picture) -> Candidate:
    """The candidate with a score that is lower where the ground under the defect is another."""
    share = other_ground(look.surround, picture.pixels, (one.x + 0.5, one.y + 0.5))
    return replace(one, score=one.score - COST * share)


def acceptable(
    one: Candidate, look: TurnedQuery, picture: Picture, plan: PlanConfig, allowed: np.ndarray | None
) -> bool:
    """Whether the box lies inside, off the edge as wished, where it may, and not where the query itself is."""
    if not math.isfinite(one.score) or (allowed is not None and not allowed[one.y, one.x]):
        return False
    middle, halves = (one.x + 0.5, one.y + 0.5), (one.w / 2, one.h / 2)
    inside = all(
        plan.edge_margin - 1 <= m - half and m + half <= side - plan.edge_margin + 1
        for m, half, side in zip(middle, halves, picture.size, strict=True)
    )
    itself = look.is_upright and all(
        abs(m - c) < half for m, c, half in zip(middle, look.query.center, halves, strict=True)
    )
    return inside and not itself
