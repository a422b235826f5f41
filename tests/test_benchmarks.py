"""What the benchmarks count: calls, operations, rejected trials."""

import pytest
import torch

from benchmarks import endurance, planning
from benchmarks.measure import Probe
from benchmarks.painting import changed_decisions, paint, rejections
from benchmarks.run import Plan, checkpoint_attention, plan_of, published_step
from generation.cost import StepCost, random_network
from generation.setup import make_schedule
from guided_diffusion.unet import AttentionBlock, ResBlock
from utils.config import load_generation_config

DEMO = ["ddim.schedule_params.start_step=2", "device=cpu", "precision=fp32", "batch_size=1"]


def test_published_configuration_s_calls_and_operations():
    options = make_schedule(load_generation_config("confs/pcb_gen.yml", []))[1]
    plan = Plan(options, StepCost(contextual=590.0, prior=40.0, guidance=0.0))
    assert (plan.forwards, plan.backwards) == (3 * 73, 2 * 73)
    assert plan.our_step() == 3 * 590 + 2 * 590 + 40  # 3 forwards, 2 backwards, 1 look at the crop
    assert plan.published_step(2) == (5 + 2) * (590 + 40)  # 5 forwards, 2 backwards of both
    assert plan.ours == 73 * plan.our_step()


def test_the_published_step_s_calls_and_gradients():
    """3n + 1 passes of a quadratic, whose gradient steps are known."""
    graphs, weight = [], torch.tensor(2.0, requires_grad=True)

    def value(x: torch.Tensor, crop: torch.Tensor) -> torch.Tensor:
        graphs.append(torch.is_grad_enabled())
        return (weight * (x**2).sum() + crop.sum()).sum()

    published_step(value, torch.ones(2), torch.ones(1), n=2)
    assert graphs == [True, False, True, False, True] and weight.grad is None


def test_attention_blocks_alone_are_checkpointed():
    network = load_generation_config("confs/demo.yml", []).crop
    model, x, y = checkpoint_attention(random_network(network)), torch.randn(1, 3, 64, 64), torch.tensor([0])
    blocks = [m for m in model.modules() if isinstance(m, AttentionBlock | ResBlock)]
    assert {type(m) for m in blocks if m.use_checkpoint} == {AttentionBlock}
    assert all(p.requires_grad for p in model.parameters())
    gradients = []
    for checkpointed in (True, False):
        for block in blocks:
            block.use_checkpoint = checkpointed and isinstance(block, AttentionBlock)
        at = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(model(at, torch.zeros(1), y).square().sum(), at)[0])
    torch.testing.assert_close(*gradients)


def test_timesteps_of_the_published_configuration():
    plan = plan_of(load_generation_config("confs/pcb_gen.yml", []))
    assert len(plan.gradient_steps) == 73 and set(plan.gradient_steps) == {2}
    assert plan.cost.contextual == pytest.approx(590e9, rel=0.02)


def test_the_thorough_configuration_s_operations_against_the_published_sequence_s_at_equal_strength():
    schedule = {"num_inference_steps": 250, "ddpm_num_steps": 250, "jump_length": 10, "jump_n_sample": 3}
    changes = [f"ddim.schedule_params.{key}={value}" for key, value in {**schedule, "start_step": 90}.items()]
    published = plan_of(load_generation_config("confs/demo.yml", ["timestep_respacing=250", *changes]))
    thorough = plan_of(load_generation_config("confs/demo-thorough.yml", []))
    # contexts of 0.56 of the pixels, 57 steps instead of 265, 2 forwards and a backward each instead of 3 and 2
    assert 11 * thorough.ours <= published.ours and 18 * thorough.ours <= published.published


def test_rejected_trials_are_told_from_the_calls_graphs():
    graphs = [True, True, False]  # evaluated, two gradient steps, all accepted
    assert rejections(graphs, [2]) == [0, 0]
    graphs = [True, True, True, False, False, False]  # one rejected in the first, two in the second
    assert rejections(graphs, [2]) == [1, 2]
    graphs = [True, True, False, False, *[True, False], False]  # ... then one gradient step, and none
    assert rejections(graphs, [2, 1, 0]) == [0, 1, 0]
    assert changed_decisions([0, 1, 0, 0], [0, 2, 0, 0]) == 0.25


def test_a_probe_counts_pictures_forward_and_back_and_changes_nothing():
    layer = torch.nn.Conv2d(3, 3, 1)
    probe = Probe(lambda x, t, y: layer(x), torch.device("cpu"))
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    got = torch.autograd.grad(probe(x, None, None).sum(), x)[0]
    assert torch.equal(got, torch.autograd.grad(layer(x).sum(), x)[0])
    with torch.no_grad():
        assert torch.equal(probe(x[:1], None, None), layer(x[:1]))
    calls = probe.calls
    assert (calls.forward, calls.backward, calls.log) == (3, 2, [(4, 2, True), (4, 1, False)])
    assert calls.seconds > 0


def test_whole_pictures_with_the_bundled_weights(tmp_path):
    run = paint("confs/demo.yml", [*DEMO, "plan.counts={}"])
    assert len(run.images) == 6 and run.needed == run.backwards // 2 * 3
    assert sum(run.decisions) == run.forwards - run.needed
    assert 0 < run.networks < run.seconds


def test_planning_counts_what_is_left(capsys: pytest.CaptureFixture):
    planning.main(["--jobs", "40"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][:3] == ["planning", "40", "40"] and rows[2][:3] == ["resuming", "40", "10"]


def test_endurance_looks_at_every_part_of_a_run(capsys):
    assert endurance.main(["--samples", "20"]) in (0, 1)  # so few samples still fill caches
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    samples = [int(row[0]) for row in rows[1:11]]
    assert samples[-1] == 20 and all(n >= goal for n, goal in zip(samples, range(2, 21, 2), strict=True))
    assert all(float(row[1]) > 0 and float(row[2]) > 50 and int(row[3]) > 2 for row in rows[1:11])


def test_parts_that_end_together_have_the_time_of_the_samples_in_them(capsys):
    together = endurance.Look(8, 1.8, 100, 9)
    looks = [endurance.Look(0, 1.0, 50, 9), endurance.Look(4, 1.4, 100, 9), together, together]
    endurance.show(looks)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:4]]
    assert [(row[0], row[1]) for row in rows] == [("4", "100.00"), ("8", "100.00"), ("8", "100.00")]


@pytest.mark.parametrize("memory, files, flat", [(104, 9, True), (106, 9, False), (100, 12, False)])
def test_endurance_judges_memory_and_files_after_the_first_part(memory, files, flat, capsys):
    looks = [endurance.Look(n, n / 10, 50 if n == 0 else 100, 9) for n in range(0, 100, 10)]
    assert endurance.show([*looks, endurance.Look(100, 10.0, memory, files)]) is flat
    told = capsys.readouterr().out.splitlines()[-1]
    assert f"memory {memory - 100:+.1f}%" in told and "time each" in told and "0.0%" in told
