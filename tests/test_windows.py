"""Windows and targets on tensors small enough for paper."""

from dataclasses import replace

import torch
from torch import Tensor

from guided_diffusion.windows import Target, Windows


def numbered(count: int = 1, size: int = 4) -> Tensor:
    return torch.arange(count * 3 * size * size, dtype=torch.float32).view(count, 3, size, size)


def test_cut_takes_columns_from_left_and_rows_from_top():
    windows = Windows([(1, 0), (0, 2), (2, 2)], 2, torch.tensor([0, 1, 1]))
    x = numbered(2)
    got = windows.cut(x)
    assert got.shape == (3, 3, 2, 2)
    assert got[0, 0].tolist() == [[1, 2], [5, 6]]
    assert torch.equal(got[1], x[1, :, 2:4, 0:2])
    assert torch.equal(got[2], x[1, :, 2:4, 2:4])


def test_outside_is_the_complement_of_the_union():
    windows = Windows([(0, 0), (1, 1)], 2, torch.tensor([0, 0]))  # they overlap at (1, 1)
    mask = windows.outside(torch.zeros(2, 3, 4, 4))
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert mask[1].min() == 1  # an image without windows


def test_windows_of_some_images_are_renumbered():
    windows = Windows([(0, 0), (1, 0), (2, 0), (0, 1)], 2, torch.tensor([0, 1, 1, 3]))
    some, index = windows.select([3, 1])
    assert index == [3, 1, 2]
    assert some.owner.tolist() == [0, 1, 1]
    assert list(some.corners) == [(0, 1), (1, 0), (2, 0)]
    x = numbered(4)
    assert torch.equal(some.cut(x[[3, 1]]), windows.cut(x)[index])


def test_target_of_some_images():
    windows = Windows([(0, 0), (1, 0), (2, 0)], 2, torch.tensor([0, 1, 1]))
    target = Target.of_clean(numbered(2), windows)
    one = target.select([1])
    assert torch.equal(one.clean, target.clean[1:])
    assert torch.equal(one.clean_windows, target.clean_windows[1:])
    assert torch.equal(one.outside, target.outside[1:])
    assert one.defect is None and one.background is None
    swapped = target.select([1, 0])
    assert torch.equal(swapped.clean, target.clean.flip(0))
    assert torch.equal(swapped.clean_windows, target.clean_windows[[1, 2, 0]])


def test_other_surroundings_than_the_clean_ones_may_be_known():
    clean, boxes = numbered(2), torch.zeros(2, 1, 2, 2)
    windows = Windows([(1, 0), (0, 2)], 2, torch.tensor([0, 1]), boxes)
    assert torch.equal(Target.of_clean(clean, windows).known.clean, windows.cut(clean))
    other = torch.rand(2, 3, 2, 2)
    some = Target.of_clean(clean, replace(windows, known=other)).select([1])
    assert torch.equal(some.known.clean, other[1:]) and torch.equal(
        some.clean_windows, windows.cut(clean)[1:]
    )
