"""The prior that sees its surroundings: inputs, masks, weights and known pixels, in closed form."""

import torch

from guided_diffusion.create import create_diffusion
from guided_diffusion.gaussian_diffusion import Prediction
from guided_diffusion.surroundings import Surroundings, box_masks, box_weights
from guided_diffusion.unet import UNetModel


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
    diffusion, one = create_diffusion(diffusion_steps=50), known()
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
