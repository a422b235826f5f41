"""Whole images with trained weights: seconds, rejected trials, time outside the networks, and what precision does.

    python -m benchmarks.painting confs/demo.yml --batches 1 6 --precisions fp32 bf16

Paints every annotation of the conf for each precision and batch size. At batch 1 the runs in lower precision are
compared with float32: PSNR of the painted contexts, and the fraction of the line search's gradient steps that took
another number of trials.
"""

import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Probe, machine
from generation.jobs import plan_groups, plan_jobs
from generation.models import load_models
from generation.painting.painter import Painter, SilentCallback
from generation.setup import job_options, make_geometry, make_schedule, paint_options
from guided_diffusion.ddim import Sampler, guided_steps
from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.device import has_fast_bf16, resolve_device
from utils.errors import UserError, run_main
from utils.images import save_png
from utils.network_metadata import class_names


@dataclass(frozen=True)
class Painted:
    """A run: seconds in all and in the networks, images through the contextual model forward and back, trials."""

    images: list[np.ndarray]
    windows: list[tuple[int, int, int]]
    seconds: float
    networks: float
    forwards: int
    backwards: int
    needed: int  # forwards without a rejected trial
    decisions: list[int]  # rejected trials of every gradient step, in order; only for batch 1


def main(argv: list[str]) -> None:
    parser = make_parser("python -m benchmarks.painting", __doc__)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 6], help="contexts at a time")
    parser.add_argument("--precisions", nargs="+", help="default: fp32, and bf16 if it pays here")
    args = parse_with_conf(parser, argv, default="confs/demo.yml")
    device = resolve_device(None)
    precisions = args.precisions or (["fp32", "bf16"] if has_fast_bf16(device) else ["fp32"])
    if min(args.batches) < 1:
        raise UserError("--batches: expected 1 or more")
    print(f"{machine(device)}; {' '.join([args.conf_path, *args.overrides])}")
    print(
        f"{'arith.':<8}{'batch':>5}{'images':>9}{'s/image':>11}{'forward+back':>14}{'rejected':>10}"
        f"{'outside networks':>18}{'PSNR':>10}{'other decisions':>17}"
    )
    exact = None
    for precision in precisions:
        for batch in args.batches:
            run = paint(args.conf_path, [*args.overrides, f"precision={precision}", f"batch_size={batch}"])
            exact = exact or (run if precision == "fp32" and batch == 1 else None)
            count = len(run.images)
            text = (
                f"{precision:<8}{batch:>5}{count:>9}{run.seconds / count:>11.2f}"
                f"{f'{run.forwards / count:.1f}+{run.backwards / count:.1f}':>14}"
                f"{(run.forwards - run.needed) / run.forwards:>10.1%}{1 - run.networks / run.seconds:>18.1%}"
            )
            if exact and precision != "fp32":
                text += f"{psnr(exact, run):>7.1f} dB"
                if batch == 1:
                    text += f"{changed_decisions(exact.decisions, run.decisions):>17.1%}"
            print(text, flush=True)


def paint(conf: str, overrides: list[str]) -> Painted:
    """Paint all annotations as sample_generation.py would, images compressed and written; loading not timed."""
    config = load_generation_config(conf, overrides)
    classes = class_names(config.crop_class_json_path, config.crop_model_path)
    diffusion, options = make_schedule(config)
    device = resolve_device(config.device, config.cuda)
    models = load_models(config, classes, device)
    if models[0] is None:
        raise UserError(
            f"{conf}: got no model_path, expected a contextual model: the benchmark times its refinement"
        )
    contextual, prior = (Probe(model, device) for model in (models[0], models[1]))
    todo = plan_jobs(config.defect_free_dir, classes, make_geometry(config), job_options(config))
    sampler = Sampler(contextual, prior, diffusion, options)
    painter = Painter(sampler, paint_options(config), device, SilentCallback())
    images: list[np.ndarray] = []
    windows: list[tuple[int, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for group in plan_groups(todo, config.resolved_batch_size):
            for sample in painter.paint(group):
                save_png(Path(folder) / f"{len(images)}.png", sample.image)
                images.append(sample.image)
                windows.append(sample.defects[0].window)
        seconds = time.perf_counter() - started
    steps = [options.gradient_steps[t] for t in guided_steps(options)] * sum(len(job.passes) for job in todo)
    guidance = len(steps) if config.prior_guidance else 0
    full = config.network.image_size
    log = [call for call in contextual.calls.log if call[0] == full]
    decisions = rejections([graph for _, _, graph in log], steps) if config.batch_size == 1 else []
    return Painted(
        images,
        windows,
        seconds,
        contextual.calls.seconds + prior.calls.seconds,
        contextual.calls.forward - guidance,
        contextual.calls.backward,
        sum(n + 1 for n in steps),
        decisions,
    )


def rejections(graphs: list[bool], steps: list[int]) -> list[int]:
    """Rejected trials of each gradient step, from whether each of the calls kept a graph.

    A guided step with n gradient steps begins with a call with graph; its trials keep one but for the last step's.
    Where three or more steps follow each other their rejections cannot be told apart and are given to the first.
    """
    found, place = [], 0
    for number, n in enumerate(steps):
        if n == 0:  # one call without graph
            place += 1
            continue
        idle = next((k for k, later in enumerate(steps[number + 1 :]) if later), len(steps) - number - 1)
        kept = _run_length(graphs, place, True)
        tried = _run_length(graphs, place + kept, False) - idle
        found += [kept - n, *[0] * (n - 2), tried - 1] if n > 1 else [tried - 1]
        place += kept + tried
    return found


def _run_length(values: list[bool], start: int, value: bool) -> int:
    """How many of `values` from `start` on are `value`."""
    return next((k for k, one in enumerate(values[start:]) if one is not value), len(values) - start)


def changed_decisions(one: list[int], other: list[int]) -> float:
    """Fraction of the gradient steps whose number of rejected trials differs."""
    return float(np.mean([a != b for a, b in zip(one, other, strict=True)]))


def psnr(one: Painted, other: Painted) -> float:
    """Of the painted windows, in dB: 10 log10(255^2 / mean square difference)."""
    squares = []
    for (left, top, side), a, b in zip(one.windows, one.images, other.images, strict=True):
        part = np.s_[top : top + side, left : left + side]
        squares.append(np.mean((a[part].astype(float) - b[part]) ** 2))
    return 10 * math.log10(255**2 / max(float(np.mean(squares)), 1e-12))


if __name__ == "__main__":
    sys.exit(run_main(main))
