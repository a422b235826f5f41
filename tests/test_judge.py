"""A judge of bright and dark squares: trained on a few patches, told from clean ones, saved, and far from home."""

import json

import numpy as np
import pytest
import torch

from evaluation.judge import main
from training.judge import (
    JudgedBox,
    JudgeOptions,
    Patch,
    Tile,
    auc,
    clean_examples,
    free_box,
    load_patches,
    reliability_of,
    train_judge,
)
from utils.checkpoint import load_state_dict, save_safetensors
from utils.errors import UserError
from utils.images import save_png
from utils.judging.judge import Judge, Reliability, box_mask, judge_inputs, load_judge, save_judge

CLASSES = ("bright", "dark")
QUICK = JudgeOptions(folds=2, steps=80, clean=40, batch_size=16, zoom=1.2)


def noisy(size: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 3, (size, size, 3))
    return np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8)


def patch(class_id: int, seed: int, side: int = 96) -> Patch:
    image = noisy(side, seed)
    x, y = np.random.default_rng([seed, 1]).integers(20, side - 40, 2)
    image[y : y + 16, x : x + 16] = (230, 20)[class_id]
    return Patch(image, ((float(x), float(y), x + 16.0, y + 16.0),), class_id)


@pytest.fixture(scope="module")
def trained() -> tuple[Judge, Reliability]:
    torch.set_num_threads(1)
    patches = [patch(k, 10 * n + k) for n in range(6) for k in (0, 1)]
    return train_judge(patches, [Tile(noisy(96, 100 + n)) for n in range(6)], CLASSES, QUICK)


def windows(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([image[:64, :64] for image in images])


def test_squares_are_told_apart_and_from_clean_windows(trained):
    judge, reliability = trained
    assert judge.labels == ("bright", "dark", "clean")
    assert reliability.counts["bright"] == reliability.counts["dark"] == 6
    assert reliability.auc > 0.95
    assert min(reliability.right.values()) > 0.8
    shown = [patch(k, 900 + k, side=80).image for k in (0, 1)]
    boxes = [patch(k, 900 + k, side=80).boxes[0] for k in (0, 1)]
    found = judge.predict(windows([*shown, noisy(80, 77)]), [*boxes, boxes[0]])
    assert found.shape == (3, 3) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert found.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_box_beside_the_defect_holds_none(trained):
    one = patch(0, 50, side=80)
    left, top = one.boxes[0][:2]
    beside = (0.0, 44.0, 16.0, 60.0) if left > 22 or top < 24 else (46.0, 0.0, 62.0, 16.0)
    found = trained[0].predict(windows([one.image] * 2), [one.boxes[0], beside])
    assert found[0, 0] > 0.5 > found[1, 0]


def test_home_is_near_and_another_texture_far(trained):
    judge = trained[0]
    home = judge.distance(windows([noisy(64, 500 + n) for n in range(8)]))
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    assert np.median(home) < 1.2
    assert judge.distance(windows([stripes]))[0] > 3 * np.median(home)


def test_a_judge_is_what_was_saved(trained, tmp_path):
    judge, reliability = trained
    save_judge(judge, tmp_path / "judge.safetensors", reliability)
    loaded, told = load_judge(tmp_path / "judge.safetensors")
    assert told == reliability and loaded.labels == judge.labels
    shown, box = windows([noisy(64, 3)]), [(10.0, 10.0, 30.0, 30.0)]
    assert np.array_equal(loaded.predict(shown, box), judge.predict(shown, box))
    assert np.array_equal(loaded.distance(shown), judge.distance(shown))


def test_a_judge_knows_the_colors_of_each_class(trained):
    palettes = trained[0].palettes
    assert palettes.any(dim=(1, 2)).all() and palettes.float().mean() < 0.01  # gray levels and some noise


def test_a_judge_without_colors_is_read_as_before(tmp_path):
    old = Judge(["spot"], 1, references=2, palettes=False)
    assert "palettes" not in old.state_dict()
    save_judge(old, tmp_path / "judge.safetensors", Reliability({}, {}, 0.5))
    weights, metadata = load_state_dict(tmp_path / "judge.safetensors")
    del metadata["palettes"]
    save_safetensors(tmp_path / "older.safetensors", weights, metadata)
    assert load_judge(tmp_path / "older.safetensors")[0].palettes is None


def test_other_weights_are_no_judge(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="expected a judge"):
        load_judge(tmp_path / "other.pt")


def test_inputs_hold_the_box():
    inputs = judge_inputs(np.full((1, 64, 64, 3), 255, np.uint8), [(2.0, 4.0, 10.0, 12.0)])
    assert inputs.shape == (1, 4, 64, 64)
    assert inputs[0, :3].unique().tolist() == [1.0]
    assert inputs[0, 3].sum() == 64 and inputs[0, 3, 4, 2] == 1
    assert box_mask((-3, -3, 5, 5)).sum() == 25


def test_a_free_box_misses_the_others():
    rng, taken = np.random.default_rng(0), [(20.0, 20.0, 44.0, 44.0)]
    for _ in range(50):
        left, top, right, bottom = free_box(np.zeros((64, 64, 3)), taken[0], taken, rng) or (0, 0, 0, 0)
        assert right <= 20 or left >= 44 or bottom <= 20 or top >= 44
        assert min(left, top) >= 0 and max(right, bottom) <= 64
    assert free_box(np.zeros((40, 40, 3)), (0, 0, 30, 30), [(5, 5, 35, 35)], rng) is None


def test_patches_filled_by_their_defects_have_nothing_clean():
    full = Patch(np.zeros((64, 64, 3), np.uint8), ((2.0, 2.0, 62.0, 62.0),), 0)
    assert clean_examples([full], [], 9, 1, np.random.default_rng(0)) == []
    with pytest.raises(UserError, match="clean windows"):
        train_judge([full], [], ["a"], QUICK)


def test_reliability_counts_right_answers():
    image, box = np.zeros((64, 64, 3), np.uint8), (0.0, 0.0, 1.0, 1.0)
    said = [
        (JudgedBox(image, box, 0, 0, 0), np.array([0.9, 0.1])),
        (JudgedBox(image, box, 0, 0, 1), np.array([0.3, 0.7])),
        (JudgedBox(image, box, 1, 0, 2), np.array([0.2, 0.8])),
        (JudgedBox(image, box, 1, 0, 3), np.array([0.6, 0.4])),
    ]
    found = reliability_of(said, ("spot", "clean"))
    assert found.right == {"spot": 0.5, "clean": 0.5} and found.counts == {"spot": 2, "clean": 2}
    assert found.auc == 0.75  # 0.9 above both, 0.3 above one of two


def test_a_class_is_reliable_when_it_is_surely_right_more_often_than_wrong():
    right = {
        "ten of ten": 1.0,
        "six of ten": 0.6,
        "nine of nine": 1.0,
        "many": 0.7,
        "half": 0.5,
        "clean": 0.3,
    }
    counts = {"ten of ten": 10, "six of ten": 10, "nine of nine": 9, "many": 20, "half": 100, "clean": 50}
    found = Reliability(right, counts, 0.9)
    assert found.unreliable == ["six of ten", "nine of nine", "half"]  # 0.583 - 0.137, too few, 0.5 - 0.049
    assert not found.is_reliable("never seen")
    assert "not reliable for six of ten, nine of nine, half" in str(found)
    assert "not reliable" not in str(Reliability({"a": 1.0}, {"a": 10}, 1.0))


def test_auc_of_ties_is_a_half():
    assert auc([1, 2], [0, 0]) == 1.0
    assert auc([1], [1]) == 0.5
    assert np.isnan(auc([], [1]))


def test_patches_are_read_with_all_their_boxes(tmp_path):
    save_png(tmp_path / "spur_3.png", noisy(64, 0))
    (tmp_path / "spur_3.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.125 0.125 0.25 0.25\n")
    (one,) = load_patches(tmp_path, {"short": 0, "spur": 1})
    assert one.class_id == 1 and one.boxes == [(24.0, 16.0, 40.0, 48.0), (0.0, 0.0, 16.0, 16.0)]
    (tmp_path / "spur_3.txt").write_text("1 0.5 0.5\n")
    with pytest.raises(UserError, match="got no box"):
        load_patches(tmp_path, {"short": 0, "spur": 1})


def test_the_command_line_writes_a_judge(tmp_path, capsys):
    for part in ("boxed", "clean"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for n in range(2):
        one = patch(n, n)
        left, top, right, bottom = one.boxes[0]
        name = f"{CLASSES[n]}_{n}"
        save_png(tmp_path / f"train/boxed/{name}.png", one.image)
        line = f"{n} {(left + right) / 192} {(top + bottom) / 192} {16 / 96} {16 / 96}\n"
        (tmp_path / f"train/boxed/{name}.txt").write_text(line)
        save_png(tmp_path / f"train/clean/a_{n}.png", noisy(96, 40 + n))
    (tmp_path / "classes.json").write_text(json.dumps({"bright": 0, "dark": 1}))
    main([str(tmp_path), "--folds", "2", "--steps", "1"])
    judge, reliability = load_judge(tmp_path / "judge.safetensors")
    assert len(judge.members) == 2 and reliability.counts["clean"] > 10
    assert "AUC of defects against clean windows" in capsys.readouterr().out
    with pytest.raises(UserError, match="--folds 1"):
        main([str(tmp_path), "--folds", "1"])
