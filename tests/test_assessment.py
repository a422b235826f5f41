"""Scores by a judge whose answers are known: its head is set by hand."""

import numpy as np
import pytest
import torch

from generation.quality.assessment import Assessor, load_assessor
from generation.quality.checks import PaintedWindow
from utils.errors import UserError
from utils.judging.judge import Judge, Reliability, save_judge

BOX = (40, 48, 72, 80)


def judge_saying(*logits: float) -> Judge:
    """Answers the same whatever it sees, and is at home where noise is."""
    judge = Judge(["spur", "short"], 1, references=4).eval()
    with torch.no_grad():
        judge.members[0].head.weight.zero_()
        judge.members[0].head.bias.copy_(torch.tensor(logits))
    home = np.stack([noisy(k, 64) for k in range(8)])
    judge.remember(home[:4], home[4:])
    return judge


def noisy(seed: int, side: int = 128) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 5, (side, side, 3))
    return np.clip(np.rint(120 + noise), 0, 255).astype(np.uint8)


def painted() -> PaintedWindow:
    before = noisy(9)
    after, mask = before.copy(), np.zeros((128, 128), bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    after[mask] += 60
    return PaintedWindow(before, after, mask, BOX, BOX)


def test_the_score_is_the_judges_answer_times_the_checks():
    judge = judge_saying(np.log(0.6), np.log(0.3), np.log(0.1))
    judge.unit.fill_(1e6)  # everything is near home
    scores = Assessor(judge).scores(painted(), "Spur")
    assert scores["judge"] == pytest.approx(0.6, abs=1e-5)
    assert scores["score"] == pytest.approx(0.6, abs=1e-5)
    assert scores["coverage"] == scores["size_iou"] == 1.0
    assert Assessor(judge).scores(painted(), "short")["score"] == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize("short", [{"short": (0.5, 6)}, {}], ids=["few", "not tested"])
def test_a_judge_does_not_reject_a_class_that_it_is_not_reliable_about(tmp_path, short):
    judge = judge_saying(np.log(0.6), np.log(0.3), np.log(0.1))
    judge.unit.fill_(1e6)
    path = tmp_path / "judge.safetensors"
    found = {"spur": (0.9, 20), **short}
    right, counts = ({name: pair[k] for name, pair in found.items()} for k in (0, 1))
    save_judge(judge, path, Reliability(right, counts, 0.9))
    assessor = load_assessor(str(path), ["spur", "short"])
    assert assessor is not None
    short, spur = (assessor.scores(painted(), name) for name in ("Short", "spur"))
    assert short["score"] == 1.0 and short["judge"] == pytest.approx(0.3, abs=1e-5)
    assert spur["score"] == pytest.approx(0.6, abs=1e-5)


def test_a_foreign_color_costs_the_score_where_the_judge_knows_colors():
    judge = judge_saying(9.0, 0.0, 0.0)
    judge.unit.fill_(1e6)
    one = painted()
    after = one.after.copy()
    after[one.mask, 1] -= 40  # pink
    pink = PaintedWindow(one.before, after, one.mask, BOX, BOX)
    plain, tinted = (Assessor(judge).scores(window, "spur") for window in (one, pink))
    assert plain["color"] < 1 and plain["score"] > 0.9
    assert tinted["color"] > 10 and tinted["score"] == 0.0
    judge.palettes = None
    old = Assessor(judge).scores(pink, "spur")
    assert "color" not in old and old["score"] > 0.9


def test_far_from_home_nothing_is_left():
    judge = judge_saying(5.0, 0.0, 0.0)
    judge.unit.fill_(1e-6)
    scores = Assessor(judge).scores(painted(), "spur")
    assert scores["domain"] > 10 and scores["judge"] > 0.9 and scores["score"] == 0.0


def test_nothing_painted_where_only_a_center_was_requested():
    one = painted()
    empty = PaintedWindow(one.before, one.before, np.zeros_like(one.mask), None, None)
    assert Assessor(judge_saying(5.0, 0.0, 0.0)).scores(empty, "spur")["score"] == 0.0


def test_a_judge_must_know_the_classes_of_the_run(tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(judge_saying(0.0, 0.0, 0.0), path, Reliability({"spur": 1.0}, {"spur": 3}, 0.9))
    assert load_assessor("", ["crack"]) is None
    assert load_assessor(str(path), ["Spur"]).classes == {"spur": 0, "short": 1}
    with pytest.raises(UserError, match="judge_path .*crack"):
        load_assessor(str(path), ["spur", "crack"])
