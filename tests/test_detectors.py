"""Detectors at tiny size on images whose defects anyone can name: a red or a green square on gray."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from evaluation.detectors.fcos import turn
from evaluation.detectors.interface import Example, TrainingTask
from evaluation.detectors.registry import NAMES, make_detector
from evaluation.detectors.scoring import score
from evaluation.detectors.yolo_process import drawn, epochs_of
from utils.errors import UserError

CLASSES = ("red", "green")
SIDE = 96


def squares(count: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        image = np.clip(rng.normal(120, 8, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        left, top = rng.integers(4, SIDE - 30, 2)
        image[top : top + 20, left : left + 24, n % 2] = 220
        box = np.array([[left, top, left + 24, top + 20]], np.float32)
        found.append(Example(image, box, np.array([n % 2], np.int64)))
    return found


def task(folder: Path, steps: int, validation: int = 0) -> TrainingTask:
    real, synthetic = squares(8, 0), squares(8, 1)
    return TrainingTask(real, synthetic, CLASSES, 0.5, steps, 4, 3, SIDE, folder, squares(validation, 2))


def test_the_classifier_learns_to_name_squares(tmp_path: Path):
    test = [
        *squares(10, 5),
        Example(np.full((SIDE, SIDE, 3), 120, np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64)),
    ]
    found = make_detector("classifier", {}).train_and_detect(task(tmp_path, 40, 4), test)
    assert [len(one.scores) for one in found] == [2] * 10 + [1]
    assert [one.truth.tolist() for one in found[-2:]] == [[1, 2], [2]]
    metrics = score(test, found, CLASSES)
    assert metrics.accuracy > 0.9 and set(metrics.accuracy_by_class) == {"red", "green", "clean"}
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert rows[0] == "step,loss,val_accuracy" and float(rows[-1].split(",")[2]) > 0.9


def test_the_torchvision_detector_finds_squares(tmp_path: Path):
    pytest.importorskip("pycocotools")
    test = squares(6, 5)
    found = make_detector("torchvision", {"channels": 32, "lr": 4e-3}).train_and_detect(
        task(tmp_path, 60, 2), test
    )
    assert score(test, found, CLASSES).map50 > 0.5
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert rows[0] == "step,loss,val_map50_95" and rows[-1].startswith("60,") and not rows[-1].endswith(",")


@pytest.mark.parametrize("name", ["torchvision", "classifier"])
def test_equal_tasks_give_equal_answers(tmp_path: Path, name: str):
    one, other = (
        make_detector(name, {}).train_and_detect(task(tmp_path, 2), squares(2, 5)) for _ in range(2)
    )
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="Ultralytics is not installed")
def test_ultralytics_trains_on_it(tmp_path: Path):
    test = squares(3, 5)
    found = make_detector("yolo", {}).train_and_detect(task(tmp_path, 4, 2), test)
    assert len(found) == 3 and all(one.boxes.shape == (len(one.scores), 4) for one in found)
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,") and len(rows) == 1 + epochs_of(4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "log.txt"]


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="Ultralytics is not installed")
def test_what_ultralytics_refuses_is_told(tmp_path: Path):
    detector = make_detector("yolo", {"arguments": {"no_such_argument": 1}})
    with pytest.raises(UserError, match="ended with code 1; .*log.txt ends with\n(.|\n)*no_such_argument"):
        detector.train_and_detect(task(tmp_path, 2), squares(1, 5))


def test_ultralytics_is_given_the_share_of_real_images():
    orders = {
        "real": 5,
        "synthetic": 20,
        "class_names": ["a"],
        "real_share": 0.25,
        "steps": 800,
        "batch_size": 16,
    }
    stream = drawn(orders | {"seed": 0, "image_size": 64})
    assert sum(next(stream) < 5 for _ in range(1600)) == 400
    assert (epochs_of(800), epochs_of(64), epochs_of(7)) == (10, 2, 1)


def test_a_turned_box_stays_on_its_square():
    (example,) = squares(1, 7)
    seen = set()
    for how in range(8):
        one = turn(example, how)
        left, top, right, bottom = one.boxes[0].astype(int)
        assert (one.image[top:bottom, left:right, 0] == 220).all()
        assert (one.image[..., 0] == 220).sum() == (right - left) * (bottom - top) == 480
        seen.add(one.image.tobytes())
    assert len(seen) == 8


def test_problems_of_names_and_options_are_told():
    with pytest.raises(
        UserError, match="detector: got 'yollo', expected one of yolo, torchvision, classifier"
    ):
        make_detector("yollo", {})
    for name in set(NAMES) - {"yolo"}:
        with pytest.raises(UserError, match=f"detector {name}: got the option 'rate', expected one of lr, "):
            make_detector(name, {"rate": 1})
        with pytest.raises(UserError, match=f"detector {name}, lr: got 'fast', expected something like 0.00"):
            make_detector(name, {"lr": "fast"})


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="Ultralytics is not installed")
def test_weights_that_are_missing_are_told():
    with pytest.raises(UserError, match=r"detector yolo, model: got 'mine.pt', expected weights"):
        make_detector("yolo", {"model": "mine.pt"})
