"""A training killed at a random moment and started again ends with the same weights, bit for bit.

Two moments by default; `KILLS=10 pytest tests/test_train_kill.py` tries ten.
"""

import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import train
from tests.torchrun import kill_one, own_lines, run_two
from utils.checkpoint import load_training_state
from utils.files import state_files
from utils.images import save_png

KILLS = int(os.environ.get("KILLS", "2"))
STEPS = 40
CONF = {
    **{"image_size": 16, "num_channels": 32, "num_res_blocks": 1, "channel_mult": "1", "dropout": 0.3},
    **{"attention_resolutions": "8", "num_heads": 1, "num_head_channels": -1, "use_fp16": False},
    **{
        "diffusion_steps": 4,
        "noise_schedule": "cosine",
        "schedule_sampler": "loss-second-moment",
        "ema_rate": "0.9, 0.99",
    },
    **{"batch_size": 2, "microbatch": 1, "total_steps": STEPS, "save_interval": 4, "log_interval": 15},
    **{"sample_num": 0, "tensorboard": False, "device": "cpu", "lr": 1e-3, "warmup_steps": 5},
}


def arguments(folder: Path, run: str) -> list[str]:
    """The command line of a run in `folder / run`, with its data and configuration."""
    (folder / "data").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for n in range(5):
        save_png(folder / "data" / f"board_{n}.png", rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    values = CONF | {"data_dir": str(folder / "data"), "checkpoint_dir": str(folder / run)}
    conf = folder / f"{run}.yml"
    conf.write_text(yaml.safe_dump(values))
    return ["--conf_path", str(conf)]


def start(args: list[str]) -> BaseProcess:
    """`train.py` in a process of its own, forked from one that has imported everything but run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train"])
    process = context.Process(target=train.main, args=(args,))
    process.start()
    return process


def kill_after(process: BaseProcess, folder: Path, step: int, delay: float) -> bool:
    """SIGKILL `process`, `delay` seconds after it has saved `step`; False when it ended before."""
    while process.is_alive():
        reached = [path for path in state_files(folder) if int(path.stem.removeprefix("state_")) >= step]
        if reached or (step == 0 and (folder / "train.log").is_file()):
            time.sleep(delay)
            break
        time.sleep(0.002)
    process.kill()
    process.join()
    return process.exitcode == -9


def same(a, b) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(arguments(folder, "run"))
    process.join()
    assert process.exitcode == 0
    return folder / "run"


@pytest.mark.parametrize("moment", range(KILLS))
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, whole: Path, moment: int):
    rng = random.Random(f"{time.time_ns()} {moment}")
    step, delay = rng.randrange(0, STEPS - 8), rng.uniform(0, 0.3)
    args, folder = arguments(tmp_path, "run"), tmp_path / "run"
    killed = kill_after(start(args), folder, step, delay)
    reached = [path.name for path in state_files(folder)]
    again = start(args)
    again.join()
    said = f"killed {killed}, {delay:.3f} s after step {step}, with {reached}"
    print(said)
    assert again.exitcode == 0, said
    assert_same_end(folder, whole, said)


def assert_same_end(folder: Path, whole: Path, said: str) -> None:
    """Two runs ended with the same state and weights."""
    name = f"state_{STEPS:07d}.pt"
    assert same(load_training_state(folder / name), load_training_state(whole / name)), said
    for path in whole.glob(f"ema_*_{STEPS:07d}.safetensors"):
        assert (folder / path.name).read_bytes() == path.read_bytes(), said
    assert len(list(whole.glob(f"ema_*_{STEPS:07d}.safetensors"))) == 2
    assert f"finished at step {STEPS}" in (folder / "train.log").read_text()


def test_under_torchrun_a_killed_process_ends_the_run_and_a_rerun_completes_it(tmp_path: Path):
    whole = run_two("train.py", *arguments(tmp_path, "whole"))
    assert whole.returncode == 0, whole.stderr
    rng = random.Random(time.time_ns())
    goal, command = rng.randrange(4, STEPS - 8), ["train.py", *arguments(tmp_path, "run")]

    def reached() -> bool:
        return any(int(path.stem[6:]) >= goal for path in state_files(tmp_path / "run"))

    killed = kill_one(command, reached, rank=rng.randrange(2))
    assert killed.returncode != 0 and killed.stderr.count("Traceback") <= 1, killed.stderr  # torchrun's own
    assert len(own_lines(killed.stderr)) == 1, killed.stderr
    done = run_two(*command)
    assert done.returncode == 0, done.stderr
    assert_same_end(tmp_path / "run", tmp_path / "whole", f"killed at step {goal}")
