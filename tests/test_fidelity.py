"""Fidelity of runs made by hand, whose answers are known."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.fidelity import background_error, frechet_distance, inception_features, main, psnr
from tests.test_quality import RIGHT, entry, images_of
from tests.test_resemblance import image as blobs
from utils.errors import UserError
from utils.images import load_rgb, save_png
from utils.judging.judge import Judge, save_judge
from utils.manifest import append_entry

BOX = np.s_[40:60, 40:80]  # rows and columns of the request of `entry`
PATCHES = 5


def prepared(folder: Path) -> Path:
    """Real data with patches that show different blobs in their boxes."""
    (folder / "train/boxed").mkdir(parents=True)
    before, _ = images_of((40, 40, 60, 60))
    for n in range(PATCHES):
        pixels = before.copy()
        pixels[BOX] = blobs(n)[:20, :40]
        save_png(folder / f"train/boxed/spur_{n}.png", pixels)
        (folder / f"train/boxed/spur_{n}.txt").write_text("0 0.46875 0.390625 0.3125 0.15625\n")
    (folder / "classes.json").write_text(json.dumps({"spur": 0}))
    save_judge(Judge(["spur"], 1, references=2), folder / "judge.safetensors", RIGHT)
    return folder


def painted(run: Path, contents: list[np.ndarray]) -> Path:
    """A run that painted `contents` (20, 40, 3) at one place."""
    for part in ("sample", "mask", "log"):
        (run / part).mkdir(parents=True)
    before, _ = images_of((40, 40, 60, 60))
    save_png(run.parent / "clean.png", before)
    for k, shown in enumerate(contents):
        after = before.copy()
        after[BOX] = shown
        save_png(run / f"sample/a_{k}.png", after)
        append_entry(run / "manifest.jsonl", entry(f"a_{k}") | {"source": str(run.parent / "clean.png")})
    return run


def measured(tmp_path: Path, contents: list[np.ndarray], capsys) -> tuple[list[str], list[dict[str, str]]]:
    real, run = prepared(tmp_path / "real"), painted(tmp_path / "run", contents)
    main([str(run), "--real", str(real), "--judge", str(real / "judge.safetensors")])
    with open(run / "fidelity.csv", newline="") as file:
        return capsys.readouterr().out.splitlines(), list(csv.DictReader(file))


def test_copies_of_training_patches_are_told(tmp_path, capsys):
    # Three copies, one of them brighter, and a fresh one
    copies = [blobs(2)[:20, :40], blobs(0)[:20, :40] + 30, blobs(2)[:20, :40]]
    out, rows = measured(tmp_path, [*copies, blobs(77)[:20, :40]], capsys)
    assert out[0].split() == ["class", "samples", "KID", "+-", "PSNR", "diversity", "nearest", "copies"]
    assert out[1].split()[:2] == ["spur", "4"] and out[1].split()[-1] == "0.750"
    assert [(row["name"], row["copy"]) for row in rows][-1] == ("a_3", "0")
    assert {row["name"]: row["nearest_patch"] for row in rows if row["copy"] == "1"} == {
        "a_0": "2",
        "a_1": "0",
        "a_2": "2",
    }
    sheet = load_rgb(tmp_path / "run/fidelity.png")
    assert (sheet == (200, 0, 0)).all(axis=2).any()


def test_the_real_defects_themselves_have_no_distance(tmp_path, capsys):
    out, rows = measured(tmp_path, [blobs(n)[:20, :40] for n in range(PATCHES)], capsys)
    one = dict(zip(out[0].split(), out[1].split(), strict=True))
    assert abs(float(one["KID"])) <= 3 * float(one["+-"]) + 1e-3
    assert float(one["nearest"]) < 0.02 and float(one["copies"]) == 1
    assert float(one["diversity"]) == pytest.approx(
        1, abs=0.02
    )  # as many different ones at the place as in training
    assert all(float(row["distance"]) < 0.02 for row in rows)


def test_equal_samples_are_not_diverse(tmp_path, capsys):
    out, _ = measured(tmp_path, [blobs(50)[:20, :40]] * 4, capsys)
    assert float(out[1].split()[5]) == pytest.approx(0, abs=0.01)


def test_the_background_is_what_lies_outside_the_masks():
    before, after = images_of((40, 40, 60, 60))  # the entry's mask
    assert background_error(entry(), before, after) == 0 and psnr([0.0]) == float("inf")
    after[0, 0] += 20
    assert background_error(entry(), before, after) == pytest.approx(400 / (128 * 128 - 400))
    assert psnr([1.0, 3.0]) == pytest.approx(10 * np.log10(255**2 / 2))


def test_the_frechet_distance_of_equal_sets_is_none():
    pytest.importorskip("torch_fidelity")
    rng = np.random.default_rng(0)
    one = rng.normal(0, 1, (200, 3))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, one + 2) == pytest.approx(12, abs=1e-6)  # squared distance of the means


def test_problems_with_the_weights_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file; expected Inception's weights"):
        inception_features(tmp_path / "none.pth")
    (tmp_path / "some.pth").write_bytes(b"no weights")
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", None)
    with pytest.raises(UserError, match="torch-fidelity is missing; pip install -r requirements-eval.txt"):
        inception_features(tmp_path / "some.pth")


def test_other_files_are_no_weights_of_inception(tmp_path):
    pytest.importorskip("torch_fidelity")
    (tmp_path / "some.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="some.pth: got .*, expected Inception's weights"):
        inception_features(tmp_path / "some.pth")
