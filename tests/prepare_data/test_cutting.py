"""Exact patches, and where tiles lie."""

from pathlib import Path

import numpy as np
import pytest

from tests.prepare_data.builders import pixels
from utils.prepare_data.cutting import CutOptions, clean_places, cut_patch, is_crowded, places_between
from utils.prepare_data.sources import DefectBox, SourceImage


def test_patch_of_a_small_defect_copies_native_pixels_around_the_center_of_its_box():
    image = pixels(0)
    patch, scale, padded = cut_patch(image, DefectBox("spur", 70, 50, 80, 61), window=32, margin=8)
    assert (scale, padded, patch.shape) == (1, False, (48, 48, 3))
    assert np.array_equal(patch, image[55 - 24 : 55 + 24, 75 - 24 : 75 + 24])


def test_patch_at_the_edge_keeps_the_center_and_is_reflected():
    image = pixels(0)
    patch, _, padded = cut_patch(image, DefectBox("spur", 0, 0, 10, 10), window=32, margin=8)
    assert padded and np.array_equal(patch[24, 24], image[5, 5])
    mirrored = np.pad(image, ((19, 0), (19, 0), (0, 0)), mode="reflect")
    assert np.array_equal(patch, mirrored[:48, :48])


def test_patch_of_a_large_defect_is_shrunk_about_its_center():
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:246, 101:197] = 255  # a white square of 96 px; center (149, 198)
    patch, scale, padded = cut_patch(image, DefectBox("spur", 101, 150, 197, 246), window=64, margin=16)
    assert (scale, padded, patch.shape) == (2, False, (96, 96, 3))
    expected = np.zeros((96, 96), np.uint8)
    expected[24:72, 24:72] = 255  # 48 px in the middle
    inner = np.abs(patch[:, :, 0].astype(int) - expected)
    assert inner.mean() < 2 and np.array_equal(patch, patch[::-1, ::-1])


def test_shrunk_patch_is_antialiased():
    image = np.indices((400, 400)).sum(axis=0)[:, :, None] % 2 * np.full((1, 1, 3), 255)
    patch, scale, _ = cut_patch(
        image.astype(np.uint8), DefectBox("spur", 104, 104, 296, 296), window=64, margin=16
    )
    assert scale == 4 and np.abs(patch.astype(int) - 127).max() <= 2


def test_crowded_means_another_class_within_the_window():
    box = DefectBox("spur", 40, 40, 50, 50)
    near, far = DefectBox("short", 62, 40, 70, 50), DefectBox("short", 90, 40, 95, 50)
    assert is_crowded(SourceImage(Path("a"), [box, near]), box, 64)
    assert not is_crowded(SourceImage(Path("a"), [box, far, DefectBox("spur", 52, 40, 60, 50)]), box, 64)


def test_tiles_of_a_clean_image_cover_all_of_it():
    covered = np.zeros((100, 170), bool)
    for left, top in clean_places((170, 100), 64, None, np.random.default_rng(0)):
        assert 0 <= left <= 170 - 64 and 0 <= top <= 100 - 64
        covered[top : top + 64, left : left + 64] = True
    assert covered.all()
    assert clean_places((64, 64), 64, None, np.random.default_rng(0)) == [(0, 0)]
    assert clean_places((200, 63), 64, None, np.random.default_rng(0)) == []


@pytest.mark.parametrize("limit", [2, 30])
def test_number_of_tiles_can_be_set(limit):
    places = clean_places((170, 100), 64, limit, np.random.default_rng(0))
    assert len(places) == limit and len(set(places)) == limit


def test_tiles_between_defects_keep_their_distance_from_every_box():
    boxes = [DefectBox("spur", 100, 100, 120, 130), DefectBox("short", 300, 20, 300, 20, is_point=True)]
    cut = CutOptions(tile=64, clean_distance=16, window=64)
    place = places_between(SourceImage(Path("a"), boxes, size=(400, 300)), cut, np.random.default_rng(0))
    assert len(place) >= 6
    for left, top in place:
        for l, t, r, b in [(84, 84, 136, 146), (300 - 48, 20 - 48, 300 + 48, 20 + 48)]:  # noqa: E741
            assert left >= r or left + 64 <= l or top >= b or top + 64 <= t
    for number, (left, top) in enumerate(place):
        assert all(abs(left - x) >= 64 or abs(top - y) >= 64 for x, y in place[:number])
