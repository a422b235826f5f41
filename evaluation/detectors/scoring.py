"""How well defects were found: COCO's metrics, and balanced accuracy for detectors asked about given boxes."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.detectors.interface import Detections, Example, Metrics
from utils.errors import UserError

CLEAN = "clean"


def score(test: Sequence[Example], found: Sequence[Detections], class_names: Sequence[str]) -> Metrics:
    """The metrics of `found`, one for each image of `test`. Raises UserError without pycocotools."""
    assert len(test) == len(found), (len(test), len(found))
    if found and all(one.truth is not None for one in found):
        return _accuracies(found, [*class_names, CLEAN])
    return _coco(test, found, class_names)


def _accuracies(found: Sequence[Detections], names: Sequence[str]) -> Metrics:
    """Rates of right answers by what the boxes hold, and their mean over those that there are."""
    truth = np.concatenate([one.truth for one in found if one.truth is not None])
    right = np.concatenate([one.classes for one in found]) == truth
    rates = {
        name: float(right[truth == k].mean()) if (truth == k).any() else float("nan")
        for k, name in enumerate(names)
    }
    known = [rate for rate in rates.values() if not np.isnan(rate)]
    return Metrics(None, None, None, {}, {}, float(np.mean(known)) if known else float("nan"), rates)


def _coco(test: Sequence[Example], found: Sequence[Detections], class_names: Sequence[str]) -> Metrics:
    """AP and AR over the IoU thresholds 0.5, 0.55, ..., 0.95, at most 100 detections an image."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            "detectors are scored by pycocotools, which is missing; pip install -r requirements-eval.txt"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every stage
        truth = COCO()
        truth.dataset = _ground_truth(test, class_names)
        truth.createIndex()
        results = _results(found)
        evaluation = COCOeval(truth, _loaded(truth, results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # precision (T, R, K, A, M): thresholds, recalls, classes, areas (first: all), limits (last: 100 an image); -1: none
    precision, recall = (evaluation.eval[key][..., 0, -1] for key in ("precision", "recall"))
    ap = {name: _mean(precision[:, :, k]) for k, name in enumerate(class_names)}
    recalls = {name: _mean(recall[:, k]) for k, name in enumerate(class_names)}
    return Metrics(_mean(precision), _mean(precision[0]), _mean(recall), ap, recalls)


def _loaded(truth: Any, results: list[dict[str, Any]]) -> Any:
    """COCO's form of the results, which may be none."""
    if results:
        return truth.loadRes(results)
    empty = type(truth)()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _mean(values: np.ndarray) -> float:
    """The mean of the entries that are there; nan for none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _ground_truth(test: Sequence[Example], class_names: Sequence[str]) -> dict[str, Any]:
    """The images and boxes as the content of a COCO file; ids count from 1."""
    images = [
        {"id": k, "height": one.image.shape[0], "width": one.image.shape[1]} for k, one in enumerate(test, 1)
    ]
    boxes = [
        {"image_id": k, "category_id": int(kind), "bbox": _xywh(box), "area": _area(box), "iscrowd": 0}
        for k, one in enumerate(test, 1)
        for box, kind in zip(one.boxes, one.classes, strict=True)
    ]
    annotations = [{"id": k, **one} for k, one in enumerate(boxes, 1)]
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    return [
        {"image_id": k, "category_id": int(kind), "bbox": _xywh(box), "score": float(score)}
        for k, one in enumerate(found, 1)
        for box, score, kind in zip(one.boxes, one.scores, one.classes, strict=True)
    ]


def _xywh(box: np.ndarray) -> list[float]:
    left, top, right, bottom = (float(side) for side in box)
    return [left, top, right - left, bottom - top]


def _area(box: np.ndarray) -> float:
    width, height = _xywh(box)[2:]
    return width * height
