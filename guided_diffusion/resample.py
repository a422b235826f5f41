"""How the timestep of a training example is drawn: uniformly, or where the loss is large.

The second is the importance sampling of Nichol & Dhariwal 2021 (equation 18). Every sampler returns weights
that keep the mean of weight * loss an unbiased estimate of the uniform average.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch


class TimestepSampler(ABC):
    """Common ground of the samplers: t is drawn from `min_t` <= t < `max_t` (None: `num_timesteps`).

    Raises ValueError unless 0 <= min_t < max_t <= num_timesteps.
    """

    def __init__(self, num_timesteps: int, min_t: int = 0, max_t: int | None = None) -> None:
        self.num_timesteps = num_timesteps
        self.min_t = min_t
        self.max_t = num_timesteps if max_t is None else max_t
        if not 0 <= self.min_t < self.max_t <= num_timesteps:
            raise ValueError(
                f"range of t: got {self.min_t} <= t < {self.max_t}, "
                f"expected a range that is not empty within 0..{num_timesteps}"
            )

    @abstractmethod
    def sample(self, batch: int, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw on the CPU: t, int64 (batch,), and the loss weights, float32 (batch,)."""

    def update(self, t: torch.Tensor, losses: torch.Tensor) -> None:  # noqa: B027
        """Learn from losses, (N,), observed at t, (N,): in distributed training those of all ranks, in one
        order, so that every rank's sampler stays the same. A sampler that does not learn ignores them.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the sampler has learned, as CPU tensors by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`. Raises ValueError when its names or shapes are not this sampler's."""
        own = self.state_dict()
        got, expected = ({name: tuple(x.shape) for name, x in d.items()} for d in (state, own))
        if got != expected:
            raise ValueError(f"state of {type(self).__name__}: got {got}, expected {expected}")
        for name, value in state.items():
            own[name].copy_(value)


class UniformSampler(TimestepSampler):
    """Every t is equally likely; the weights are 1."""

    def sample(self, batch: int, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        t = torch.randint(self.min_t, self.max_t, (batch,), generator=generator)
        return t, torch.ones(batch)


class LossSecondMomentSampler(TimestepSampler):
    """p(t) proportional to sqrt(E[L_t^2]) over the last `history` losses of each t, mixed with uniform draws.

    Uniform until every t of the range has `history` losses; from then on a share `uniform_prob` stays so,
    so that no t is forgotten. Raises ValueError for a `history` below 1 or a `uniform_prob` outside 0..1.
    """

    def __init__(
        self,
        num_timesteps: int,
        history: int = 10,
        uniform_prob: float = 0.001,
        min_t: int = 0,
        max_t: int | None = None,
    ) -> None:
        super().__init__(num_timesteps, min_t, max_t)
        if history < 1 or not 0 <= uniform_prob <= 1:
            raise ValueError(
                f"history and uniform_prob: got {history} and {uniform_prob}, expected at least 1 and 0..1"
            )
        self.history = history
        self.uniform_prob = uniform_prob
        self.losses = torch.zeros(num_timesteps, history, dtype=torch.float64)  # a ring buffer per t
        self.counts = torch.zeros(num_timesteps, dtype=torch.int64)  # losses seen so far at each t

    def probabilities(self) -> torch.Tensor:
        """p(t) over the range of t, float64 (max_t - min_t,), summing to 1."""
        size = self.max_t - self.min_t
        uniform = torch.full((size,), 1 / size, dtype=torch.float64)
        if (self.counts[self.min_t : self.max_t] < self.history).any():
            return uniform
        moments = self.losses[self.min_t : self.max_t].square().mean(dim=1).sqrt()
        if moments.sum() == 0:
            return uniform
        return (1 - self.uniform_prob) * moments / moments.sum() + self.uniform_prob * uniform

    def sample(self, batch: int, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        p = self.probabilities()
        drawn = torch.multinomial(p, batch, replacement=True, generator=generator)
        return drawn + self.min_t, (1 / (len(p) * p[drawn])).float()

    @torch.no_grad()
    def update(self, t: torch.Tensor, losses: torch.Tensor) -> None:
        """As in the base class. A loss that is not finite (float16 overflow) is left out of the history."""
        for step, loss in zip(t.tolist(), losses.double().cpu(), strict=True):
            if torch.isfinite(loss):
                self.losses[step, self.counts[step] % self.history] = loss
                self.counts[step] += 1

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "counts": self.counts}


SAMPLERS = {"uniform": UniformSampler, "loss-second-moment": LossSecondMomentSampler}


def create_sampler(
    name: str, num_timesteps: int, min_t: int = 0, max_t: int | None = None
) -> TimestepSampler:
    """The sampler of that name ("uniform" or "loss-second-moment"); ValueError for any other."""
    if name not in SAMPLERS:
        raise ValueError(f"schedule_sampler: got {name!r}, expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name](num_timesteps, min_t=min_t, max_t=max_t)
