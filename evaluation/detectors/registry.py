"""Detectors by name."""

from collections.abc import Mapping
from typing import Any

from evaluation.detectors.fcos import FcosDetector, FcosOptions
from evaluation.detectors.interface import Detector
from evaluation.detectors.options import read_options
from evaluation.detectors.patches import ClassifierOptions, PatchClassifier
from evaluation.detectors.yolo import YoloDetector, YoloOptions
from utils.errors import UserError

NAMES: tuple[str, ...] = ("yolo", "torchvision", "classifier")


def make_detector(name: str, options: Mapping[str, Any]) -> Detector:
    """The detector `name`, one of NAMES, with `options` of its own. Raises UserError for an unknown name or option, and
    where a package is missing that the detector needs."""
    if name == "yolo":
        return YoloDetector(read_options(YoloOptions, name, options))
    if name == "torchvision":
        return FcosDetector(read_options(FcosOptions, name, options))
    if name == "classifier":
        return PatchClassifier(read_options(ClassifierOptions, name, options))
    raise UserError(f"detector: got {name!r}, expected one of {', '.join(NAMES)}")
