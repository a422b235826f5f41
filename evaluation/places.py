"""Does ranking places pay? Plans places on new boards by score and at random, paints both, lets a classifier judge.

    python -m evaluation.places --conf_path confs/demo.yml --per-class 20 --out runs/places [key=value ...]

Draws clean boards that no training saw, paints one sample per place with `plan.rank` score and uniform, and
writes for each `places_<rank>.csv` (a line per sample) and `sheet_<rank>.png` (per class a row of clean places over
a row of painted ones, framed green where the classifier names the class and red where not) and prints the
fraction that shows its class. The classifier is that of evaluation.hits: its verdicts hold for synthetic boards only.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.classifier import DEFAULT_PATH, cut_window, load_classifier, train_and_save
from evaluation.hits import (
    GREEN,
    RED,
    Hit,
    collect,
    format_table,
    judge,
    known_names,
    paint,
    table_rows,
    write_csv,
)
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.images import grid, load_rgb, save_png
from utils.network_metadata import class_names
from utils.synthetic_pcb.board import CLASSES
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render

RANKS = ("uniform", "score")
BOARD = 256  # px
BOARD_SEED = 970_000  # of the first board; other seeds than those of the training sets and of the classifier


def draw_boards(folder: Path, count: int) -> dict[str, np.ndarray]:
    """Write `count` clean boards as `board_<n>.png`; those that are there stay. Returns stem -> image."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for number in range(count):
        path = folder / f"board_{number}.png"
        if not path.exists():
            save_png(path, render(draw_board(BOARD_SEED + number, BOARD, BOARD)))
        images[path.stem] = load_rgb(path)
    return images


def plan_overrides(boards: Path, names: Sequence[str], per_class: int, rank: str) -> list[str]:
    """Settings that ask for `per_class` places of every class on the boards."""
    counts = [f"plan.counts.{name}={per_class}" for name in names]
    return [f"defect_free_dir={boards}", f"plan.rank={rank}", "n_samples=1", *counts]


def sheet(hits: Sequence[Hit], clean_images: Mapping[str, np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8: for each class a row of its clean places and below it the painted ones, framed."""
    blank = np.full((68, 68, 3), 255, np.uint8)
    cells: list[np.ndarray] = []
    mine = [[hit for hit in hits if hit.sample.class_name == name] for name in CLASSES]
    columns = max(map(len, mine))
    for row in filter(None, mine):
        spare = [blank] * (columns - len(row))
        clean = [_cell(clean_images[hit.sample.stem], hit, (255, 255, 255)) for hit in row]
        painted = [_cell(load_rgb(hit.sample.path), hit, GREEN if hit.right else RED) for hit in row]
        cells += [*clean, *spare, *painted, *spare]
    return grid(cells, columns)


def _cell(image: np.ndarray, hit: Hit, frame: tuple[int, int, int]) -> np.ndarray:
    """The 64 px window at a sample's center with a frame of 2 px."""
    cell = np.full((68, 68, 3), frame, np.uint8)
    cell[2:-2, 2:-2] = cut_window(image, hit.sample.x, hit.sample.y)
    return cell


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m evaluation.places", __doc__)
    parser.add_argument("--per-class", type=int, default=20, help="places of each class")
    parser.add_argument("--boards", type=int, default=40, help="boards to place them on")
    parser.add_argument("--seed", type=int, default=0, help="of the places and of the painting")
    parser.add_argument("--out", type=Path, default=Path("runs/places"), help="folder for images and results")
    parser.add_argument("--classifier", type=Path, default=DEFAULT_PATH, help="trained here if it is missing")
    return parser


def main(argv: list[str]) -> None:
    """Plan, paint and judge with both ranks, print the tables, write the files; raises UserError."""
    args = parse_with_conf(_parser(), argv)
    if min(args.per_class, args.boards) < 1:
        raise UserError("--per-class and --boards: expected 1 or more each")
    cfg = load_generation_config(args.conf_path, args.overrides)
    names = known_names(list(class_names(cfg.crop_class_json_path, cfg.crop_model_path)))
    clean_images = draw_boards(args.out / "boards", args.boards)
    model = load_classifier(args.classifier) if args.classifier.is_file() else train_and_save(args.classifier)
    for rank in RANKS:
        overrides = plan_overrides(args.out / "boards", CLASSES, args.per_class, rank)
        paint(args.conf_path, args.seed, args.out / rank, [*args.overrides, *overrides])
        hits = judge(model, collect(args.out / rank, args.seed, names), clean_images)
        write_csv(args.out / f"places_{rank}.csv", hits)
        save_png(args.out / f"sheet_{rank}.png", sheet(hits, clean_images))
        print(f"plan.rank={rank}\n{format_table(table_rows(hits))}\n")
    print(f"written: places_*.csv and sheet_*.png in {args.out}")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
