"""The score of a painted defect when there is a judge: its answer, times what the plain checks leave of it."""

from dataclasses import dataclass

import numpy as np

from generation.quality.checks import PaintedWindow, quality_checks, score_factor
from utils import images, labels
from utils.errors import UserError
from utils.judging.judge import SIDE, Judge, Reliability, load_judge
from utils.judging.palette import foreign_color


@dataclass(frozen=True)
class Assessor:
    """Scores painted windows by a judge, who does not reject by itself the classes that it is not reliable about;
    without a known `reliability` it is taken to be so about all."""

    judge: Judge
    reliability: Reliability | None = None

    @property
    def classes(self) -> dict[str, int]:
        """Class name -> place among the judge's answers."""
        return {name: k for k, name in enumerate(self.judge.labels[:-1])}

    def scores(self, painted: PaintedWindow, class_name: str) -> dict[str, float]:
        """`score` in [0, 1], and its parts by name.

        judge: probability that the judge gives the class, which does not count for a class that it is not reliable
        about. domain: distance of the clean window to those of the training images; 1 is what 1 in 20 windows of such
        images exceeds. color: see `foreign_color`; absent where the judge knows no colors. The others: see
        `quality_checks`.
        """
        checks = quality_checks(painted)
        box = painted.drawn or painted.wanted or painted.box
        before = images.resize_squash(painted.before, SIDE)[None]
        checks["domain"] = float(self.judge.distance(before)[0])
        answer = 0.0 if box is None else self._answer(painted.after, box, class_name)
        class_id = labels.match_class(class_name, self.classes)
        known = self.judge.labels[class_id]
        if self.judge.palettes is not None:
            palette = self.judge.palettes[class_id].numpy()
            checks["color"] = foreign_color(painted.before, painted.after, painted.mask, palette)
        rejects = self.reliability is None or self.reliability.is_reliable(known)
        counted = answer if rejects else float(box is not None)
        return {"score": counted * score_factor(checks), "judge": answer, **checks}

    def _answer(self, after: np.ndarray, box: tuple[int, int, int, int], class_name: str) -> float:
        """The judge's probability of a class for a box in a window (h, h, 3) uint8."""
        scale = SIDE / after.shape[0]
        window = images.resize_squash(after, SIDE)[None]
        found = self.judge.predict(window, [tuple(side * scale for side in box)])
        return float(found[0, labels.match_class(class_name, self.classes)])


def load_assessor(path: str, class_names: list[str]) -> Assessor | None:
    """The judge of `judge_path`, None without one. Raises UserError where it does not know a class of the run."""
    if not path:
        return None
    judge, reliability = load_judge(path)
    assessor = Assessor(judge, reliability)
    for name in class_names:
        try:
            labels.match_class(name, assessor.classes)
        except UserError as error:
            raise UserError(f"judge_path {path}: {error}; train a judge on data with that class") from error
    return assessor
