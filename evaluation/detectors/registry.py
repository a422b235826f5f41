"""Detectors by name."""

from collections.abc import Mapping
from typing import Any

from evaluation.detectors.interface import Detector
from utils.errors import UserError

NAMES: tuple[str, ...] = ("yolo", "torchvision", "classifier")


def make_detector(name: str, options: Mapping[str, Any]) -> Detector:
    """The detector `name`, one of NAMES, with `options` of its own. Raises UserError for an unknown name or option, and
    where a package is missing that the detector needs."""
    raise UserError(f"detector: got {name!r}, expected one of {', '.join(NAMES)}")
