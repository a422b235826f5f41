"""Which timesteps painting needs, and that networks not trained on them are refused."""

from pathlib import Path

import pytest
import torch

from generation.models import check_metadata
from generation.setup import (
    check_trained_range,
    highest_start_step,
    make_schedule,
    visited_timesteps,
    with_strength,
)
from utils.checkpoint import save_safetensors
from utils.config import load_generation_config
from utils.errors import UserError
from utils.schema.generation import GenerationConfig

ROOT = Path(__file__).parent.parent
TRAINED = {"diffusion_steps": 1000, "min_t": 0, "max_t": 500}


def config_with(
    tmp_path: Path, full: dict, prior: dict, *overrides: str, contrasts: dict | None = None
) -> GenerationConfig:
    """Weights that tell `full` and `prior` (and `contrasts`) of their training; 25 of 1000 steps, start_step 9."""
    for name, diffusion in (("full", full), ("prior", prior)):
        path = tmp_path / f"{name}.safetensors"
        metadata = {"diffusion": diffusion} if diffusion else {}
        metadata |= {"contrasts": contrasts} if contrasts and name == "prior" else {}
        save_safetensors(path, {"a": torch.zeros(1)}, metadata)
    (tmp_path / "conf.yml").write_text(
        f"model_path: {tmp_path}/full.safetensors\ncrop_model_path: {tmp_path}/prior.safetensors\n"
        "image_size: 256\nnum_channels: 128\nnum_res_blocks: 2\nchannel_mult: '1, 1, 2, 3, 4, 4'\n"
        "crop: {image_size: 64, num_channels: 64, num_res_blocks: 2, channel_mult: '1, 2, 3, 4'}\n"
        "timestep_respacing: 25\nddim: {ddpm_num_steps: 25, num_inference_steps: 25, start_step: 9, jump_length: 3}\n"
    )
    return load_generation_config(tmp_path / "conf.yml", overrides)


def test_visited_timesteps_count_original_steps():
    # 25 of 1000 steps: index i is round(i * 999 / 24); with time travel the first call is one index below start_step
    config = load_generation_config(ROOT / "confs/demo.yml")
    assert [visited_timesteps(config, start)[1] for start in (9, 12, 13, 22)] == [333, 458, 500, 874]
    assert visited_timesteps(config, 9)[0] <= 42
    assert highest_start_step(config, 500) == 12
    assert highest_start_step(config, 501) == 13
    assert highest_start_step(config, 1000) == 24 and highest_start_step(config, 1) is None


@pytest.mark.parametrize("blamed", ["full", "prior"])
def test_a_start_beyond_the_trained_range_is_refused_for_either_network(tmp_path: Path, blamed: str):
    ranges = {"full": TRAINED | {"max_t": 1000}, "prior": TRAINED | {"max_t": 1000}} | {blamed: TRAINED}
    check_trained_range(config_with(tmp_path, **ranges))
    check_trained_range(config_with(tmp_path, ranges["full"], ranges["prior"], "ddim.start_step=12"))
    config = config_with(tmp_path, ranges["full"], ranges["prior"], "ddim.start_step=22")
    with pytest.raises(UserError) as caught:
        make_schedule(config)
    assert str(caught.value) == (
        "ddim.schedule_params.start_step: got 22, from which the networks are asked at t = 874 of 1000, but "
        f"{tmp_path}/{blamed}.safetensors was trained on t < 500 only; expected at most 12"
    )


def test_weights_that_were_not_trained_on_the_end_are_refused(tmp_path: Path):
    with pytest.raises(
        UserError, match="full.safetensors was trained on t >= 100 only, but painting goes down"
    ):
        check_trained_range(config_with(tmp_path, TRAINED | {"min_t": 100}, TRAINED))


def test_weights_that_do_not_say_their_range_pass(tmp_path: Path):
    check_trained_range(config_with(tmp_path, {}, {}, "ddim.start_step=24"))
    check_trained_range(load_generation_config(ROOT / "confs/pcb_gen.yml"))  # published .pt files


def test_the_start_by_the_contrast_of_the_training_defects(tmp_path: Path):
    whole, contrasts = TRAINED | {"max_t": 1000}, {"hole": 90.0, "spur": 30.0}
    auto = config_with(tmp_path, whole, whole, "ddim.start_step=auto", contrasts=contrasts)
    config = with_strength(auto)
    # sqrt((1 - abar) / abar) = 6.4 * 90 / 127.5 at t = 549 of 1000, and 0.549 * 25 = 13.7
    assert config == with_strength(config)
    assert config == config_with(tmp_path, whole, whole, "ddim.start_step=14", contrasts=contrasts)
    assert make_schedule(auto)[1] == make_schedule(config)[1] and make_schedule(auto)[1].start_index == 14
    # another schedule has its noise elsewhere: 0.75, the bound, of a cosine
    cosine = whole | {"noise_schedule": "cosine"}
    auto = config_with(tmp_path, cosine, cosine, "ddim.start_step=auto", contrasts=contrasts)
    assert with_strength(auto).ddim.schedule_params.start_step == round(0.75 * 25)
    # what the prior does not know stays refused
    with pytest.raises(UserError, match=r"start_step: got 14, .*expected at most 12"):
        make_schedule(config_with(tmp_path, whole, TRAINED, "ddim.start_step=auto", contrasts=contrasts))


def test_weights_without_contrasts_leave_the_start_to_a_number(tmp_path: Path):
    config = config_with(tmp_path, TRAINED, TRAINED, "ddim.start_step=auto")
    with pytest.raises(UserError) as caught:
        make_schedule(config)
    assert str(caught.value) == (
        f"ddim.schedule_params.start_step: got auto, but {tmp_path}/prior.safetensors does not tell the contrast of "
        "the defects it was trained on; expected a number, or a prior that train.py has trained with condition: "
        "surroundings"
    )
    (tmp_path / "prior.safetensors").unlink()
    with pytest.raises(UserError, match="start_step: got auto, but .*prior.safetensors: no such checkpoint"):
        make_schedule(config)


def test_what_the_conf_leaves_out_comes_from_the_weights_and_may_not_contradict(tmp_path: Path):
    trained = TRAINED | {"noise_schedule": "cosine", "predict_xstart": True, "rescale_timesteps": True}
    config = config_with(tmp_path, trained, trained)
    told = {k: v for k, v in trained.items() if k not in ("min_t", "max_t")}
    assert config.diffusion.agreed() == told
    check_metadata(config, {"short": 0})
    config = config_with(tmp_path, trained, trained, "noise_schedule=linear", "predict_xstart=false")
    with pytest.raises(UserError) as caught:
        check_metadata(config, {"short": 0})
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        f"  - {key}: got {got}, but {tmp_path}/{name}.safetensors was trained with {was}"
        for name in ("full", "prior")
        for key, got, was in (("noise_schedule", "linear", "cosine"), ("predict_xstart", False, True))
    ]
    # Two networks of different processes never agree
    with pytest.raises(
        UserError, match="noise_schedule: got cosine, but .*prior.safetensors was trained with linear"
    ):
        check_metadata(config_with(tmp_path, trained, trained | {"noise_schedule": "linear"}), {"short": 0})
    config = config_with(tmp_path, TRAINED | {"diffusion_steps": 500}, {}, "diffusion_steps=1000")
    with pytest.raises(
        UserError, match="diffusion_steps: got 1000, but .*full.safetensors was trained with 500"
    ):
        check_metadata(config, {"short": 0})
