"""Parts for cross-validation: groups stay whole, kinds are spread."""

from collections import Counter
from pathlib import Path

import numpy as np

from training.folds import PatchOrigin, read_origins, spread

HEAD = "file,source,class,left,top,right,bottom,scale,group,split\n"


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_group_lies_in_one_fold_with_all_its_kinds():
    kinds = [
        {10 * kind + n: PatchOrigin("abcd"[n % 4], f"{n % 4}/{n}.png") for n in range(8)} for kind in range(3)
    ]
    fold = spread(kinds, 5, rng())
    assert len(fold) == 24
    for group in range(4):
        assert len({fold[10 * kind + n] for kind in range(3) for n in (group, group + 4)}) == 1
    assert len(set(fold.values())) == 4  # as many as there are groups


def test_a_kind_of_one_group_is_spread_by_its_photographs():
    two = {n: PatchOrigin("ab"[n % 2], f"{n}.png") for n in range(4)}
    one = {10 + n: PatchOrigin("a", f"x{n // 2}.png") for n in range(6)}
    fold = spread([two, one], 3, rng())
    assert [fold[10] == fold[11], fold[12] == fold[13], fold[14] == fold[15]] == [True] * 3
    assert len({fold[10], fold[12], fold[14]}) == 3
    assert fold[0] == fold[2] != fold[1] == fold[3]


def test_a_kind_mostly_of_one_group_is_spread_by_its_photographs():
    mostly = {n: PatchOrigin("a" if n < 5 else "b", f"{n}.png") for n in range(9)}
    assert set(Counter(spread([mostly], 3, rng()).values()).values()) == {3}
    half = {n: PatchOrigin("a" if n < 5 else "b", f"{n}.png") for n in range(10)}
    assert sorted(Counter(spread([half], 3, rng()).values()).values()) == [5, 5]


def test_without_origins_or_with_one_photograph_each_goes_for_itself():
    unknown = {n: None for n in range(10)}
    one = {20 + n: PatchOrigin("a", "a.png") for n in range(10)}
    fold = spread([unknown, one], 5, rng())
    for kind in (unknown, one):
        assert set(Counter(fold[n] for n in kind).values()) == {2}


def test_groups_of_other_sizes_are_spread_as_evenly_as_largest_first_does():
    sizes = {"a": 6, "b": 3, "c": 3, "d": 2, "e": 2, "f": 2}
    names = [name for name, size in sizes.items() for _ in range(size)]
    fold = spread([{n: PatchOrigin(name, name) for n, name in enumerate(names)}], 3, rng())
    assert sorted(Counter(fold.values()).values()) == [5, 6, 7]


def test_origins_are_read_from_the_index_above(tmp_path):
    (tmp_path / "train/boxed").mkdir(parents=True)
    row = "train/boxed/spur_0.png,images/7_spur.jpg,spur,0,0,9,9,1,7,train\n"
    (tmp_path / "index.csv").write_text(HEAD + row)
    for folder in (tmp_path, tmp_path / "train", tmp_path / "train/boxed"):
        assert read_origins(folder) == {
            (tmp_path / "train/boxed/spur_0.png").resolve(): PatchOrigin("7", "images/7_spur.jpg")
        }


def test_another_index_says_nothing(tmp_path: Path):
    assert read_origins(tmp_path / "none/of/these") == {}
    (tmp_path / "index.csv").write_text("name,size\na,1\n")
    assert read_origins(tmp_path) == {}
    (tmp_path / "index.csv").write_bytes(b"\xff\xfe\x00")
    assert read_origins(tmp_path) == {}
