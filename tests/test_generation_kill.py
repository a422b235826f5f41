"""Painting that is killed at random moments and started again, or shared by processes, leaves the same bytes.

Small by default; `KILLS=5 SAMPLES=200 pytest tests/test_generation_kill.py` is the long form.
"""

import hashlib
import json
import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

import sample_generation
from tests.test_sample_generation import Place, build, save_weights
from tests.torchrun import kill_one, own_lines, run_two
from utils.manifest import read_manifest

KILLS = int(os.environ.get("KILLS", "2"))
SAMPLES = int(os.environ.get("SAMPLES", "16"))
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_weights(folder)
    return folder


def prepared(root: Path, weights: Path, boards: Path) -> Place:
    """Boards with three defects each, two of them overlapping, all on one image; rerolls are likely."""
    place = build(root, weights)
    place.configure(
        **{"defect_free_dir": str(boards), "outdir": str(place.out), "paint": "all", "resize": "native"},
        **{"background": "original", "batch_size": 3, "n_samples": SAMPLES // 4, "min_score": 0.02},
        **{"max_rerolls": 1, "crop_class_json_path": str(boards.parent / "classes.json")},
    )
    return place


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    place = build(tmp_path_factory.mktemp("boards"), weights)
    for n in range(4):
        place.board(f"b{n}.png", "0 0.25 0.5\n1 0.3 0.45\n2 0.8 0.7", size=(90 + n, 70))
    return place.root / "boards"


def run_in_one_thread(arguments: list[str]) -> None:
    """The command line as torchrun's processes run it: sums depend on the number of threads in their last digit."""
    torch.set_num_threads(1)
    sample_generation.main(arguments)


def start(place: Place) -> BaseProcess:
    """The command line in a process of its own, forked from one that has imported everything but run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sample_generation"])
    process = context.Process(target=run_in_one_thread, args=(["--conf_path", str(place.conf)],))
    process.start()
    return process


def contents(place: Place) -> dict[str, str]:
    """What a run leaves: images and labels by their hashes, and the manifest without its times."""
    files = (place.out / name for name in place.files() if name.split("/")[0] != "log")
    found = {path.relative_to(place.out).as_posix(): path.read_bytes() for path in files}
    found.pop("config.yml")  # names the outdir
    found.pop("manifest.jsonl")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    for entry in read_manifest(place.out / "manifest.jsonl"):
        digests[f"manifest {entry['name']}"] = json.dumps({**entry, "seconds": 0})
    return digests


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path, boards: Path) -> dict[str, str]:
    """What a run leaves that nobody disturbed."""
    place = prepared(tmp_path_factory.mktemp("whole") / "place", weights, boards)
    process = start(place)
    process.join()
    assert process.exitcode == 0
    found = contents(place)
    assert len([name for name in found if name.startswith("manifest ")]) == SAMPLES // 4 * 4
    return found


def test_a_killed_run_ends_like_one_that_was_not(
    tmp_path: Path, weights: Path, boards: Path, whole: dict[str, str]
):
    place, rng = prepared(tmp_path / "place", weights, boards), random.Random(time.time_ns())
    killed = []
    for _ in range(KILLS):
        process, done = start(place), lines_of(place)
        goal = rng.randrange(1, max(2, (SAMPLES - done) // 2))
        while process.is_alive() and lines_of(place) - done < goal:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        killed.append((process.exitcode, lines_of(place)))
    assert any(code == -9 for code, _ in killed), killed
    again = start(place)
    again.join()
    assert again.exitcode == 0
    assert contents(place) == whole, killed


def lines_of(place: Place) -> int:
    manifest = place.out / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.is_file() else 0


def test_two_processes_under_torchrun_leave_what_one_leaves_even_if_one_was_killed(
    tmp_path: Path, weights: Path, boards: Path, whole: dict[str, str]
):
    place, rng = prepared(tmp_path / "place", weights, boards), random.Random(time.time_ns())
    command, goal = ["sample_generation.py", "--conf_path", str(place.conf)], rng.randrange(1, SAMPLES // 2)
    killed = kill_one(command, lambda: lines_of(place) >= goal, rank=rng.randrange(2))
    assert killed.returncode != 0 and len(own_lines(killed.stderr)) == 1, killed.stderr
    assert lines_of(place) < SAMPLES and killed.stderr.count("Traceback") <= 1  # torchrun's own
    done = run_two(*command)
    assert done.returncode == 0, done.stderr
    assert contents(place) == whole


def test_one_process_decides_what_is_left_open(tmp_path: Path, weights: Path):
    """The seed and the places of a plan; and a process without a batch of its own says so."""
    place = build(tmp_path / "place", weights)
    for name in ("a.png", "b.png"):
        place.board(name, size=(72, 64)).with_suffix(".txt").unlink()
    plan = {"counts": {"spur": 2}, "size": [6, 10], "spacing": 12, "edge_margin": 2, "stride": 4}
    place.configure(seed=None, resize="native", batch_size=2, plan=plan)
    done = run_two("sample_generation.py", "--conf_path", str(place.conf))
    assert done.returncode == 0, done.stderr
    entries = read_manifest(place.out / "manifest.jsonl")
    assert len(entries) == 2 and len({entry["seed"] for entry in entries}) == 1
    assert "process 1 of 2 has nothing to paint: the 2 samples that are missing belong to" in place.log()
    alone = build(tmp_path / "alone", weights)
    alone.conf.write_text(place.conf.read_text())
    alone.configure(seed=entries[0]["seed"], outdir=str(alone.out))
    process = start(alone)
    process.join()
    assert process.exitcode == 0 and contents(alone) == contents(place)
