"""Train Ultralytics' detector in a folder that `evaluation.detectors.yolo` prepared, and detect in its test images.

    python -m evaluation.detectors.yolo_process FOLDER

Started by `evaluation.detectors.yolo`, in an environment that keeps Ultralytics offline.
"""

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.detectors.draws import batches
from evaluation.detectors.interface import Example, TrainingTask
from utils.command_line import make_parser
from utils.errors import run_main

EPOCHS = 10  # after which Ultralytics measures the validation images and lowers the learning rate
LEAST_SCORE = 0.001
DETECTIONS = 100  # kept in an image, as many as COCO's metrics look at
CHUNK = 32  # images detected in at once


def main(argv: list[str]) -> None:
    """Writes `detections.npz`, and Ultralytics' own files to `run`."""
    parser = make_parser("python -m evaluation.detectors.yolo_process", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with task.json and images")
    folder = parser.parse_args(argv).folder
    from ultralytics import settings

    settings.update(
        {key: False for key, value in settings.items() if isinstance(value, bool)}
    )  # reports to nobody
    orders = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    trainer = _trainer_class(folder, orders)(overrides=_arguments(folder, orders))
    trainer.train()
    found = _detect(trainer.last, folder / "test/images", orders)
    np.savez(folder / "detections.npz", allow_pickle=False, **found)


def epochs_of(steps: int) -> int:
    """EPOCHS, or the largest of its divisors that splits the steps evenly: every epoch has as many."""
    return math.gcd(steps, EPOCHS)


def _arguments(folder: Path, orders: dict[str, Any]) -> dict[str, Any]:
    """Ultralytics' arguments: a step for every batch, nothing drawn or fetched."""
    fixed = {
        "model": orders["model"],
        "data": "given",
        "epochs": epochs_of(orders["steps"]),
        "batch": orders["batch_size"],
        "nbs": orders["batch_size"],
        "imgsz": orders["image_size"],
        "seed": orders["seed"],
        "device": orders["device"],
        "val": orders["validate"],
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "save": False,
        "plots": False,
        "amp": False,
        "workers": 0,
        "patience": 0,
        "cache": "ram",
        "pretrained": not orders["model"].endswith(".yaml"),
        "deterministic": True,
    }
    usual = {
        "optimizer": "AdamW",
        "lr0": orders["lr"],
        "momentum": 0.9,
        "warmup_epochs": 1.0,
        "close_mosaic": 1,
    }
    return {**usual, "warmup_bias_lr": 0.0, **orders["arguments"], **fixed}


def drawn(orders: dict[str, Any]) -> Iterator[int]:
    """The indices of the training images in the order in which they are drawn; only their counts matter."""
    nothing = Example(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    numbers = {key: orders[key] for key in ("real_share", "steps", "batch_size", "seed", "image_size")}
    real, synthetic = ([nothing] * orders[kind] for kind in ("real", "synthetic"))
    task = TrainingTask(real, synthetic, orders["class_names"], folder=Path(), **numbers)
    return itertools.chain.from_iterable(map(np.ndarray.tolist, batches(task)))


def _trainer_class(folder: Path, orders: dict[str, Any]) -> type:
    """Ultralytics' trainer with training images in the order of `drawn`."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.yolo.detect import DetectionTrainer

    class Drawn(YOLODataset):
        """As long as an epoch; whichever image is asked for, also for a mosaic, the next of `drawn` is given."""

        draws = drawn(orders)

        def __len__(self) -> int:
            return orders["steps"] // epochs_of(orders["steps"]) * orders["batch_size"]

        def get_image_and_label(self, index: int) -> dict[str, Any]:
            return super().get_image_and_label(next(self.draws))

    class Trainer(DetectionTrainer):
        def get_dataset(self) -> dict[str, Any]:
            names = dict(enumerate(orders["class_names"]))
            parts = {part: str(folder / part / "images") for part in ("train", "val")}
            return {"path": str(folder), **parts, "names": names, "nc": len(names), "channels": 3}

        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
            if mode != "train":
                return super().build_dataset(img_path, mode, batch)
            given = {
                "imgsz": self.args.imgsz,
                "batch_size": batch,
                "augment": True,
                "hyp": self.args,
                "cache": "ram",
            }
            return Drawn(
                img_path=img_path, data=self.data, task="detect", stride=32, prefix="train: ", **given
            )

        def final_eval(self) -> None:
            """The last weights count, in every training alike: nothing is chosen by the validation images."""

    return Trainer


def _detect(weights: Path, folder: Path, orders: dict[str, Any]) -> dict[str, np.ndarray]:
    """All detections: boxes in px of their image, scores, classes, and the number of the image."""
    from PIL import Image
    from ultralytics import YOLO

    model, paths = YOLO(weights), sorted(folder.iterdir())
    arguments = {
        "conf": LEAST_SCORE,
        "max_det": DETECTIONS,
        "imgsz": orders["image_size"],
        "device": orders["device"],
    }
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("image", "boxes", "scores", "classes")}
    for start in range(0, len(paths), CHUNK):
        pixels = [np.asarray(Image.open(path))[..., ::-1] for path in paths[start : start + CHUNK]]  # BGR
        for n, result in enumerate(model.predict(pixels, verbose=False, save=False, **arguments), start):
            boxes = result.boxes.cpu().numpy()
            found["image"].append(np.full(len(boxes), n))
            found["boxes"].append(boxes.xyxy.astype(np.float32).reshape(-1, 4))
            found["scores"].append(boxes.conf.astype(np.float32))
            found["classes"].append(boxes.cls.astype(np.int64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


if __name__ == "__main__":
    sys.exit(run_main(main))
