"""train.py from the command line: a run, its resumption, and a folder full of mistakes.

`COMPILE=1 pytest tests/test_train.py` also compiles the network of two processes, which takes a minute.
"""

import csv
import errno
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from guided_diffusion.create import create_unet
from training.data import load_dataset
from training.initial import adapted_head, start_from
from training.loop import is_write_error_in, make_hooks, make_loop, run_to_the_end
from training.preview import header
from training.setup import ProcessInfo, TrainingRun, make_diffusion
from utils.checkpoint import load_state_dict, save_atomic, save_safetensors
from utils.config import load_training_config
from utils.errors import UserError, run_main
from utils.images import save_png
from utils.judging.judge import load_judge
from utils.manifest import VERSION
from utils.processes.exclusive import only_run_in
from utils.schema.training import TrainingConfig
from utils.synthetic_pcb.board import defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board
from utils.synthetic_pcb.rendering import render

CLASSES = ["missinghole", "opencircuit", "short"]
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
        x, y = defect_center(defect)
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


def make_run(config: TrainingConfig) -> TrainingRun:
    names = {name: index for index, name in enumerate(CLASSES)}
    process, dataset = ProcessInfo(torch.device("cpu")), load_dataset(config, names)
    return TrainingRun(config, process, logging.getLogger("crg"), names, dataset, *make_diffusion(config))


def run(conf: Path, *overrides: str) -> int:
    return run_main(train.main, ["--conf_path", str(conf), *overrides])


def test_a_run_and_its_resumption(conf, capsys):
    folder = conf.parent / "run"
    assert run(conf) == 0
    said = capsys.readouterr().err
    assert "12 images" in said
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "config.yml", "ema_0.9999_0000004.safetensors", "last.safetensors", "previews", "state_0000004.pt", "train.log",
        "train_curves.png", "train_log.csv",
    ]  # fmt: skip
    weights, metadata = load_state_dict(folder / "ema_0.9999_0000004.safetensors")
    assert metadata["classes"] == {name: index for index, name in enumerate(CLASSES)}
    create_unet(**metadata["network"], num_classes=len(CLASSES)).load_state_dict(weights, strict=True)
    assert metadata["network"]["num_channels"] == 32
    assert metadata["diffusion"] == {
        "diffusion_steps": 50, "noise_schedule": "linear", "predict_xstart": False, "rescale_timesteps": False,
        "min_t": 0, "max_t": 50,
    }  # fmt: skip
    assert metadata["versions"] == {"crg_diffusion": VERSION, "torch": torch.__version__}
    sheet = Image.open(folder / "previews" / "preview_0000004.png")
    height = header(CLASSES, 3 * 18 + 2).shape[0]
    assert sheet.size == (3 * 18 + 2, height + 3 * 18 + 2)  # clean, noised, denoised; one of every class
    # The newest weights under a name that stays: a copy, which the end of the run names
    last = folder / "last.safetensors"
    assert last.read_bytes() == (folder / "ema_0.9999_0000004.safetensors").read_bytes()
    assert last.stat().st_nlink == 1 and not last.is_symlink()
    assert f"finished at step 4; the averaged weights are in {last}" in said
    rows = (folder / "train_log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4"]
    # The same command with more steps goes on.
    assert run(conf, "total_steps=6") == 0
    said = capsys.readouterr().err
    assert "resuming from" in said and "at step 4" in said and "finished at step 6" in said
    assert (folder / "state_0000006.pt").is_file()
    assert last.read_bytes() == (folder / "ema_0.9999_0000006.safetensors").read_bytes()
    # Another network does not fit what is there.
    assert run(conf, "num_channels=64") == 2
    said = capsys.readouterr().err
    assert (
        said.count("error: ") == 1 and "does not fit this configuration: num_channels: 32 against 64;" in said
    )
    assert run(conf, "schedule_sampler=loss-second-moment", "total_steps=8") == 2
    assert "schedule_sampler: 'uniform' against 'loss-second-moment'" in capsys.readouterr().err
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
    Image.fromarray(patches[0][1]).save(data / "unnumbered.png")
    assert run(conf, f"cache={cache}") == 2
    said = capsys.readouterr().err
    assert "(6 problems)" in said and f"{data}/unnumbered.png: got no class" in said
    for name in ("short_10.png", "short_11.png", "short_12.jpg", "scratch_1.png", "short_13.png"):
        assert sum(name in line for line in said.splitlines()) == 1, name
    assert "short_1.png" not in said and "20x12 px, expected at least 16x16" in said
    assert not list((tmp_path / "run").glob("state_*"))


def test_an_empty_and_a_missing_folder(conf, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert run(conf, f"data_dir={tmp_path / name}") == 2
        assert name in capsys.readouterr().err


def test_a_folder_where_another_run_works(conf, tmp_path, capsys):
    with only_run_in(tmp_path / "run", "checkpoint_dir"):
        assert run(conf) == 2
    assert f"checkpoint_dir {tmp_path / 'run'}: process " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("folder", ["file", "file/run"])
def test_a_folder_that_cannot_be_written(conf, tmp_path, capsys, folder):
    (tmp_path / "file").touch()
    assert run(conf, f"checkpoint_dir={tmp_path / folder}") == 2
    said = capsys.readouterr().err
    assert (
        f"checkpoint_dir {tmp_path / folder} cannot be written ({tmp_path / 'file'} is not a folder)" in said
    )


def test_a_disk_that_takes_no_more(conf, tmp_path, capsys):
    (tmp_path / "run" / "ema_0.9999_0000002.safetensors").mkdir(
        parents=True
    )  # in the way of the first export
    assert run(conf) == 2
    said = capsys.readouterr().err
    assert "training stopped after step 2: " in said and "the same command goes on" in said


def test_settings_that_cannot_be_written_down(conf, tmp_path, capsys):
    (tmp_path / "run" / "config.yml").mkdir(parents=True)
    assert run(conf) == 2
    said = capsys.readouterr().err
    assert "training stopped after step 0: " in said and "config.yml" in said
    assert not list((tmp_path / "run").glob(".config.yml*"))  # nothing half-written stays


def test_the_system_may_refuse_other_things_than_checkpoints(conf, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    inside, outside = str(folder / "previews" / "a.png"), str(tmp_path / "data" / "a.png")
    assert is_write_error_in(PermissionError(errno.EACCES, "no", inside), folder)
    assert is_write_error_in(IsADirectoryError(errno.EISDIR, "no", outside, None, Path(inside)), folder)
    assert is_write_error_in(OSError(errno.ENOSPC, "full"), folder)
    assert not is_write_error_in(OSError(errno.ENOSPC, "full", outside), folder)
    assert not is_write_error_in(OSError(errno.EMFILE, "too many open files"), folder)
    assert not is_write_error_in(OSError("said in words alone"), folder)
    monkeypatch.chdir(tmp_path)
    assert is_write_error_in(OSError(errno.EACCES, "no", inside), Path("run"))

    config = load_training_config(conf, ["sample_num=0"])
    run = make_run(config)
    loop = make_loop(run, create_unet(**config.network.plain(), num_classes=3), make_hooks(run))

    def refuse(step: int) -> Iterator:
        raise OSError(errno.EMFILE, "too many open files", outside)

    loop.data = refuse
    folder.mkdir()
    with pytest.raises(OSError, match="too many open files") as caught:  # under its own name
        run_to_the_end(loop, config)
    assert caught.value.filename == outside


def test_training_that_blows_up_says_what_to_do(conf, capsys):
    assert run(conf, "lr=1e9", "grad_clip=0", "save_interval=100") == 2
    assert "lower lr" in capsys.readouterr().err


def test_a_missing_state_is_named(conf, capsys):
    assert run(conf, "resume_checkpoint=none.pt") == 2
    assert "none.pt" in capsys.readouterr().err


def test_a_resumed_run_says_what_differs_and_that_it_is_over(conf, tmp_path, capsys):
    short = ["sample_num=0", "lr_anneal_steps=2", "total_steps=0"]
    assert run(conf, *short) == 0
    folder = tmp_path / "run"
    over = f"the run in {folder} has already taken its 2 steps: nothing is left to do; raise lr_anneal_steps or choose"
    assert run(conf, *short, f"data_dir={tmp_path}/data/") == 0  # another spelling
    said = capsys.readouterr().err
    assert f"{over} another checkpoint_dir" in said and "other settings" not in said
    shutil.copytree(tmp_path / "data", tmp_path / "more")
    shutil.copy(tmp_path / "classes.json", tmp_path / "names.json")
    others = [f"data_dir={tmp_path}/more", f"class_json_path={tmp_path}/names.json", "max_t=40", "min_t=1"]
    others += ["augment.jitter=2", "dropout=0.5"]
    # A state given by name brings the settings of its own folder
    elsewhere = [f"resume_checkpoint={folder}/state_0000002.pt", f"checkpoint_dir={tmp_path / 'other'}"]
    for overrides in (elsewhere, []):
        assert run(conf, *short, *others, *overrides) == 0
        said = capsys.readouterr().err
        changes = [
            *(f"data_dir: '{tmp_path}/data' against '{tmp_path}/more'", "max_t: null against 40"),
            *("min_t: 0 against 1", "augment.jitter: 4 against 2", "dropout: 0.0 against 0.5"),
            f"class_json_path: '{tmp_path}/classes.json' against '{tmp_path}/names.json'",
        ]
        assert all(change in said for change in changes) and over in said, said
        assert ("leave resume_checkpoint out" in said) == bool(overrides)
        assert (
            yaml.safe_load((folder / "config.yml").read_text())["max_t"] is None
        )  # no step was taken with 40
    assert run(conf, *others, "lr_anneal_steps=3", "total_steps=0", "sample_num=0") == 0
    said = capsys.readouterr().err
    assert changes[0] in said and "already" not in said and "finished at step 3" in said
    assert yaml.safe_load((folder / "config.yml").read_text())["max_t"] == 40


def test_a_run_does_not_go_on_with_other_classes(conf, tmp_path, capsys):
    assert run(conf, "total_steps=1", "sample_num=0") == 0
    state, classes = tmp_path / "run/state_0000001.pt", tmp_path / "classes.json"
    right = classes.read_text()
    classes.write_text(json.dumps({name: index for index, name in enumerate(CLASSES[::-1])}))
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*") if path.name != "train.log"}
    for overrides in ((), (f"resume_checkpoint={state}", f"checkpoint_dir={tmp_path}/b")):
        assert run(conf, "total_steps=2", "sample_num=0", *overrides) == 2
        told = f"the run in {tmp_path}/run was trained with other classes (missinghole: 0 against 2; short: 2 against 0"
        assert told in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())
    classes.write_text(right.replace("missinghole", "Missing_Hole"))  # another spelling
    assert run(conf, "total_steps=2", "sample_num=0") == 0


def test_a_run_tells_when_its_images_have_changed(conf, tmp_path, capsys):
    patches = sorted((tmp_path / "data").iterdir())
    assert run(conf, "total_steps=1", "sample_num=0") == 0
    assert run(conf, "total_steps=2", "sample_num=0") == 0
    assert "learned from other" not in capsys.readouterr().err
    shutil.copy(patches[0], patches[1])
    assert run(conf, "total_steps=3", "sample_num=0") == 0
    count = len(patches)
    told = f"learned from other settings or images so far (the images: {count} against {count}, other names or contents"
    assert told in capsys.readouterr().err
    assert run(conf, "total_steps=4", "sample_num=0") == 0  # the last weights know the new ones
    assert "learned from other" not in capsys.readouterr().err


def test_a_configuration_of_the_user_s_is_not_replaced(conf, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    shutil.copy(conf, tmp_path / "run/config.yml")
    assert run(tmp_path / "run/config.yml") == 2
    assert (
        f"checkpoint_dir {tmp_path}/run: config.yml is there, which no run wrote" in capsys.readouterr().err
    )
    assert (tmp_path / "run/config.yml").read_bytes() == conf.read_bytes()
    assert not list((tmp_path / "run").glob("*.log"))


def test_a_state_of_another_folder_is_compared_with_its_own_settings(conf, tmp_path, capsys):
    assert run(conf, "total_steps=1", "sample_num=0") == 0
    assert run(conf, "total_steps=1", "sample_num=0", "num_res_blocks=2", f"checkpoint_dir={tmp_path}/b") == 0
    capsys.readouterr()
    state = tmp_path / "run" / "state_0000001.pt"
    overrides = ("num_res_blocks=2", f"checkpoint_dir={tmp_path}/b", f"resume_checkpoint={state}")
    assert run(conf, *overrides) == 2
    assert f"{state} does not fit this configuration: num_res_blocks: 1 against 2;" in capsys.readouterr().err


# The range of t


@pytest.mark.parametrize(
    "respacing, min_t, max_t, span",
    [
        ("", 3, 40, (3, 40)),
        ("", 0, None, (0, 50)),
        (5, 0, None, (0, 5)),
        (5, 10, 37, (1, 3)),
        (5, 12, 38, (1, 4)),
    ],
)
def test_the_range_of_t_counts_original_steps(conf, respacing, min_t, max_t, span):
    overrides = [f"timestep_respacing={respacing}", f"min_t={min_t}", f"max_t={max_t or 'null'}"]
    config = load_training_config(conf, overrides)
    diffusion, got = make_diffusion(config)  # five of 50 steps: 0, 12, 24, 37, 49
    assert got == span
    assert diffusion.network_steps == (list(range(50)) if respacing == "" else [0, 12, 24, 37, 49])


def test_a_range_without_a_kept_step(conf, capsys):
    assert run(conf, "timestep_respacing=5", "min_t=13", "max_t=24") == 2
    said = capsys.readouterr().err
    assert "min_t, max_t" in said and "12 and 24" in said
    assert run(conf, "timestep_respacing=60") == 2
    assert "timestep_respacing" in capsys.readouterr().err
    assert run(conf, "diffusion_steps=20") == 2
    assert "diffusion_steps: got 20" in capsys.readouterr().err


# Weights of others


def test_starting_from_a_network_with_other_classes(conf, caplog):
    config = load_training_config(conf)
    torch.manual_seed(3)
    plain = config.network.plain()
    other, model = (create_unet(**plain, num_classes=n) for n in (5, 3))
    mean = other.label_emb.weight.detach().mean(dim=0).expand(3, -1)
    path = conf.parent / "other.pt"
    save_atomic(path, other.state_dict())
    training = make_run(config)
    with caplog.at_level(logging.INFO, "crg"):
        start_from(model, path, training)
    assert f"does not know the classes {', '.join(CLASSES)}: they start as the mean" in caplog.text
    for name, value in model.state_dict().items():
        assert torch.equal(value, mean if name == "label_emb.weight" else other.state_dict()[name]), name
    narrow = create_unet(**plain | {"channel_mult": (2,)}, num_classes=3)
    with pytest.raises(UserError, match="other.pt does not fit init_from: .* weights differ"):
        start_from(narrow, path, training)
    # The same head is taken over, and a run begins at these weights.
    assert run(conf, f"init_from={path}", "num_classes=5", "total_steps=1", "lr=1e-12", "sample_num=0") == 0
    weights, _ = load_state_dict(conf.parent / "run" / "ema_0.9999_0000001.safetensors")
    assert all(torch.allclose(weights[k], v, atol=1e-7) for k, v in other.state_dict().items())


def test_starting_from_a_network_that_shapes_do_not_tell_from_ours(conf, capsys):
    config = load_training_config(conf)
    other = config.network.plain() | {"num_heads": 2}  # the same shapes
    path = conf.parent / "other.safetensors"
    save_safetensors(path, create_unet(**other, num_classes=3).state_dict(), {"network": other})
    assert run(conf, f"init_from={path}") == 2
    assert f"num_heads: got 1, but {path} was trained with 2" in capsys.readouterr().err


def test_starting_from_weights_whose_metadata_make_no_sense(conf, capsys):
    plain = load_training_config(conf).network.plain()
    path, weights = conf.parent / "other.safetensors", create_unet(**plain, num_classes=3).state_dict()
    save_safetensors(path, weights, {"network": plain | {"attention_resolutions": [0]}})
    assert run(conf, f"init_from={path}") == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and f"{path}: its metadata describe no network" in said
    save_safetensors(path, weights, {"network": plain | {"attention_resolutions": "8", "channel_mult": "1"}})
    assert run(conf, f"init_from={path}", "total_steps=1", "sample_num=0") == 0


def test_a_resumed_run_does_not_start_from_other_weights(conf, capsys):
    path = conf.parent / "other.pt"
    plain = load_training_config(conf).network.plain()
    save_atomic(path, create_unet(**plain, num_classes=5).state_dict())
    keys = (f"init_from={path}", "sample_num=0")
    assert run(conf, *keys) == 0
    said = capsys.readouterr().err
    assert f"starting from the weights of {path}" in said and "does not know the classes" in said
    path.unlink()  # nobody reads it any more
    assert run(conf, *keys, "total_steps=5") == 0
    said = capsys.readouterr().err
    assert "resuming from" in said and "starting from" not in said and "does not know" not in said


# What is said, where, and the exit code


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_the_log_file_holds_the_loss_lines(conf, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run(conf, "sample_num=0") == 0
    log = (conf.parent / "run" / "train.log").read_text()
    assert log.count("step 2 of 4: loss ") == log.count("step 4 of 4: loss ") == 1
    shown = sys.stderr.getvalue()
    assert "finished at step 4" in shown and "step 2 of 4: loss" not in shown and "4/4" in shown


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_saves_and_exits_as_shells_expect(conf, capsys, monkeypatch, number, code):
    def stop(path: Path, state: dict) -> None:
        save_atomic(path, state)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("training.loop.save_atomic", stop)  # the first checkpoint, and then the signal
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        assert run(conf, "total_steps=100", "sample_num=0") == code
    finally:
        signal.signal(signal.SIGINT, usual)
    folder = conf.parent / "run"
    assert (
        f"stopped at step 2; the averaged weights are in {folder}/last.safetensors" in capsys.readouterr().err
    )
    assert (folder / "state_0000002.pt").is_file() and (folder / "last.safetensors").is_file()


@pytest.mark.parametrize("class_cond", [False, True])
def test_published_keys_are_accepted_without_a_gpu(conf, capsys, class_cond):
    """fp16 by the older key falls back with a line; `class_json_path: null` is no problem without classes."""
    values = yaml.safe_load(conf.read_text()) | {"use_fp16": True, "class_cond": class_cond}
    values |= {"precision": None} if class_cond else {"class_json_path": None}
    conf.write_text(yaml.safe_dump(values))
    assert run(conf, "sample_num=0", "total_steps=1") == 0
    said = capsys.readouterr().err
    assert said.count("use_fp16: true needs a GPU; computing in fp32") == 1 and ", cpu, fp32" in said
    assert run(conf, "sample_num=0", "precision=fp16") == 2
    assert "precision: got fp16 on the CPU" in capsys.readouterr().err
    if class_cond:
        assert run(conf, "class_json_path=null") == 2
        assert "class_json_path: got null, expected a class file" in capsys.readouterr().err


# Small and odd data


@pytest.mark.parametrize("kept", [[f"{name}_0.png" for name in CLASSES], ["short_0.png"]])
def test_one_image_per_class_and_one_class_only(conf, tmp_path, caplog, kept):
    for path in (tmp_path / "data").iterdir():
        if path.name not in kept:
            path.unlink()
    with caplog.at_level(logging.WARNING, "crg"):
        assert run(conf, "total_steps=2", "log_interval=1", "save_interval=100") == 0
    assert ("no images of missinghole, opencircuit in" in caplog.text) == (len(kept) == 1)
    assert "the previews are still noise" in caplog.text
    sheet = Image.open(tmp_path / "run" / "previews" / "preview_0000002.png")
    height = header([name.removesuffix("_0.png") for name in kept], len(kept) * 18 + 2).shape[0]
    assert sheet.size == (len(kept) * 18 + 2, height + 3 * 18 + 2)
    with (tmp_path / "run" / "train_log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


def test_pictures_of_all_modes_are_read_alike(conf, tmp_path):
    data = tmp_path / "data"
    for path in data.iterdir():
        path.unlink()
    gray, opaque = np.full((20, 20), 100, np.uint8), np.full((20, 20, 4), 100, np.uint8)
    opaque[:10, :, 3] = 0  # alpha is dropped
    deep = Image.fromarray(np.full((20, 20), 100 * 257, np.uint16))
    for n, picture in enumerate((Image.fromarray(gray), Image.fromarray(opaque), deep)):
        picture.save(data / f"short_{n}.png")
    Image.fromarray(gray).convert("RGB").convert("P").save(data / "short_3.png")
    modes = [Image.open(path).mode for path in sorted(data.iterdir())]
    assert modes[:2] == ["L", "RGBA"] and modes[2].startswith("I") and modes[3] == "P"
    dataset = load_dataset(load_training_config(conf), dict.fromkeys(CLASSES, 0) | {"short": 2})
    assert len(dataset) == 4 and dataset.labels == [2] * 4
    for picture in dataset.images[:3]:
        assert picture.shape == (20, 20, 3) and (picture == 100).all()
    assert run(conf, "total_steps=1", "sample_num=0") == 0


def test_every_augmentation_key_reaches_the_data(conf):
    keys = ["augment.color=0.25", "augment.jitter=2", "augment.flip=false", "augment.rotate90=false"]
    how = load_dataset(load_training_config(conf, keys), {name: 0 for name in CLASSES}).how
    assert (how.color, how.jitter, how.flip, how.rotate90) == (0.25, 2, False, False)


def test_tensorboard_gets_numbers_and_previews(conf, tmp_path):
    assert run(conf, "tensorboard=true", "total_steps=2", "log_interval=1") == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss", "grad_norm", "lr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    (shown,) = events.Images("previews")
    saved = Image.open(tmp_path / "run" / "previews" / "preview_0000002.png")
    pixels = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))
    assert shown.step == 2 and (pixels == np.asarray(saved)).all()


# Several processes


COMPILED = pytest.param(
    "true",
    marks=pytest.mark.skipif(
        not os.environ.get("COMPILE") or shutil.which("g++") is None,
        reason="needs g++ and a minute; COMPILE=1 runs it",
    ),
)


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this PyTorch has no gloo")
@pytest.mark.parametrize("compiled", ["false", COMPILED])
def test_two_processes_train_as_one_with_twice_the_batch(conf, tmp_path, compiled):
    common = ["log_interval=1", "total_steps=4", "save_interval=100", "sample_num=0", "lr=1e-2"]
    assert run(conf, *common, "batch_size=4", f"checkpoint_dir={tmp_path / 'one'}") == 0
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    command += ["--conf_path", str(conf), *common, "batch_size=2", f"checkpoint_dir={tmp_path / 'two'}"]
    command += ["microbatch=1", f"compile={compiled}"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=Path(train.__file__).parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {}
    for name in ("one", "two"):
        with (tmp_path / name / "train_log.csv").open() as file:
            rows[name] = [
                [float(row[k]) for k in ("step", "loss", "grad_norm")] for row in csv.DictReader(file)
            ]
    assert [row[0] for row in rows["two"]] == [1, 2, 3, 4]  # the second process writes nothing
    assert np.allclose(rows["one"], rows["two"], rtol=0, atol=1e-4)
    assert rows["one"][0][1] != rows["one"][3][1]
    assert done.stderr.count("12 images") == 1 and done.stderr.count("finished at step 4") == 1
    weights = [load_state_dict(tmp_path / n / "ema_0.9999_0000004.safetensors")[0] for n in ("one", "two")]
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-5) for k in weights[0])


# A defect prior that sees its surroundings


def boxed_data(folder: Path) -> None:
    """Gray images with a white defect, the YOLO box of each beside it, and clean images."""
    for kind, value in (("defect", 255), ("clean", 128)):
        (folder / kind).mkdir(parents=True)
        for n in range(4):
            image = np.full((40, 40, 3), 128, np.uint8)
            image[10:18, 12:22] = value
            name = f"{CLASSES[n % 2]}_{n}" if kind == "defect" else f"board_{n}"
            save_png(folder / kind / f"{name}.png", image)
            if kind == "defect":
                (folder / kind / f"{name}.txt").write_text(f"{n % 2} 0.425 0.35 0.25 0.2\n")


def test_a_prior_that_sees_its_surroundings_trains_from_one_that_does_not(conf, tmp_path, capsys):
    boxed_data(tmp_path / "boxed")
    assert run(conf, "total_steps=1") == 0
    blind = next((tmp_path / "run").glob("ema_*.safetensors"))
    keys = [
        "condition=surroundings", f"data_dir={tmp_path}/boxed/defect", f"clean_dir={tmp_path}/boxed/clean",
        f"checkpoint_dir={tmp_path}/seeing", f"init_from={blind}", "total_steps=2", "outside_weight=0.3",
        "min_snr_gamma=5", "augment.zoom=1.2",
    ]  # fmt: skip
    capsys.readouterr()
    assert run(conf, *keys) == 0
    told = capsys.readouterr()
    assert "channels of the surroundings are new" in told.out + told.err
    assert "does not know the classes clean" in told.out + told.err
    weights, metadata = load_state_dict(tmp_path / "seeing" / "last.safetensors")
    before, _ = load_state_dict(blind)
    assert metadata["network"]["condition"] == "surroundings"
    assert weights["input_blocks.0.0.weight"].shape[1] == before["input_blocks.0.0.weight"].shape[1] + 4
    assert len(weights["label_emb.weight"]) == len(before["label_emb.weight"]) + 1
    assert list((tmp_path / "seeing/previews").glob("*.png"))


def test_the_range_of_t_by_the_contrast_of_the_patches(conf, tmp_path, capsys):
    boxed_data(tmp_path / "boxed")
    keys = [
        "condition=surroundings", f"data_dir={tmp_path}/boxed/defect", "diffusion_steps=1000",
        "sample_num=0",
    ]  # fmt: skip
    # 127 gray levels: noise-to-signal 6.4 * 127 / 127.5 at t = 606 of 1000, and a tenth of the chain more
    contrasts = {CLASSES[0]: 127.0, CLASSES[1]: 127.0}
    for folder, max_t, kept in (("auto", "auto", 706), ("all", "null", 1000)):
        own = [*keys, f"checkpoint_dir={tmp_path / folder}"]
        assert run(conf, *own, f"max_t={max_t}", "total_steps=1") == 0
        _, metadata = load_state_dict(tmp_path / folder / "last.safetensors")
        assert metadata["contrasts"] == contrasts and metadata["diffusion"]["max_t"] == kept
    assert yaml.safe_load((tmp_path / "auto/config.yml").read_text())["max_t"] == 706
    told = capsys.readouterr().err
    assert (
        f"contrast of the defects in gray levels: {CLASSES[0]} 127, {CLASSES[1]} 127; trained on t < 706"
        in told
    )
    own = [*keys, f"checkpoint_dir={tmp_path / 'auto'}", "total_steps=2"]
    assert run(conf, *own, "max_t=auto") == 0
    assert "other settings" not in capsys.readouterr().err
    assert run(conf, *own, "max_t=auto", "min_t=706") == 2
    assert "min_t: got 706, expected less than max_t, which is 706 (auto)" in capsys.readouterr().err


def test_a_judge_is_trained_beside_the_prior(conf, tmp_path, capsys):
    boxed_data(tmp_path / "boxed")
    keys = ["condition=surroundings", f"data_dir={tmp_path}/boxed/defect", "total_steps=1", "judge_steps=1"]
    assert run(conf, *keys) == 0
    judge, reliability = load_judge(tmp_path / "run/judge.safetensors")
    assert judge.labels[-1] == "clean" and len(judge.labels) == len(CLASSES) + 1
    assert reliability.counts[CLASSES[0]] == reliability.counts[CLASSES[1]] == 2
    assert "AUC of defects" in (tmp_path / "run/train.log").read_text()
    assert run(conf, "judge_steps=1") == 2
    assert "judge_steps: got 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda folder: (folder / "defect" / f"{CLASSES[0]}_0.txt").unlink(), "no such annotation file"),
        (lambda folder: (folder / "defect" / f"{CLASSES[0]}_0.txt").write_text("0 0.5 0.5\n"), "got no box"),
        (lambda folder: [p.unlink() for p in (folder / "clean").iterdir()], "clean_dir"),
    ],
)
def test_boxes_and_clean_images_that_are_missing_are_named(conf, tmp_path, capsys, spoil, told):
    boxed_data(tmp_path / "boxed")
    spoil(tmp_path / "boxed")
    keys = [
        "condition=surroundings",
        f"data_dir={tmp_path}/boxed/defect",
        f"clean_dir={tmp_path}/boxed/clean",
    ]
    assert run(conf, *keys) == 2
    assert told in capsys.readouterr().err


def test_rows_of_a_class_embedding_go_by_name():
    head, own = torch.arange(6.0).reshape(3, 2), torch.zeros(4, 2)
    adapted, new = adapted_head(head, {"a": 0, "b": 1, "c": 2}, own, {"c": 0, "x": 1, "a": 2, "clean": 3})
    assert torch.equal(adapted, torch.tensor([[4.0, 5], [2, 3], [0, 1], [2, 3]])) and new == ["x", "clean"]
    adapted, new = adapted_head(head, {"a": 0, "b": 1, "clean": 2}, own[:3], {"x": 0, "a": 1, "clean": 2})
    assert torch.equal(adapted, torch.tensor([[1.0, 2], [0, 1], [4, 5]])) and new == ["x"]
    same, new = adapted_head(head, {}, torch.zeros(3, 2), {"p": 0, "q": 1, "r": 2})
    assert torch.equal(same, head) and not new
