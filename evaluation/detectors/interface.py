"""What an experiment hands to a detector, and what it gets back.

`registry.make_detector` makes a detector by its name, `scoring.score` measures what it found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Example:
    """One image with its boxes.

    `image` (H, W, 3) uint8; `boxes` (n, 4) float32, left, top, right, bottom in px, right and bottom exclusive;
    `classes` (n,) int64. Without boxes it is a defect-free image.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What was found in one image: `boxes` (m, 4) float32 as in Example, `scores` (m,) float32 in 0..1, `classes` (m,)
    int64.

    A detector that was asked about given boxes says in `truth` (m,) what they hold; classes and truth may then be
    len(class_names), "clean". None for all others.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class TrainingTask:
    """One training: on what, how long, from which seed.

    Every step draws `batch_size` images; over the training `real_share` of all draws (0 to 1) are of `real`, the others
    of `synthetic`; where one of the two is empty, all are of the other. `real`, `synthetic` and `validation` are square
    tiles of `image_size` px. `validation` is measured along the way and never changes the weights; it may be empty.
    The curves go to `folder`/curves.csv, folders are made.
    """

    real: Sequence[Example]
    synthetic: Sequence[Example]
    class_names: Sequence[str]
    real_share: float
    steps: int
    batch_size: int
    seed: int
    image_size: int
    folder: Path
    validation: Sequence[Example] = ()


class Detector(Protocol):
    """A kind of detector with its options."""

    name: str

    def train_and_detect(self, task: TrainingTask, test: Sequence[Example]) -> list[Detections]:
        """Train from the start as `task` says, and detect in the tiles of `test`, one answer for each.

        The boxes and classes of `test` are not looked at, except by detectors that are asked about given boxes
        (`classifier`). Equal tasks give equal answers on one machine.
        """
        ...


@dataclass(frozen=True)
class Metrics:
    """How well defects were found, all in 0..1; dictionaries have class names as keys, and nan for classes without
    boxes.

    `map50_95`, `map50`, `ap` (AP@50-95 by class), `recall` and `recall_by_class` (AR@50-95, at most 100 detections an
    image) are COCO's; None and {} for a classifier, whose `accuracy` is balanced over the classes and "clean", and
    `accuracy_by_class` has them all.
    """

    map50_95: float | None
    map50: float | None
    recall: float | None
    ap: Mapping[str, float]
    recall_by_class: Mapping[str, float]
    accuracy: float | None = None
    accuracy_by_class: Mapping[str, float] | None = None
