"""What only a GPU can show; skipped where there is none."""

import warnings

import pytest
import torch

from guided_diffusion.refinement import State
from guided_diffusion.windows import Target, Windows
from tests.builders import sampler, sampler_options
from tests.golden import load_json
from utils.seeding import SampleNoise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CASE = load_json("loops.json")["default_small_lr"]


def guided_step(device: str):
    """One guided step of the golden networks on two images; everything that may be set up before, is."""
    base = sampler(CASE)
    base.contextual.to(device), base.prior.to(device)
    base.options = sampler_options(CASE["config"], timesteps=[1, 0], start_index=2, lr_xt=1e-6)
    x = (torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1).to(device)
    windows = Windows([(0, 0), (16, 3)], 16, torch.arange(2, device=device))
    target = Target.of_clean(x, windows)
    assert windows.owners == [0, 1]
    classes = torch.tensor([0, 5], device=device)
    state = State(x, windows.cut(x), None, 1e-6, 1e-4)
    return lambda: base.guided_step(state, 1, target, classes, SampleNoise([1, 2], [0, 1]))


def test_a_guided_step_equals_the_cpu_s():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    here, there = guided_step("cuda")(), guided_step("cpu")()
    assert torch.allclose(here.point.x.cpu(), there.point.x, atol=1e-4)
    assert torch.allclose(here.accumulated.cpu(), there.accumulated, atol=1e-3)


def test_the_host_waits_for_the_line_search_s_decisions_alone():
    step = guided_step("cuda")
    step()  # constants reach the device, kernels are chosen
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    told = [str(w.message) for w in waits if "synchroniz" in str(w.message)]
    assert len(told) == 2, told  # g_scha: two gradient steps
