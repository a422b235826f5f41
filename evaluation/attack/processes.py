"""Live attacks on processes: kills, two at a time, a full disk. A rerun must leave what one calm run leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluation.attack.inputs import AttackCounts
from evaluation.attack.stage import PREPARED, Stage

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds of one process
BAD = ("Traceback", "Logging error")
DISK = 256  # KiB of the small disk: less than one training state, more than one image

COMMANDS = {
    "paint": ["sample_generation.py", "--conf_path", "{work}/conf.yml", "n_samples=6", "outdir={out}/killed"],
    "train": [
        "train.py",
        "--conf_path",
        "{work}/train.yml",
        "total_steps=6",
        "num_workers=0",
        "checkpoint_dir={out}/killed",
    ],
    "prepare": [
        "-m",
        "utils.prepare_data",
        "{work}/sets/mvtec",
        "--out",
        "{out}/killed/set",
        "--overwrite",
        *PREPARED,
    ],
    "export": ["-m", "utils.export_dataset", "{out}/run", "--out", "{out}/killed/set", "--overwrite"],
}
WHOLE = {
    "paint": ("sample/*.png", "label/*.txt", "mask/*.png"),
    "train": ("*.safetensors", "*.pt"),
    "prepare": ("**/*",),
    "export": ("**/*",),
}


@contextmanager
def started(stage: Stage, name: str, *more: str) -> Iterator[subprocess.Popen]:
    """A command of COMMANDS, with `more` words; it does not outlive the block."""
    words = [word.format(work=stage.work, out=stage.out) for word in COMMANDS[name]] + list(more)
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()  # nothing if it has ended
        process.wait()


def left(stage: Stage, name: str) -> dict[str, bytes]:
    """What counts of a command's results, by path; of the manifest all but the times; temporary files too."""
    folder = stage.out / "killed"
    found = {
        path for pattern in (*WHOLE[name], "**/.*.tmp") for path in folder.glob(pattern) if path.is_file()
    }
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    if (folder / "manifest.jsonl").is_file():
        lines = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
        content["manifest"] = repr([{**line, "seconds": 0} for line in lines]).encode()
    if (folder / "train_log.csv").is_file():
        steps = [line.partition(",")[0] for line in (folder / "train_log.csv").read_text().splitlines()]
        content["steps"] = repr(steps).encode()
    return content


def calm(stage: Stage, name: str) -> tuple[dict[str, bytes], float]:
    """What an undisturbed run leaves, and how long it takes (s)."""
    stage.reset()
    began = time.monotonic()
    with started(stage, name) as process:
        output = process.communicate(timeout=LIMIT)[1]
    result = left(stage, name)
    if not result:
        raise RuntimeError(f"{name} left nothing: {output}")
    return result, time.monotonic() - began


def kill_and_rerun(stage: Stage, name: str, chance: random.Random, tally: AttackCounts) -> None:
    """Kill a command up to three times at random moments, let it finish, and compare with a calm run."""
    expected, seconds = calm(stage, name)
    stage.reset()
    for _ in range(chance.randint(1, 3)):
        with started(stage, name) as process:
            time.sleep(chance.uniform(0.2, 1.0) * seconds)
            process.send_signal(
                chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            )
            _note(process.communicate(timeout=LIMIT)[1], f"{name}, killed", tally)
        tally.inputs += 1
    with started(stage, name) as process:
        _note(process.communicate(timeout=LIMIT)[1], f"{name}, rerun", tally)
    _compare(left(stage, name), expected, f"{name}, killed and rerun", tally)


def two_at_once(stage: Stage, name: str, tally: AttackCounts) -> None:
    """Two processes on one output folder: one is refused by a sentence that names the other, and what is left is what
    one leaves. Where one has ended before the other begins, that one finds everything done."""
    expected, _ = calm(stage, name)
    stage.reset()
    tally.inputs += 1
    with started(stage, name) as first, started(stage, name) as second:
        for process in (first, second):
            output = process.communicate(timeout=LIMIT)[1]
            _note(output, f"two at once, {name}", tally)
            named = "works there" in output and "process " in output
            if process.returncode != (2 if named else 0):
                tally.found.append(f"two at once, {name}: exit code {process.returncode}\n{output[-2000:]}")
            tally.refused += named
    _compare(left(stage, name), expected, f"two at once, {name}", tally)


def small_disk(stage: Stage, name: str, tally: AttackCounts, size: int = DISK) -> str:
    """Run a command into a disk of `size` KiB that fills up: a sentence, no traceback. Returns why not, where none can
    be mounted."""
    stage.reset()
    disk = stage.out / "killed"
    disk.mkdir()
    if problem := _run("mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)):
        return f"no small disk ({problem})"
    try:
        tally.inputs += 1
        with started(stage, name, *(["tensorboard=true"] if name == "train" else [])) as process:
            output = process.communicate(timeout=LIMIT)[1]
        _note(output, f"{name}, disk of {size} KiB", tally)
        told = process.returncode == 2 and output.strip()
        if process.returncode != 0 and not told:
            tally.found.append(
                f"{name}, disk of {size} KiB: exit code {process.returncode}\n{output[-2000:]}"
            )
        tally.refused += process.returncode == 2
    finally:
        _run("umount", str(disk))
    return ""


def _run(*words: str) -> str:
    """The error message of a command, '' if it succeeds."""
    if shutil.which(words[0]) is None:
        return f"no {words[0]}"
    done = subprocess.run(words, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def _note(output: str, what: str, tally: AttackCounts) -> None:
    if any(word in output for word in BAD):
        tally.tracebacks += 1
        tally.found.append(f"{what}: {output[-3000:]}")


def _compare(found: dict[str, bytes], expected: dict[str, bytes], what: str, tally: AttackCounts) -> None:
    names: Sequence[str] = sorted(
        name for name in {*found, *expected} if found.get(name) != expected.get(name)
    )
    if names:
        tally.losses += 1
        tally.found.append(f"{what}: not what a calm run leaves: {', '.join(names[:8])}")
