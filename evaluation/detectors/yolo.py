"""Ultralytics' detectors, in a process of their own: their license (AGPL) and their global settings stay out of this
program's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.detectors.draws import pool
from evaluation.detectors.interface import Detections, Example, TrainingTask
from utils.errors import UserError
from utils.images import save_png
from utils.labels import format_annotation

PROJECT = Path(__file__).resolve().parents[2]
TOLD = 12  # last lines of the log in an error


@dataclass(frozen=True)
class YoloOptions:
    """`model`: an architecture of Ultralytics (.yaml, trained from scratch) or the user's weights (.pt). `lr`: initial
    learning rate of AdamW. `arguments`: further training arguments of Ultralytics, such as {"flipud": 0.5}."""

    model: str = "yolo11n.yaml"
    lr: float = 1e-3
    device: str = "cpu"
    arguments: dict[str, Any] = field(default_factory=dict)


class YoloDetector:
    """YOLO, as Ultralytics trains it, with an optimizer step for every batch and no internet."""

    name = "yolo"

    def __init__(self, options: YoloOptions):
        """Raises UserError without Ultralytics, or without the file of the weights."""
        if find_spec("ultralytics") is None:
            raise UserError(
                "detector yolo: Ultralytics is missing; pip install -r requirements-eval.txt (AGPL), or choose the "
                "detector torchvision"
            )
        if not options.model.endswith(".yaml") and not Path(options.model).is_file():
            raise UserError(
                f"detector yolo, model: got {options.model!r}, expected weights (.pt) that exist, or an architecture "
                "such as yolo11n.yaml"
            )
        self.options = options

    def train_and_detect(self, task: TrainingTask, test: Sequence[Example]) -> list[Detections]:
        """See `Detector`. What Ultralytics tells goes to `folder`/log.txt; raises UserError with its end where it
        fails."""
        task.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=task.folder, prefix="data-") as name:
            work = Path(name).resolve()
            # Ultralytics always validates once; without images for it on any, which is kept nowhere
            validation = task.validation or pool(task)[:1]
            for part, examples in (("train", pool(task)), ("val", validation), ("test", test)):
                write_images(work / part, examples)
            (work / "task.json").write_text(json.dumps(self._orders(task)), encoding="utf-8")
            log = task.folder / "log.txt"
            self._run(work, log)
            (work / "run/results.csv").replace(task.folder / "curves.csv")
            return read_detections(work / "detections.npz", len(test))

    def _orders(self, task: TrainingTask) -> dict[str, Any]:
        options = self.options
        model = options.model if options.model.endswith(".yaml") else str(Path(options.model).resolve())
        return {
            "model": model,
            "lr": options.lr,
            "device": options.device,
            "arguments": options.arguments,
            "validate": len(task.validation) > 0,
            "real": len(task.real),
            "synthetic": len(task.synthetic),
            "class_names": list(task.class_names),
            "real_share": task.real_share,
            "steps": task.steps,
            "batch_size": task.batch_size,
            "seed": task.seed,
            "image_size": task.image_size,
        }

    def _run(self, work: Path, log: Path) -> None:
        command = [sys.executable, "-m", "evaluation.detectors.yolo_process", str(work)]
        with open(log, "w", encoding="utf-8") as file:
            code = subprocess.run(
                command,
                cwd=work,
                env=offline(work),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            ).returncode
        if code:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TOLD:])
            raise UserError(f"detector yolo: Ultralytics ended with code {code}; {log} ends with\n{end}")


def offline(work: Path) -> Mapping[str, str]:
    """Environment of a process that finds this project and asks nobody else for anything."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_CONFIG_DIR": str(work),
        "YOLO_VERBOSE": "0",
    }


# Files between the processes


def write_images(folder: Path, examples: Sequence[Example]) -> None:
    """`images/<n>.png` and `labels/<n>.txt` in YOLO's form, numbered in the order of the examples."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for n, one in enumerate(examples):
        save_png(folder / f"images/{n:06}.png", one.image)
        lines = [_line(one, box, int(kind)) for box, kind in zip(one.boxes, one.classes, strict=True)]
        (folder / f"labels/{n:06}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _line(example: Example, box: np.ndarray, kind: int) -> str:
    height, width = example.image.shape[:2]
    left, top, right, bottom = (np.clip(box / np.array([width, height, width, height]), 0, 1)).tolist()
    return format_annotation(kind, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def read_detections(path: Path, count: int) -> list[Detections]:
    """What was found in `count` images, from arrays of all detections and the image of each."""
    with np.load(path) as arrays:
        image, boxes, scores, classes = (arrays[name] for name in ("image", "boxes", "scores", "classes"))
    return [Detections(boxes[image == n], scores[image == n], classes[image == n]) for n in range(count)]
