import pytest
import torch

from guided_diffusion.resample import LossSecondMomentSampler, UniformSampler, create_sampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def warmed_up(losses, **options):
    """A sampler that has seen losses[t] at every t, `history` times."""
    sampler = LossSecondMomentSampler(len(losses), **options)
    t = torch.arange(len(losses)).repeat(sampler.history)
    sampler.update(t, torch.tensor(losses).repeat(sampler.history))
    return sampler


def test_uniform_draws_cover_the_range_evenly():
    t, weights = UniformSampler(100, min_t=10, max_t=14).sample(8000, generator())
    assert t.dtype == torch.int64 and weights.dtype == torch.float32
    assert torch.equal(weights, torch.ones(8000))
    counts = torch.bincount(t, minlength=100)
    assert counts[10:14].sum() == 8000
    assert (counts[10:14] - 2000).abs().max() < 200  # five standard deviations


def test_draws_follow_the_generator():
    for sampler in (UniformSampler(50), warmed_up([1.0, 2.0, 3.0])):
        first, second, other = (sampler.sample(64, generator(seed))[0] for seed in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_second_moment_is_uniform_until_warmed_up():
    sampler = LossSecondMomentSampler(3, history=2)
    sampler.update(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([9.0, 9.0, 1.0, 1.0, 1.0]))
    assert torch.allclose(sampler.probabilities(), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert torch.allclose(sampler.sample(5, generator())[1], torch.ones(5))
    sampler.update(torch.tensor([2]), torch.tensor([1.0]))
    assert sampler.probabilities()[0] > 0.8


def test_second_moment_probabilities_in_closed_form():
    # Losses 3 and 4 at t = 0: sqrt((9 + 16) / 2); at t = 1: 1.
    sampler = LossSecondMomentSampler(2, history=2, uniform_prob=0.1)
    sampler.update(torch.tensor([0, 0, 1, 1]), torch.tensor([3.0, 4.0, 1.0, 1.0]))
    moment = 12.5**0.5
    expected = 0.9 * moment / (moment + 1) + 0.1 / 2
    assert sampler.probabilities()[0].item() == pytest.approx(expected, rel=1e-12)


def test_only_the_last_losses_count():
    sampler = warmed_up([1.0, 1.0], history=3, uniform_prob=0.0)
    sampler.update(torch.tensor([0, 0, 0]), torch.tensor([3.0, 3.0, 3.0]))
    assert sampler.probabilities().tolist() == pytest.approx([0.75, 0.25])


def test_weighted_mean_is_unbiased():
    sampler = warmed_up([1.0, 2.0, 5.0, 8.0])
    t, weights = sampler.sample(40000, generator())
    values = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert (weights * values[t]).mean().item() == pytest.approx(values.mean().item(), abs=0.1)
    frequency = torch.bincount(t).double() / len(t)
    assert torch.allclose(frequency, sampler.probabilities(), atol=0.01)
    assert torch.allclose(weights, (1 / (4 * sampler.probabilities()[t])).float())


def test_range_of_second_moment():
    sampler = LossSecondMomentSampler(10, history=1, min_t=4, max_t=6)
    sampler.update(torch.tensor([4, 5]), torch.tensor([1.0, 1.0]))
    t, weights = sampler.sample(200, generator())
    assert set(t.tolist()) == {4, 5}
    assert torch.allclose(weights, torch.ones(200))


def test_losses_that_are_not_finite_are_left_out():
    sampler = warmed_up([1.0, 3.0], uniform_prob=0.0)
    sampler.update(torch.tensor([0, 1]), torch.tensor([float("nan"), float("inf")]))
    assert sampler.probabilities().tolist() == pytest.approx([0.25, 0.75])


def test_zero_losses_leave_the_draw_uniform():
    assert warmed_up([0.0, 0.0]).probabilities().tolist() == [0.5, 0.5]


def test_state_round_trip():
    learned, fresh = warmed_up([1.0, 4.0]), LossSecondMomentSampler(2)
    fresh.load_state_dict(learned.state_dict())
    assert torch.equal(fresh.probabilities(), learned.probabilities())
    fresh.update(torch.tensor([0]), torch.tensor([100.0]))
    assert not torch.equal(fresh.probabilities(), learned.probabilities())  # a copy, not a view
    with pytest.raises(ValueError, match="state of LossSecondMomentSampler: got"):
        LossSecondMomentSampler(3).load_state_dict(learned.state_dict())
    with pytest.raises(ValueError, match="state of UniformSampler"):
        UniformSampler(2).load_state_dict(learned.state_dict())


def test_create_sampler():
    assert isinstance(create_sampler("uniform", 10, max_t=4), UniformSampler)
    sampler = create_sampler("loss-second-moment", 10, min_t=2)
    assert isinstance(sampler, LossSecondMomentSampler)
    assert (sampler.history, sampler.uniform_prob, sampler.min_t, sampler.max_t) == (10, 0.001, 2, 10)
    with pytest.raises(ValueError, match="got 'normal', expected one of uniform, loss-second-moment"):
        create_sampler("normal", 10)


@pytest.mark.parametrize(("min_t", "max_t"), [(5, 5), (-1, 5), (0, 11)])
def test_empty_or_outer_range(min_t, max_t):
    with pytest.raises(ValueError, match=f"got {min_t} <= t < {max_t}"):
        UniformSampler(10, min_t, max_t)
