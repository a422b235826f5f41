"""The numbers of a defect in words: what each is called, its unit, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """`label` and `unit` (with a space before it, if any) of a number, and a sentence on its `meaning`."""

    label: str
    unit: str
    meaning: str


BY_PRIOR = "0 to 1: agreement with the prior, less below a contrast of 16. Not how real the defect looks"
BY_JUDGE = "0 to 1: the judge's probability, lowered by every check below that is not passed"

NUMBERS = {
    "judge": Explanation(
        "judge's probability", "", "0 to 1: how sure the judge, trained on real defects, is of this class"
    ),
    "coverage": Explanation(
        "coverage", "", "fraction of the visible change inside the mask: full score from 0.95 on, none up to 0.5"
    ),
    "size_iou": Explanation(
        "size",
        "",
        "overlap (IoU) of painted and requested box, 1 is equal, but for the margin: full score from 0.6 on, none up "
        "to 0.1",
    ),
    "grain": Explanation(
        "grain",
        "",
        "fine texture of the defect as a ratio to that around it, 1 is equal: full score from 0.2, none up to 0.1",
    ),
    "tint": Explanation(
        "tint",
        " gray levels",
        "difference of the channels where a gray image was painted: full score up to 3, none from 12",
    ),
    "color": Explanation(
        "foreign color",
        " gray levels",
        "distance of the painted colors from those of the clean place and of the class's training defects, whatever "
        "the brightness: full score up to 3, none from 6",
    ),
    "spill": Explanation(
        "spill", "", "pixels changed away from the mask as a ratio to the mask's: full score up to 0.02, none from 0.5"
    ),
    "domain": Explanation(
        "domain",
        "",
        "distance of the clean place to the training images, 1 in 20 of which exceeds 1: full score up to 1.2, none "
        "from 2",
    ),
    "misfit": Explanation(
        "misfit",
        "",
        "how much less like its own the place is for the training defect that was laid there than is usual, in "
        "likeness: full score at 0, none from 0.5",
    ),
    "whole": Explanation(
        "in one piece",
        "",
        "share of the largest piece, as a ratio to that of the training defect that was laid there: full score from "
        "0.95, none up to 0.6",
    ),
    "contacts": Explanation(
        "contacts",
        "",
        "by how many places where it touches what looks like it the defect is off the training defects of its class: "
        "full score at 0, none from 1",
    ),
    "agreement": Explanation("agreement", "", "0 to 1: how alike the change and what the prior wanted are"),
    "contrast": Explanation("contrast", " gray levels", "mean change inside the mask"),
    "outside": Explanation("outside", " gray levels", "mean change that the model made off the windows"),
    "area": Explanation("area", " px", "of the mask"),
}  # fmt: skip


def explained(scores: Mapping[str, float]) -> list[list[str]]:
    """[label, number with unit, meaning] of each: the score, its parts, then what has no explanation here."""
    whole = BY_JUDGE if "judge" in scores else BY_PRIOR
    rows = [["score", f"{scores['score']:g}", whole]]
    for name in [
        *(name for name in NUMBERS if name in scores),
        *sorted(scores.keys() - NUMBERS.keys() - {"score"}),
    ]:
        known = NUMBERS.get(name, Explanation(name, "", ""))
        rows.append([known.label, f"{scores[name]:g}{known.unit}", known.meaning])
    return rows
