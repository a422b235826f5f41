"""How strong should an edit be? Paints a handful of places at several strengths and lays them side by side.

    python -m evaluation.strength data/mine/generate-heldout.yml --places 6 --out runs/strength.png [key=value ...]

The places are annotations of `defect_free_dir`, spread over its classes. A strength is the step of the chain at which
the image is noised (`ddim.schedule_params.start_step`): with too little noise defects are missing or mere specks,
with too much the surroundings change. The sheet has a row for each place: clean, then painted, from weak to strong,
each with its score. The noise is the same in a row.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from generation.geometry import Window
from generation.jobs import Job, plan_jobs
from generation.models import weight_paths
from generation.painting.painter import SilentCallback
from generation.scoring import PaintedSample
from generation.setup import (
    highest_start_step,
    job_options,
    make_geometry,
    make_painter,
    make_run,
    with_strength,
)
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import UserError, run_main
from utils.images import load_rgb, save_png
from utils.network_metadata import class_names, load_metadata, trained_diffusion
from utils.schema.generation import GenerationConfig

FACTORS = (0.6, 0.8, 1.0, 1.2, 1.4)  # of the conf's own strength
CELL, CAPTION, GAP = 160, 16, 4  # px


def strengths(config: GenerationConfig) -> list[int]:
    """Five steps of the chain around that of the conf, fewer where they coincide, or the chain or the range that the
    networks were trained on ends."""
    schedule = with_strength(config).ddim.schedule_params
    last = schedule.ddpm_num_steps - 1
    for path in filter(lambda path: Path(path).is_file(), weight_paths(config)):
        max_t = trained_diffusion(load_metadata(path), path).get("max_t") or config.diffusion.diffusion_steps
        last = min(last, highest_start_step(config, max_t) or last)
    own = last if schedule.resolved_start_step is None else schedule.resolved_start_step
    return sorted({min(max(round(factor * own), 2), last) for factor in FACTORS})


def spread(jobs: Sequence[Job], count: int) -> list[Job]:
    """At most `count` jobs, the classes in turn, the images of a class evenly spaced."""
    by_class: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_class[job.defects[0].annotation.class_name].append(job)
    share = -(-count // len(by_class)) if by_class else 0
    rows = []
    for own in by_class.values():
        places = np.linspace(0, len(own) - 1, min(share, len(own))).round().astype(int)
        rows.append([own[int(k)] for k in places])
    return [row[k] for k in range(share) for row in rows if k < len(row)][:count]


def places_of(config: GenerationConfig, count: int) -> list[Job]:
    """The places to paint, one sample each. Raises UserError where there are no annotations."""
    if config.plan.counts:
        raise UserError(
            "plan.counts: got a conf that plans its places, expected annotated images; give a conf with labels, or "
            "plan.counts={} and defect_free_dir=FOLDER"
        )
    classes = class_names(config.crop_class_json_path, config.crop_model_path)
    options = replace(job_options(config), n_samples=1, n_iter=1, together=False)
    return spread(plan_jobs(config.defect_free_dir, classes, make_geometry(config), options), count)


def paint_at(conf: Path, overrides: Sequence[str], step: int, jobs: Sequence[Job]) -> list[PaintedSample]:
    """The jobs, each on its own, with the image noised at `step`; nothing is left out for its score."""
    fixed = [f"ddim.schedule_params.start_step={step}", "min_score=0", "candidates=1", "report=false"]
    painter = make_painter(make_run(load_generation_config(conf, [*overrides, *fixed])), SilentCallback())
    return [sample for job in jobs for sample in painter.paint([job])]


def sheet(jobs: Sequence[Job], columns: Sequence[tuple[int, Sequence[PaintedSample]]]) -> np.ndarray:
    """(H, W, 3) uint8: a row for each job, a column for the clean image and for each strength."""
    step = CELL + GAP
    image = Image.new("RGB", ((len(columns) + 1) * step, len(jobs) * (step + CAPTION)), "white")
    draw = ImageDraw.Draw(image)
    for row, job in enumerate(jobs):
        y, window = row * (step + CAPTION), job.defects[0].window
        draw.text((2, y + 2), job.defects[0].annotation.class_name, fill="black")
        image.paste(_cell(load_rgb(job.image), window), (0, y + CAPTION))
        for column, (start, samples) in enumerate(columns, start=1):
            sample = samples[row]
            told = "failed" if sample.failure else f"{sample.scores[0]:.2f}"
            draw.text((column * step + 2, y + 2), f"step {start}: {told}", fill="black")
            image.paste(_cell(sample.image, window), (column * step, y + CAPTION))
    return np.array(image)


def _cell(image: np.ndarray, window: Window) -> Image.Image:
    """The window and half as much around it."""
    left, top, side = window
    reach = side // 4
    top, left = max(0, top - reach), max(0, left - reach)
    part = image[top : top + side + 2 * reach, left : left + side + 2 * reach]
    return Image.fromarray(part).resize((CELL, CELL), Image.Resampling.BICUBIC)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("python -m evaluation.strength", __doc__)
    parser.add_argument("--places", type=int, default=6, help="places to paint")
    parser.add_argument(
        "--steps", type=int, nargs="+", help="start steps (default: five around the conf's own)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/strength.png"), help="image to write")
    return parser


def main(argv: list[str]) -> None:
    """Paint the places at all strengths, print the scores, write the sheet; raises UserError."""
    args = parse_with_conf(_parser(), argv)
    config = load_generation_config(args.conf_path, args.overrides)
    if args.places < 1:
        raise UserError(f"--places: got {args.places}, expected 1 or more")
    overrides = [*args.overrides, f"seed={config.seed or 0}", "resize=native"]
    jobs = places_of(load_generation_config(args.conf_path, overrides), args.places)
    columns = []
    for step in args.steps or strengths(config):
        columns.append((step, paint_at(args.conf_path, overrides, step, jobs)))
        scores = [sample.scores[0] for sample in columns[-1][1] if sample.failure is None]
        print(
            f"start_step {step}: mean score {np.mean(scores) if scores else float('nan'):.2f} of {len(scores)}"
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_png(args.out, sheet(jobs, columns))
    print(f"saved: {args.out}")


if __name__ == "__main__":
    raise SystemExit(run_main(main))
