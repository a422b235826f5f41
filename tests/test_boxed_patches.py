"""Windows around boxes, with known pixels: rows in the red channel, columns in the green one."""

import numpy as np
import pytest

from tests.defaults import augmentation
from training.boxed_patches import BoxedPatch, BoxedPatchDataset, CleanExamples, window

NO_CLEAN = CleanExamples((), 0.0, 9)
STILL = augmentation(flip=False, rotate90=False, color=0.0)


def ramp(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def marked(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Black, white inside the box."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def dataset(images, boxes, labels=None, clean=NO_CLEAN, how=STILL, size=32) -> BoxedPatchDataset:
    patches = [BoxedPatch(image, box) for image, box in zip(images, boxes, strict=True)]
    return BoxedPatchDataset(patches, labels or [0] * len(patches), size, how, clean)


@pytest.mark.parametrize("box", [(20, 30, 30, 36), (0, 0, 9, 12), (50, 55, 64, 64)])
def test_a_window_holds_the_whole_box_and_stays_inside_the_image(box):
    image, corners = ramp(64, 64), set()
    for seed in range(40):
        part, inner = window(image, box, 32, 1.0, np.random.default_rng(seed))
        assert part.shape == (32, 32, 3)
        assert min(inner) >= 0 and max(inner) <= 32
        # At zoom 1 the scale is 1: the box keeps its size, and the ramp says where the window is
        assert inner[2] - inner[0] == pytest.approx(box[2] - box[0])
        left, top = box[0] - inner[0], box[1] - inner[1]
        assert 0 <= left <= 32 and 0 <= top <= 32
        assert abs(int(part[5, 5, 1]) - (left + 5)) <= 1 and abs(int(part[5, 5, 0]) - (top + 5)) <= 1
        corners.add((round(left), round(top)))
    assert len(corners) > 5 if box == (20, 30, 30, 36) else len(corners) >= 1  # shifted where there is room


def test_a_long_box_gets_a_larger_window():
    part, inner = window(
        marked(128, 128, (20, 60, 90, 66)), (20, 60, 90, 66), 32, 1.0, np.random.default_rng(0)
    )
    assert inner[2] - inner[0] == pytest.approx(0.9 * 32)
    assert part.max() > 200


def test_the_mask_lies_on_the_defect_after_every_turn():
    box = (40, 20, 60, 28)
    data = dataset([marked(96, 96, box)], [box], how=augmentation(flip=True, rotate90=True, zoom=1.3))
    shapes = set()
    for seed in range(30):
        values, label, mask = data[0, seed]
        assert values.shape == (3, 32, 32) and mask.shape == (1, 32, 32) and label == 0
        white = values[0] > 0
        # Resampled edges are off by less than a pixel
        assert (white.float() - mask[0]).abs().sum() <= white.sum() * 0.35
        assert not (white & (mask[0] == 0)).float().sum() > 26
        rows, columns = mask[0].any(dim=1).sum().item(), mask[0].any(dim=0).sum().item()
        shapes.add(rows > columns)
    assert shapes == {True, False}


def test_clean_examples_come_at_their_ratio_with_boxes_of_usual_size():
    box = (10, 10, 20, 16)
    clean = CleanExamples([np.full((64, 64, 3), 7, np.uint8)], 0.3, 5)
    data = dataset([np.full((64, 64, 3), 200, np.uint8)], [box], [2], clean)
    items = [data[0, seed] for seed in range(600)]
    labels = [label for _, label, _ in items]
    assert set(labels) == {2, 5} and abs(labels.count(5) / 600 - 0.3) < 0.06
    for values, label, mask in items:
        assert (values < 0).all() if label == 5 else (values > 0).all()
        assert mask.any()
        if label == 5:
            assert 60 / 1.7 - 12 <= mask.sum() <= 60 * 1.7 + 12


def test_items_depend_on_index_and_seed_alone():
    box = (10, 10, 20, 16)
    how = augmentation(color=0.2, zoom=1.2)
    make = lambda: dataset([ramp(64, 64)], [box], how=how)  # noqa: E731
    first, second = make()[0, 4], make()[0, 4]
    assert all((a == b).all() if hasattr(a, "all") else a == b for a, b in zip(first, second, strict=True))
    assert not (make()[0, 5][0] == first[0]).all()


def test_gray_images_stay_gray():
    gray = np.repeat(ramp(64, 64)[..., :1], 3, axis=2)
    data = dataset([gray], [(10, 10, 20, 16)], how=augmentation(color=0.4))
    values, _, _ = data[0, 1]
    assert (values[0] == values[1]).all() and (values[0] == values[2]).all()
    tinted, _, _ = dataset(
        [ramp(64, 64) + np.uint8([90, 120, 150])], [(10, 10, 20, 16)], how=augmentation(color=0.4)
    )[0, 1]
    assert not (tinted[0] == tinted[1]).all()
