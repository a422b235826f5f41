"""Comparing variants of a conf: how they are written, and the numbers of their verdict."""

from pathlib import Path

import pytest

from evaluation.compare import box_offset, parse_variant, verdict
from evaluation.hits import Hit, Sample
from utils.errors import UserError


def test_variants_are_a_name_and_settings():
    variant = parse_variant("one step: g_scha.start=1  g_scha.end=1")
    assert (variant.name, variant.overrides) == ("one step", ["g_scha.start=1", "g_scha.end=1"])


@pytest.mark.parametrize("text", ["", "name", "name:", ": a=1", "name: a=1 b"])
def test_other_forms_are_refused(text: str):
    with pytest.raises(UserError, match="expected 'name: key=value"):
        parse_variant(text)


def defect(box: list[int] | None, area: int) -> dict:
    scores = {"score": 0.5, "area": area, "contrast": 10.0 * area, "agreement": 0.9, "outside": 0.25}
    return {"box": box, "centre": [50, 40], "scores": scores}


def test_verdict_of_known_samples():
    samples = [Sample(Path("x.png"), 0, "b", "short", 50, 40, 1, n) for n in range(4)]
    hits = [Hit(s, name, 0.5, None, None) for s, name in zip(samples, ["short"] * 3 + ["spur"], strict=True)]
    found = verdict(hits, [{"defects": [defect([48, 40, 58, 48], 4)]}, {"defects": [defect(None, 0)]}])
    assert (found.samples, found.right, found.area, found.contrast) == (4, 0.75, 2, 20)
    assert found.offset == 5.0  # from (50, 40) to (53, 44)
    assert found.error == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert box_offset(defect([40, 30, 60, 50], 1)) == 0
