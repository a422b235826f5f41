"""Paired differences with confidence intervals, and what real data the synthetic are worth."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEAST_GAIN = 0.01  # one point; nothing below is called a gain


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and its confidence interval (nan for a single pair)."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """gain: at least a point, and the interval lies above 0; loss: alike below; else open."""
        if self.mean >= LEAST_GAIN and self.low > 0:
            return "gain"
        if self.mean <= -LEAST_GAIN and self.high < 0:
            return "loss"
        return "open"


def paired_difference(one: Mapping[Hashable, float], other: Mapping[Hashable, float]) -> Difference | None:
    """`one` minus `other` over the keys that both have (split and seed); None where there are none.

    The interval is Student's, for few pairs: mean +- t(n - 1) s / sqrt(n).
    """
    keys = sorted(one.keys() & other.keys(), key=repr)
    if not keys:
        return None
    values = np.array([one[key] - other[key] for key in keys])
    mean = float(values.mean())
    if len(values) < 2:
        return Difference(mean, float("nan"), float("nan"), len(values))
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Difference(mean, mean - float(reach), mean + float(reach), len(values))


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
