"""Which groups are held out of training."""

import math
from collections.abc import Sequence

import numpy as np

from utils.errors import UserError
from utils.prepare_data.sources import Survey, shorten

SPLIT_TRIALS = 200


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
