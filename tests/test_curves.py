"""Logs with known flaws, trends with known answers, and the grain of known images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.curves import draw_curves, grain, loss_warning, preview_warning, read_log

NAMES = ["step", "images_per_s", "loss", "grad_norm", "lr", "loss_q0", "loss_q1", "loss_q2", "loss_q3"]


def trend(loss) -> dict[str, np.ndarray]:
    loss = np.asarray(loss, dtype=float)
    return {"step": 10.0 * np.arange(1, len(loss) + 1), "loss": loss}


# The log


def test_cut_and_rewritten_lines_are_left_out(tmp_path: Path):
    path = tmp_path / "train_log.csv"
    lines = [
        "step,images_per_s,loss",
        "10,8.1,0.5",
        "20,8.1,0.4",
        "30,8.1,0.3",
        "20,8.0,nan",
        "30,8",
        "40,8,0.2.",
    ]
    path.write_text("\n".join([*lines, "50,8.0,0.160,8.0,0.1", "70,7.5,0.1"]))
    log = read_log(path)
    assert list(log) == ["step", "images_per_s", "loss"]
    assert log["step"].tolist() == [10, 20, 70]
    assert log["loss"][[0, 2]].tolist() == [0.5, 0.1] and np.isnan(log["loss"][1])


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_curves(tmp_path: Path, rows: int):
    log = {name: np.linspace(1.0, 0.1, rows) for name in NAMES}
    log["step"] = np.arange(rows)
    log["loss_q3"] = np.full(rows, np.nan)
    draw_curves(log, tmp_path / "curves.png")
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    first_line = pixels[..., 2] - pixels[..., 0] > 60  # matplotlib's first color is blue
    for part in (np.s_[: height // 2], np.s_[height // 2 :]):
        for side in (np.s_[: width // 2], np.s_[width // 2 :]):
            assert first_line[part][:, side].any() == (rows > 0)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


# The loss


def test_a_falling_loss_is_no_news():
    assert loss_warning(trend(np.linspace(1, 0.5, 40))) is None
    assert loss_warning(trend([1.0, 1.0, *[0.02] * 38])) is None  # level, but long since learned


def test_a_level_loss_is_named():
    said = loss_warning(trend([1.0] * 40))
    assert "not falling: 1 over the last tenth of the log, 1 before its middle" in said
    assert loss_warning(trend([1.0] * 19)) is None
    assert loss_warning(trend([1.0] * 20)) is not None


def test_a_rising_loss_is_named():
    level = [0.02] * 36
    assert "rising: 0.03 " in loss_warning(trend([1.0, 1.0, *level, 0.03, 0.03, 0.03, 0.03]))
    assert loss_warning(trend([1.0, 1.0, *level, 0.021, 0.021, 0.021, 0.021])) is None


def test_warm_up_does_not_count():
    log = trend([1.0] * 40)
    assert loss_warning(log, warmup_steps=200) is not None  # 20 rows are left
    assert loss_warning(log, warmup_steps=210) is None


# The previews


def test_grain_in_closed_form():
    rows = torch.arange(8.0)
    ramp = (rows[:, None] + 2 * rows[None, :]).expand(1, 3, 8, 8)
    checks = torch.where((rows[:, None] + rows[None, :]) % 2 == 0, 1.0, -1.0).expand(1, 3, 8, 8)
    assert grain(ramp) == 0 and grain(checks) == 4
    noise = 0.3 * torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert grain(noise) == pytest.approx(1.25 * 0.09, rel=0.03)


def test_noise_is_told_from_pictures():
    waves = torch.sin(torch.arange(32.0) / 3).expand(1, 3, 32, 32)
    noise = torch.randn(waves.shape, generator=torch.Generator().manual_seed(0))
    assert preview_warning(waves, waves) is None and preview_warning(0.5 * waves, waves) is None
    said = preview_warning((waves + noise).clamp(-1, 1), waves)
    assert "still noise" in said and "high-frequency energy" in said
    assert preview_warning(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)) is None  # flat images
