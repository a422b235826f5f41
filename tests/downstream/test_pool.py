"""Pools of synthetic defects: what arms take of them, and what their images show."""

from collections import Counter
from pathlib import Path

import numpy as np

from evaluation.downstream.pool import PooledDefect, pool_scenes, read_pool, select, write_pool
from utils.images import save_png


def pool(count: int = 12) -> list[PooledDefect]:
    """Of two classes in turn, scores 0, 0.1, ..."""
    return [PooledDefect("a.png", "c.png", "ab"[k % 2], (k, 0, k + 1, 1), k / 10) for k in range(count)]


def test_a_pool_is_read_as_it_was_written(tmp_path: Path):
    write_pool(tmp_path, pool())
    assert read_pool(tmp_path) == pool()


def test_each_class_has_its_number_and_more_volume_keeps_the_smaller():
    small = select(pool(), {"a": 2, "b": 1}, seed=3)
    large = select(pool(), {"a": 4, "b": 2}, seed=3)
    assert Counter(one.class_name for one in small) == {"a": 2, "b": 1}
    assert set(small) < set(large)
    assert select(pool(), {"a": 2, "b": 1}, seed=4) != small
    assert len(select(pool(), {"a": 99, "c": 5}, seed=3)) == 6


def test_the_filter_takes_from_all_that_were_painted():
    chosen = select(pool(), {"a": 2, "b": 9}, seed=3, min_score=0.5)
    assert all(one.score >= 0.5 for one in chosen)
    assert Counter(one.class_name for one in chosen) == {"a": 2, "b": 4}


def test_defects_that_were_not_chosen_are_hidden_behind_the_clean_image(tmp_path: Path):
    image, clean = str(tmp_path / "image.png"), str(tmp_path / "clean.png")
    save_png(image, np.full((9, 9, 3), 200, np.uint8))
    save_png(clean, np.full((9, 9, 3), 10, np.uint8))
    one, other = (PooledDefect(image, clean, name, (k, 0, k + 2, 2)) for k, name in enumerate("ab"))
    (scene,) = pool_scenes([one, other], [other], {"a": 0, "b": 1})
    assert scene.boxes.tolist() == [[1, 0, 3, 2]] and scene.classes.tolist() == [1]
    assert scene.hidden.tolist() == [[0, 0, 2, 2]]
    assert scene.clean[0, 0, 0] == 10 and scene.image[0, 0, 0] == 200
