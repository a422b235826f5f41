"""The sheet of strengths: which steps, which places, and what is on it."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.strength import CAPTION, CELL, GAP, main, places_of, spread, strengths
from tests.test_sample_generation import Place, build, save_weights
from utils.checkpoint import load_state_dict, save_safetensors
from utils.config import load_generation_config
from utils.errors import UserError
from utils.images import load_rgb


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("strength")
    save_weights(root)
    place = build(root / "place", root)
    place.board("a.png", "0 0.5 0.5 0.2 0.2\n0 0.3 0.3 0.2 0.2\n1 0.25 0.3 0.1 0.1", size=(90, 70))
    return place


def test_five_strengths_around_that_of_the_conf_within_the_trained_range():
    def around(start: int) -> list[int]:
        return strengths(
            load_generation_config("confs/demo.yml", [f"ddim.schedule_params.start_step={start}"])
        )

    assert around(8) == [5, 6, 8, 10, 11]
    assert around(10) == [6, 8, 10, 12]  # the demo's networks know t < 500 of 1000, step 12 of 25
    assert around(1) == [2]


def test_strengths_around_the_start_that_the_weights_know(tmp_path: Path):
    weights, metadata = load_state_dict("checkpoint/foundation-64.safetensors")
    path = tmp_path / "prior.safetensors"
    save_safetensors(path, weights, metadata | {"contrasts": {"pit": 90.0}})
    (tmp_path / "conf.yml").write_text(
        f"model_path: null\ncrop_model_path: {path}\ntimestep_respacing: 50\n"
        "ddim: {num_inference_steps: 50, ddpm_num_steps: 50, use_timetravel: false, start_step: auto}\n"
    )
    assert strengths(load_generation_config(tmp_path / "conf.yml")) == [16, 22, 27, 32, 38]


def test_places_are_spread_over_classes(place: Place):
    config = load_generation_config(place.conf, ["resize=native"])
    jobs = places_of(config, 9)
    names = [job.defects[0].annotation.class_name for job in jobs]
    assert len(jobs) == 3 and len(set(names[:2])) == 2
    assert [job.base for job in spread(jobs, 1)] == [jobs[0].base] and spread([], 3) == []


def test_planned_places_are_none(place: Place):
    with pytest.raises(UserError, match="expected annotated images"):
        places_of(load_generation_config(place.conf, ["plan.counts.spur=3"]), 3)


def test_a_row_for_each_place_and_a_column_for_each_strength(place: Place, tmp_path: Path, capsys):
    out = tmp_path / "sheets/strength.png"
    main([str(place.conf), "--places", "2", "--steps", "5", "12", "--out", str(out), "seed=3"])
    sheet = load_rgb(out)
    assert sheet.shape == (2 * (CELL + GAP + CAPTION), 3 * (CELL + GAP), 3)
    clean, weak, strong = (
        sheet[CAPTION : CAPTION + CELL, k * (CELL + GAP) : k * (CELL + GAP) + CELL] for k in range(3)
    )
    assert not np.array_equal(clean, weak) and not np.array_equal(weak, strong)
    assert capsys.readouterr().out.count("mean score") == 2
    with pytest.raises(UserError, match="--places"):
        main([str(place.conf), "--places", "0"])
