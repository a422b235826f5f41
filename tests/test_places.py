"""Comparing ranked places with random ones: boards, settings and the sheet."""

from pathlib import Path

import numpy as np

from evaluation.hits import GREEN, RED, Hit, Sample
from evaluation.places import draw_boards, plan_overrides, sheet
from utils.config import load_generation_config
from utils.images import load_rgb, save_png


def test_boards_are_drawn_once_and_differ(tmp_path: Path):
    boards = draw_boards(tmp_path, 2)
    assert list(boards) == ["board_0", "board_1"] and not np.array_equal(*boards.values())
    save_png(tmp_path / "board_1.png", boards["board_0"])
    assert np.array_equal(draw_boards(tmp_path, 2)["board_1"], boards["board_0"])


def test_both_ranks_ask_for_the_same_numbers(tmp_path: Path):
    plans = [
        load_generation_config(
            "confs/demo.yml", plan_overrides(tmp_path, ["short", "spur"], 7, rank)
        ).plan.plain()
        for rank in ("uniform", "score")
    ]
    assert plans[0]["counts"] == plans[1]["counts"] == {"short": 7, "spur": 7}
    assert [plan.pop("rank") for plan in plans] == ["uniform", "score"] and plans[0] == plans[1]


def test_sheet_has_a_clean_row_over_a_painted_one_framed_by_the_verdict(tmp_path: Path):
    clean, painted = np.full((100, 100, 3), 40, np.uint8), np.full((100, 100, 3), 200, np.uint8)
    save_png(tmp_path / "painted.png", painted)
    samples = [Sample(tmp_path / "painted.png", 0, "board", "short", 50, 50, 1, i) for i in range(2)]
    hits = [Hit(samples[0], "short", 0.9, None, None), Hit(samples[1], "spur", 0.1, None, None)]
    picture = sheet(hits, {"board": clean})
    tops = [row for row in range(picture.shape[0]) if (picture[row] == GREEN).all(axis=1).any()]
    green = np.argwhere((picture == GREEN).all(axis=2))
    red = np.argwhere((picture == RED).all(axis=2))
    assert tops and green[:, 0].min() == red[:, 0].min() > 64  # below the clean row
    assert green[:, 1].max() < red[:, 1].min()
    assert (load_rgb(tmp_path / "painted.png") == 200).all()
    y, x = green.mean(axis=0).astype(int)
    assert (picture[y, x] == 200).all() and (picture[y - 66, x] == 40).all()
