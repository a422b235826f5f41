"""Whole runs against a second, literal transcription of the method, over randomly drawn options."""

import math
import random
from itertools import pairwise

import pytest
import torch

from guided_diffusion.attention_mask import accumulate, defect_attention
from guided_diffusion.ddim import Sampler
from guided_diffusion.timesteps import gradient_steps, noising_index
from guided_diffusion.windows import Windows
from tests import defaults
from tests.builders import GoldenNoise, sampler, sampler_options
from tests.defaults import attention_options
from tests.golden import load_json, load_npz

CASE = load_json("loops.json")["mid3"]
T = 50


class Literal:
    """One image and one window; every evaluation is a call of its own, as if calls cost nothing."""

    def __init__(self, base: Sampler, options, clean, draw):
        self.o, self.abar, self.clean, self.draw = options, base.diffusion.abar, clean, draw
        self.base, self.label = base, torch.tensor([CASE["label"]])
        self.left, self.top = CASE["location"]

    def window(self, x):
        return x[:, :, self.top : self.top + 16, self.left : self.left + 16]

    def predict(self, network, x, t, y=None, clip=None):
        times = torch.tensor([self.base.diffusion.network_steps[t]])
        eps = network(x, times, y)[:, :3]
        x0 = x / math.sqrt(self.abar[t]) - math.sqrt(1 / self.abar[t] - 1) * eps
        return (x0.clamp(-1, 1) if (self.o.clip_denoised if clip is None else clip) else x0), eps

    def step(self, x0, eps, t, s):
        at, a = self.abar[t], self.abar[s]
        sigma = 0.0 if t == 0 else self.o.ddim_sigma * math.sqrt((1 - a) / (1 - at)) * math.sqrt(1 - at / a)
        x = math.sqrt(a) * x0 + math.sqrt(max(1 - a - sigma**2, 0)) * eps
        return x + sigma * self.draw(x.shape) if sigma > 0 else x

    def image(self, x, t):
        k = self.o.mid_interval_num
        if k == 1:
            return self.predict(self.base.contextual, x, t)[0]
        chain = [0] * k if t == 0 else [t] + [n * (t // k) for n in reversed(range(k))]
        for a, b in pairwise(chain):
            x = self.step(*self.predict(self.base.contextual, x, a, clip=True), a, b)
        return x.clamp(-1, 1)

    def crop(self, c, t):
        return self.predict(self.base.prior, c, t, self.label)

    def loss(self, at, start, reg, mask, t):
        (x, c), (x_start, c_start) = at, start
        end, c0 = self.image(x, t), self.crop(c, t)[0]
        off = torch.ones_like(x)
        self.window(off)[:] = 0
        w = self.window(end)
        if mask is None:
            value = 10 * ((w - c0) ** 2).sum() + 0.06 * (off * (end - self.clean) ** 2).sum()
        else:
            ground = (mask < 0.01).float()
            value = 1e5 * (mask * (w - c0) ** 2).mean() + 5e4 * (off * (end - self.clean) ** 2).mean()
            value = value + 1e4 * (ground * (w - self.window(self.clean)) ** 2).mean()
        pull = ((x - x_start) ** 2).sum() + (((c - c_start) ** 2).sum() if self.o.lr_crop else 0)
        return value + reg * pull, end

    def attention(self, c, t, previous):
        config = self.o.attention
        if not config.enabled:
            return None
        mask = defect_attention(self.crop(c, t)[0], self.window(self.clean), config)
        if previous is None or not config.accumulation_enabled:
            return mask
        low, high = config.beta_min, config.accumulation_beta
        return accumulate(mask, previous, low + (high - low) * t / T if config.adaptive_beta else high)

    def refine(self, x, c, t, rates, previous):
        o, (rate, reg) = self.o, rates
        with torch.no_grad():
            mask = self.attention(c, t, previous)
        if not o.optimize_xt:
            return x, c, None, mask
        rate *= math.sqrt(self.abar[t] / self.abar[0]) if o.use_smart_lr_xt_decay else 1
        rest = ((x, c), reg, mask, t)
        x, c = x.clone().requires_grad_(), c.clone().requires_grad_()
        value, end = self.loss((x, c), *rest)
        for _ in range(o.gradient_steps[t]):
            gx, gc = torch.autograd.grad(value, [x, c])
            while True:
                new = [x - rate * gx, c - rate * gc if o.lr_crop else c]
                x_new, c_new = (v.detach().requires_grad_() for v in new)
                if not o.use_adaptive_lr_xt:
                    break
                if self.loss((x_new, c_new), *rest)[0] <= value:
                    break
                rate *= 0.8
            x, c = x_new, c_new
            value, end = self.loss((x, c), *rest)
        return x.detach(), c.detach(), end.detach(), mask

    def run(self, start_index, steps):
        o = self.o
        q = math.sqrt(self.abar[start_index]), math.sqrt(1 - self.abar[start_index])
        x = q[0] * self.clean + q[1] * self.draw(self.clean.shape)
        c, mask, lr, reg, rested = self.window(x), None, o.lr_xt, o.coef_xt_reg, False
        for t, s in pairwise(steps):
            if s < t:
                x, c, _, mask = self.refine(x, c, t, (lr, reg), mask)
                with torch.no_grad():
                    x = self.step(*self.predict(self.base.contextual, x, t), t, s)
                    c = self.step(*self.crop(c, t), t, s)
                lr, reg, rested = lr * o.lr_xt_decay, reg * o.coef_xt_reg_decay, False
                continue
            if not rested and o.optimize_before_time_travel and o.optimize_xt:
                x, c, end, _ = self.refine(x, c, t, (lr, reg), mask)
                if t == 0:
                    c = math.sqrt(self.abar[0]) * self.window(end)
                    c = c + math.sqrt(1 - self.abar[0]) * self.draw(c.shape)
            rested, beta = True, 1 - self.abar[s] / self.abar[t]
            x = math.sqrt(1 - beta) * x + math.sqrt(beta) * self.draw(x.shape)
            c = math.sqrt(1 - beta) * c + math.sqrt(beta) * self.draw(c.shape)
            lr, reg = lr / o.lr_xt_decay, reg / o.coef_xt_reg_decay
        return x, c


def drawn_options(seed: int) -> dict:
    """Options that a user might combine, at sizes that a test can afford."""
    r = random.Random(seed)
    travel = r.random() < 0.7
    schedule = {
        "num_inference_steps": r.choice([50, 50, 25, 17, 60]) if travel else r.choice([50, 24, 13]),
        "ddpm_num_steps": T,
        "schedule_type": r.choice(["linear", "quad"]),
        "jump_length": r.choice([1, 2, 3]),
        "jump_n_sample": r.choice([1, 2, 3]),
        "use_timetravel": travel,
        "time_travel_filter_type": r.choice(["none", "lastp-5.5", "firstn-47", "lastn-2", "firstp-97"]),
        "start_step": r.choice([5, 7]),
    }
    start, stop = r.choice([0, 1, 2]), r.choice([0, 0, 2])
    attention = {"enabled": r.random() < 0.7, "accumulation_enabled": r.random() < 0.7}
    return {
        "timesteps": defaults.timesteps(**schedule),
        "start_index": noising_index(schedule["start_step"], T),
        "gradient_steps": gradient_steps(T, start, r.choice([1, 2, 3]), stop),
        "ddim_sigma": r.choice([0.0, 0.5, 1.0, 1.6]),
        "optimize_xt": r.random() < 0.85,
        "lr_xt": r.choice([1e-5, 1e-4]),
        "lr_crop": r.random() < 0.4,
        "use_smart_lr_xt_decay": r.random() < 0.7,
        "use_adaptive_lr_xt": r.random() < 0.7,
        "coef_xt_reg": r.choice([1e-4, 0.1]),
        "mid_interval_num": r.choice([1, 2, 2, 3, 4]),
        "optimize_before_time_travel": r.random() < 0.7,
        "clip_denoised": r.random() < 0.8,
        "attention": attention_options(
            **attention,
            adaptive_beta=r.random() < 0.6,
            center_weight=r.choice([0.0, 1.0]),
            blur_sigma=r.choice([0.0, 1.0]),
        ),
    }


@pytest.fixture(scope="module")
def base() -> Sampler:
    return sampler(CASE)


@pytest.mark.parametrize("seed", range(8))
def test_a_run_with_drawn_options_equals_the_transcription(base, seed):
    options = sampler_options(CASE["config"], **drawn_options(seed))
    clean = torch.from_numpy(load_npz("loop_mid3.npz")["img"])
    windows = Windows([tuple(CASE["location"])], 16, torch.tensor([0]))
    ours, theirs = GoldenNoise(seed), GoldenNoise(seed)
    run = Sampler(base.contextual, base.prior, base.diffusion, options)
    result = run.sample(clean, windows, torch.tensor([CASE["label"]]), ours)
    x, crop = Literal(base, options, clean, theirs.stream).run(options.start_index, options.timesteps)
    assert ours.stream.draws == theirs.stream.draws
    assert (result.sample - x).abs().max() < 1e-4 and (result.crop - crop).abs().max() < 1e-4
