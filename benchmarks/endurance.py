"""Whether memory, open files and time per sample stay flat over thousands of samples in one process.

    python -m benchmarks.endurance --samples 5000

Tiny random networks paint on small boards, so that everything around the networks weighs most: files, manifest,
grids. The first tenth of the samples fills caches and is left out of the verdict.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from guided_diffusion.create import create_unet
from utils import images
from utils.checkpoint import save_safetensors
from utils.command_line import make_parser
from utils.errors import run_main
from utils.schema.network import NetworkConfig

NETWORK = {"num_channels": 32, "num_res_blocks": 1, "channel_mult": "1, 2", "attention_resolutions": ""}
NETWORK |= {"num_head_channels": 32, "learn_sigma": False, "resblock_updown": False}
SCHEDULE = {
    "num_inference_steps": 20,
    "ddpm_num_steps": 20,
    "start_step": 2,
    "jump_length": 1,
    "jump_n_sample": 2,
}
SIDE, CONTEXT, CROP = 64, 32, 16  # px of boards, contexts and windows
BOARDS, PARTS = 10, 10
GROWTH = 1.05  # of the memory that is taken for flat
TRANSIENT = 2  # open files that come and go with a sample
INTERVAL = 0.02  # seconds between two looks at the manifest


@dataclass(frozen=True)
class Look:
    """The process after so many samples."""

    samples: int
    seconds: float  # of computing, which other programs do not lengthen
    memory: float  # MB in use
    files: int  # open


class Watch:
    """Looks at the process from a thread of its own as often as a part of the `total` samples is done."""

    def __init__(self, manifest: Path, total: int):
        self.manifest, self.looks, self.over = manifest, [look(0)], threading.Event()
        self.goals = [total * part // PARTS for part in range(1, PARTS + 1)]
        self.done, self.offset = 0, 0  # lines of the manifest, and the bytes that they take
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.over.wait(INTERVAL):
            self.note()
        self.note()

    def note(self) -> None:
        """One look for all parts that ended since the last one: samples come in batches."""
        if self.manifest.exists():
            with open(self.manifest, "rb") as file:
                file.seek(self.offset)
                text = file.read()
            self.done, self.offset = self.done + text.count(b"\n"), self.offset + len(text)
        ended = sum(goal <= self.done for goal in self.goals)
        if ended:
            self.goals = self.goals[ended:]
            self.looks += [look(self.done)] * ended

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def look(samples: int) -> Look:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Look(samples, time.process_time(), memory, len(os.listdir("/proc/self/fd")))


def write_inputs(folder: Path, samples: int) -> Path:
    """Boards with one annotation each, random weights and the configuration; returns its path."""
    torch.manual_seed(0)
    for name, values in (
        ("full", {"image_size": CONTEXT}),
        ("prior", {"image_size": CROP, "class_cond": True}),
    ):
        network = NetworkConfig.model_validate(NETWORK | values)
        model = create_unet(**network.plain(), num_classes=1)
        weights = {key: value + 0.03 * torch.randn_like(value) for key, value in model.state_dict().items()}
        save_safetensors(folder / f"{name}.safetensors", weights)
    (folder / "boards").mkdir()
    (folder / "classes.json").write_text(json.dumps({"spur": 0}))
    rng = np.random.default_rng(0)
    for number in range(BOARDS):
        board = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((SIDE // 8, SIDE // 8, 1))).astype(np.uint8)
        images.save_png(folder / "boards" / f"{number}.png", board)
        (folder / "boards" / f"{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    conf: dict[str, Any] = {
        "model_path": str(folder / "full.safetensors"),
        "crop_model_path": str(folder / "prior.safetensors"),
        "defect_free_dir": str(folder / "boards"),
        "crop_class_json_path": str(folder / "classes.json"),
        "outdir": str(folder / "out"),
        **{"image_size": CONTEXT, **NETWORK, "crop": {"image_size": CROP, "class_cond": True, **NETWORK}},
        **{"n_samples": -(-samples // BOARDS), "seed": 0, "device": "cpu", "show_progress": False},
        **{"resize": "native", "batch_size": 4, "timestep_respacing": "20"},
        "ddim": {"schedule_params": SCHEDULE},
        "g_scha": {"start": 1, "end": 1, "stop": 0},
        "optimize_xt": {"lr_xt": 0.001},
    }
    (folder / "conf.yml").write_text(yaml.safe_dump(conf))
    return folder / "conf.yml"


def show(looks: Sequence[Look]) -> bool:
    """Print the table and the verdict; returns whether everything stayed flat."""
    print(f"{'samples':>8}{'CPU ms each':>13}{'memory, MB':>12}{'open files':>12}")
    times = []
    for now in looks[1:]:
        before = max((one for one in looks if one.samples < now.samples), key=lambda one: one.samples)
        times.append(1000 * (now.seconds - before.seconds) / (now.samples - before.samples))
        print(f"{now.samples:>8}{times[-1]:>13.2f}{now.memory:>12.1f}{now.files:>12}")
    first, last = looks[1], looks[-1]
    growth, files = last.memory / first.memory, last.files - first.files
    trend = np.polyfit(np.linspace(0, 1, len(times) - 1), times[1:], 1)[0] / np.mean(times[1:])
    drift = f"memory {growth - 1:+.1%}, open files {files:+d}, time each {trend:+.1%} (linear trend)"
    print(f"from {first.samples} samples on: {drift}")
    return growth <= GROWTH and files <= TRANSIENT


def main(argv: list[str]) -> int:
    parser = make_parser("python -m benchmarks.endurance", __doc__)
    parser.add_argument("--samples", type=int, default=5000, help="how many to paint (default: %(default)s)")
    args = parser.parse_args(argv)
    from sample_generation import main as generate  # the scripts import the packages, not the reverse

    with tempfile.TemporaryDirectory() as folder:
        conf, out = write_inputs(Path(folder), args.samples), Path(folder) / "out"
        with Watch(out / "manifest.jsonl", args.samples) as watch:
            generate([str(conf)])
    return 0 if show(watch.looks) else 1


if __name__ == "__main__":
    sys.exit(run_main(main))
