"""The prior that sees its surroundings: inputs, masks, weights and known pixels, in closed form."""

from dataclasses import replace

import pytest
import torch

from guided_diffusion.ddim import Sampler
from guided_diffusion.gaussian_diffusion import Prediction
from guided_diffusion.prior_sampler import PriorSampler
from guided_diffusion.surroundings import Surroundings, box_masks, box_weights
from guided_diffusion.unet import UNetModel
from guided_diffusion.windows import Windows
from tests import defaults
from tests.builders import sampler_options
from tests.golden import fill_weights, load_json
from utils.seeding import SampleNoise


def known(count: int = 2, size: int = 8) -> Surroundings:
    clean = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Surroundings(clean, box_masks([(1, 2, 4, 7), (-3, 0, 2, 99)][:count], size))


def test_masks_hold_exactly_the_pixels_of_their_boxes():
    masks = known().box
    assert masks.shape == (2, 1, 8, 8)
    assert masks[0, 0, 2:7, 1:4].all() and masks[0].sum() == 15
    assert masks[1, 0, :, :2].all() and masks[1].sum() == 16  # cut off at the window's edge


def test_the_network_never_sees_what_the_box_hides():
    one = known()
    other = Surroundings(torch.where(one.box > 0, -one.clean, one.clean), one.box)
    assert torch.equal(one.channels, other.channels)
    assert torch.equal(one.channels[:, :3] + one.box * one.clean, one.clean)
    assert torch.equal(one.channels[:, 3:], one.box)


def test_seven_channels_reach_the_model_in_order():
    seen = []
    one = known()
    one.seen_by(lambda x, t, y: seen.append(x))(torch.full((2, 3, 8, 8), 5.0), torch.zeros(2), None)
    assert torch.equal(seen[0][:, :3], torch.full((2, 3, 8, 8), 5.0))
    assert torch.equal(seen[0][:, 3:], one.channels)
    model = UNetModel(32, 1, (1, 1), num_classes=3, in_channels=7)
    out = one.seen_by(model)(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.tensor([0, 2]))
    assert out.shape == (2, 3, 8, 8)


def test_known_pixels_come_back_with_the_noise_that_follows_from_them():
    diffusion, one = defaults.diffusion(diffusion_steps=50), known()
    noise = torch.randn(one.clean.shape, generator=torch.Generator().manual_seed(1))
    x = diffusion.q_sample(one.clean, 20, noise)
    wrong = Prediction(torch.zeros_like(x), torch.full_like(x, 9.0))
    restored = one.restore(wrong, x, 20, diffusion)
    outside = (one.box == 0).expand_as(x)
    assert torch.equal(restored.x0[outside], one.clean[outside]) and (restored.x0[~outside] == 0).all()
    assert torch.allclose(
        restored.eps[outside], noise[outside], atol=1e-5
    )  # the true noise, where all is known
    # Inside, the noise that belongs to the estimate
    signal, spread = float(diffusion.sqrt_abar[20]), float(diffusion.sqrt_noise[20])
    assert torch.allclose(signal * restored.x0 + spread * restored.eps, x, atol=1e-6)


def test_outside_the_support_the_clean_window_comes_back_inside_the_box_as_well():
    one = known()
    support = torch.zeros_like(one.box)
    support[:, :, 3:5] = 1
    limited = Surroundings(one.clean, one.box, support)
    assert torch.equal(limited.channels, one.channels)  # the network sees the box
    diffusion, x = defaults.diffusion(diffusion_steps=50), torch.zeros_like(one.clean)
    x0 = limited.restore(Prediction(torch.full_like(x, 9.0), x), x, 20, diffusion).x0
    free = (one.box * support > 0).expand_as(x)
    assert (x0[free] == 9).all() and torch.equal(x0[~free], one.clean[~free])
    assert torch.equal(limited.select([1, 0]).support, support.flip(0))


def test_some_windows_are_selected_in_order():
    one = known()
    part = one.select([1, 0])
    assert torch.equal(part.clean, one.clean.flip(0)) and torch.equal(part.box, one.box.flip(0))


def test_weights_have_a_mean_of_one_and_the_ratio_asked_for():
    box = known().box
    weights = box_weights(box, 0.25)
    assert torch.allclose(weights.mean(dim=(1, 2, 3)), torch.ones(2))
    assert torch.allclose(weights[0, 0, 0, 0] / weights[0, 0, 3, 2], torch.tensor(0.25))
    assert torch.allclose(box_weights(box, 1.0), torch.ones_like(box))


# In the samplers


def sampler(kind, guidance: float = 0.0):
    """A sampler on 20 steps whose contextual model and prior are tiny networks; the prior sees its surroundings."""
    contextual = UNetModel(32, 1, (1,))
    prior = UNetModel(32, 1, (1,), num_classes=4, in_channels=7, use_scale_shift_norm=True)
    networks = [fill_weights(net, seed).requires_grad_(False) for seed, net in enumerate((contextual, prior))]
    options = sampler_options(
        load_json("loops.json")["default_small_lr"]["config"],
        timesteps=[7, 5, 3, 1, 3, 1, 0],
        start_index=8,
        gradient_steps=[1] * 20,
        prior_guidance=guidance,
    )
    options = replace(options, attention=replace(options.attention, center_region_ratio=0.9))
    if kind is PriorSampler:
        networks = networks[1:]
    return kind(*networks, defaults.diffusion(timestep_respacing="20"), options, clean_class=3)


def painted(kind, clean: torch.Tensor, guidance: float = 0.0):
    boxes = box_masks([(2, 3, 6, 7), (0, 0, 4, 8)], 8)
    windows = Windows([(1, 2), (7, 4)], 8, torch.tensor([0, 1]), boxes)
    noise = SampleNoise([1, 2], [0, 1])
    return sampler(kind, guidance).sample(clean, windows, torch.tensor([0, 2]), noise), windows


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_painting_alone_changes_nothing_outside_the_boxes(guidance):
    clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
    result, windows = painted(PriorSampler, clean, guidance)
    boxes = windows.pasted(torch.zeros_like(clean), windows.boxes.expand(-1, 3, -1, -1))
    assert torch.allclose(result.sample[boxes == 0], clean[boxes == 0], atol=1e-6)
    assert (result.sample - clean)[boxes == 1].abs().mean() > 0.05
    assert torch.equal(windows.cut(result.sample), result.crop)


def test_guidance_moves_away_from_the_class_clean():
    clean = torch.zeros(2, 3, 16, 16)
    results = [painted(PriorSampler, clean, guidance)[0].crop for guidance in (0.0, 1.0)]
    assert not torch.allclose(*results, atol=1e-5)


def test_refined_painting_takes_the_surroundings_into_the_prior():
    clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 1.6 - 0.8
    result, windows = painted(Sampler, clean)
    # The crop's state is the prior's: outside the boxes it is the clean window, with the little noise of index 0
    outside = (windows.boxes == 0).expand_as(result.crop)
    assert torch.allclose(result.crop[outside], windows.cut(clean)[outside], atol=0.1)
    assert torch.isfinite(result.sample).all()


def test_windows_keep_their_boxes_when_images_are_selected():
    _, windows = painted(PriorSampler, torch.zeros(2, 3, 16, 16))
    part, index = windows.select([1])
    assert index == [1] and torch.equal(part.boxes, windows.boxes[1:])
