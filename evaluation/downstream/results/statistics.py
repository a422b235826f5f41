"""Paired differences with confidence intervals, and what real data the synthetic are worth."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEAST_GAIN = 0.01  # one point; nothing below is called a gain

Values = Mapping[tuple[str, str], float]  # (split, seed) -> metric


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and its confidence interval (nan for a single pair).

    `pairs`: what the interval counts, the splits where there are several (`splits`), else the seeds.
    """

    mean: float
    low: float
    high: float
    pairs: int
    splits: int = 1

    @property
    def verdict(self) -> str:
        """gain: at least a point, and the interval lies above 0; loss: alike below; else open."""
        if self.mean >= LEAST_GAIN and self.low > 0:
            return "gain"
        if self.mean <= -LEAST_GAIN and self.high < 0:
            return "loss"
        return "open"


def paired_difference(one: Values, other: Values) -> Difference | None:
    """`one` minus `other` over the keys that both have; None where there are none.

    Seeds of one split share its data and its painter: with several splits, the mean over the seeds of each is one
    value. With one split, the seeds are the values, and the interval covers the noise of the detector's training alone.
    The interval is Student's, for few values: mean +- t(n - 1) s / sqrt(n).
    """
    by_split: dict[str, list[float]] = defaultdict(list)
    for split, seed in sorted(one.keys() & other.keys()):
        by_split[split].append(one[split, seed] - other[split, seed])
    if not by_split:
        return None
    seeds = list(by_split.values())
    values = np.array(seeds[0] if len(seeds) == 1 else [np.mean(of_split) for of_split in seeds])
    mean = float(values.mean())
    reach = float("nan")
    if len(values) > 1:
        scale = values.std(ddof=1) / np.sqrt(len(values))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * scale)
    return Difference(mean, mean - reach, mean + reach, len(values), len(seeds))


def worth(curve: Mapping[int, float], value: float) -> str:
    """How many real defects alone reach `value`: 'about 70' by linear interpolation of `curve` (number -> metric),
    '< 20' or '> 120' beyond its ends, '' where it has fewer than two points."""
    points = sorted(curve.items())
    if len(points) < 2:
        return ""
    if value < points[0][1]:
        return f"< {points[0][0]}"
    for (n0, v0), (n1, v1) in zip(points, points[1:], strict=False):
        if v0 <= value <= v1:
            share = 1.0 if v1 == v0 else (value - v0) / (v1 - v0)
            return f"about {round(n0 + share * (n1 - n0))}"
    return f"> {points[-1][0]}"
