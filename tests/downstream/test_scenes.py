"""Tiles: where defects lie in them, what is hidden, and what counts as visible."""

import numpy as np
import pytest

from evaluation.downstream.scenes import (
    GRAY,
    VIEWS,
    Scene,
    clean_tiles,
    covering_tiles,
    cut,
    shown_share,
    training_tiles,
)


def scene(boxes, hidden=(), clean=None, size=(100, 120)) -> Scene:
    """Defects are white, hidden ones are 200, all else is 50."""
    image = np.full((*size, 3), 50, np.uint8)
    for value, group in ((255, boxes), (200, hidden)):
        for left, top, right, bottom in group:
            image[top:bottom, left:right] = value
    return Scene(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(len(boxes)),
        np.array(hidden, np.float32).reshape(-1, 4),
        clean,
    )


def test_every_training_defect_is_whole_in_each_of_its_tiles():
    tiles = training_tiles([scene([(10, 10, 20, 22), (90, 70, 110, 90)])], 48, np.random.default_rng(0))
    assert len(tiles) == 2 * VIEWS
    for number, tile in enumerate(tiles):
        kind = number // VIEWS
        (box,) = tile.boxes[tile.classes == kind]
        assert tuple(box[2:] - box[:2]) == ((10, 12), (20, 20))[kind]
        left, top, right, bottom = box.astype(int)
        assert (tile.image[top:bottom, left:right] == 255).all()
    assert len({tuple(tile.boxes[0]) for tile in tiles[:VIEWS]}) > 1  # the defect lies elsewhere in each


def test_tiles_may_show_one_defect_alone():
    clean = np.full((100, 120, 3), 7, np.uint8)
    crowded = scene([(40, 40, 50, 50), (54, 40, 64, 52)], clean=clean)
    tiles = training_tiles([crowded], 64, np.random.default_rng(0), alone=True)
    assert [tile.classes.tolist() for tile in tiles] == [[0]] * VIEWS + [[1]] * VIEWS
    for tile in tiles:
        ((left, top, right, bottom),) = tile.boxes.astype(int)
        shown = np.zeros(tile.image.shape[:2], bool)
        shown[top:bottom, left:right] = True
        assert (tile.image[shown] == 255).all() and not (tile.image[~shown] == 255).any()
    together = training_tiles([crowded], 64, np.random.default_rng(0))
    assert max(len(tile.boxes) for tile in together) == 2


def test_a_box_less_than_half_visible_is_painted_over():
    tile = cut(scene([(40, 10, 60, 20), (44, 50, 64, 60)]), 50, 0, 64)
    assert tile.boxes.tolist() == [[0, 10, 10, 20], [0, 50, 14, 60]]  # shares 0.5 and 0.7
    tile = cut(scene([(39, 10, 59, 20)]), 50, 0, 64)  # share 0.45
    assert len(tile.boxes) == 0 and not (tile.image == 255).any()
    assert tile.image[15, 3].tolist() == [50, 50, 50]  # the mean color of the rest


def test_hidden_defects_show_the_clean_image_but_never_under_shown_ones():
    clean = np.full((100, 120, 3), 7, np.uint8)
    tile = cut(scene([(20, 20, 30, 30)], hidden=[(25, 20, 45, 30)], clean=clean), 0, 0, 64)
    assert (tile.image[20:30, 30:45] == 7).all()
    assert (tile.image[20:30, 25:30] == 200).all()
    assert tile.boxes.tolist() == [[20, 20, 30, 30]]


def test_tiles_larger_than_the_image_are_filled_with_gray():
    tile = cut(scene([(10, 10, 20, 20)], size=(30, 40)), 0, 0, 64)
    assert tile.image.shape == (64, 64, 3)
    assert (tile.image[30:] == GRAY).all() and (tile.image[:, 40:] == GRAY).all()
    (found,) = training_tiles([scene([(10, 10, 20, 20)], size=(30, 40))], 64, np.random.default_rng(0))[:1]
    assert found.boxes.tolist() == [[10, 10, 20, 20]]


def test_a_box_longer_than_the_tile_is_clipped_to_it():
    long = scene([(10, 40, 110, 50)])  # 40 of 100 px are less than half
    for tiles in (
        training_tiles([long], 40, np.random.default_rng(0)),
        covering_tiles([long], 40, np.random.default_rng(0))[:1],
    ):
        for tile in tiles:
            (box,) = tile.boxes.astype(int)
            assert (box[0], box[2], box[3] - box[1]) == (0, 40, 10)
            assert (tile.image[box[1] : box[3]] == 255).all()


def test_a_box_longer_than_the_tile_is_hidden_in_the_tiles_of_others():
    tiles = covering_tiles([scene([(10, 40, 110, 50), (50, 60, 58, 66)])], 40, np.random.default_rng(0))
    assert sorted(kind for tile in tiles for kind in tile.classes.tolist()) == [0, 1]


def test_the_held_out_tiles_show_every_defect_once():
    many = scene([(5, 5, 15, 15), (20, 5, 30, 15), (100, 80, 110, 90)])
    tiles = covering_tiles([many], 40, np.random.default_rng(0))
    shown = [kind for tile in tiles for kind in tile.classes.tolist()]
    assert sorted(shown) == [0, 1, 2]
    with_defects = sum(len(tile.boxes) > 0 for tile in tiles)
    assert len(tiles) == 2 * with_defects


def test_defects_of_a_cluster_count_once_and_are_hidden_elsewhere():
    cluster = [
        (4 + 16 * (k % 7), 4 + 16 * (k // 7), 16 + 16 * (k % 7), 16 + 16 * (k // 7)) for k in range(42)
    ]
    for seed in range(5):
        tiles = covering_tiles([scene(cluster)], 40, np.random.default_rng(seed))
        assert sorted(kind for tile in tiles for kind in tile.classes.tolist()) == list(range(42))
        for tile in tiles:
            white = int((tile.image == 255).all(axis=2).sum())
            assert white == 144 * len(tile.boxes)


def test_a_box_that_ends_by_a_hair_beyond_the_image_is_whole():
    boxes = np.array([(5, 2, 50, 14), (5, 40, 50, 60.0005)], np.float32)
    two = Scene(np.zeros((60, 60, 3), np.uint8), boxes, np.array([0, 1]))
    assert [len(tile.boxes) for tile in covering_tiles([two], 60, np.random.default_rng(0))] == [2]


def test_clean_tiles_touch_no_defect_and_are_few_where_there_is_no_room():
    rng = np.random.default_rng(0)
    tiles = clean_tiles(scene([(50, 40, 60, 50)], hidden=[(0, 0, 9, 9)]), 32, 10, rng)
    assert len(tiles) == 10
    assert all((tile.image == 50).all() for tile in tiles)
    assert clean_tiles(scene([(50, 40, 60, 50)]), 100, 10, rng) == []


@pytest.mark.parametrize(
    ("corner", "share"), [((0, 0), 0.25), ((10, 10), 1.0), ((20, 10), 0.5), ((30, 30), 0)]
)
def test_the_visible_share(corner, share):
    box = np.array([[10, 10, 30, 30]], np.float32)
    assert shown_share(box, corner, 20)[0] == pytest.approx(share)
