"""train.py from the command line: a run, its resumption, and a folder full of mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import train
from guided_diffusion.create import create_unet
from utils.checkpoint import load_state_dict
from utils.errors import run_main
from utils.synthetic_pcb import add_defects, defect_centre, draw_board, render

CLASSES = ["missing_hole", "open_circuit", "short"]
NETWORK = {
    "image_size": 16,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1",
    "attention_resolutions": "8",
    "num_heads": 1,
    "num_head_channels": -1,
    "class_cond": True,
    "learn_sigma": True,
    "use_fp16": False,
}


@pytest.fixture(scope="module")
def patches() -> list[tuple[str, np.ndarray]]:
    """A dozen 20 px patches around drawn defects, with their file names."""
    board, defects = add_defects(draw_board(5, 192, 192), CLASSES, seed=5, margin=30, min_spacing=24)
    picture, found = render(board), []
    for defect in defects:
        x, y = defect_centre(defect)
        for n in range(4):
            left, top = x - 10 + n % 2, y - 10 + n // 2
            found.append((f"{defect.class_name}_{n}.png", picture[top : top + 20, left : left + 20]))
    assert len(found) == 12
    return found


@pytest.fixture
def conf(tmp_path: Path, patches) -> Path:
    """A configuration file for a tiny network, and its data."""
    data = tmp_path / "data"
    data.mkdir()
    for name, pixels in patches:
        Image.fromarray(pixels).save(data / name)
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps({name: index for index, name in enumerate(CLASSES)}))
    values = NETWORK | {
        "data_dir": str(data),
        "class_json_path": str(classes),
        "checkpoint_dir": str(tmp_path / "run"),
        "diffusion_steps": 50,
        "batch_size": 4,
        "total_steps": 4,
        "save_interval": 2,
        "log_interval": 2,
        "keep_checkpoints": 1,
        "sample_num": 1,
        "tensorboard": False,
        "device": "cpu",
        "lr": "1e-3",
    }
    path = tmp_path / "train.yml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(conf: Path, *overrides: str) -> int:
    return run_main(train.main, ["--conf_path", str(conf), *overrides])


def test_a_run_and_its_resumption(conf, capsys):
    folder = conf.parent / "run"
    assert run(conf) == 0
    assert "12 images" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yml", "ema_0.9999_0000004.safetensors", "previews", "state_0000004.pt", "train.log",
        "train_log.csv",
    ]  # fmt: skip
    weights, metadata = load_state_dict(folder / "ema_0.9999_0000004.safetensors")
    assert metadata["classes"] == {name: index for index, name in enumerate(CLASSES)}
    create_unet(**metadata["network"], num_classes=len(CLASSES)).load_state_dict(weights, strict=True)
    assert metadata["network"]["num_channels"] == 32
    sheet = Image.open(folder / "previews" / "preview_0000004.png")
    assert sheet.size == (3 * 18 + 2, 3 * 18 + 2)  # clean, noised, denoised; one of every class
    rows = (folder / "train_log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4"]
    # The same command with more steps goes on.
    assert run(conf, "total_steps=6") == 0
    said = capsys.readouterr().err
    assert "resuming from" in said and "at step 4" in said and "finished at step 6" in said
    assert (folder / "state_0000006.pt").is_file()
    # Another network does not fit what is there.
    assert run(conf, "num_channels=64") == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "does not fit" in said and "checkpoint_dir" in said
    assert yaml.safe_load((folder / "config.yml").read_text())["num_channels"] == 32


def test_unconditional_training_takes_any_names(conf, tmp_path):
    for path in (tmp_path / "data").glob("short_*.png"):
        path.rename(path.with_name(f"board {path.stem[-1]}.png"))
    overrides = ("class_cond=false", "total_steps=1", "sample_num=0", "class_json_path=none.json", "cache=false",
                 "num_workers=0")  # fmt: skip
    assert run(conf, *overrides) == 0
    _, metadata = load_state_dict(tmp_path / "run" / "ema_0.9999_0000001.safetensors")
    assert metadata["classes"] == {} and metadata["network"]["class_cond"] is False
    assert not (tmp_path / "run" / "previews").exists()


@pytest.mark.parametrize("cache", ["true", "false"])
def test_all_problems_of_a_folder_are_listed(conf, tmp_path, patches, capsys, cache):
    data = tmp_path / "data"
    (data / "short_10.png").touch()
    whole = (data / "short_0.png").read_bytes()
    (data / "short_11.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.tile(patches[0][1], (4, 4, 1))).save(data / "short_12.jpg", quality=95)
    whole = (data / "short_12.jpg").read_bytes()
    (data / "short_12.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(patches[0][1]).save(data / "scratch_1.png")
    Image.fromarray(patches[0][1][:12]).save(data / "short_13.png")
    assert run(conf, f"cache={cache}") == 2
    said = capsys.readouterr().err
    assert "(5 problems)" in said
    for name in ("short_10.png", "short_11.png", "short_12.jpg", "scratch_1.png", "short_13.png"):
        assert sum(name in line for line in said.splitlines()) == 1, name
    assert "short_1.png" not in said and "20x12 px, expected at least 16x16" in said
    assert not list((tmp_path / "run").glob("state_*"))


def test_an_empty_and_a_missing_folder(conf, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert run(conf, f"data_dir={tmp_path / name}") == 2
        assert name in capsys.readouterr().err


def test_training_that_blows_up_says_what_to_do(conf, capsys):
    assert run(conf, "lr=1e30", "grad_clip=0", "save_interval=100") == 2
    assert "lower lr" in capsys.readouterr().err


def test_a_missing_state_is_named(conf, capsys):
    assert run(conf, "resume_checkpoint=none.pt") == 2
    assert "none.pt" in capsys.readouterr().err
