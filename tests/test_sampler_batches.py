"""A batch of images, windows and classes equals its single runs; the options that no frozen number covers."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from guided_diffusion import attention_mask
from guided_diffusion.ddim import Sampler
from guided_diffusion.refinement import State
from guided_diffusion.timesteps import noising_index
from guided_diffusion.windows import Target, Windows
from tests import defaults
from tests.builders import sampler, sampler_options
from tests.golden import load_json

# The networks are convolutional: quarter-size images keep the tests quick.
CASE = load_json("loops.json")["default_small_lr"]
SIDE, WINDOW = 32, 16
CORNERS = [(0, 0), (16, 3), (7, 16), (9, 8)]
CLASSES = [0, 5, 2, 2]
SMALL = {"timesteps": [3, 2, 1, 0, 1, 0], "start_index": 4, "lr_xt": 1e-6}


class Streams:
    """One stream per image, as in generation: an image's noise does not depend on the others."""

    def __init__(self, seeds: Sequence[int], owner: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.owner = owner

    def image(self, like: Tensor, images: Sequence[int] | None = None) -> Tensor:
        rows = range(len(self.generators)) if images is None else images
        return torch.stack([torch.randn(like.shape[1:], generator=self.generators[i]) for i in rows])

    def crop(self, like: Tensor) -> Tensor:
        return torch.stack([torch.randn(like.shape[1:], generator=self.generators[i]) for i in self.owner])


@pytest.fixture(scope="module")
def base() -> Sampler:
    """The networks, made once."""
    return sampler(CASE)


def whole() -> Target:
    """One image and its first window, without attention masks."""
    return Target.of_clean(images(1), Windows(CORNERS[:1], WINDOW, torch.tensor([0])))


def variant(base: Sampler, **changes) -> Sampler:
    fresh = sampler_options(CASE["config"], **(SMALL | changes))
    return Sampler(base.contextual, base.prior, base.diffusion, fresh)


def images(count: int) -> Tensor:
    x = torch.rand((count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)  # a little smoother than noise


def sample(run: Sampler, rows: Sequence[int]):
    """The whole loop on some of the images, one window each."""
    windows = Windows([CORNERS[i] for i in rows], WINDOW, torch.arange(len(rows)))
    classes = torch.tensor([CLASSES[i] for i in rows])
    noise = Streams([10 + i for i in rows], range(len(rows)))
    return run.sample(images(4)[list(rows)], windows, classes, noise)


def far(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize("changes", [{}, {"lr_crop": True}], ids=["crop fixed", "crop optimized"])
def test_one_guided_step_of_a_batch_equals_the_single_ones(base, changes):
    run = variant(base, lr_xt=1e-4, **changes)
    clean = images(4)
    x = run.diffusion.q_sample(clean, 3, torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)))

    def step(rows: list[int]):
        windows = Windows([CORNERS[i] for i in rows], WINDOW, torch.arange(len(rows)))
        target = Target.of_clean(clean[rows], windows)
        classes = torch.tensor([CLASSES[i] for i in rows])
        state = State(x[rows], windows.cut(x[rows]), None, 1e-4, 1e-4)
        done = run.guided_step(state, 3, target, classes, Streams(rows, range(len(rows))))
        return done.point, done.accumulated

    whole, mask = step([0, 1, 2, 3])
    assert far(whole.x, x) > 1e-4
    for i in range(4):
        single, single_mask = step([i])
        assert far(whole.x[i], single.x[0]) < 1e-5
        assert far(whole.crop[i], single.crop[0]) < 1e-5
        assert far(whole.prior.x0[i], single.prior.x0[0]) < 1e-5
        assert far(whole.image.end[i], single.image.end[0]) < 1e-5
        assert far(mask[i], single_mask[0]) < 1e-5


def test_a_whole_loop_of_a_batch_equals_the_single_ones(base):
    run = variant(base, ddim_sigma=0.5)
    whole = sample(run, [0, 1, 2, 3])
    for i in range(4):
        single = sample(run, [i])
        for name in ("noised", "sample", "crop", "attention"):
            assert far(getattr(whole, name)[i], getattr(single, name)[0]) < 1e-5, name


def test_components_are_labeled_when_the_first_estimate_is_under_way(base, monkeypatch):
    order, label = [], attention_mask._central_components

    def model(name: str, network):
        def call(x, t, y):
            order.append(name)
            return network(x, t, y)

        return call

    def labeled(*arguments):
        order.append("label")
        return label(*arguments)

    monkeypatch.setattr(attention_mask, "_central_components", labeled)
    options = variant(base, timesteps=[1, 0], start_index=2).options
    run = Sampler(model("image", base.contextual), model("crop", base.prior), base.diffusion, options)
    sample(run, [0])
    assert order == ["crop", "image", "label", "image", "image"]  # g_scha: two gradient steps


def test_a_warm_start_of_the_rates_saves_trials(base):
    calls = {}
    for carry in (False, True):
        run = variant(base, lr_xt=10.0, lr_xt_decay=1.0, carry_lr_xt=carry)
        rows = []

        def counted(x, t, y, rows=rows):
            rows.append(len(x))
            return base.contextual(x, t, y)

        sample(Sampler(counted, run.prior, run.diffusion, run.options), [0, 1])
        calls[carry] = sum(rows)
    assert calls[True] < 0.8 * calls[False]


def test_two_windows_on_one_image(base):
    run = variant(base, timesteps=[1, 0, 1, 0], start_index=2)
    windows = Windows([CORNERS[0], (16, 16), CORNERS[2]], WINDOW, torch.tensor([0, 0, 1]))
    classes = torch.tensor([0, 3, 2])
    result = run.sample(images(2), windows, classes, Streams([1, 2], [0, 0, 1]))
    assert result.sample.shape == (2, 3, SIDE, SIDE) and result.crop.shape == (3, 3, WINDOW, WINDOW)
    assert result.attention.shape == (3, 1, WINDOW, WINDOW)
    assert torch.isfinite(result.sample).all() and torch.isfinite(result.crop).all()
    alone = Windows([CORNERS[0], (16, 16)], WINDOW, torch.tensor([0, 0]))
    first = run.sample(images(2)[:1], alone, classes[:2], Streams([1], [0, 0]))
    assert far(result.sample[0], first.sample[0]) < 1e-5
    assert far(result.crop[:2], first.crop) < 1e-5


def test_prior_guidance(base):
    short = {"timesteps": [3, 0], "start_index": 3}
    plain, zero, guided = (
        sample(variant(base, **short, **change), [1])
        for change in ({}, {"prior_guidance": 0.0}, {"prior_guidance": 2.0})
    )
    assert torch.equal(plain.crop, zero.crop) and torch.equal(plain.sample, zero.sample)
    assert far(plain.crop, guided.crop) > 1e-4


def test_prior_guidance_in_closed_form(base):
    # eps = eps_prior + s (eps_prior - eps_contextual), both at the same step.
    crop, t = images(1)[:, :, :WINDOW, :WINDOW], 3
    run = variant(base, prior_guidance=2.0, clip_denoised=False)
    got = run.networks(t, whole(), torch.tensor([4]), Streams([0], [0])).crop(crop, [0])
    with torch.no_grad():
        times = run.diffusion.network_times(t)
        prior = run.prior(crop, times, torch.tensor([4]))[:, :3]
        plain = run.contextual(crop, times, None)[:, :3]
    assert far(got.eps, 3 * prior - 2 * plain) < 1e-5
    assert far(run.diffusion.q_sample(got.x0, t, got.eps), crop) < 1e-5


def test_a_short_start_runs(base):
    steps = defaults.timesteps(
        num_inference_steps=50, ddpm_num_steps=50, jump_length=10, jump_n_sample=3, start_step=2
    )
    assert steps == [1, 0]
    result = sample(variant(base, timesteps=steps, start_index=noising_index(2, 50)), [0])
    assert torch.isfinite(result.sample).all()
    single = sample(variant(base, timesteps=[0], start_index=1), [0])  # no step to denoise
    assert torch.equal(single.sample, single.noised)


def test_two_intervals_below_two(base):
    # For t < k the sub-step 0 -> 0 still runs: at t = 1 the end is two predictions' clean image.
    run = variant(base, mid_interval_num=2)
    x, d = run.diffusion.q_sample(images(1), 1, torch.zeros(1, 3, SIDE, SIDE)), run.diffusion
    estimate = run.networks(1, whole(), torch.tensor([0]), Streams([0], [0])).image(x, [0])
    with torch.no_grad():

        def predict(x: Tensor, t: int):
            return d.predict(run.contextual(x, d.network_times(t), None), x, t, clip=True)

        first = predict(x, 1)
        middle = d.ddim_step(first, 0)
        end = d.ddim_step(predict(middle, 0), 0).clamp(-1, 1)
    assert far(estimate.end, end) < 1e-6
    assert far(estimate.prediction.x0, first.x0) < 1e-6
    assert torch.isfinite(sample(variant(base, mid_interval_num=2, timesteps=[1, 0]), [0]).sample).all()
