"""Measures of painted defects on a run made by hand, whose answers are known."""

import json

import numpy as np
import pytest

from evaluation.quality import (
    distance_with_error,
    main,
    read_verdicts,
    real_overlaps,
    real_patches,
    sample_defects,
    score_auc,
)
from evaluation.quality_sheet import outline
from tests.test_exemplars import Folder, square
from utils.errors import UserError
from utils.images import save_png
from utils.judging.judge import Judge, Reliability, save_judge
from utils.manifest import append_entry, mask_rle

RIGHT = Reliability({"spur": 0.9, "clean": 1.0}, {"spur": 10, "clean": 20}, 0.95)


def images_of(box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A gray image of 128 px with grain, and the same with a brighter box."""
    noise = np.random.default_rng(0).normal(0, 5, (128, 128, 1))
    before = np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8).repeat(3, axis=2)
    after = before.copy()
    after[box[1] : box[3], box[0] : box[2]] += 60
    return before, after


def entry(name: str = "a_0", score: float = 0.7) -> dict:
    """A spur at (40, 40)..(60, 60), requested twice as wide."""
    defect = {
        "class_name": "spur",
        "class_id": 0,
        "line": 1,
        "annotation": [60 / 128, 50 / 128, 40 / 128, 20 / 128],
        "window": [20, 20, 64],
        "scale": 1.0,
        "status": "painted",
        "attempt": 0,
        "box": [40, 40, 60, 60],
        "mask": mask_rle(np.ones((20, 20), bool), (40, 40), (128, 128)),
        "scores": {"score": score},
    }
    files = {"sample": f"sample/{name}.png", "mask": f"mask/{name}.png"}
    return {
        "name": name,
        "status": "painted",
        "source": "",
        "size": [128, 128],
        "seed": 0,
        "files": files,
        "defects": [defect],
        "config_sha256": "",
        "weights": {},
        "version": "1",
    }


def test_a_defect_is_measured_in_its_window():
    (one,) = sample_defects(entry(), *images_of((40, 40, 60, 60)))
    assert one.window.box == (20, 20, 40, 40) and one.window.wanted == (20, 20, 60, 40)
    assert one.values["coverage"] == one.values["visible_iou"] == 1.0
    assert one.values["request_iou"] == 0.5
    assert one.values["tint"] == 0.0 and one.values["score"] == 0.7
    assert one.values["texture"] == pytest.approx(1, abs=0.1)


def test_labels_with_a_margin_are_compared_without_it():
    (one,) = sample_defects(entry(), *images_of((45, 45, 55, 55)), margin=5)
    assert one.values["visible_iou"] == 1.0
    (tight,) = sample_defects(entry(), *images_of((45, 45, 55, 55)))
    assert tight.values["visible_iou"] == 0.25


def test_real_boxes_are_compared_with_what_their_twins_lack(tmp_path):
    folder, clean = Folder(tmp_path / "real"), np.full((64, 64, 3), 80, np.uint8)
    folder.add("a", 0, square(clean, (24, 24, 40, 40), 200), clean, (20, 20, 44, 44))
    folder.add("b", 0, square(clean, (24, 24, 40, 32), 200), clean, (20, 20, 44, 44))
    folder.add("no twin", 0, clean, None, (20, 20, 44, 44))
    names = {"spot": 0}
    assert real_overlaps(folder.root, names, 4) == pytest.approx([1, 0.5])
    assert real_overlaps(folder.root, names, 0) == pytest.approx([4 / 9, 2 / 9])


def test_change_beside_the_mask_is_not_covered():
    (one,) = sample_defects(entry(), *images_of((40, 40, 80, 60)))
    assert one.values["coverage"] == pytest.approx(22 / 40)  # with 2 px of tolerance
    assert one.values["visible_iou"] == 0.5


def test_a_neighbors_change_is_its_own():
    both = entry()
    neighbor = both["defects"][0] | {"mask": mask_rle(np.ones((20, 20), bool), (60, 40), (128, 128))}
    both["defects"].append(neighbor | {"box": [60, 40, 80, 60]})
    one, _ = sample_defects(both, *images_of((40, 40, 80, 60)))
    assert one.values["coverage"] == 1.0


def test_equal_sets_have_no_distance():
    rng = np.random.default_rng(0)
    one, same, other = rng.normal(0, 1, (80, 6)), rng.normal(0, 1, (80, 6)), rng.normal(2, 1, (80, 6))
    near, far = distance_with_error(one, same), distance_with_error(one, other)
    assert abs(near[0]) < 3 * near[1]
    assert far[0] > 5 * far[1] > 0
    assert np.isnan(distance_with_error(one[:1], other)[0])


def test_scores_against_verdicts(tmp_path):
    pair = images_of((40, 40, 60, 60))
    defects = [one for k in range(4) for one in sample_defects(entry(f"a_{k}", k / 4), *pair)]
    (tmp_path / "v.csv").write_text("name,number,good\na_0,0,0\na_1,0,1\na_2,0,0\na_3,0,1\n")
    assert score_auc(defects, read_verdicts(tmp_path / "v.csv")) == 0.75
    (tmp_path / "v.csv").write_text("name\na_0\n")
    with pytest.raises(UserError, match="name, number, good"):
        read_verdicts(tmp_path / "v.csv")


def test_the_outline_is_around_the_mask():
    mask = np.zeros((8, 8), bool)
    mask[3:5, 3:5] = True
    assert outline(mask).sum() == 12 and not (outline(mask) & mask).any()


@pytest.fixture
def real(tmp_path):
    """A prepared folder with a training patch and a held-out image."""
    folder = tmp_path / "real"
    for part in ("train/boxed", "test"):
        (folder / part).mkdir(parents=True)
    after = images_of((40, 40, 60, 60))[1]
    for name in ("train/boxed/spur_0", "test/b"):
        save_png(folder / f"{name}.png", after)
        (folder / f"{name}.txt").write_text("0 0.390625 0.390625 0.15625 0.15625\n")
    (folder / "classes.json").write_text(json.dumps({"spur": 0}))
    return folder


def test_held_out_defects_are_real_ones_too(real):
    first, second = real_patches(real, {"spur": 0})
    assert first.boxes == [(40.0, 40.0, 60.0, 60.0)]
    left, top, right, bottom = (round(side) for side in second.boxes[0])
    assert (right - left, bottom - top) == (20, 20)
    assert second.image[top:bottom, left:right].mean() == pytest.approx(180, abs=2)


def test_the_command_line_prints_a_table(real, tmp_path, capsys):
    run = tmp_path / "run"
    for part in ("sample", "mask", "log"):
        (run / part).mkdir(parents=True)
    before, after = images_of((40, 40, 60, 60))
    save_png(tmp_path / "clean.png", before)
    for k in range(2):
        save_png(run / f"sample/a_{k}.png", after)
        append_entry(run / "manifest.jsonl", entry(f"a_{k}") | {"source": str(tmp_path / "clean.png")})
    save_judge(Judge(["spur"], 1, references=2), tmp_path / "judge.safetensors", RIGHT)
    main([str(run), "--real", str(real), "--judge", str(tmp_path / "judge.safetensors")])
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["class", "samples", "believable", "real"]
    assert out[1].split()[:2] == ["spur", "2"] and out[1].split()[3:7] == ["0.900", "1.000", "1.000", "0.500"]
    assert len((run / "quality.csv").read_text().splitlines()) == 3
    assert (run / "quality.png").is_file()
