"""The guided step and the whole loop against frozen numbers; batches against single runs."""

import numpy as np
import pytest
import torch

from guided_diffusion.refinement import Target, Windows
from tests.builders import GoldenNoise, sampler
from tests.golden import load_json, load_npz

LOOPS = load_json("loops.json")
DETAILED = [(name, k) for name, case in LOOPS.items() for k, s in enumerate(case["steps"]) if s["detailed"]]
WHOLE = [name for name in LOOPS if name != "default_lr"]  # its line search is chaotic on untrained weights


def windows_of(case: dict) -> Windows:
    return Windows([tuple(case["location"])], case["config"]["crop"]["image_size"], torch.tensor([0]))


def difference(got: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(got.detach().numpy() - expected).max())


@pytest.mark.parametrize("name, k", DETAILED)
def test_each_detailed_step_equals_the_golden_one(name, k):
    case, arrays = LOOPS[name], load_npz(f"loop_{name}.npz")
    step, s = case["steps"][k], f"s{k}_"
    run = sampler(case)
    windows = windows_of(case)
    target = Target.of_clean(torch.from_numpy(arrays["img"]), windows)
    mask = torch.from_numpy(arrays[s + "in_accum"]) if s + "in_accum" in arrays else None
    x, crop = torch.from_numpy(arrays[s + "in_x"]), torch.from_numpy(arrays[s + "in_crop"])
    records = []
    point, mask = run.guided_step(
        x, crop, step["t"], target, torch.tensor([case["label"]]), mask, step["lr_xt"], step["coef_xt_reg"],
        records.append,
    )  # fmt: skip
    assert difference(point.x, arrays[s + "out_x"]) < 1e-4
    assert difference(point.crop, arrays[s + "out_crop"]) < 1e-4
    assert difference(point.image.end, arrays[s + "out_pred_x0"]) < 1e-4
    assert difference(point.prior.x0, arrays[s + "out_pred_crop0"]) < 1e-4
    if mask is not None:
        assert difference(mask, arrays[s + "out_attn_defect"]) < 1e-4
        assert difference(records[0].instant, arrays[s + "out_attn_defect_instant"]) < 1e-4
        assert np.array_equal((mask < 0.01).numpy(), arrays[s + "out_attn_bg"] > 0.5)
    if not case["config"]["ddim"]["ddim_sigma"]:
        x, crop = run.ddim_update(point, step["t"], step["prev_t"], GoldenNoise(0))
        assert difference(x, arrays[s + "x_prev"]) < 1e-4
        assert difference(crop, arrays[s + "crop_prev"]) < 1e-4


@pytest.mark.parametrize("name", WHOLE)
def test_each_whole_loop_equals_the_golden_one(name):
    case, arrays = LOOPS[name], load_npz(f"loop_{name}.npz")
    run, noise = sampler(case), GoldenNoise(case["noise_seed"])
    assert list(run.options.timesteps) == case["timesteps"]
    seen = []
    result = run.sample(
        torch.from_numpy(arrays["img"]), windows_of(case), torch.tensor([case["label"]]), noise, seen.append
    )
    assert [record.t for record in seen] == [step["t"] for step in case["steps"]]
    assert noise.stream.draws == case["noise_draws"]
    assert difference(result.noised, arrays["noised"]) < 1e-6
    assert difference(result.sample, arrays["sample"]) < 1e-4
    assert difference(result.crop, arrays["crop"]) < 1e-4
