"""The figure is there for detectors, and not for classifiers."""

from pathlib import Path

from evaluation.downstream.results.figure import draw_panel, write_figure
from evaluation.downstream.results.tables import groups, parse_rows
from tests.downstream.test_tables import write_rows
from utils.images import load_rgb


def test_the_figure_has_a_panel_for_each_detector(tmp_path: Path):
    rows = parse_rows(write_rows(tmp_path / "r.csv", {}, {"arm": "ours", "volume": 3, "recall": 0.6}))
    assert write_figure(tmp_path / "one.png", rows)
    two = parse_rows(write_rows(tmp_path / "r.csv", {}, {"detector": "torchvision"}))
    assert write_figure(tmp_path / "two.png", two)
    one, both = (load_rgb(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert both.shape[1] == 2 * one.shape[1]


def test_each_arm_is_named_once_and_other_shares_are_left_out(tmp_path: Path):
    import matplotlib.pyplot as plt

    ours = {"arm": "ours", "recall": 0.6}
    path = write_rows(
        tmp_path / "r.csv",
        {},
        {"recall": 0.2, "per_class": 10},
        {**ours, "volume": 2, "map50_95": 0.5},
        {**ours, "volume": 3, "map50_95": 0.6},
        {**ours, "volume": 2, "map50_95": 0.1, "real_share": 0.25},
        {"arm": "all_real", "recall": 0.8, "map50_95": 0.7},
    )
    (group,) = groups(parse_rows(path))
    figure, axis = plt.subplots()
    draw_panel(axis, group)
    shown = [(mark.get_label(), *mark.get_offsets()[0], mark.get_sizes()[0]) for mark in axis.collections]
    assert [(x, y, size) for _, x, y, size in shown] == [
        (0.4, 0.3, 40),
        (0.6, 0.5, 160),
        (0.6, 0.6, 220),
        (0.8, 0.7, 40),
    ]
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["real only", "real + ours", "all real data"]
    assert [label for label, *_ in shown if label in names] == names
    plt.close(figure)


def test_without_detectors_there_is_none(tmp_path: Path):
    rows = parse_rows(write_rows(tmp_path / "r.csv", {"map50_95": "", "accuracy": 0.5}))
    assert not write_figure(tmp_path / "f.png", rows)
    assert not (tmp_path / "f.png").exists()
