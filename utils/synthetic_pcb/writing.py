"""Files of synthetic boards: clean boards, defect patches, labeled test boards, the bundled samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from utils.labels import format_annotation, relative_box
from utils.synthetic_pcb.board import CLASSES, MAX_EXTENT, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render


def yolo_line(box: tuple[int, int, int, int], class_name: str, height: int, width: int) -> str:
    """`class cx cy w h`, in fractions of the image's sides, for a box in pixels."""
    return format_annotation(CLASSES.index(class_name), *relative_box(box, width, height))


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=4)


def write_clean(folder: Path, count: int, seed: int, size: int) -> None:
    """Write `count` clean boards as `board_<n>.png`, size x size."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="clean boards"):
        _save(render(draw_board(_mix(seed, 0, index), size, size)), folder / f"board_{index}.png")


def write_patches(folder: Path, per_class: int, seed: int, size: int, patch: int, margin: int) -> None:
    """Write `per_class` patches of every class as `<class>_<n>.png`, each centered on its defect.

    No patch shows any other defect. Boards are generated until every class is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = dict.fromkeys(CLASSES, per_class)
    order = np.random.default_rng([seed, 3])
    board_index = 0
    with tqdm(total=per_class * len(CLASSES), desc="defect patches") as bar:
        while any(missing.values()):
            unfinished = [name for name in CLASSES if missing[name] > 0]
            requested = [str(name) for name in order.permutation(unfinished)]
            requested.sort(key=lambda name: -missing[name])
            board_seed = _mix(seed, 1, board_index)
            board, defects = add_defects(
                draw_board(board_seed, size, size),
                requested,
                board_seed,
                margin,
                patch // 2 + MAX_EXTENT // 2,
            )
            if defects:
                pixels = render(board)
            for defect in defects:
                x, y = defect_center(defect)
                left, top = x - patch // 2, y - patch // 2
                missing[defect.class_name] -= 1
                name = f"{defect.class_name}_{per_class - 1 - missing[defect.class_name]}.png"
                _save(pixels[top : top + patch, left : left + patch], folder / name)
                bar.update()
            board_index += 1


def write_test_boards(folder: Path, count: int, seed: int, size: int, margin: int) -> None:
    """Write `count` boards with up to six defects: `board_<n>.png`, `.txt` (YOLO), `_mask.png` (0, 255)."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="test boards"):
        board_seed = _mix(seed, 2, index)
        requested = [str(name) for name in np.random.default_rng([board_seed, 4]).permutation(CLASSES)]
        board, defects = add_defects(draw_board(board_seed, size, size), requested, board_seed, margin)
        lines = [yolo_line(defect.box, defect.class_name, size, size) for defect in defects]
        mask = np.zeros((size, size), dtype=np.uint8)
        for defect in defects:
            mask[defect.mask] = 255
        _save(render(board), folder / f"board_{index}.png")
        _save(mask, folder / f"board_{index}_mask.png")
        (folder / f"board_{index}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _mix(seed: int, stream: int, index: int) -> int:
    """A separate seed for every (seed, stream, index)."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1)[0])


# The bundled boards: file name, height, width, board seed, and the classes to request.
SampleBoard = tuple[str, int, int, int, tuple[str, ...]]
SAMPLE_BOARDS: tuple[SampleBoard, ...] = (
    ("board_1.png", 256, 256, 10, ("missinghole",)),
    ("board_2.png", 256, 256, 3, ("mousebite",)),
    ("board_3.png", 256, 256, 2, ("opencircuit",)),
    ("board_4.png", 256, 256, 21, ("spur",)),
    ("board_5.png", 384, 512, 3, ("short", "spuriouscopper")),
)
FULL_BOARDS: tuple[SampleBoard, ...] = tuple(
    (f"board_{seed}.png", 320, 320, seed, CLASSES) for seed in (100, 101, 107, 111, 116, 117)
)


def write_samples(folder: Path) -> None:
    """Write five clean boards with YOLO labels saying where a defect of each class can be painted."""
    _write_annotated(folder, SAMPLE_BOARDS, margin=60, min_spacing=100)


def write_full_boards(folder: Path) -> None:
    """Write six clean boards, each with YOLO labels for one defect of every class."""
    _write_annotated(folder, FULL_BOARDS, margin=40, min_spacing=72)


def _write_annotated(folder: Path, boards: Sequence[SampleBoard], margin: int, min_spacing: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, height, width, seed, classes in boards:
        board = draw_board(seed, height, width)
        _, defects = add_defects(board, classes, seed, margin, min_spacing)
        lines = [yolo_line(defect.box, defect.class_name, height, width) for defect in defects]
        _save(render(board), folder / name)
        (folder / name).with_suffix(".txt").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )
