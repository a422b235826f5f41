"""The stages before the detectors on the synthetic world, without networks; and what makes a stage new."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluation.downstream.arms import Arm, ArmBuilder
from evaluation.downstream.estimate import estimate, format_estimate
from evaluation.downstream.experiment import Experiment
from evaluation.downstream.pool import read_pool
from evaluation.downstream.runs import DetectorRun, Runner
from evaluation.downstream.scenes import VIEWS
from utils.errors import UserError
from utils.images import load_rgb
from utils.schema.downstream import DownstreamConfig

WORLD = {"train_boards": 4, "validation_boards": 1, "test_boards": 1, "size": 256}
KEYS = {"per_class": 2, "volumes": [1], "tile": 96, "world": WORLD, "arms": ["real", "copy_paste", "ours"]}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(DownstreamConfig(outdir=str(tmp_path_factory.mktemp("run")), **KEYS), 1)


def changed(experiment: Experiment, **keys) -> Experiment:
    """An experiment in the same folder with other keys."""
    return Experiment(DownstreamConfig(**{"outdir": experiment.config.outdir, **KEYS, **keys}), 1)


def test_the_parts_of_the_world_do_not_leak(experiment: Experiment):
    assert experiment.check_leaks() == 0


def test_defects_are_pasted_at_the_planned_places(experiment: Experiment):
    pool = read_pool(experiment.pasted(poisson=False))
    assert Counter(one.class_name for one in pool) <= Counter(experiment.wanted())
    assert len(pool) >= 8
    for one in pool:
        left, top, right, bottom = (int(side) for side in one.box)
        image, clean = load_rgb(one.image), load_rgb(one.clean)
        assert (image[top:bottom, left:right] != clean[top:bottom, left:right]).any()


def test_the_real_tiles_are_those_of_every_arm(experiment: Experiment):
    builder = ArmBuilder(experiment)
    real, pasted = (builder.build(Arm(name, int(name != "real"), 2, 0.5)) for name in ("real", "copy_paste"))
    assert pasted.real is real.real and not real.synthetic
    assert real.real_defects == 12
    assert sum(len(tile.boxes) > 0 for tile in real.real) == 12 * VIEWS
    assert sum(len(tile.boxes) == 0 for tile in real.real) == pytest.approx(12 * VIEWS / 4, abs=2)
    assert len(pasted.synthetic) == VIEWS * pasted.synthetic_defects
    assert all(tile.image.shape == (96, 96, 3) for tile in pasted.synthetic)
    for tile in pasted.synthetic:
        assert (tile.boxes >= 0).all() and (tile.boxes <= 96).all() and tile.image.dtype == np.uint8


def test_keys_make_only_what_they_concern_new(experiment: Experiment):
    usual, judged = Runner(experiment, "s"), changed(experiment, painter={"judge_steps": 7})
    assert judged.prepared_stage == experiment.prepared_stage
    assert judged.painted_stage() != experiment.painted_stage()
    other = Runner(judged, "s")
    for name, same in (("real", True), ("copy_paste", True), ("ours", False)):
        run = DetectorRun(Arm(name, 1, 2, 0.5), "classifier", 0)
        assert (usual.stage(run) == other.stage(run)) is same, name
    longer = Runner(changed(experiment, classifier={"steps": 7}), "s")
    more = Runner(changed(experiment, classifier={"seeds": 9}), "s")
    run = DetectorRun(Arm("real", 0, 2, 0.5), "classifier", 0)
    assert longer.stage(run) != usual.stage(run) == more.stage(run)
    assert changed(experiment, per_class=3).painter_stage != experiment.painter_stage


def test_the_estimate_counts_what_is_left(experiment: Experiment):
    experiment.pasted(poisson=False)
    lines = {line.name: line for line in estimate(Runner(experiment, "s"))}
    assert lines["runs: classifier"].count == 3 * 6
    assert (lines["copy-paste"].done, lines["copy-paste"].seconds) == (1, 0)
    assert lines["painter"].seconds > 0.7 * 60 * experiment.config.painter.minutes
    assert format_estimate(list(lines.values())).splitlines()[-1].startswith("in all")


def test_a_leak_stops_unless_it_is_allowed(experiment: Experiment, tmp_path: Path):
    source = tmp_path / "source"
    for folder in ("images", "clean"):
        for path in sorted((experiment.source / folder).glob("train_*")):
            (source / folder).mkdir(parents=True, exist_ok=True)
            (source / folder / path.name).write_bytes(path.read_bytes())
    (source / "data.yaml").write_bytes((experiment.source / "data.yaml").read_bytes())
    for path in [*(source / "images").glob("train_0000*"), *(source / "clean").glob("train_0000*")]:
        copy = path.with_name(path.name.replace("train_0000", "test_0000"))
        if path.suffix == ".png":  # the same board, another file
            pixels = load_rgb(path)
            pixels[0, 0] ^= 1
            from utils.images import save_png

            save_png(copy, pixels)
        else:
            copy.write_bytes(path.read_bytes())
    keys = dict(source=str(source), group_pattern="^(train|test)", holdout=["test"], evaluate="test")
    with pytest.raises(UserError, match="show the same thing"):
        changed(experiment, **keys).check_leaks()
    assert changed(experiment, allow_leaks=True, **keys).check_leaks() >= 1
