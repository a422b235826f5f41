"""The programs that paint, as this one runs them."""

from pathlib import Path

import pytest

from evaluation.downstream.painting import ABLATIONS, planned_conf, run_program
from utils.config import load_generation_config
from utils.errors import UserError


def test_a_failing_program_is_an_error_in_a_sentence():
    run_program(["train.py", "--help"])
    with pytest.raises(UserError, match="^train.py no-such.yml ended with code 2"):
        run_program(["train.py", "no-such.yml"])


def test_the_conf_that_plans_is_found(tmp_path: Path):
    (tmp_path / "generate-heldout.yml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="give a clean_dir"):
        planned_conf(tmp_path)
    (tmp_path / "generate.yml").write_text("seed: 0\nplan:\n  counts: {a: 1}\n")
    assert planned_conf(tmp_path).name == "generate.yml"
    (tmp_path / "generate.yml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="an earlier version wrote it"):
        planned_conf(tmp_path)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_changes_keys_that_there_are(name: str):
    overrides = [
        *("optimize_xt.optimize_xt=true", "exemplars.folder=data", "background=masked"),
        *("candidates=2", "plan.rank=surroundings", "plan.queries=data", "prior_guidance=1"),
    ]
    own = ABLATIONS[name]
    changes = [*own.keys, *(f"{key}={value}" for key, value in own.plan.items())]
    usual = load_generation_config("confs/demo.yml", overrides)
    for change in changes:
        assert load_generation_config("confs/demo.yml", [*overrides, change]) != usual, change
    assert changes
