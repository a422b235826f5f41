"""The bundled synthetic world as a source of data, and synthetic boards as training data of the arm `procedural`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from evaluation.downstream.scenes import Scene
from utils.images import save_png
from utils.labels import normalize_class_name
from utils.schema.downstream import WorldConfig
from utils.synthetic_pcb.board import CLASSES, BoardDefect
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render
from utils.synthetic_pcb.writing import yolo_line

GROUP_PATTERN = r"^(train|validation|test)_"  # of the file names
FIRST_SEED = {"train": 2_000_000, "validation": 2_100_000, "test": 2_200_000, "procedural": 2_300_000}
OF_WORLD = 10_000  # seeds of a part that a world has; WorldConfig allows no more boards, and ten worlds
MARGIN = 24  # px between a defect's center and the board's edge
SPACING = 40  # px between two centers
PROCEDURAL_SIDE = 320  # px


def draw_pair(seed: int, side: int) -> tuple[np.ndarray, np.ndarray, list[BoardDefect]]:
    """A synthetic board with up to six defects, the same board without, (side, side, 3) uint8, and the defects."""
    board = draw_board(seed, side, side)
    wanted = [str(name) for name in np.random.default_rng([seed, 4]).permutation(CLASSES)]
    edited, defects = add_defects(board, wanted, seed, MARGIN, SPACING)
    return render(edited), render(board), defects


def write_world(folder: Path, config: WorldConfig) -> None:
    """Boards of all parts as a YOLO data set, with their clean twins in `clean/`; worlds share no board."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "clean").mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(yaml.safe_dump({"names": list(CLASSES)}), encoding="utf-8")
    counts = {
        "train": config.train_boards,
        "validation": config.validation_boards,
        "test": config.test_boards,
    }
    for part, count in counts.items():
        for index in range(count):
            path = folder / "images" / f"{part}_{index:04d}.png"
            if path.with_suffix(".txt").exists():  # written last
                continue
            image, clean, defects = draw_pair(
                FIRST_SEED[part] + OF_WORLD * config.number + index, config.size
            )
            save_png(path, image)
            save_png(folder / "clean" / path.name, clean)
            lines = [yolo_line(one.box, one.class_name, config.size, config.size) for one in defects]
            path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def procedural_scenes(wanted: Mapping[str, int], classes: Mapping[str, int]) -> Iterator[Scene]:
    """Synthetic boards with, in all, the `wanted` number of defects of each class that synthetic boards have.

    Classes are matched by name without case and punctuation; `classes`: name -> index in the experiment.
    """
    own = {normalize_class_name(name): name for name in CLASSES}
    known = {own[key]: name for name in wanted if (key := normalize_class_name(name)) in own}
    missing = {drawn: wanted[name] for drawn, name in known.items()}
    seed = FIRST_SEED["procedural"]
    while any(missing.values()):
        image, clean, defects = draw_pair(seed, PROCEDURAL_SIDE)
        seed += 1
        shown = []
        for defect in defects:
            if missing.get(defect.class_name, 0) > 0:
                missing[defect.class_name] -= 1
                shown.append(defect)
        hidden = [defect.box for defect in defects if all(defect is not one for one in shown)]
        if shown:
            yield Scene(
                image,
                np.array([defect.box for defect in shown], np.float32),
                np.array([classes[known[defect.class_name]] for defect in shown], np.int64),
                np.array(hidden, np.float32).reshape(-1, 4),
                clean,
            )
