"""Training the painter on the scarce training part, planning places, and painting there."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evaluation.downstream.pool import painted_pool, write_pool
from generation.placement.plan import make_plan
from generation.placement.request import PlacementRequest
from generation.setup import make_geometry
from utils import images
from utils.config import load_generation_config
from utils.errors import UserError
from utils.labels import load_class_names
from utils.prepare_data.confs import FOUNDATION, GENERATE
from utils.processes.interrupts import Stopped
from utils.schema.downstream import DownstreamConfig
from utils.schema.fields import PROJECT

PRIOR, JUDGE, CONTEXT = "prior/last.safetensors", "prior/judge.safetensors", "context/last.safetensors"
INCOMPLETE = 3  # exit code: finished, but some samples failed or were rejected


@dataclass(frozen=True)
class Ablation:
    """A painting with one thing changed: keys of sample_generation.py, and of the plan that its places come from."""

    keys: Sequence[str] = ()
    plan: Mapping[str, object] = field(default_factory=dict)


ABLATIONS: Mapping[str, Ablation] = {
    "window_composite": Ablation(["background=original"]),
    "uniform_places": Ablation(plan={"plan.rank": "uniform"}),
    "no_guidance": Ablation(["prior_guidance=0"]),
    "no_exemplars": Ablation(["exemplars.folder=null"]),
    "one_candidate": Ablation(["candidates=1"]),
    "no_attention_mask": Ablation(["attention_features.enabled=false"]),
    "no_accumulation": Ablation(["attention_features.accumulation_enabled=false"]),
    "no_time_travel": Ablation(["ddim.use_timetravel=false"]),
    "no_refinement": Ablation(["optimize_xt.optimize_xt=false"]),
}
# What refinement with a contextual model needs beside its weights
WITH_CONTEXT = ("ddim.use_timetravel=true", "ddim.jump_length=5", "ddim.jump_n_sample=2")


@dataclass(frozen=True)
class Painting:
    """One painting: the prepared data, the folder of the trained networks, that of the places, and keys to change."""

    prepared: Path
    networks: Path
    places: Path
    changes: Sequence[str] = field(default_factory=tuple)


def run_program(words: Sequence[str]) -> None:
    """Run one of the two programs and wait for it; it is stopped when this one is.

    Raises UserError where it fails; it has told why.
    """
    process = subprocess.Popen([sys.executable, str(PROJECT / words[0]), *words[1:]])
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code in (130, 143):
        raise Stopped(code - 128, told=True)
    if code not in (0, INCOMPLETE):
        raise UserError(f"{words[0]} {words[1]} ended with code {code}; see its message above")


def train_painter(prepared: Path, folder: Path, config: DownstreamConfig) -> None:
    """Train the prior, the judge and, if wished, the contextual model; goes on where it was stopped."""
    device = [f"device={config.device}"] if config.device else []
    judge = config.painter.judge_steps
    run_program(
        [
            "train.py",
            str(prepared / "train-prior.yml"),
            f"checkpoint_dir={folder / 'prior'}",
            *([] if judge is None else [f"judge_steps={judge}"]),
            *device,
            *config.painter.train,
        ]
    )
    if config.painter.context:
        conf = prepared / "train-context.yml"
        if not conf.is_file():
            raise UserError("painter.context: got true, but no tile without defects fits on these images")
        own = [f"checkpoint_dir={folder / 'context'}", *device, *config.painter.train_context]
        run_program(["train.py", str(conf), *own])


def planned_conf(prepared: Path) -> Path:
    """The conf that paints at planned places. Raises UserError where the data allow none."""
    path = prepared / GENERATE
    if path.is_file():
        if "\nplan:" not in path.read_text(encoding="utf-8"):
            raise UserError(
                f"{path}: an earlier version wrote it, for held-out places; choose another outdir"
            )
        return path
    raise UserError(f"{prepared}: no clean image and no tile without defects to paint on; give a clean_dir")


def plan_places(
    prepared: Path, folder: Path, counts: Mapping[str, int], changes: Mapping[str, object]
) -> None:
    """Places for so many defects of every class, by the written conf with `changes`: clean images with labels, in
    `folder`."""
    overrides = {
        "model_path": None,
        "crop_model_path": FOUNDATION,  # asked for its window's size alone
        "prior_guidance": 0,
        "plan.counts": dict(counts),
        **changes,
    }
    config = load_generation_config(planned_conf(prepared), overrides)
    classes = load_class_names(prepared / "classes.json")
    pictures = images.image_files(Path(config.defect_free_dir))
    request = PlacementRequest(pictures, classes, config.plan, make_geometry(config), config.resolved_seed)
    make_plan(request, _no_score, folder, overwrite=True)
    for path in pictures:
        if (folder / f"{path.stem}.txt").exists():
            shutil.copyfile(path, folder / path.name)


def _no_score(windows: np.ndarray, class_id: int) -> np.ndarray:
    return np.zeros(len(windows), np.float32)


def paint(painting: Painting, folder: Path, config: DownstreamConfig) -> None:
    """Paint at the places, and list what came out; goes on where it was stopped."""
    networks = painting.networks
    judge = networks / JUDGE
    words = [
        f"defect_free_dir={painting.places}",
        "plan={}",
        f"crop_model_path={networks / PRIOR}",
        f"judge_path={judge if judge.is_file() else ''}",
        f"outdir={folder / 'run'}",
        "min_score=0",  # arms filter themselves
        "dataset.export=false",
        "report=false",
    ]
    if config.painter.context:
        words += [f"model_path={networks / CONTEXT}", *WITH_CONTEXT]
    words += [f"device={config.device}"] if config.device else []
    conf = planned_conf(painting.prepared)
    run_program(["sample_generation.py", str(conf), *words, *config.painter.generate, *painting.changes])
    write_pool(folder, painted_pool(folder / "run"))
