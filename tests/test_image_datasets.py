"""Crops with known pixels, and the order in which a run, a resumed run and its ranks see the images."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from tests.defaults import augmentation
from training.image_datasets import PatchDataset, StepSampler, augment, batches

STILL = augmentation(flip=False, rotate90=False, jitter=0)


def numbered(height: int, width: int) -> np.ndarray:
    """An image whose red channel says the row and whose green one says the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def corner(values: np.ndarray) -> tuple[int, int]:
    """(top, left) of a crop of `numbered`."""
    row, column = (values[0, 0, :2] + 1) * 127.5
    return round(float(row)), round(float(column))


def first(steps: int, **options) -> list[list[tuple[int, int]]]:
    return list(islice(StepSampler(**options), steps))


# Crops


@pytest.mark.parametrize("height, width, place", [(96, 96, (16, 16)), (64, 70, (0, 3)), (67, 64, (1, 0))])
def test_centered_crop_without_jitter_is_exactly_centered(height, width, place):
    for seed in range(3):
        values = augment(numbered(height, width), 64, True, STILL, np.random.default_rng(seed))
        assert values.shape == (64, 64, 3) and values.dtype == np.float32
        assert corner(values) == place
        top, left = place
        expected = numbered(height, width)[top : top + 64, left : left + 64] / 127.5 - 1
        assert np.allclose(values, expected, atol=1e-6)


def test_jitter_reaches_its_limits_and_no_further():
    how = augmentation(flip=False, rotate90=False, jitter=2)
    rng = np.random.default_rng(0)
    corners = {corner(augment(numbered(32, 32), 16, True, how, rng)) for _ in range(400)}
    assert corners == {(8 + i, 8 + j) for i in range(-2, 3) for j in range(-2, 3)}
    tight = {corner(augment(numbered(18, 16), 16, True, how, rng)) for _ in range(50)}
    assert tight == {(0, 0), (1, 0), (2, 0)}


def test_other_crops_lie_anywhere():
    rng = np.random.default_rng(0)
    corners = {corner(augment(numbered(18, 17), 16, False, STILL, rng)) for _ in range(200)}
    assert corners == {(i, j) for i in range(3) for j in range(2)}


def test_shrunk_crops_cover_more_and_keep_the_slope_of_a_ramp():
    ramp = np.repeat(2 * np.arange(64, dtype=np.uint8)[:, None, None], 64, axis=1).repeat(3, axis=2)
    how, rng = augmentation(flip=False, rotate90=False, shrink=2.0), np.random.default_rng(0)
    slopes = []
    for _ in range(200):
        values = augment(ramp, 32, False, how, rng)
        assert values.shape == (32, 32, 3)
        rows = values[4:-4, 5, 0] * 127.5  # off the edges, where bicubic levels off
        slopes.append(np.polyfit(np.arange(24), rows, 1)[0] / 2)
    # a uniform logarithm: a quarter below 2 ** 0.25
    assert min(slopes) == pytest.approx(1, abs=0.05) and max(slopes) == pytest.approx(2, abs=0.05)
    assert np.quantile(slopes, 0.25) == pytest.approx(2**0.25, abs=0.07)
    small = augment(ramp[:40], 32, False, how, rng)  # never more than there is
    assert small.shape == (32, 32, 3)


def test_defect_patches_are_never_shrunk():
    how = augmentation(flip=False, rotate90=False, jitter=0, shrink=4.0)
    values = augment(numbered(64, 64), 16, True, how, np.random.default_rng(0))
    assert corner(values) == (24, 24) and values[1, 0, 0] - values[0, 0, 0] == pytest.approx(
        1 / 127.5, abs=1e-6
    )


def test_turns_and_mirrors_are_the_eight_of_a_square():
    how, rng = augmentation(jitter=0), np.random.default_rng(0)
    picture = numbered(4, 4)
    seen = {
        np.rint((augment(picture, 4, True, how, rng) + 1) * 127.5).astype(np.uint8).tobytes()
        for _ in range(200)
    }
    turned = [np.rot90(picture, k) for k in range(4)]
    assert seen == {np.ascontiguousarray(p).tobytes() for q in turned for p in (q, q[:, ::-1])}


def test_mirroring_alone_goes_both_ways():
    how, rng = augmentation(jitter=0, rotate90=False), np.random.default_rng(0)
    picture = numbered(4, 4)
    seen = {
        np.rint((augment(picture, 4, True, how, rng) + 1) * 127.5).astype(np.uint8).tobytes()
        for _ in range(100)
    }
    ways = (picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1])
    assert seen == {np.ascontiguousarray(p).tobytes() for p in ways}


def test_range_with_and_without_color():
    extremes = np.zeros((8, 8, 3), np.uint8)
    extremes[:, 4:] = 255
    values = augment(extremes, 8, True, STILL, np.random.default_rng(0))
    assert set(np.unique(values)) == {-1.0, 1.0}
    how = augmentation(flip=False, rotate90=False, jitter=0, color=0.4)
    colored = [augment(extremes, 8, True, how, np.random.default_rng(seed)) for seed in range(20)]
    assert min(v.min() for v in colored) == -1 and max(v.max() for v in colored) == 1
    middle = np.full((8, 8, 3), 100, np.uint8)
    assert (
        len({augment(middle, 8, True, how, np.random.default_rng(seed)).tobytes() for seed in range(20)})
        == 20
    )


def test_dataset_items():
    pictures = [numbered(20, 20), numbered(16, 16)]
    dataset = PatchDataset(pictures, [5, 3], 16, STILL)
    x, y = dataset[1, 7]
    assert len(dataset) == 2 and y == 3 and x.shape == (3, 16, 16)
    assert torch.equal(x, torch.from_numpy(pictures[1].transpose(2, 0, 1) / np.float32(127.5) - 1))
    assert PatchDataset(pictures, None, 16, STILL)[0, 7][1] == 0
    read = PatchDataset(["20", "16"], [5, 3], 16, STILL, read=lambda name: numbered(int(name), int(name)))
    assert torch.equal(read[0, 7][0], dataset[0, 7][0])


def test_a_seed_decides_the_augmentation():
    dataset = PatchDataset([numbered(40, 40)], None, 16, augmentation(color=0.2))
    assert torch.equal(dataset[0, 3][0], dataset[0, 3][0])
    assert not torch.equal(dataset[0, 3][0], dataset[0, 4][0])


# Order


def test_every_image_once_per_epoch():
    batches_ = first(6, count=9, batch_size=3, seed=1)
    visits = [index for batch in batches_ for index, _ in batch]
    assert sorted(visits[:9]) == sorted(visits[9:]) == list(range(9))
    assert visits[:9] != visits[9:] and visits[:9] != list(range(9))


def test_epochs_may_end_within_a_batch():
    visits = [index for batch in first(5, count=5, batch_size=4, seed=0) for index, _ in batch]
    assert [sorted(visits[i : i + 5]) for i in (0, 5, 10, 15)] == [list(range(5))] * 4


def test_without_shuffle_the_order_is_the_folder_s():
    visits = [i for batch in first(3, count=4, batch_size=2, seed=0, shuffle=False) for i, _ in batch]
    assert visits == [0, 1, 2, 3, 0, 1]


def test_class_balance():
    labels = [0] * 7 + [1] * 2 + [4]
    visits = [i for batch in first(14, count=10, batch_size=3, seed=0, labels=labels) for i, _ in batch]
    assert Counter(labels[i] for i in visits) == {0: 14, 1: 14, 4: 14}
    assert Counter(visits) == dict.fromkeys(range(7), 2) | {7: 7, 8: 7, 9: 14}


def test_no_two_visits_share_an_augmentation():
    seeds = [seed for batch in first(20, count=4, batch_size=4, seed=3) for _, seed in batch]
    assert len(set(seeds)) == 80


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 1, 1, 2, 2]])
def test_a_resumed_sampler_goes_on_identically(labels):
    options = {"count": 7, "batch_size": 3, "seed": 5, "labels": labels}
    whole = first(12, **options)
    assert first(7, start_step=5, **options) == whole[5:]
    assert first(12, **options) == whole
    assert first(12, **(options | {"seed": 6})) != whole


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 1, 1, 2, 2]])
def test_ranks_share_out_the_global_batch(labels):
    options = {"count": 7, "seed": 5, "labels": labels}
    whole = first(6, batch_size=6, **options)
    ranks = [first(6, batch_size=2, rank=r, world_size=3, **options) for r in range(3)]
    assert [a + b + c for a, b, c in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_batches(workers):
    dataset = PatchDataset([numbered(20, 20) + i for i in range(3)], [2, 0, 1], 16, augmentation())
    sampler = StepSampler(3, 2, seed=0)
    got = list(islice(batches(dataset, sampler, workers), 2))
    for (x, y), keys in zip(got, first(2, count=3, batch_size=2, seed=0), strict=True):
        assert x.shape == (2, 3, 16, 16) and x.dtype == torch.float32 and y.dtype == torch.int64
        assert y.tolist() == [[2, 0, 1][index] for index, _ in keys]
        assert torch.equal(x, torch.stack([dataset[key][0] for key in keys]))
