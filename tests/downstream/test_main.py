"""The whole experiment at its smallest: the synthetic world, a painter of two steps, the patch classifier."""

import csv
from pathlib import Path

import pytest

from evaluation.downstream.__main__ import main
from evaluation.downstream.results.tables import parse_rows
from utils.errors import UserError
from utils.images import load_rgb

TINY = """
source: ''
per_class: 1
curve: [2]
arms: [real, copy_paste, ours, ours_filtered, synthetic_only]
volumes: [1]
min_score: 0.0
tile: 96
classifier: {steps: 2, batch_size: 4, seeds: 2}
world: {train_boards: 3, validation_boards: 1, test_boards: 1, size: 192}
painter:
  minutes: 1
  judge_steps: 0
  train: [total_steps=2, batch_size=2, sample_num=0, save_interval=2, num_workers=0, tensorboard=false]
  generate: [timestep_respacing='4', ddim.num_inference_steps=4, ddim.ddpm_num_steps=4, ddim.start_step=2]
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "downstream-tiny.yml"
    path.write_text(TINY + f"outdir: {tmp_path / 'run'}\n")
    return path


def test_the_whole_experiment_and_its_repetition(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "run"
    main([str(conf)])
    rows = parse_rows(out / "results.csv")
    runs = {(row["arm"], row["per_class"], row["seed"]) for row in rows}
    arms = [("real", "1"), ("real", "2"), ("copy_paste", "1"), ("ours", "1"), ("ours_filtered", "1")]
    arms.append(("synthetic_only", "1"))
    assert runs == {(*arm, seed) for arm in arms for seed in "01"}
    assert {row["setting"] for row in rows} == {"tiny"} and {row["part"] for row in rows} == {"validation"}
    of_arm = {(row["arm"], row["per_class"]): row for row in rows}
    assert of_arm["real", "1"]["synthetic"] == "0" and int(of_arm["ours", "1"]["synthetic"]) >= 3
    assert of_arm["ours", "1"]["synthetic"] == of_arm["ours_filtered", "1"]["synthetic"]
    assert all(0 <= row.main <= 1 for row in rows)
    text = capsys.readouterr().out
    assert "| real + ours, 1x | 6 |" in text and (out / "results.md").read_text() in text
    sheets = list(out.glob("stages/run-*/hits_and_misses.png"))
    assert len(sheets) == len(arms) and load_rgb(sheets[0]).shape[1] > 96

    # Once more: nothing is made again, and nothing differs; another key makes its runs alone
    before = {path: path.stat().st_mtime_ns for path in out.glob("stages/*/done.json")}
    table = (out / "results.csv").read_bytes()
    main([str(conf)])
    assert {path: path.stat().st_mtime_ns for path in out.glob("stages/*/done.json")} == before
    assert (out / "results.csv").read_bytes() == table
    main([str(conf), "arms=real", "curve=", "classifier.seeds=3"])
    assert len(list(out.glob("stages/*/done.json"))) == len(before) + 1
    with (out / "results.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_a_dry_run_trains_nothing(conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    main([str(conf), "dry_run=true"])
    assert "minutes to go" in capsys.readouterr().out
    assert [path.name[:5] for path in (tmp_path / "run/stages").iterdir()] == ["world"]
    assert not (tmp_path / "run/results.csv").exists()


def test_unknown_keys_are_told(conf: Path):
    with pytest.raises(UserError, match="detector: unknown key; did you mean detectors"):
        main([str(conf), "detector=yolo"])
