"""A classifier of windows around given boxes: the cheap first answer to whether training images help."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.detectors.draws import share_of_real
from evaluation.detectors.interface import Detections, Example, TrainingTask
from evaluation.detectors.scoring import score
from training.boxed_patches import window
from training.judge import JudgedBox, JudgeOptions, Patch, clean_examples, draw, free_box, varied
from utils.files import append_csv
from utils.judging.classifier import WindowClassifier, fit
from utils.judging.judge import BATCH, SIDE, WindowBox, judge_inputs

CLEAN_BOXES = 400  # of each kind that are drawn for training
LOGGED = 10  # steps between two losses in the curves
TEST_SEED = 0  # of the clean boxes of the test: the same for all trainings


@dataclass(frozen=True)
class ClassifierOptions:
    """`lr`: peak of the one-cycle learning rate. `zoom`: see `JudgeOptions`. `turns`: windows are turned and mirrored
    in training."""

    lr: float = 3e-3
    zoom: float = 1.3
    turns: bool = True


class PatchClassifier:
    """Names what a box of a 64 px window holds, one of the classes or nothing ("clean").

    It is asked about every box of the test images, and about as many clean boxes of like sizes (one in an image without
    boxes); its answers come in this order. All classes and "clean" are drawn equally often in training, of each kind of
    images in its share.
    """

    name = "classifier"

    def __init__(self, options: ClassifierOptions):
        self.options = options

    def train_and_detect(self, task: TrainingTask, test: Sequence[Example]) -> list[Detections]:
        """See `Detector`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            model = WindowClassifier(len(task.class_names) + 1, channels=4)
        losses = fit(model, self._batches(task), task.steps, self.options.lr)
        clean = len(task.class_names)
        found = ask(model, task.validation, clean) if task.validation else []
        accuracy = score(task.validation, found, task.class_names).accuracy if found else ""
        _write_curves(task, losses, accuracy)
        return ask(model, test, clean)

    def _batches(self, task: TrainingTask) -> Callable[[], tuple[Tensor, Tensor]]:
        """Batches for `fit`: windows with the masks of their boxes, and class ids."""
        rng, generator = np.random.default_rng(task.seed), torch.Generator().manual_seed(task.seed)
        options = JudgeOptions(turns=self.options.turns, zoom=self.options.zoom)
        kinds = [_kinds(part, len(task.class_names), rng) for part in (task.real, task.synthetic)]
        counts = share_of_real(task, bool(kinds[0]), bool(kinds[1]))

        def batch() -> tuple[Tensor, Tensor]:
            real = next(counts)
            amounts = (real, task.batch_size - real)
            chosen = [
                one
                for kind, count in zip(kinds, amounts, strict=True)
                if count
                for one in draw(kind, count, rng)
            ]
            return varied(chosen, options, rng, generator), torch.tensor([one.label for one in chosen])

        return batch


def _kinds(examples: Sequence[Example], clean: int, rng: np.random.Generator) -> list[list[JudgedBox]]:
    """The boxes of images by class, and clean ones beside them and in images without boxes; [] without any box."""
    patches = list(_patches(examples))
    if not patches:
        return []
    boxes = [
        JudgedBox(one.image, one.boxes[0], one.class_id, one.class_id, n) for n, one in enumerate(patches)
    ]
    tiles = [one.image for one in examples if not len(one.boxes)]
    beside = sum(clean_examples(patches, tiles, CLEAN_BOXES, clean, rng), start=[])
    return [kind for k in range(clean) if (kind := [one for one in boxes if one.label == k])] + [
        beside
    ] * bool(beside)


def _patches(examples: Sequence[Example]) -> Iterator[Patch]:
    """One for each box, the others of its image behind it."""
    for example in examples:
        boxes = [_tuple(box) for box in example.boxes]
        for k, kind in enumerate(example.classes):
            yield Patch(example.image, [boxes[k], *boxes[:k], *boxes[k + 1 :]], int(kind))


def _tuple(box: np.ndarray) -> WindowBox:
    left, top, right, bottom = (float(side) for side in box)
    return left, top, right, bottom


# Asking


@torch.no_grad()
def ask(model: WindowClassifier, test: Sequence[Example], clean: int) -> list[Detections]:
    """The model's answers about the boxes of every image and about clean ones, which have the class `clean`."""
    questions = list(_questions(test, clean))
    windows = [
        window(example.image, box, SIDE, 1.0, None)
        for example, (boxes, _) in zip(test, questions, strict=True)
        for box in boxes
    ]
    inputs = judge_inputs(np.stack([pixels for pixels, _ in windows]), [box for _, box in windows])
    answers = torch.cat([model(part).softmax(dim=1) for part in inputs.split(BATCH)]).numpy()
    found, start = [], 0
    for boxes, truth in questions:
        part = answers[start : start + len(boxes)]
        start += len(boxes)
        rows = np.array(boxes, np.float32).reshape(-1, 4)
        found.append(Detections(rows, part.max(axis=1), part.argmax(axis=1), np.array(truth, np.int64)))
    return found


def _questions(test: Sequence[Example], clean: int) -> Iterator[tuple[list[WindowBox], list[int]]]:
    """Boxes to ask about in each image, and what they hold."""
    rng = np.random.default_rng(TEST_SEED)
    known = [_tuple(box) for example in test for box in example.boxes]
    for example in test:
        boxes = [_tuple(box) for box in example.boxes]
        likes = boxes or [known[int(rng.integers(len(known)))]] if known else []
        free = [box for like in likes if (box := free_box(example.image, like, boxes, rng)) is not None]
        yield boxes + free, [*map(int, example.classes), *[clean] * len(free)]


def _write_curves(task: TrainingTask, losses: Sequence[float], accuracy: Any) -> None:
    """The losses, and the accuracy on the validation images at the end."""
    path = task.folder / "curves.csv"
    task.folder.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    for start in range(0, len(losses), LOGGED):
        part = losses[start : start + LOGGED]
        step = start + len(part)
        last = accuracy if step == len(losses) else ""
        append_csv(path, {"step": step, "loss": float(np.mean(part)), "val_accuracy": last})
