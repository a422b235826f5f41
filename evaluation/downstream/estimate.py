"""How long an experiment takes, before it begins: on two CPU cores, or as this machine took for what is finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.downstream.arms import list_arms, paints
from evaluation.downstream.experiment import Experiment
from evaluation.downstream.runs import DetectorRun, Runner
from evaluation.downstream.stages import CachedStage

# Seconds on two CPU cores, rough
PER_TILE_STEP = {
    "classifier": 0.0015,
    "torchvision": 0.04,
    "yolo": 0.03,
}  # a tile of 240 px in a training step
PER_RUN = {"classifier": 5.0, "torchvision": 20.0, "yolo": 20.0}  # start, validation, test
PER_DEFECT_PAINTED, PER_DEFECT_PASTED, PER_DEFECT_PLACED = 4.0, 0.5, 0.5
JUDGE, CONTEXT = 180.0, 1200.0  # trainings beside the prior's
USUAL_TILE = 240  # px
TRAINING_SHARE = 0.75  # of the painter's minutes


@dataclass(frozen=True)
class Line:
    """A kind of stage: how many there are, how many are finished, and seconds for the others."""

    name: str
    count: int
    done: int
    seconds: float


def estimate(runner: Runner) -> list[Line]:
    """The stages of an experiment, in order."""
    experiment = runner.experiment
    return [*_painting_lines(experiment), *_run_lines(runner)]


def _painting_lines(experiment: Experiment) -> list[Line]:
    config = experiment.config
    arms = list_arms(config)
    paintings = list(dict.fromkeys(arm.ablation for arm in arms if paints(arm)))
    pasted = [arm.name == "copy_paste_poisson" for arm in arms if arm.name.startswith("copy_paste")]
    planned: dict[CachedStage, int] = {}
    for ablation in [*paintings, *([None] if pasted else [])]:
        planned[experiment.places_stage(ablation)] = sum(experiment.wanted(ablation).values())
    painted = {experiment.painted_stage(p): sum(experiment.wanted(p).values()) for p in paintings}
    defects = sum(experiment.wanted().values())
    training = config.painter.minutes * 60 * TRAINING_SHARE + (
        0 if config.painter.judge_steps == 0 else JUDGE
    )
    training += CONTEXT if config.painter.context else 0
    stages: list[tuple[str, dict[CachedStage, float]]] = [
        ("painter", {experiment.painter_stage: training} if paintings else {}),
        ("places", {stage: count * PER_DEFECT_PLACED for stage, count in planned.items()}),
        ("painting", {stage: count * PER_DEFECT_PAINTED for stage, count in painted.items()}),
        ("copy-paste", {experiment.pasted_stage(p): defects * PER_DEFECT_PASTED for p in pasted}),
    ]
    return [_line(experiment, name, seconds) for name, seconds in stages if seconds]


def _line(experiment: Experiment, name: str, seconds: Mapping[CachedStage, float]) -> Line:
    done = [stage for stage in seconds if experiment.stages.is_done(stage)]
    left = sum(value for stage, value in seconds.items() if stage not in done)
    return Line(name, len(seconds), len(done), left)


def _run_lines(runner: Runner) -> list[Line]:
    stages = runner.experiment.stages
    lines = []
    for detector in runner.config.detectors:
        runs = [run for run in runner.all_runs() if run.detector == detector]
        done = [run for run in runs if stages.is_done(runner.stage(run))]
        each = _seconds_of_run(runner, detector, done)
        lines.append(Line(f"runs: {detector}", len(runs), len(done), each * (len(runs) - len(done))))
    return lines


def _seconds_of_run(runner: Runner, detector: str, done: Sequence[DetectorRun]) -> float:
    """The mean of the finished ones, else by a table."""
    if done:
        return sum(runner.experiment.stages.seconds(runner.stage(run)) for run in done) / len(done)
    options = runner.options(detector)
    size = (runner.config.tile / USUAL_TILE) ** 2 if detector != "classifier" else 1.0
    steps = options["steps"] * options["batch_size"] * PER_TILE_STEP[detector] * size
    return PER_RUN[detector] + steps


def format_estimate(lines: Sequence[Line]) -> str:
    """A table, and the sum."""
    rows = [f"{'stage':<20}{'count':>7}{'done':>7}{'minutes to go':>15}"]
    rows += [f"{one.name:<20}{one.count:>7}{one.done:>7}{one.seconds / 60:>15.1f}" for one in lines]
    total = sum(one.seconds for one in lines) / 60
    return "\n".join([*rows, f"{'in all':<34}{total:>15.1f}"])
