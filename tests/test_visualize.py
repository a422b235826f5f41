"""What the recorder keeps, and which pixels arrive where: flat colors are counted on the finished sheets."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from generation.visualize import (
    CELL,
    COLORS,
    LABEL,
    LINE,
    ROWS,
    TITLE,
    AttentionRecorder,
    even_selection,
)

SIZE, SIDE = 16, 48
CORNERS, OWNER = [(0, 0), (30, 8), (4, 32)], [0, 0, 1]
PRIOR = [(0, 0, 255), (0, 255, 0), (255, 255, 0)]  # the prior's color in each window
CONTEXT = [(0, 128, 255), (200, 0, 100)]  # the contextual model's in each image
LAST = (255, 0, 0)  # the prior's at the last step


@dataclass(frozen=True)
class Rec:
    t: int
    image_x0: Tensor
    crop_x0: Tensor
    instant: Tensor | None
    accumulated: Tensor | None


def flat(colors: list[tuple[int, int, int]], side: int) -> Tensor:
    """(n, 3, side, side) in [-1, 1], each image of one color."""
    values = torch.tensor(colors, dtype=torch.float32) / 127.5 - 1
    return values[:, :, None, None].repeat(1, 1, side, side)


def disc(radius: float) -> Tensor:
    """(3, 1, SIZE, SIZE): 1 within `radius` px of the center, else 0, for all three windows."""
    at = torch.arange(SIZE) - (SIZE - 1) / 2
    inside = at[:, None] ** 2 + at[None, :] ** 2 <= radius**2
    return inside.float()[None, None].repeat(3, 1, 1, 1)


def recorded(count: int, masks: bool = True) -> AttentionRecorder:
    clean = flat([(90, 90, 90), (60, 60, 60)], SIDE)
    recorder = AttentionRecorder(clean, CORNERS, SIZE, OWNER)
    for n in range(count):
        crop = flat(PRIOR if n < count - 1 else [LAST] * 3, SIZE)
        pair = (disc(3), disc(5)) if masks else (None, None)
        recorder(Rec(count - 1 - n, flat(CONTEXT, SIDE), crop, *pair))
    return recorder


def cells(sheet: np.ndarray, color: tuple[int, int, int], cell: int = CELL) -> float:
    """How many whole cells the pixels of exactly this color would fill."""
    return (sheet == np.array(color, np.uint8)).all(axis=2).sum() / cell**2


# Selection


@pytest.mark.parametrize(
    ("count", "at_most", "chosen"),
    [
        (1, 12, [0]),
        (2, 12, [0, 1]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 5, [0, 2, 4, 6, 8]),
        (100, 4, [0, 33, 66, 99]),
        (7, 2, [0, 6]),
    ],
)
def test_selection_is_even_with_first_and_last(count, at_most, chosen):
    assert even_selection(count, at_most) == chosen


def test_selection_never_repeats_a_step():
    for count in range(1, 60):
        chosen = even_selection(count, 12)
        assert len(set(chosen)) == len(chosen) == min(count, 12)
        assert chosen[0] == 0 and chosen[-1] == count - 1


def test_steps_are_numbered_in_order():
    recorder = recorded(5)
    assert [step.number for step in recorder.steps] == [1, 2, 3, 4, 5]
    assert [step.t for step in recorder.steps] == [4, 3, 2, 1, 0]
    assert len(recorder.frames(0)) == 5


def test_copies_are_small_and_independent():
    recorder = AttentionRecorder(flat([(90, 90, 90), (60, 60, 60)], SIDE), CORNERS, SIZE, OWNER)
    record = Rec(3, flat(CONTEXT, SIDE), flat(PRIOR, SIZE), disc(3), disc(5))
    recorder(record)
    for tensor in (record.image_x0, record.crop_x0, record.instant, record.accumulated):
        tensor.zero_()
    step = recorder.steps[0]
    kept = (step.full, step.contextual, step.prior, step.accumulated, step.instant)
    assert all(array.dtype == np.uint8 for array in kept)
    assert step.prior[1, 0, 0].tolist() == list(PRIOR[1])
    assert step.accumulated.max() == 255 and step.instant.sum() < step.accumulated.sum()


def test_the_window_is_cut_at_left_then_top():
    image = flat([(0, 0, 0)], SIDE)
    image[0, :, 8 : 8 + SIZE, 30 : 30 + SIZE] = 1  # rows from the top, columns from the left
    recorder = AttentionRecorder(image, [(30, 8)], SIZE, [0])
    recorder(Rec(0, image, flat([LAST], SIZE), None, None))
    assert (recorder.steps[0].contextual == 255).all()


# The sheet


def test_a_sheet_has_one_row_for_each_chosen_step():
    sheet = recorded(20).figure(0)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert cells(sheet, PRIOR[0]) == ROWS - 1 and cells(sheet, LAST) == 1
    few = recorded(3).figure(0)
    assert cells(few, PRIOR[0]) == 2 and cells(few, LAST) == 1
    rows = (sheet == np.array(LAST, np.uint8)).all(axis=2).any(axis=1).nonzero()[0]
    assert rows.min() > (sheet == np.array(PRIOR[0], np.uint8)).all(axis=2).any(axis=1).nonzero()[0].max()


def test_a_window_shows_its_own_image():
    recorder = recorded(3)
    for window, (prior, image) in enumerate(zip(PRIOR, OWNER, strict=True)):
        sheet = recorder.figure(window)
        assert cells(sheet, prior) == 2
        assert all(cells(sheet, other) == 0 for other in PRIOR if other != prior)
        # The window's estimate, the same under the contour, and the full estimate: three cells in each row
        assert 8.5 < cells(sheet, CONTEXT[image]) < 9 and cells(sheet, CONTEXT[1 - image]) == 0


def test_the_masks_have_the_colors_of_the_scale():
    sheet = recorded(2).figure(0)
    high, low = (tuple(int(v) for v in COLORS(value, bytes=True)[:3]) for value in (255, 0))
    # Each pixel of a mask fills (CELL / SIZE)^2 pixels of its cell; the color bar adds a few
    areas = [float(disc(radius)[0].sum()) / SIZE**2 for radius in (3, 5)]
    assert cells(sheet, high) == pytest.approx(2 * sum(areas), abs=0.05)
    assert cells(sheet, low) == pytest.approx(2 * (2 - sum(areas)), abs=0.05)


def test_columns_with_masks_vanish_without_attention():
    with_masks, without = recorded(3).figure(0), recorded(3, masks=False).figure(0)
    gap = (with_masks.shape[1] - without.shape[1]) / 3 - CELL
    assert 0 <= gap < 20  # three columns less
    assert without.shape[0] < with_masks.shape[0]  # no color bar
    assert cells(without, CONTEXT[0]) == 6  # two whole cells in each row: no column with a contour
    assert len(recorded(3, masks=False).frames(0)) == 3


def test_the_clean_image_carries_the_window():
    recorder = recorded(1, masks=False)
    scale = CELL // SIDE
    for window, (left, top) in enumerate(CORNERS):
        y, x = (recorder.figure(window) == np.array(LINE, np.uint8)).all(axis=2).nonzero()
        assert (x.min() - LABEL, y.min() - TITLE) == (left * scale, top * scale)
        assert np.ptp(x) + 1 == np.ptp(y) + 1 == SIZE * scale


def test_a_wide_picture_keeps_its_shape():
    clean = flat([(90, 90, 90)], SIDE)[:, :, : SIDE // 2]  # (1, 3, 24, 48)
    recorder = AttentionRecorder(clean, [(0, 8)], SIZE, [0])
    recorder(Rec(0, flat(CONTEXT[:1], SIDE)[:, :, : SIDE // 2], flat([LAST], SIZE), None, None))
    assert cells(recorder.figure(0), CONTEXT[0]) == 1.5  # the window and half a cell


# The animation


def test_frames_are_single_rows_of_one_size():
    recorder = recorded(4)
    frames = recorder.frames(1)
    assert len(frames) == 4 and len({frame.shape for frame in frames}) == 1
    assert [cells(frame, PRIOR[1]) for frame in frames] == [1, 1, 1, 0]
    assert [cells(frame, LAST) for frame in frames] == [0, 0, 0, 1]
    # The labels differ, and an earlier one leaves nothing behind
    assert not np.array_equal(frames[0], frames[1])
    recorder.steps[:3] = [recorder.steps[3]] * 3
    assert np.array_equal(recorder.frames(1)[0], frames[3])


# Misuse


@pytest.mark.parametrize(
    "changes",
    [
        {"corners": [(33, 0)], "owner": [0]},
        {"corners": [(0, -1)], "owner": [0]},
        {"corners": [(0, 0)], "owner": [2]},
        {"corners": [(0, 0)], "owner": [0, 1]},
    ],
)
def test_windows_off_the_image_are_refused(changes):
    arguments = {"corners": CORNERS, "size": SIZE, "owner": OWNER, **changes}
    with pytest.raises(ValueError):
        AttentionRecorder(flat(CONTEXT, SIDE), **arguments)


def test_a_record_of_another_batch_is_refused():
    recorder = recorded(1)
    with pytest.raises(ValueError, match="t = 7"):
        recorder(Rec(7, flat(CONTEXT, SIDE), flat(PRIOR[:2], SIZE), None, None))
    assert len(recorder.steps) == 1


def test_nothing_recorded_is_said():
    for draw in (recorded(0).figure, recorded(0).frames):
        with pytest.raises(ValueError, match="no step"):
            draw(0)
