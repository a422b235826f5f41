"""What a run leaves of a sample: where its files lie, and its line of the manifest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generation.geometry import PixelBox
from generation.jobs import Job
from generation.scoring import PaintedDefect, PaintedSample
from generation.training_defects import training_defects_sha256
from utils import images, labels
from utils.config import settings_fingerprint
from utils.files import file_sha256, write_text
from utils.manifest import mask_rle
from utils.schema.generation import GenerationConfig

FOLDERS = ("sample", "grid", "crop", "mask", "label", "log")


@dataclass(frozen=True)
class Provenance:
    """What every line of a run's manifest says alike: seed, and hashes of settings and weights."""

    seed: int
    config_sha256: str
    weights: Mapping[str, str]  # configuration key -> sha256 of the file, or of the training defects

    @classmethod
    def of(cls, config: GenerationConfig) -> "Provenance":
        """Reads the weights' files; those that are missing have no hash (loading says so)."""
        settings = json.dumps(settings_fingerprint(config), sort_keys=True)
        paths = {"model_path": config.model_path, "crop_model_path": config.crop_model_path}
        paths["judge_path"] = config.judge_path
        paths = {key: path for key, path in paths.items() if path}
        weights = {key: file_sha256(path) for key, path in paths.items() if Path(path).is_file()}
        if config.exemplars.folder is not None:
            weights["exemplars.folder"] = training_defects_sha256(Path(config.exemplars.folder))
        return cls(config.resolved_seed, hashlib.sha256(settings.encode()).hexdigest(), weights)


@dataclass(frozen=True)
class LabelRule:
    """Whose box a label holds, `painted` or `annotation`, and the px that it keeps from what was painted where no
    training defect tells that."""

    whose: str = "painted"
    margin: float = 0.0

    @classmethod
    def of(cls, config: GenerationConfig) -> "LabelRule":
        return cls(config.label_box, config.label_margin)


@dataclass(frozen=True)
class SamplePaths:
    """The files of samples below the output folder `root`."""

    root: Path

    def sample(self, job: Job) -> Path:
        return self.root / "sample" / f"{job.name}.png"

    def mask(self, job: Job) -> Path:
        return self.root / "mask" / f"{job.name}.png"

    def label(self, job: Job) -> Path:
        return self.root / "label" / f"{job.name}.txt"

    def grid(self, job: Job) -> Path:
        """The grid of the job's annotation, which all its samples share."""
        return self.root / "grid" / f"{job.base}_grid.png"

    def crop(self, job: Job, defect: int) -> Path:
        """The prior's own result for a defect."""
        return self.root / "crop" / f"{_part(job, defect)}.png"

    def strip(self, job: Job, defect: int) -> Path:
        """The attention of a defect at some steps, side by side."""
        return self.root / "attention" / f"{_part(job, defect)}_strip.png"

    def figure(self, job: Job, defect: int, suffix: str) -> Path:
        """The evolution of a defect's attention, `suffix` .png or .gif."""
        return self.root / "attention" / f"{_part(job, defect)}{suffix}"

    def all(self, job: Job) -> list[Path]:
        """All files of a job but figures, and its annotation's grid; the sample, which must not be there half
        done, first."""
        parts = range(len(job.defects))
        files = [self.sample(job), self.mask(job), self.label(job), self.grid(job)]
        return files + [path(job, k) for k in parts for path in (self.crop, self.strip)]


def _part(job: Job, defect: int) -> str:
    """Name of the files that each defect of a sample has."""
    return job.name if len(job.defects) == 1 else f"{job.name}_{defect + 1}"


def save_sample(paths: SamplePaths, sample: PaintedSample, rule: LabelRule) -> dict[str, Any]:
    """Write the images and the label; -> their paths relative to the folder. OSError when that fails."""
    job, defects = sample.job, list(enumerate(sample.defects))
    crops, strips = [], []
    for k, defect in defects:
        crops.append(paths.crop(job, k))
        images.save_png(crops[-1], defect.crop)
        if defect.strip is not None:
            strips.append(paths.strip(job, k))
            strips[-1].parent.mkdir(exist_ok=True)
            images.save_png(strips[-1], defect.strip)
    images.save_png(paths.mask(job), sample.mask.astype(np.uint8) * 255)
    write_text(paths.label(job), "".join(f"{line}\n" for line in label_lines(sample, rule)))
    images.save_png(paths.sample(job), sample.image)

    def relative(path: Path) -> str:
        return path.relative_to(paths.root).as_posix()

    return {
        "sample": relative(paths.sample(job)),
        "mask": relative(paths.mask(job)),
        "label": relative(paths.label(job)),
        "crop": list(map(relative, crops)),
        "attention": list(map(relative, strips)),
    }


def label_lines(sample: PaintedSample, rule: LabelRule) -> list[str]:
    """A YOLO line for each accepted defect that has a box."""
    height, width = sample.image.shape[:2]
    lines = []
    for k, defect in enumerate(sample.defects):
        box = label_box(sample, k, rule) if defect.accepted else None
        if box is not None:
            class_id = sample.job.defects[k].annotation.class_id
            lines.append(labels.format_annotation(class_id, *labels.relative_box(box, width, height)))
    return lines


def label_box(sample: PaintedSample, k: int, rule: LabelRule) -> PixelBox | None:
    """The box that the label of a defect holds, px; None where nothing was painted."""
    painted, annotation = sample.defects[k].box, sample.job.defects[k].annotation
    height, width = sample.image.shape[:2]
    if painted is None:
        return None
    if rule.whose == "annotation":
        return labels.pixel_box(annotation, width, height)
    drawn, margin = sample.defects[k].drawn, 0
    if drawn is None:
        margin = round(rule.margin)
    left, top, right, bottom = painted if drawn is None else sample.defects[k].in_image(drawn)
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(right + margin, width),
        min(bottom + margin, height),
    )


def defect_entry(sample: PaintedSample, k: int, rule: LabelRule) -> dict[str, Any]:
    """What the manifest says about one defect of a sample."""
    wanted, defect = sample.job.defects[k], sample.defects[k]
    height, width = sample.image.shape[:2]
    box = label_box(sample, k, rule)
    return {
        "class_name": wanted.annotation.class_name,
        "class_id": wanted.annotation.class_id,
        "line": wanted.annotation.line,
        "annotation": wanted.annotation.place,
        "centre": list(wanted.center),
        "window": list(defect.window),
        "scale": defect.scale,
        "status": "painted" if defect.accepted else "rejected",
        "attempt": defect.attempt,
        "box": None if box is None else list(box),
        "painted_box": None if defect.box is None else list(defect.box),
        "mask": _window_rle(defect, width, height),
        "scores": {key: round(value, 4) for key, value in defect.scores.items()},
    }


def _window_rle(defect: PaintedDefect, width: int, height: int) -> dict[str, list[int]] | None:
    left, top, _ = defect.window
    if defect.region.box is None:
        return None
    return mask_rle(defect.region.mask, (left, top), (width, height))
