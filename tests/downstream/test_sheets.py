"""Hits, misses and false alarms have colors of their own."""

import numpy as np

from evaluation.detectors.interface import Detections, Example
from evaluation.downstream.sheets import GREEN, RED, YELLOW, box_overlaps, hits_and_misses, outlines

BOXES = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
EXAMPLE = Example(np.zeros((48, 48, 3), np.uint8), BOXES, np.array([0, 1]))


def found(boxes, scores, classes, truth=None) -> Detections:
    return Detections(np.array(boxes, np.float32), np.array(scores), np.array(classes), truth)


def test_overlaps_of_boxes():
    half = np.array([[0, 0, 10, 5], [5, 0, 15, 10]], np.float32)
    assert np.allclose(box_overlaps(BOXES, half), [[0.5, 1 / 3], [0, 0]])


def test_what_is_found_missed_and_false():
    answers = found([[0, 0, 10, 9], [20, 20, 30, 30], [35, 35, 45, 45]], [0.9, 0.9, 0.1], [0, 0, 0])
    colors = [color for _, color in outlines(EXAMPLE, answers)]
    assert colors == [YELLOW, GREEN, RED]  # the second box is of another class, the third is unsure


def test_answers_about_given_boxes_are_right_or_wrong():
    answers = found(BOXES, [0.9, 0.9], [0, 2], np.array([0, 1]))
    assert [color for _, color in outlines(EXAMPLE, answers)] == [GREEN, RED]


def test_the_sheet_shows_tiles_with_defects_alone():
    none = found(np.zeros((0, 4)), [], [])
    blank = Example(EXAMPLE.image, BOXES[:0], np.zeros(0, np.int64))
    sheet = hits_and_misses([EXAMPLE, blank, EXAMPLE], [none] * 3)
    assert sheet.shape == (48 + 4, 2 * 50 + 2, 3)
    assert (sheet == RED).all(axis=2).any()
