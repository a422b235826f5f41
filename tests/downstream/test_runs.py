"""Rows of results: columns, missing values, and which detectors run which arms."""

import csv
from pathlib import Path

import pytest

from evaluation.detectors.interface import Metrics
from evaluation.downstream.arms import Arm, ArmData
from evaluation.downstream.experiment import Experiment
from evaluation.downstream.runs import COLUMNS, DetectorRun, Runner, write_results
from utils.schema.downstream import DownstreamConfig


def runner(tmp_path: Path, **keys) -> Runner:
    return Runner(Experiment(DownstreamConfig(outdir=str(tmp_path), **keys), 1), "s")


def test_a_row_says_who_and_how_well(tmp_path: Path):
    run = DetectorRun(Arm("ours", 2, 20, 0.5), "yolo", 1)
    metrics = Metrics(0.25, 0.5, 0.4, {"pit": 0.25, "rust": float("nan")}, {"pit": 0.4, "rust": float("nan")})
    row = runner(tmp_path).row(run, ArmData([], [], 40, 80), 12.34, metrics)
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    assert (row["arm"], row["volume"], row["real"], row["synthetic"], row["seconds"]) == (
        "ours", 2, 40, 80, 12.3,
    )  # fmt: skip
    assert (row["map50_95"], row["accuracy"], row["ap: pit"], row["ap: rust"]) == (0.25, None, 0.25, None)
    other = runner(tmp_path).row(
        run, ArmData([], [], 40, 80), 1, Metrics(None, None, None, {}, {}, 0.5, {"pit": 1.0})
    )
    write_results(tmp_path / "r.csv", [row, other])
    with (tmp_path / "r.csv").open() as file:
        first, second = csv.DictReader(file)
    assert list(first)[len(COLUMNS) :] == [
        "ap: pit",
        "ap: rust",
        "recall: pit",
        "recall: rust",
        "accuracy: pit",
    ]
    assert (first["map50_95"], first["accuracy"], second["accuracy: pit"]) == ("0.25", "", "1.0")


def test_dear_detectors_run_the_main_arms_alone(tmp_path: Path):
    keys = dict(arms=["real", "ours"], volumes=[1], curve=[5], ablations=["no_guidance"])
    found = list(runner(tmp_path, detectors=["classifier", "yolo"], **keys).all_runs())
    counts = {name: sum(run.detector == name for run in found) for name in ("classifier", "yolo")}
    assert counts == {"classifier": 4 * 6, "yolo": 2 * 3}
    found = list(runner(tmp_path, detectors=["yolo"], extras=["yolo"], **keys).all_runs())
    assert len(found) == 4 * 3


def test_kept_rows_have_the_name_that_their_setting_has_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Experiment, "split_key", {})
    first, renamed = (runner(tmp_path, arms=["real"], classifier={"seeds": 1}) for _ in "ab")
    renamed.setting = "new"
    (run,) = first.all_runs()

    def build(folder: Path) -> None:
        (folder / "row.json").write_text('{"setting": "s", "arm": "real"}')

    first.experiment.stages.make(first.stage(run), build)
    assert first.rows() == [{"setting": "s", "arm": "real"}]
    assert renamed.rows() == [{"setting": "new", "arm": "real"}]
