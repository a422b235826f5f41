"""The figure is there for detectors, and not for classifiers."""

from pathlib import Path

from evaluation.downstream.results.figure import write_figure
from evaluation.downstream.results.tables import parse_rows
from tests.downstream.test_tables import write_rows
from utils.images import load_rgb


def test_the_figure_has_a_panel_for_each_detector(tmp_path: Path):
    rows = parse_rows(write_rows(tmp_path / "r.csv", {}, {"arm": "ours", "volume": 3, "recall": 0.6}))
    assert write_figure(tmp_path / "one.png", rows)
    two = parse_rows(write_rows(tmp_path / "r.csv", {}, {"detector": "torchvision"}))
    assert write_figure(tmp_path / "two.png", two)
    one, both = (load_rgb(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert both.shape[1] == 2 * one.shape[1]


def test_without_detectors_there_is_none(tmp_path: Path):
    rows = parse_rows(write_rows(tmp_path / "r.csv", {"map50_95": "", "accuracy": 0.5}))
    assert not write_figure(tmp_path / "f.png", rows)
    assert not (tmp_path / "f.png").exists()
