"""Metrics of detections whose answers are known."""

import math

import numpy as np
import pytest

from evaluation.detectors.interface import Detections, Example
from evaluation.detectors.scoring import score

NAMES = ("short", "spur")
BOXES = np.array([[10, 10, 30, 30], [50, 50, 80, 70]], np.float32)


def example(classes: list[int], boxes: np.ndarray = BOXES) -> Example:
    return Example(np.zeros((100, 120, 3), np.uint8), boxes[: len(classes)], np.array(classes, np.int64))


def detections(boxes: np.ndarray, classes: list[int], scores: list[float] | None = None) -> Detections:
    given = np.ones(len(classes), np.float32) if scores is None else np.array(scores, np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), given, np.array(classes, np.int64))


@pytest.fixture
def coco():
    return pytest.importorskip("pycocotools")


def test_perfect_detections_score_one(coco, capsys):
    test = [example([0, 1]), example([1])]
    found = score(test, [detections(one.boxes, one.classes.tolist()) for one in test], NAMES)
    assert [found.map50_95, found.map50, found.recall] == pytest.approx([1, 1, 1])
    assert found.ap == pytest.approx({"short": 1, "spur": 1}) == found.recall_by_class
    assert found.accuracy is None
    assert capsys.readouterr().out == ""


def test_one_of_two_boxes_missed(coco):
    found = score([example([0, 0])], [detections(BOXES[:1], [0])], NAMES)
    # Recall ends at 0.5: precision is 1 at the 51 recalls 0, 0.01, ..., 0.5 and 0 at the other 50
    assert found.map50_95 == found.map50 == pytest.approx(51 / 101)
    assert found.recall == pytest.approx(0.5)
    assert math.isnan(found.ap["spur"]) and math.isnan(found.recall_by_class["spur"])


def test_a_wrong_class_is_no_detection(coco):
    found = score([example([0])], [detections(BOXES[:1], [1])], NAMES)
    assert found.map50_95 == found.map50 == found.recall == 0


def test_nothing_found(coco):
    found = score([example([0, 1])], [detections(BOXES[:0], [])], NAMES)
    assert found.map50_95 == found.map50 == found.recall == 0


def test_a_loose_box_counts_up_to_its_overlap(coco):
    loose = BOXES[:1] + np.array([0, 0, 5, 0], np.float32)  # 25 x 20 px around 20 x 20: IoU 0.8
    found = score([example([0])], [detections(loose, [0])], NAMES)
    assert found.map50 == pytest.approx(1)
    assert found.map50_95 == pytest.approx(0.7)  # 0.5, 0.55, ..., 0.8 of ten thresholds


def test_a_false_alarm_above_the_hit_halves_the_precision(coco):
    found = score([example([0])], [detections(BOXES, [0, 0], [0.4, 0.9])], NAMES)
    assert found.map50 == pytest.approx(0.5) and found.recall == pytest.approx(1)


def test_accuracy_is_balanced_over_what_the_boxes_hold():
    boxes, scores = np.zeros((5, 4), np.float32), np.ones(5, np.float32)
    # Four shorts, three of them named; one clean place, called a spur; no spur
    answers = Detections(boxes, scores, np.array([0, 0, 0, 2, 1]), np.array([0, 0, 0, 0, 2]))
    found = score([example([])], [answers], NAMES)
    assert found.accuracy == pytest.approx((3 / 4 + 0) / 2)
    rates = dict(found.accuracy_by_class)
    assert math.isnan(rates.pop("spur")) and rates == {"short": 0.75, "clean": 0}
    assert found.map50_95 is None and found.ap == {}
