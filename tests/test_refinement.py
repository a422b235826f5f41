"""The energy on tensors small enough for paper, and the descent on quadratic toy networks."""

import logging
import weakref
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from guided_diffusion.gaussian_diffusion import Prediction
from guided_diffusion.refinement import (
    Descent,
    ImageEstimate,
    Networks,
    NonFiniteEnergy,
    Objective,
    Point,
    State,
    energy,
    refine,
    warm_start,
)
from guided_diffusion.windows import Target, Windows

ONE = Windows([(1, 0)], 2, torch.tensor([0]))  # columns 1 and 2, rows 0 and 1


# Energy


def test_energy_without_attention_by_hand():
    clean = torch.zeros(1, 3, 4, 4)
    end = torch.full((1, 3, 4, 4), 0.5)
    crop = torch.full((1, 3, 2, 2), 0.25)
    # Window: 12 values of 0.25^2. Outside: 36 values of 0.5^2.
    expected = 10 * 12 * 0.0625 + 0.06 * 36 * 0.25
    assert energy(end, crop, Target.of_clean(clean, ONE)).tolist() == pytest.approx([expected])


def masked(clean: Tensor, windows: Windows, defect: Tensor, background: Tensor) -> Target:
    plain = Target.of_clean(clean, windows)
    return Target(clean, windows, plain.clean_windows, plain.outside, defect, background)


def test_energy_with_attention_by_hand():
    end = torch.zeros(1, 3, 4, 4)
    end[0, :, 0, 1] = 0.5  # in the window's first pixel
    end[0, 0, 3, 3] = 0.2  # outside, one channel
    crop = torch.full((1, 3, 2, 2), 0.1)
    defect = torch.tensor([[[[0.5, 0.0], [0.0, 1.0]]]])
    background = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    # Means over the 12 values of a window: three channels of each term; over 48 values outside.
    seen = 1e5 * (3 * 0.5 * 0.4**2 + 3 * 1.0 * 0.1**2) / 12
    kept = 1e4 * (3 * 0.5**2) / 12
    off = 5e4 * 0.2**2 / 48
    got = energy(end, crop, masked(torch.zeros(1, 3, 4, 4), ONE, defect, background))
    assert got.tolist() == pytest.approx([seen + kept + off], rel=1e-6)


@pytest.mark.parametrize("attention", [False, True])
def test_two_windows_on_one_image_add_up(attention):
    generator = torch.Generator().manual_seed(0)
    end, clean = (torch.randn((2, 3, 8, 8), generator=generator) for _ in range(2))
    crop = torch.randn((3, 3, 3, 3), generator=generator)
    windows = Windows([(0, 0), (4, 5), (1, 2)], 3, torch.tensor([0, 0, 1]))
    defect = torch.rand((3, 1, 3, 3), generator=generator) if attention else None
    background = (defect < 0.3).float() if attention else None
    plain = Target.of_clean(clean, windows)
    whole = Target(clean, windows, plain.clean_windows, plain.outside, defect, background)
    got = energy(end, crop, whole)

    def alone(m: int) -> Tensor:
        """The window's own terms: the outside ones are switched off."""
        one = Windows([windows.corners[m]], 3, torch.tensor([0]))
        i = int(windows.owner[m])
        target = Target.of_clean(clean[i : i + 1], one)
        masks = (defect[m : m + 1], background[m : m + 1]) if attention else (None, None)
        off = torch.zeros_like(target.outside)
        return energy(
            end[i : i + 1], crop[m : m + 1], Target(target.clean, one, target.clean_windows, off, *masks)
        )

    squares = whole.outside * (end - clean) ** 2
    off = squares.flatten(1).mean(1) * 5e4 if attention else squares.flatten(1).sum(1) * 0.06
    assert got[0].item() == pytest.approx((alone(0) + alone(1)).item() + off[0].item(), rel=1e-5)
    assert got[1].item() == pytest.approx(alone(2).item() + off[1].item(), rel=1e-5)


# Descent on toy networks: the contextual model's estimate is x itself, and so is the prior's. Without
# attention and with a clean image of zeros the energy is 10 |x_window - crop|^2 + 0.06 |x_outside|^2.


@dataclass
class Toy:
    """Networks whose estimates are `gain` times their inputs, and what they were asked."""

    gain: float = 1.0
    rows: list[int] = field(default_factory=list)  # images per call
    seen: list[Tensor] = field(default_factory=list)
    crops: list[list[int]] = field(default_factory=list)  # windows per call
    backwards: int = 0

    def networks(self) -> Networks:
        return Networks(self.image, self.crop)

    def image(self, x: Tensor, images=()) -> ImageEstimate:
        self.rows.append(len(x))
        self.seen.append(x.detach().clone())
        end = x * self.gain
        if end.requires_grad:
            end.register_hook(self._count)
        return ImageEstimate(Prediction(end, x), end)

    def crop(self, c: Tensor, index) -> Prediction:
        self.crops.append(list(index))
        return Prediction(c * self.gain, c)

    def _count(self, grad: Tensor) -> None:
        self.backwards += 1


def start(count: int = 1) -> tuple[Tensor, Tensor, Target]:
    """x and the crops at random, and a clean image of zeros, with one window each."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((count, 3, 4, 4), generator=generator)
    crop = torch.randn((count, 3, 2, 2), generator=generator)
    windows = Windows([(1, 0)] * count, 2, torch.arange(count))
    return x, crop, Target.of_clean(torch.zeros_like(x), windows)


def run(toy: Toy, x: Tensor, crop: Tensor, target: Target, **how) -> Point:
    return descend(toy.networks(), x, crop, target, Prediction(crop * toy.gain, crop), **how)


def descend(networks: Networks, x, crop, target, prior=None, scale=None, **how) -> Point:
    """`refine` at t = 7, from x and the crop; `how` are changes of the default descent."""
    values = {"steps": 1, "rate": 0.01, "crop_rate": 0.0, "coef_reg": 0.0, "adaptive": True} | how
    origin = State(x, crop, None, values["rate"], values["coef_reg"], scale)
    prior = prior or Prediction(crop, crop)
    return refine(Objective(target, networks, Descent(**values), origin, 7), prior)


def gradient(x: Tensor, crop: Tensor, target: Target) -> Tensor:
    grad = 0.12 * target.outside * x
    grad[:, :, 0:2, 1:3] += 20 * (x[:, :, 0:2, 1:3] - crop)
    return grad


def test_one_accepted_step_in_closed_form():
    x, crop, target = start()
    point = run(Toy(), x, crop, target)
    expected = x - 0.01 * gradient(x, crop, target)
    assert torch.allclose(point.x, expected, atol=1e-6)
    assert torch.equal(point.crop, crop)
    assert torch.equal(point.image.end, point.x)
    value = 10 * ((expected[:, :, 0:2, 1:3] - crop) ** 2).sum() + 0.06 * (target.outside * expected**2).sum()
    assert point.value.item() == pytest.approx(value.item(), rel=1e-5)
    assert not point.x.requires_grad and not point.value.requires_grad


def test_the_networks_slope_is_in_the_gradient():
    # With estimates of 2x and 2c, d/dx is twice the gradient at (2x, 2c).
    x, crop, target = start()
    point = run(Toy(gain=2.0), x, crop, target, rate=1e-3)
    assert torch.allclose(point.x, x - 1e-3 * 2 * gradient(2 * x, 2 * crop, target), atol=1e-6)


def test_three_steps_in_closed_form_with_the_regularizer():
    x, crop, target = start()
    point = run(Toy(), x, crop, target, steps=3, coef_reg=2.0)
    expected = x
    for _ in range(3):
        expected = expected - 0.01 * (gradient(expected, crop, target) + 4 * (expected - x))
    assert torch.allclose(point.x, expected, atol=1e-5)
    assert not torch.allclose(point.x, run(Toy(), x, crop, target, steps=3).x, atol=1e-3)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_number_of_network_calls_when_all_trials_are_accepted(steps):
    toy = Toy()
    run(toy, *start(2), steps=steps)
    assert toy.rows == [2] * (steps + 1)
    assert toy.backwards == steps
    assert toy.crops == []  # the prior's estimate is given, and its input stays


def test_no_steps_leave_the_state_as_it_is():
    x, crop, target = start()
    point = run(Toy(), x, crop, target, steps=0)
    assert torch.equal(point.x, x) and point.grad is None
    assert point.value.item() == pytest.approx(energy(x, crop, target).item())


def test_the_crop_moves_with_a_rate_of_its_own():
    x, crop, target = start()
    toy = Toy()
    point = run(toy, x, crop, target, crop_rate=0.004, coef_reg=0.5, steps=2)
    one_x = x - 0.01 * gradient(x, crop, target)
    one_crop = crop - 0.004 * 20 * (crop - x[:, :, 0:2, 1:3])
    change_x = gradient(one_x, one_crop, target) + (one_x - x)
    change_crop = 20 * (one_crop - one_x[:, :, 0:2, 1:3]) + (one_crop - crop)
    assert torch.allclose(point.x, one_x - 0.01 * change_x, atol=1e-5)
    assert torch.allclose(point.crop, one_crop - 0.004 * change_crop, atol=1e-5)
    assert torch.allclose(point.prior.x0, point.crop)
    assert toy.crops == [[0]] * 3


# Line search. In the window the curvature is 20, so a rate above 2/20 overshoots to a larger value.


def test_rejection_shrinks_the_rate_and_retries_from_the_same_gradient():
    x, crop, target = start()
    toy = Toy()
    point = run(toy, x, crop, target, rate=0.15)
    grad = gradient(x, crop, target)
    tried = [0.15, 0.12, 0.096]  # 0.15 and 0.12 overshoot
    assert toy.rows == [1] * 4 and toy.backwards == 1
    for rate, seen in zip(tried, toy.seen[1:], strict=True):
        assert torch.allclose(seen, x - rate * grad, atol=1e-5)
    assert torch.allclose(point.x, toy.seen[-1])
    assert point.value.item() < energy(x, crop, target).item()


def test_a_rejected_trials_graph_is_gone_before_the_next_is_built():
    x, crop, target = start()
    alive, before = [], []  # results of the network at each call, and how many of them still were there

    def image(row: Tensor, images) -> ImageEstimate:
        before.append(sum(ref() is not None for ref in alive))
        end = row * 1.0
        alive.append(weakref.ref(end))
        return ImageEstimate(Prediction(end, row), end)

    networks = Networks(image, Toy().crop)
    descend(networks, x, crop, target, steps=2, rate=0.15)
    # 0.15 and 0.12 are rejected, 0.096 is accepted twice
    assert before == [0] * 5


def test_a_reduced_rate_stays_for_the_later_steps():
    x, crop, target = start()
    toy = Toy()
    point = run(toy, x, crop, target, rate=0.15, steps=2)
    once = x - 0.096 * gradient(x, crop, target)
    assert toy.rows == [1] * 5
    assert torch.allclose(point.x, once - 0.096 * gradient(once, crop, target), atol=1e-5)


def test_a_refinement_may_begin_with_the_rate_that_the_last_one_ended_with():
    x, crop, target = start()
    point = run(Toy(), x, crop, target, rate=0.15)
    assert point.step_scale == pytest.approx((0.64,))  # two trials rejected
    toy = Toy()
    again = descend(toy.networks(), x, crop, target, scale=point.step_scale, rate=0.15)
    assert toy.rows == [1, 1] and torch.equal(again.x, point.x) and again.step_scale == point.step_scale


def test_an_image_without_a_rate_small_enough_begins_the_next_t_afresh():
    x, crop, target = start()
    crooked = Toy()

    def uphill(row, images):  # whatever is tried, the second look is worse than the first
        estimate = crooked.networks().image(row)
        return estimate if len(crooked.rows) == 1 else replace(estimate, end=estimate.end + 100)

    networks = Networks(uphill, crooked.networks().crop)
    point = descend(networks, x, crop, target, rate=0.1)
    assert len(crooked.rows) == 101 and point.step_scale == (1.0,)
    assert torch.equal(point.x, x)


def test_warm_start_shrinks_with_rejections_and_grows_by_one_factor_without():
    assert warm_start(None, [1.0, 0.64]) == [1.0, 0.64]
    assert warm_start([0.64, 0.64, 0.9], [0.64, 0.512, 0.9]) == pytest.approx([0.8, 0.512, 1.0])


def test_without_line_search_the_first_trial_is_taken():
    x, crop, target = start()
    toy = Toy()
    point = run(toy, x, crop, target, rate=0.15, adaptive=False)
    assert toy.rows == [1, 1]
    assert torch.allclose(point.x, x - 0.15 * gradient(x, crop, target), atol=1e-5)
    assert point.value.item() > energy(x, crop, target).item()


def flat_window(x: Tensor, crop: Tensor, image: int) -> None:
    """Put an image's window where the prior wants it: only the gentle outside term is left."""
    x[image, :, 0:2, 1:3] = crop[image]


@pytest.mark.parametrize("crop_rate", [0.0, 0.15])
def test_only_the_rejected_image_is_tried_again(crop_rate):
    x, crop, target = start(3)
    for image in (0, 2):
        flat_window(x, crop, image)
    toy = Toy()
    point = run(toy, x, crop, target, rate=0.15, crop_rate=crop_rate, steps=2)
    singles = [
        run(Toy(), x[i : i + 1], crop[i : i + 1], target.select([i]), rate=0.15, crop_rate=crop_rate, steps=2)
        for i in range(3)
    ]
    assert toy.rows[:3] == [3, 3, 1] and toy.rows[-1] == 3
    if crop_rate:
        assert toy.crops[:3] == [[0, 1, 2], [0, 1, 2], [1]]
    for i, single in enumerate(singles):
        assert torch.allclose(point.x[i], single.x[0], atol=1e-6)
        assert torch.allclose(point.crop[i], single.crop[0], atol=1e-6)
        assert torch.allclose(point.prior.x0[i], single.prior.x0[0], atol=1e-6)
        assert torch.allclose(point.image.end[i], single.image.end[0], atol=1e-6)
        assert torch.allclose(point.image.prediction.eps[i], single.image.prediction.eps[0], atol=1e-6)
        assert point.value[i].item() == pytest.approx(single.value.item(), rel=1e-5)


def test_an_image_with_two_windows_is_retried_with_both():
    x, crop, _ = start(3)
    windows = Windows([(0, 0), (0, 0), (2, 2)], 2, torch.tensor([0, 1, 1]))
    x[0, :, 0:2, 0:2] = crop[0]
    target = Target.of_clean(torch.zeros(2, 3, 4, 4), windows)
    toy = Toy()
    point = run(toy, x[:2], crop, target, rate=0.15, crop_rate=0.01)
    single = run(Toy(), x[1:2], crop[1:], target.select([1]), rate=0.15, crop_rate=0.01)
    assert toy.rows[:3] == [2, 2, 1] and toy.crops[2] == [1, 2]
    assert torch.allclose(point.x[1], single.x[0], atol=1e-6)
    assert torch.allclose(point.crop[1:], single.crop, atol=1e-6)


def test_after_a_hundred_rejections_x_stays_and_a_warning_is_logged(caplog):
    x, crop, target = start()
    toy = Toy()

    def image(row: Tensor, images) -> ImageEstimate:
        estimate = toy.image(row)  # every trial is much worse than the beginning
        return estimate if len(toy.rows) == 1 else ImageEstimate(estimate.prediction, estimate.end + 9)

    networks = Networks(image, toy.crop)
    with caplog.at_level(logging.WARNING):
        point = descend(networks, x, crop, target, rate=0.1)
    assert torch.equal(point.x, x)
    assert torch.equal(point.image.end, x)
    assert toy.rows == [1] * 101 and toy.backwards == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "100" in caplog.text and "t=7" in caplog.text


def test_a_trial_that_is_no_number_is_rejected():
    x, crop, target = start()
    toy, first = Toy(), []

    def image(row: Tensor, images) -> ImageEstimate:
        estimate = toy.image(row)
        first.append(row)
        if len(first) == 2:
            return ImageEstimate(estimate.prediction, estimate.end * torch.nan)
        return estimate

    networks = Networks(image, toy.crop)
    point = descend(networks, x, crop, target)
    assert torch.allclose(point.x, x - 0.008 * gradient(x, crop, target), atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_energy_that_is_no_number_at_the_start_is_an_error(value):
    x, crop, target = start(2)
    x[1, 0, 3, 3] = value
    with pytest.raises(NonFiniteEnergy, match="t=7"):
        run(Toy(), x, crop, target)


def test_images_are_accepted_at_trials_of_their_own():
    x, crop, _ = start(4)
    crop[3] = crop[2]  # two windows at one place: the curvature is 40, and rates above 1/20 overshoot
    windows = Windows([(1, 0)] * 4, 2, torch.tensor([0, 1, 2, 2]))
    x = x[:3]
    flat_window(x, crop, 0)
    target = Target.of_clean(torch.zeros_like(x), windows)
    toy = Toy()
    point = run(toy, x, crop, target, rate=0.15)
    assert toy.rows == [3, 3, 2, 2, 1, 1, 1]
    for i, rate in enumerate((0.15, 0.15 * 0.8**2, 0.15 * 0.8**5)):
        grad = gradient(x, crop[:3], target)[i]
        if i == 2:
            grad[:, 0:2, 1:3] *= 2
        assert torch.allclose(point.x[i], x[i] - rate * grad, atol=1e-5)


# Noise in the contextual model's estimate: every evaluation draws its own, a point taken once more.


@dataclass
class Noisy(Toy):
    """Estimates of x plus a number from a list per image, in the order of evaluation."""

    noise: list[list[float]] = field(default_factory=list)
    asked: list[list[int]] = field(default_factory=list)  # images per call

    def networks(self) -> Networks:
        return Networks(self.image, self.crop, noisy=True)

    def image(self, x: Tensor, images=()) -> ImageEstimate:
        self.asked.append(list(images))
        z = torch.tensor([self.noise[i].pop(0) for i in images]).view(-1, 1, 1, 1)
        estimate = super().image(x)
        return ImageEstimate(estimate.prediction, estimate.end + z)


def test_the_point_taken_is_evaluated_again_and_counts():
    x, crop, target = start()
    toy = Noisy(noise=[[0.1, 0.0, 0.2, 0.0, 0.3]])
    point = run(toy, x, crop, target, steps=2)
    # Gradients with the noise of the beginning and of the first point taken; trials' noise leaves no trace
    one = x - 0.01 * gradient(x + 0.1, crop, target)
    assert torch.allclose(toy.seen[1], one, atol=1e-5) and torch.allclose(toy.seen[2], one, atol=1e-5)
    two = one - 0.01 * gradient(one + 0.2, crop, target)
    assert torch.allclose(point.x, two, atol=1e-5)
    assert torch.allclose(point.image.end, two + 0.3, atol=1e-5)
    assert point.value.item() == pytest.approx(energy(two + 0.3, crop, target).item(), rel=1e-5)
    assert toy.backwards == 2 and toy.noise == [[]]


def test_trials_are_compared_with_the_value_at_the_point_taken():
    x, crop, target = start()
    # The first trial is accepted, although its point, evaluated again, is far worse than the beginning; so the
    # second step's trial is accepted too.
    toy = Noisy(noise=[[0.0, 0.0, 5.0, 4.0, 0.0]])
    assert run(toy, x, crop, target, steps=2, rate=1e-4).step_scale == (1.0,)
    # A trial with bad luck is rejected, and drawn again.
    toy = Noisy(noise=[[0.0, 9.0, 0.0, 0.0]])
    assert run(toy, x, crop, target, rate=1e-4).step_scale == (0.8,)


def test_accepted_images_draw_nothing_while_others_are_retried():
    x, crop, target = start(2)
    toy = Noisy(noise=[[0.0, 0.0, 0.25], [0.0, 9.0, 9.0, 0.0, 0.5]])
    point = run(toy, x, crop, target, rate=1e-4)
    assert toy.asked == [[0, 1], [0, 1], [1], [1], [0, 1]] and toy.noise == [[], []]
    assert point.step_scale == pytest.approx((1.0, 0.64))
    for i, z in enumerate((0.25, 0.5)):
        assert torch.allclose(point.image.end[i], point.x[i] + z)


@pytest.mark.parametrize("steps", [0, 3])
def test_without_line_search_or_steps_nothing_is_evaluated_again(steps):
    toy = Noisy(noise=[[0.0] * (steps + 1)])
    run(toy, *start(), steps=steps, adaptive=False)
    assert toy.noise == [[]]


def test_a_moving_crop_keeps_its_gradient_at_the_point_taken():
    x, crop, target = start()
    point = run(Noisy(noise=[[0.0] * 5]), x, crop, target, crop_rate=0.004, steps=2)
    assert torch.allclose(point.x, run(Toy(), x, crop, target, crop_rate=0.004, steps=2).x)
    assert torch.allclose(point.crop, run(Toy(), x, crop, target, crop_rate=0.004, steps=2).crop)
