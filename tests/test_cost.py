"""The cost model against the calls that the sampler makes, counted."""

from dataclasses import replace

import pytest
import torch

from benchmarks.measure import Probe
from generation.cost import StepCost, duration, forward_operations, operations
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.windows import Windows
from tests import defaults
from tests.defaults import attention_options, sampler_options
from utils.config import load_generation_config
from utils.schema.network import NetworkConfig

# Down to 0, up by two and down again; 0, 1 or 2 gradient steps
OPTIONS = sampler_options(
    [5, 4, 3, 2, 1, 0, 1, 2, 1, 0],
    start_index=5,
    gradient_steps=[0, 0, 1, 1, 2, 2, *[0] * 14],
    lr_xt=1e-6,
    use_adaptive_lr_xt=False,  # every trial is accepted
    attention=attention_options(enabled=False),
)
ADAPTIVE = {"use_adaptive_lr_xt": True, "ddim_sigma": 0.5}


class Silence:
    """No noise, so that a point drawn anew is as good as the trial."""

    def image(self, like: torch.Tensor, images=None) -> torch.Tensor:
        return torch.zeros_like(like)

    crop = image


def counted(options: SamplerOptions, windows: int) -> tuple[int, int, int]:
    """Passes, forward and back, of the contextual model on contexts and on crops and of the prior on crops."""
    device = torch.device("cpu")
    contextual, prior = (Probe(lambda x, t, y: 0.5 * x, device) for _ in range(2))
    diffusion = defaults.diffusion(diffusion_steps=1000, timestep_respacing="20")
    owner = [0] * windows
    where = Windows([(4 * k, 0) for k in range(windows)], 8, torch.tensor(owner))
    Sampler(contextual, prior, diffusion, options).sample(
        torch.zeros(1, 3, 32, 32), where, torch.tensor(owner), Silence()
    )
    log = contextual.calls.log
    image, crop = (sum((1 + graph) * count for side, count, graph in log if side == s) for s in (32, 8))
    return image, crop, prior.calls.forward + prior.calls.backward


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimize_xt": False},
        {"optimize_before_time_travel": False},
        {"lr_crop": True},
        {"mid_interval_num": 3},
        {"mid_interval_num": 3, **ADAPTIVE},
        {"mid_interval_num": 3, **ADAPTIVE, "lr_crop": True},
        {"mid_interval_num": 2, "ddim_sigma": 0.5},
        {"prior_guidance": 1.5},
        {"prior_guidance": 1.5, "lr_crop": True},
    ],
)
def test_the_sampler_calls_the_networks_as_often_as_is_charged(changes: dict, windows: int):
    options = replace(OPTIONS, **changes)
    image, crop, prior = counted(options, windows)
    assert StepCost(1, 0, 0).sequence(options, windows) == image
    assert StepCost(0, 1, 0).sequence(options, windows) == prior
    if options.prior_guidance:
        assert StepCost(0, 0, 1).sequence(options, windows) == crop


def test_guidance_costs_the_contextual_model_on_the_crop_s_pixels():
    cost = operations(load_generation_config("confs/demo.yml", []))
    assert cost.guidance == pytest.approx(cost.contextual / 4)
    assert operations(load_generation_config("confs/demo.yml", ["prior_guidance=0"])).guidance == 0


def test_operations_of_a_convolution_count_twice_per_multiply_add():
    small = NetworkConfig(
        image_size=8, num_channels=32, num_res_blocks=1, channel_mult="1", attention_resolutions=[]
    )
    large = small.model_copy(update={"image_size": 16})
    # All but the embedding's linear layers and the middle's attention, whose products grow faster, is convolutions
    assert 3.9 < forward_operations(large) / forward_operations(small) < 4.7


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (119, "119 s"), (720, "12 min"), (12600, "3.5 h")])
def test_duration_in_the_unit_people_use(seconds: float, text: str):
    assert duration(seconds) == text
