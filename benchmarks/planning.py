"""What planning and resuming many jobs cost.

    python -m benchmarks.planning --jobs 10000

Draws small images with five annotations each, plans four samples of every annotation, writes a manifest in which
all but ten are done, and plans again as a resumed run does. Prints seconds and the memory beyond imports.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from generation.jobs import Job, make_groups, plan_jobs
from generation.outputs import Outputs
from generation.setup import job_options, make_geometry
from utils import images
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.manifest import append_entry, mask_rle
from utils.network_metadata import class_names
from utils.schema.generation import GenerationConfig

LINES = "0 0.3 0.3\n1 0.5 0.3\n2 0.7 0.3\n3 0.3 0.7\n4 0.7 0.7\n"
PER_PICTURE, SAMPLES, LEFT = 5, 4, 10
SIDE = 160  # px, larger than the context of confs/demo.yml


def main(argv: list[str]) -> None:
    parser = make_parser("python -m benchmarks.planning", __doc__)
    parser.add_argument("--jobs", type=int, default=10000, help="samples to plan, rounded up to 20")
    args = parse_with_conf(parser, argv, default="confs/demo.yml")
    if args.jobs < 1:
        raise UserError(f"--jobs: got {args.jobs}, expected 1 or more")
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        boards, out = Path(folder) / "boards", Path(folder) / "out"
        draw(boards, -(-args.jobs // (PER_PICTURE * SAMPLES)))
        settings = [f"defect_free_dir={boards}", f"outdir={out}", f"n_samples={SAMPLES}", "seed=0"]
        config = load_generation_config(args.conf_path, settings)
        print(f"{'':<10}{'samples':>9}{'to paint':>10}{'seconds':>9}{'MB':>6}")
        todo = show("planning", config, before)
        finish_most(out, todo)
        show("resuming", config, before)


def show(name: str, config: GenerationConfig, before: float) -> list[Job]:
    """Plan, print a line and return the jobs."""
    started = time.perf_counter()
    classes = class_names(config.crop_class_json_path, config.crop_model_path)
    todo = plan_jobs(config.defect_free_dir, classes, make_geometry(config), job_options(config))
    outputs = Outputs(config.outdir, overwrite=False)
    groups = make_groups(todo, config.resolved_batch_size, outputs.missing)
    missing = sum(outputs.missing(job) for group in groups for job in group)
    seconds = time.perf_counter() - started
    print(f"{name:<10}{len(todo):>9}{missing:>10}{seconds:>9.2f}{peak() - before:>6.0f}")
    return todo


def draw(folder: Path, count: int) -> None:
    """Images of noise with annotations."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        images.save_png(folder / f"{number}.png", rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        (folder / f"{number}.txt").write_text(LINES)


def finish_most(out: Path, todo: list[Job]) -> None:
    """The manifest of a run that has all samples but the last few; their files are empty."""
    for name in ("sample", "log"):
        (out / name).mkdir(parents=True)
    mask = mask_rle(np.tri(40, dtype=bool), (50, 50), (SIDE, SIDE))
    place = {"class_name": "spur", "class_id": 4, "line": 1, "window": [38, 38, 64], "scale": 1.0}
    result = {
        "status": "painted",
        "attempt": 0,
        "box": [50, 50, 90, 90],
        "mask": mask,
        "scores": {"score": 0.5},
    }
    for job in todo[:-LEFT]:
        (out / "sample" / f"{job.name}.png").touch()
        entry = {
            "name": job.name,
            "status": "painted",
            "source": job.image.as_posix(),
            "size": [SIDE, SIDE],
            "seed": 0,
            "files": {"sample": f"sample/{job.name}.png", "mask": f"mask/{job.name}.png"},
            "config_sha256": "ab" * 32,
            "weights": {"model_path": "ab" * 32},
            "version": "0",
            "defects": [place | result],
        }
        append_entry(out / "manifest.jsonl", entry)


def peak() -> float:
    """The most memory that this process had so far, MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    sys.exit(run_main(main))
