"""Tables against frozen numbers, steps against their closed forms, losses against frozen numbers."""

import math

import numpy as np
import pytest
import torch

from guided_diffusion.gaussian_diffusion import GaussianDiffusion, Prediction, beta_schedule
from tests import defaults
from tests.builders import unet
from tests.golden import fill_weights, load_json, load_npz

BETAS = load_json("schedules.json")["betas"]
RESPACING = load_json("schedules.json")["respacing"]
LOSSES = load_json("losses.json")


def chain(**options) -> GaussianDiffusion:
    return defaults.diffusion(timestep_respacing="50", **options)


def image(seed: int, count: int = 2) -> torch.Tensor:
    return torch.randn((count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


# Tables


@pytest.mark.parametrize("name", BETAS)
def test_betas_equal_the_golden_ones(name):
    schedule, steps = name.split("-")
    betas = beta_schedule(schedule, int(steps))
    assert betas.dtype == np.float64
    assert np.abs(betas - np.array(BETAS[name])).max() < 1e-12


def test_cosine_in_closed_form():
    chain = GaussianDiffusion(beta_schedule("cosine", 100))
    u = np.arange(1, 100) / 100  # the last beta is capped
    first = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    expected = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 / first
    assert np.abs(chain.abar[:-1] - expected).max() < 1e-12
    assert chain.betas[-1] == pytest.approx(0.999, abs=1e-12)


def test_unknown_schedule():
    with pytest.raises(ValueError, match="noise_schedule is 'quad'"):
        beta_schedule("quad", 10)


@pytest.mark.parametrize("case", RESPACING, ids=lambda case: case["timestep_respacing"])
def test_respaced_betas_keep_the_signal_of_the_kept_steps(case):
    steps, kept = case["diffusion_steps"], case["kept"]
    full = np.cumprod(1 - np.linspace(0.1 / steps, 20 / steps, steps))
    short = defaults.diffusion(diffusion_steps=steps, timestep_respacing=case["timestep_respacing"])
    assert short.num_timesteps == len(kept)
    assert np.abs(np.cumprod(1 - short.betas) - full[kept]).max() < 1e-12
    assert short.betas[0] == pytest.approx(1 - full[kept[0]], rel=1e-9)
    assert short.betas[3] == pytest.approx(1 - full[kept[3]] / full[kept[2]], rel=1e-9)
    assert short.network_times(torch.tensor([0, 3])).tolist() == [kept[0], kept[3]]
    assert short.network_times(3).tolist() == [kept[3]]


def test_rescaled_timesteps_run_to_a_thousand():
    full = defaults.diffusion(diffusion_steps=250, rescale_timesteps=True)
    assert full.network_times(torch.tensor([0, 1, 249])).tolist() == [0.0, 4.0, 996.0]
    assert full.network_times(0).dtype == torch.float32
    plain = defaults.diffusion(diffusion_steps=250)
    assert plain.network_times(249).tolist() == [249]


def test_posterior_is_bayes_rule():
    # q(x_{t-1} | x_t, x_0) of scalars: the product of two Gaussians in x_{t-1}.
    d, t, x0, xt = chain(), 7, 0.3, -0.8
    prior_mean, prior_var = math.sqrt(d.abar[t - 1]) * x0, 1 - d.abar[t - 1]
    weight, step_var = math.sqrt(1 - d.betas[t]), d.betas[t]
    precision = 1 / prior_var + weight**2 / step_var
    mean = (prior_mean / prior_var + weight * xt / step_var) / precision
    assert d.posterior_variance[t] == pytest.approx(1 / precision, rel=1e-10)
    assert d.posterior_coef_x0[t] * x0 + d.posterior_coef_xt[t] * xt == pytest.approx(mean, rel=1e-10)


# Steps


def test_q_sample_in_closed_form():
    d, x0, noise = chain(), image(1), image(2)
    x = d.q_sample(x0, torch.tensor([0, 30]), noise)
    for row, t in enumerate((0, 30)):
        expected = math.sqrt(d.abar[t]) * x0[row] + math.sqrt(1 - d.abar[t]) * noise[row]
        assert torch.allclose(x[row], expected, atol=1e-6)
        assert torch.allclose(d.q_sample(x0, t, noise)[row], expected, atol=1e-6)


@pytest.mark.parametrize("t", [0, 20, torch.tensor([3, 49])])
def test_noise_and_clean_image_are_read_back(t):
    d, x0, noise = chain(), image(1), image(2)
    x = d.q_sample(x0, t, noise)
    from_noise = d.from_eps(noise, x, t, clip=False)
    assert torch.allclose(from_noise.x0, x0, atol=2e-4)  # 1/sqrt(abar) is 160 at the end of the chain
    assert from_noise.eps is noise
    from_image = chain(predict_xstart=True).predict(x0, x, t, clip=False)
    assert torch.equal(from_image.x0, x0)
    assert torch.allclose(from_image.eps, noise, atol=1e-4)


def test_predict_reads_three_channels_and_clips():
    d, x = chain(learn_sigma=True), image(3)
    output = torch.cat([image(4), torch.full((2, 3, 8, 8), torch.nan)], dim=1)
    plain, clipped = (d.predict(output, x, 10, clip) for clip in (False, True))
    expected = (x - math.sqrt(1 - d.abar[10]) * output[:, :3]) / math.sqrt(d.abar[10])
    assert torch.allclose(plain.x0, expected, atol=1e-5)
    assert plain.x0.abs().max() > 1.5
    assert torch.equal(clipped.x0, plain.x0.clamp(-1, 1))
    assert torch.equal(clipped.eps, output[:, :3])  # clipping leaves the noise estimate alone


def test_clipped_clean_image_of_predict_xstart_gives_its_noise():
    d, x = chain(predict_xstart=True), image(3)
    got = d.predict(3 * image(4), x, 10, clip=True)
    assert got.x0.abs().max() == 1
    assert torch.allclose(d.q_sample(got.x0, 10, got.eps), x, atol=1e-5)


def test_ddim_sigma_in_closed_form():
    d = chain()
    ddpm = math.sqrt(d.posterior_variance[20])  # eta = 1 and neighbors: the DDPM posterior
    assert d.ddim_sigma(20, 19, 1.0) == pytest.approx(ddpm, rel=1e-10)
    assert d.ddim_sigma(20, 19, 0.5) == pytest.approx(ddpm / 2, rel=1e-10)
    assert d.ddim_sigma(20, 19, 0.0) == 0
    assert d.ddim_sigma(0, 0, 1.0) == 0


def test_ddim_step_in_closed_form():
    d, x0, eps, noise = chain(), image(1), image(2), image(3)
    sigma = d.ddim_sigma(20, 15, 0.7)
    step = d.ddim_step(Prediction(x0, eps), 15, sigma, noise)
    a = d.abar[15]
    expected = math.sqrt(a) * x0 + math.sqrt(1 - a - sigma**2) * eps + sigma * noise
    assert torch.allclose(step, expected, atol=1e-6)
    # Without noise the step lands on the line through x0 and eps.
    assert torch.allclose(d.ddim_step(Prediction(x0, eps), 15), d.q_sample(x0, 15, eps), atol=1e-6)


def test_ddpm_mean_is_the_posterior_mean():
    # With eta = 1 between neighbors, DDIM's mean is the posterior's (Song 2021, section 4.1).
    d, x0, eps, t = chain(), image(1), image(2), 20
    x = d.q_sample(x0, t, eps)
    sigma = d.ddim_sigma(t, t - 1, 1.0)
    mean = d.ddim_step(Prediction(x0, eps), t - 1, sigma)
    expected = d.posterior_coef_x0[t] * x0 + d.posterior_coef_xt[t] * x
    assert torch.allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize("s, t", [(0, 1), (10, 11), (4, 40)])
def test_renoising_moves_the_signal_from_s_to_t(s, t):
    d, x0, noise = chain(), torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64), torch.zeros(1, 3, 2, 2)
    at_s = math.sqrt(d.abar[s]) * x0
    assert torch.allclose(d.renoise_step(at_s, s, t, noise), math.sqrt(d.abar[t]) * x0, rtol=1e-12)
    # Noise variances add up: (1 - beta)(1 - abar_s) + beta = 1 - abar_t.
    ones = torch.ones(1, dtype=torch.float64)
    kept = d.renoise_step(ones, s, t, 0 * ones).item()
    added = d.renoise_step(0 * ones, s, t, ones).item()
    assert kept**2 * (1 - d.abar[s]) + added**2 == pytest.approx(1 - d.abar[t], rel=1e-12)
    assert kept**2 + added**2 == pytest.approx(1, rel=1e-12)
    if t == s + 1:
        assert added**2 == pytest.approx(d.betas[t], rel=1e-9)


# Losses


@pytest.mark.parametrize("i", range(len(LOSSES)))
def test_losses_equal_the_golden_ones(i):
    case, arrays = LOSSES[i], load_npz("losses.npz")
    network = fill_weights(unet(case["unet"]), case["weight_seed"])
    d = defaults.diffusion(**case["diffusion"])
    x0, noise = (torch.from_numpy(arrays[f"{i}_{name}"]) for name in ("x", "noise"))
    with torch.no_grad():
        terms = d.training_losses(network, x0, torch.tensor(case["t"]), noise)
    assert sorted(terms) == sorted(case["terms"])
    for name in case["terms"]:
        expected = arrays[f"{i}_{name}"]
        assert np.allclose(terms[name].numpy(), expected, rtol=1e-5, atol=1e-8)


def test_variational_bound_does_not_move_the_mean():
    # With learn_sigma the bound trains the variance alone, so the mean's gradient is the MSE's.
    d, x0, noise, t = chain(learn_sigma=True), image(1), image(2), torch.tensor([0, 30])
    output = torch.cat([image(3), image(4)], dim=1).requires_grad_()
    terms = d.training_losses(lambda x, times: output, x0, t, noise)
    (grad,) = torch.autograd.grad(terms["loss"].sum(), output)
    expected = 2 * (output[:, :3] - noise) / noise[0].numel()
    assert torch.allclose(grad[:, :3], expected.detach(), atol=1e-7)
    assert (grad[:, 3:].flatten(1).abs().amax(1) > 0).all()


def test_perfect_network_has_no_loss():
    d, x0, noise, t = chain(learn_sigma=True), image(1), image(2), torch.tensor([5, 30])
    # Variance channel -1 is the posterior's own, so the KL divergence is 0 as well.
    output = torch.cat([noise, torch.full_like(noise, -1.0)], dim=1)
    terms = d.training_losses(lambda x, times: output, x0, t, noise)
    assert terms["mse"].tolist() == [0, 0]
    assert terms["vb"].abs().max() < 1e-4


def test_a_chain_without_signal_at_its_end_is_refused():
    with pytest.raises(ValueError, match="diffusion_steps: got 20"):
        defaults.diffusion(diffusion_steps=20)
