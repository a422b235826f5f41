"""How results are pasted and scored."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaintOptions:
    """How results are pasted and scored; sizes in px.

    `generated`: the whole context is replaced, else the window alone, with a soft edge of `feather` model px, or with
    `masked` the defect alone, by its soft mask. `sees_surroundings`: the prior is told the boxes of the defects.
    A window is painted `candidates` times, the best one counts; where its score is below `min_score`, once more so, at
    most `max_rerolls` times. At most `batch_size` contexts go through the networks together. `strips`: keep the
    attention's evolution. `label_margin`: px of a requested box around its defect.
    """

    image_size: int
    crop_size: int
    seed: int
    batch_size: int
    squash: bool
    generated: bool
    feather: int
    candidates: int
    min_score: float
    max_rerolls: int
    strips: bool
    masked: bool
    sees_surroundings: bool
    label_margin: float = 0.0
