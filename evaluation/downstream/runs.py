"""Runs of detectors: one for each arm, detector and seed, each a stage with a row of the results."""

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.detectors.interface import Example, Metrics, TrainingTask
from evaluation.detectors.registry import make_detector
from evaluation.detectors.scoring import score
from evaluation.downstream.arms import Arm, ArmBuilder, ArmData, list_arms, main_arms, paints
from evaluation.downstream.experiment import Experiment
from evaluation.downstream.scenes import covering_tiles
from evaluation.downstream.sheets import hits_and_misses
from evaluation.downstream.split import TEST, VALIDATION
from evaluation.downstream.stages import CachedStage
from utils.files import replacing, write_text
from utils.images import save_png
from utils.reading import read_json

ROW, SHEET = "row.json", "hits_and_misses.png"
PARTS = {"validation": VALIDATION, "test": TEST}
COLUMNS = (
    "setting", "split", "split_seed", "part", "per_class", "arm", "volume", "real_share", "detector", "seed",
    "real", "synthetic", "steps", "seconds", "map50_95", "map50", "recall", "accuracy",
)  # fmt: skip
BY_CLASS = ("ap", "recall", "accuracy")  # begin the columns that follow, "ap: spur"


@dataclass(frozen=True)
class DetectorRun:
    """One training of a detector."""

    arm: Arm
    detector: str
    seed: int


class Runner:
    """The runs of an experiment. `setting`: what the results call it."""

    def __init__(self, experiment: Experiment, setting: str):
        self.experiment, self.setting = experiment, setting
        self.config = experiment.config
        self.builder = ArmBuilder(experiment)

    def all_runs(self) -> Iterator[DetectorRun]:
        """Arm by arm; those beside the main ones with the detectors of `extras` alone."""
        usual = set(main_arms(self.config))
        for arm in list_arms(self.config):
            for detector in self.config.detectors:
                if arm not in usual and detector not in self.config.extras:
                    continue
                for seed in range(getattr(self.config, detector).seeds):
                    yield DetectorRun(arm, detector, seed)

    def stage(self, run: DetectorRun) -> CachedStage:
        """A run depends on its data, and on what trains on them how long."""
        config, experiment = self.config, self.experiment
        depends: dict[str, Any] = {
            "parts": experiment.split_key,
            "evaluate": config.evaluate,
            "tile": config.tile,
            "one_per_tile": config.one_per_tile,
            "arm": asdict(run.arm),
            "detector": run.detector,
            "seed": run.seed,
            "options": self.options(run.detector),
        }
        if paints(run.arm):
            depends["painted"] = experiment.painted_stage(run.arm.ablation).digest
        elif run.arm.name.startswith("copy_paste"):
            depends["pasted"] = experiment.pasted_stage(run.arm.name == "copy_paste_poisson").digest
        if run.arm.name == "ours_filtered":
            depends["min_score"] = config.min_score
        return CachedStage("run", depends)

    def options(self, detector: str) -> dict[str, Any]:
        """The settings of a detector, but for the number of its seeds."""
        return getattr(self.config, detector).model_dump(mode="json", exclude={"seeds"})

    def run_arm(self, runs: Sequence[DetectorRun]) -> None:
        """Make the runs of one arm that are missing; its tiles are made once."""
        missing = [run for run in runs if not self.experiment.stages.is_done(self.stage(run))]
        if not missing:
            return
        data = self.builder.build(missing[0].arm)
        for run in missing:
            self.experiment.stages.make(self.stage(run), partial(self._train, run, data))

    def _train(self, run: DetectorRun, data: ArmData, folder: Path) -> None:
        options = self.options(run.detector)
        steps, batch_size = options.pop("steps"), options.pop("batch_size")
        task = TrainingTask(
            real=data.real,
            synthetic=data.synthetic,
            class_names=self.experiment.split.names,
            real_share=run.arm.real_share,
            steps=steps,
            batch_size=batch_size,
            seed=run.seed,
            image_size=self.config.tile,
            folder=folder,
            validation=self._tiles[VALIDATION],
        )
        test = self._tiles[PARTS[self.config.evaluate]]
        started = time.monotonic()
        detector = make_detector(run.detector, {**options, **self._device(run.detector)})
        found = detector.train_and_detect(task, test)
        seconds = time.monotonic() - started
        metrics = score(test, found, task.class_names)
        row = self.row(run, data, seconds, metrics)
        write_text(folder / ROW, json.dumps(row, indent=1))
        if run.seed == 0:
            save_png(folder / SHEET, hits_and_misses(test, found))

    def _device(self, detector: str) -> dict[str, str]:
        """Where a detector that can choose is trained; the classifier is faster than the way to a GPU."""
        device = self.config.device
        known = detector != "classifier" and device not in (None, "auto")
        return {"device": str(device)} if known else {}

    @cached_property
    def _tiles(self) -> dict[str, list[Example]]:
        """The tiles of the held-out parts."""
        return {
            part: covering_tiles(
                self.experiment.split.scenes(part),
                self.config.tile,
                np.random.default_rng([self.experiment.seed, 21, k]),
            )
            for k, part in enumerate((VALIDATION, TEST))
        }

    def row(self, run: DetectorRun, data: ArmData, seconds: float, metrics: Metrics) -> dict[str, Any]:
        """A line of the results."""
        first = (
            self.setting, self.config.split, self.experiment.seed, self.config.evaluate, run.arm.per_class,
            run.arm.name, run.arm.volume, run.arm.real_share, run.detector, run.seed,
            data.real_defects, data.synthetic_defects, self.options(run.detector)["steps"], round(seconds, 1),
        )  # fmt: skip
        values = (metrics.map50_95, metrics.map50, metrics.recall, metrics.accuracy)
        row = dict(zip(COLUMNS, (*first, *map(_rounded, values)), strict=True))
        tables = (metrics.ap, metrics.recall_by_class, metrics.accuracy_by_class or {})
        for kind, table in zip(BY_CLASS, tables, strict=True):
            row |= {f"{kind}: {name}": _rounded(value) for name, value in table.items()}
        return row

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all finished runs, with what the setting is called now."""
        stages = self.experiment.stages
        done = [stage for run in self.all_runs() if stages.is_done(stage := self.stage(run))]
        return [{**read_json(stages.folder(stage) / ROW), "setting": self.setting} for stage in done]


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 5)


def write_results(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """results.csv: the columns that all rows have, then those of the classes."""
    others = sorted({name for row in rows for name in row} - set(COLUMNS), key=_kind_first)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *others], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _kind_first(column: str) -> tuple[int, str]:
    return BY_CLASS.index(column.partition(":")[0]), column
