"""Drawn boards: equal seeds, exact masks, and what each class does to the conductors."""

import json
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from utils.errors import UserError
from utils.synthetic_pcb import (
    CLASSES,
    Board,
    Defect,
    add_defects,
    candidate_sites,
    conductors,
    defect_centre,
    draw_board,
    main,
    render,
    yolo_line,
)

CHANGE = {"missing_hole": 0, "mouse_bite": 0, "open_circuit": 1, "short": -1, "spur": 0, "spurious_copper": 1}


@cache
def example(class_name: str) -> tuple[Board, Board, Defect]:
    for seed in range(20):
        board = draw_board(seed, 192, 192)
        edited, defects = add_defects(board, [class_name], seed, margin=40)
        if defects:
            return board, edited, defects[0]
    raise AssertionError(f"no board of twenty has a place for {class_name}")


def test_equal_seeds_give_equal_boards_and_defects():
    first, second = draw_board(5, 128, 160), draw_board(5, 128, 160)
    assert np.array_equal(render(first), render(second))
    one, two = (add_defects(board, CLASSES, 9)[1] for board in (first, second))
    assert [d.box for d in one] == [d.box for d in two] and len(one) > 0
    assert not np.array_equal(render(first), render(draw_board(6, 128, 160)))


def test_render_has_the_asked_size_and_type():
    picture = render(draw_board(1, 96, 144))
    assert picture.shape == (96, 144, 3) and picture.dtype == np.uint8 and picture.std() > 5


@pytest.mark.parametrize("class_name", CLASSES)
def test_class_changes_the_conductors_as_it_should(class_name):
    board, edited, _ = example(class_name)
    assert conductors(edited)[1] - conductors(board)[1] == CHANGE[class_name]
    assert not np.array_equal(edited.copper, board.copper) or class_name == "missing_hole"


def test_missing_hole_removes_exactly_one_drill():
    board, edited, defect = example("missing_hole")
    before, after = (ndimage.label(b.drill > 0)[1] for b in (board, edited))
    assert after == before - 1 and np.array_equal(edited.copper, board.copper)
    x, y = defect_centre(defect)
    assert min(max(abs(pad.x - x), abs(pad.y - y)) for pad in board.pads) <= 1.5


@pytest.mark.parametrize("class_name", ["mouse_bite", "open_circuit"])
def test_bites_and_opens_only_remove_copper(class_name):
    board, edited, _ = example(class_name)
    assert (edited.copper <= board.copper).all()


@pytest.mark.parametrize("class_name", ["short", "spur", "spurious_copper"])
def test_shorts_spurs_and_islands_only_add_copper(class_name):
    board, edited, _ = example(class_name)
    assert (edited.copper >= board.copper).all()


@pytest.mark.parametrize("class_name", CLASSES)
def test_mask_is_tight_in_its_box_and_covers_the_rendered_change(class_name):
    board, edited, defect = example(class_name)
    left, top, right, bottom = defect.box
    assert 0 <= left < right <= 192 and 0 <= top < bottom <= 192
    assert 7 <= max(right - left, bottom - top) <= 40
    rows, columns = np.nonzero(defect.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == defect.box
    difference = np.abs(render(edited).astype(int) - render(board).astype(int)).max(axis=2)
    beyond = ~ndimage.binary_dilation(defect.mask, np.ones((3, 3)), iterations=8)
    # Beyond the shadow of the edit only the 8x8 JPEG blocks may differ, by quantisation alone.
    assert difference[beyond].max() <= 12
    assert difference[~ndimage.binary_dilation(defect.mask, np.ones((3, 3)), iterations=24)].max() == 0
    assert difference[defect.mask].mean() > 15


def test_margin_and_spacing_are_kept():
    board = draw_board(3, 256, 256)
    _, defects = add_defects(board, CLASSES, 3, margin=48, min_spacing=68)
    centres = [((d.box[0] + d.box[2]) / 2, (d.box[1] + d.box[3]) / 2) for d in defects]
    assert len(centres) >= 3
    for index, (x, y) in enumerate(centres):
        assert 47 <= x <= 209 and 47 <= y <= 209
        for u, v in centres[:index]:
            assert max(abs(x - u), abs(y - v)) >= 68


def test_candidate_sites_keep_the_margin_and_lie_where_the_class_makes_sense():
    board = draw_board(3, 256, 256)
    labels, _ = conductors(board)
    for class_name in CLASSES:
        for x, y in candidate_sites(board, class_name, 30):
            assert 30 <= x <= 226 and 30 <= y <= 226
            if class_name == "open_circuit":
                assert labels[y, x] > 0
            if class_name == "spurious_copper":
                assert labels[y, x] == 0
    assert candidate_sites(board, "missing_hole", 30)
    with pytest.raises(ValueError, match="scratch"):
        candidate_sites(board, "scratch", 0)


def test_larger_scale_widens_the_traces():
    assert min(t.width for t in draw_board(2, 256, 256, scale=2.0).traces) >= 14.0


def test_yolo_line_is_normalised():
    assert yolo_line((10, 20, 30, 60), "short", 100, 200) == "3 0.100000 0.400000 0.100000 0.400000"


def test_command_line_writes_the_training_layout(tmp_path, capsys):
    main(["--out", str(tmp_path), "--seed", "4", "--clean", "2", "--per-class", "1", "--boards", "1"])
    assert json.loads((tmp_path / "pcb.json").read_text()) == {name: i for i, name in enumerate(CLASSES)}
    assert sorted(p.name for p in (tmp_path / "defect_free").iterdir()) == ["board_0.png", "board_1.png"]
    assert sorted(p.name for p in (tmp_path / "defect").iterdir()) == [f"{name}_0.png" for name in CLASSES]
    assert Image.open(tmp_path / "defect" / "short_0.png").size == (96, 96)
    test_files = sorted(p.name for p in (tmp_path / "test").iterdir())
    assert test_files == ["board_0.png", "board_0.txt", "board_0_mask.png"]
    mask = np.asarray(Image.open(tmp_path / "test" / "board_0_mask.png"))
    for line in (tmp_path / "test" / "board_0.txt").read_text().splitlines():
        cx, cy, w, h = (float(v) * 256 for v in line.split()[1:])
        window = mask[round(cy - h / 2) : round(cy + h / 2), round(cx - w / 2) : round(cx + w / 2)]
        assert window.any(axis=0).all() and window.any(axis=1).all()


def test_samples_hold_each_class_once_on_clean_boards(tmp_path):
    main(["--samples", str(tmp_path)])
    found = []
    for text in sorted(tmp_path.glob("*.txt")):
        width, height = Image.open(text.with_suffix(".png")).size
        for line in text.read_text().splitlines():
            index, cx, cy, _, _ = (float(v) for v in line.split())
            found.append(int(index))
            assert 40 <= cx * width <= width - 40 and 40 <= cy * height <= height - 40
    assert sorted(found) == list(range(6)) and len(list(tmp_path.glob("*.png"))) == 5


@pytest.mark.parametrize(
    "options, problem",
    [
        ([], "nothing to write"),
        (["--out", "x", "--patch", "95"], "--patch"),
        (["--out", "x", "--margin", "10"], "--margin"),
        (["--out", "x", "--size", "100"], "--size"),
        (["--out", "x", "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_options_are_user_errors(options, problem):
    with pytest.raises(UserError, match=problem):
        main(options)


def test_tiny_boards_are_refused():
    with pytest.raises(ValueError, match="64 px"):
        draw_board(0, 32, 256)
