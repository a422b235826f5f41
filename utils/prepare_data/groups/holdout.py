"""Which groups are held out of training."""

import math
from collections.abc import Sequence

import numpy as np

from utils.errors import UserError
from utils.prepare_data.sources import Survey, shorten

SPLIT_TRIALS = 200


def choose_groups(survey: Survey, requested: Sequence[str] | None, share: float, seed: int) -> set[str]:
    """The groups that are held out of training: those `requested`, else groups with about `share` of the defects.

    Of 200 random choices it takes the one with the fewest classes missing in either part (rather in the test
    part), then the one nearest to `share`, a fraction. Groups of only clean images are held out in the same
    ratio. Raises UserError for unknown groups, or if nothing would be left to train on.
    """
    groups = sorted({image.group for image in survey.images})
    if requested is not None:
        held = {survey.joined.get(group, group) for group in requested}
        unknown = sorted(held - set(groups))
        if unknown:
            raise UserError(
                f"--holdout {' '.join(unknown)}: no such group; the groups are {shorten(groups, 40)}"
            )
    else:
        with_defects = sorted({image.group for image in survey.defective})
        rng = np.random.default_rng([seed, 0])
        held = _draw_groups(survey, with_defects, share, rng)
        clean_only = sorted(set(groups) - set(with_defects))
        count = math.floor(share * len(clean_only))
        held |= {clean_only[i] for i in rng.permutation(len(clean_only))[:count]}
    if not any(image.group not in held for image in survey.defective):
        raise UserError(
            f"no image with defects is left to train on: {shorten(sorted(held))} would be held out; "
            "hold out less"
        )
    return held


def _draw_groups(survey: Survey, groups: list[str], share: float, rng: np.random.Generator) -> set[str]:
    """Random groups with about a fraction `share` of the defects; none if there is only one group."""
    if share <= 0 or len(groups) < 2:
        return set()
    rows = {group: index for index, group in enumerate(groups)}
    columns = {name: index for index, name in enumerate(survey.classes)}
    counts = np.zeros((len(groups), len(columns)))
    for image in survey.defective:
        for box in image.boxes:
            counts[rows[image.group], columns[box.class_name]] += 1
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
    assert best is not None  # there are at least two groups
    return {groups[index] for index in best[1]}
