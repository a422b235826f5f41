"""Gaussian diffusion: tables, the forward process, DDIM steps and training losses.

Ho 2020 (DDPM), Nichol & Dhariwal 2021 (Improved DDPM), Song 2021 (DDIM), Lugmayr 2022 (RePaint's undo step).
Tables are float64; images are float32 in [-1, 1]. `t` is an index of the respaced chain: a Python int when
sampling, an int64 tensor (N,) when training; networks are told the original step number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guided_diffusion.losses import discretized_gaussian_log_likelihood, mean_flat, normal_kl

# (x (N, 3, H, W), t (N,) as networks see it) -> (N, 3 or 6, H, W)
NetworkFn = Callable[[Tensor, Tensor], Tensor]
Model = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # as NetworkFn, with class ids y (N,) or None


def beta_schedule(name: str, steps: int) -> np.ndarray:
    """Betas (steps,) float64 of the full chain: 'linear' (Ho 2020) or 'cosine' (Nichol & Dhariwal 2021, eq. 17).

    Linear runs from s*1e-4 to s*0.02 with s = 1000 / steps. Raises ValueError for another name.
    """
    if name == "linear":
        scale = 1000 / steps
        return np.linspace(scale * 1e-4, scale * 0.02, steps, dtype=np.float64)
    if name == "cosine":

        def alpha_bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        return np.array(
            [min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)]
        )
    raise ValueError(f"noise_schedule is {name!r}; expected 'linear' or 'cosine'")


@dataclass(frozen=True)
class Prediction:
    """What a network says at one step: the clean image `x0` (clipped if asked) and the noise `eps`."""

    x0: Tensor  # (N, 3, H, W)
    eps: Tensor  # (N, 3, H, W)


class GaussianDiffusion:
    """Tables of one respaced chain, and the formulas that use them.

    `kept` lists the original step numbers (ascending) that the respaced chain keeps (None: all). New betas are
    1 - abar_kept(i) / abar_kept(i-1) (Nichol & Dhariwal 2021, section 4).
    """

    def __init__(
        self,
        betas: np.ndarray,
        kept: Sequence[int] | None = None,
        *,
        learn_sigma: bool = False,
        predict_xstart: bool = False,
        use_kl: bool = False,
        rescale_timesteps: bool = False,
        rescale_learned_sigmas: bool = False,
    ):
        original = np.cumprod(1.0 - np.asarray(betas, dtype=np.float64))
        kept = list(range(len(betas))) if kept is None else list(kept)
        self.abar = original[kept]  # (T,)
        self.abar_prev = np.append(1.0, self.abar[:-1])
        self.betas = 1.0 - self.abar / self.abar_prev
        # Roots are taken in float64: 1 - abar in float32 would lose four digits at small t.
        self.sqrt_abar, self.sqrt_noise = np.sqrt(self.abar), np.sqrt(1.0 - self.abar)
        self.noise_ratio = np.sqrt(1.0 / self.abar - 1.0)
        self.num_timesteps = len(kept)
        self.learn_sigma, self.predict_xstart, self.use_kl = learn_sigma, predict_xstart, use_kl
        self.rescale_learned_sigmas = rescale_learned_sigmas
        scale = 1000.0 / len(betas) if rescale_timesteps else 1
        self.network_steps = [k * scale for k in kept]  # what the network is told at index i
        self._posterior_tables()

    def _posterior_tables(self) -> None:
        """Mean coefficients and log-variance of q(x_{t-1} | x_t, x_0) (Ho 2020, equations 6 and 7)."""
        variance = self.betas * (1.0 - self.abar_prev) / (1.0 - self.abar)
        # The variance is 0 at t = 0, so its logarithm takes the next one's.
        self.posterior_variance = np.append(variance[min(1, len(variance) - 1)], variance[1:])
        self.posterior_coef_x0 = self.betas * np.sqrt(self.abar_prev) / (1.0 - self.abar)
        self.posterior_coef_xt = (1.0 - self.abar_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.abar)

    # The forward process

    def q_sample(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """Noise `x0` (N, 3, H, W) to index t: sqrt(abar) x0 + sqrt(1 - abar) noise (Ho 2020, equation 4)."""
        return self._at(self.sqrt_abar, t, x0) * x0 + self._at(self.sqrt_noise, t, x0) * noise

    def renoise_step(self, x: Tensor, s: int, t: int, noise: Tensor) -> Tensor:
        """Undo s -> t (t > s): sqrt(1-beta) x + sqrt(beta) noise, beta = 1 - abar_t / abar_s (RePaint, alg. 1)."""
        beta = 1.0 - self.abar[t] / self.abar[s]
        return math.sqrt(1.0 - beta) * x + math.sqrt(beta) * noise

    # The reverse process

    def predict(self, output: Tensor, x: Tensor, t: int | Tensor, clip: bool) -> Prediction:
        """Read a network's output at x (N, 3, H, W), index t: its first three channels are eps, or x0.

        `clip` clamps x0 to [-1, 1], inside the gradient; eps is the network's own when it predicts eps.
        """
        output = output[:, :3]
        if self.predict_xstart:
            x0 = output.clamp(-1, 1) if clip else output
            return Prediction(x0, self.eps_from(x0, x, t))
        return self.from_eps(output, x, t, clip)

    def eps_from(self, x0: Tensor, x: Tensor, t: int | Tensor) -> Tensor:
        """The noise in x (N, 3, H, W) at index t if `x0` is the clean image: (x - sqrt(abar) x0) / sqrt(1 - abar)."""
        return (x - self._at(self.sqrt_abar, t, x) * x0) / self._at(self.sqrt_noise, t, x)

    def from_eps(self, eps: Tensor, x: Tensor, t: int | Tensor, clip: bool) -> Prediction:
        """The prediction that a noise estimate stands for: x0 = x / sqrt(abar) - sqrt(1/abar - 1) eps."""
        x0 = x / self._at(self.sqrt_abar, t, x) - self._at(self.noise_ratio, t, x) * eps
        return Prediction(x0.clamp(-1, 1) if clip else x0, eps)

    def ddim_sigma(self, t: int, s: int, eta: float) -> float:
        """Standard deviation of the noise added by a DDIM step t -> s (Song 2021, equation 16); 0 at t = 0."""
        if t == 0 or eta == 0:
            return 0.0
        a_t, a_s = self.abar[t], self.abar[s]
        return eta * math.sqrt((1 - a_s) / (1 - a_t)) * math.sqrt(1 - a_t / a_s)

    def ddim_step(
        self, prediction: Prediction, s: int, sigma: float = 0.0, noise: Tensor | None = None
    ) -> Tensor:
        """DDIM update to index s (Song 2021, equation 12): (N, 3, H, W).

        `noise` (N, 3, H, W) is needed only where sigma > 0; without it the result is the update's mean.
        """
        a_s = float(self.abar[s])
        x = math.sqrt(a_s) * prediction.x0 + math.sqrt(max(1 - a_s - sigma**2, 0.0)) * prediction.eps
        return x if noise is None else x + sigma * noise

    # Training

    def training_losses(
        self, network: NetworkFn, x0: Tensor, t: Tensor, noise: Tensor, weights: Tensor | float = 1.0
    ) -> dict[str, Tensor]:
        """Loss terms (N,) at indices t (N,): 'loss', and 'mse' and 'vb' where they are part of it.

        MSE on eps (or x0); with `learn_sigma` plus the variational bound in bits with the mean detached
        (Nichol & Dhariwal 2021, equation 16), times T/1000 if `rescale_learned_sigmas`; with `use_kl` the
        bound alone, times T. `weights` (N or 1, 1, H or 1, W or 1) multiply the squared errors.
        """
        x = self.q_sample(x0, t, noise)
        output = network(x, self.network_times(t))
        if self.use_kl:
            return {"loss": self._bound(output, x0, x, t) * self.num_timesteps}
        target = x0 if self.predict_xstart else noise
        terms = {"mse": mean_flat(weights * (target - output[:, :3]) ** 2)}
        terms["loss"] = terms["mse"]
        if self.learn_sigma:
            frozen_mean = torch.cat([output[:, :3].detach(), output[:, 3:]], dim=1)
            terms["vb"] = self._bound(frozen_mean, x0, x, t)
            if self.rescale_learned_sigmas:
                terms["vb"] = terms["vb"] * (self.num_timesteps / 1000)
            terms["loss"] = terms["mse"] + terms["vb"]
        return terms

    def min_snr_weights(self, t: Tensor, gamma: float) -> Tensor:
        """Weights (N, 1, 1, 1) of the squared errors at indices t (N,): min(SNR, gamma), in terms of the clean image
        (Hang et al. 2023, section 3.4); divided by the SNR where the network predicts the noise."""
        snr = self.abar / (1.0 - self.abar)
        weights = np.minimum(snr, gamma)
        return self._at(weights if self.predict_xstart else weights / snr, t, t)

    def network_times(self, t: int | Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Step numbers as the network sees them, for chain indices t: (N,), or (1,) for an int."""
        if isinstance(t, int):
            return torch.full((1,), self.network_steps[t], device=device)
        return torch.tensor(self.network_steps, device=t.device)[t]

    def _bound(self, output: Tensor, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """One term of the variational bound in bits per element (N,): KL, or the decoder's NLL at t = 0."""
        predicted = self.predict(output, x, t, clip=False).x0
        mean, logvar = self._posterior_mean(predicted, x, t), self._model_logvar(output, t)
        true_mean = self._posterior_mean(x0, x, t)
        true_logvar = self._at(np.log(self.posterior_variance), t, x)
        kl = mean_flat(normal_kl(true_mean, true_logvar, mean, logvar))
        nll = -mean_flat(discretized_gaussian_log_likelihood(x0, mean, 0.5 * logvar))
        return torch.where(t == 0, nll, kl) / math.log(2.0)

    def _posterior_mean(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return self._at(self.posterior_coef_x0, t, x) * x0 + self._at(self.posterior_coef_xt, t, x) * x

    def _model_logvar(self, output: Tensor, t: Tensor) -> Tensor:
        """Log-variance: between log beta and the posterior's (Nichol & Dhariwal 2021, eq. 15), or log beta."""
        if self.learn_sigma:
            low = self._at(np.log(self.posterior_variance), t, output)
            high = self._at(np.log(self.betas), t, output)
            fraction = (output[:, 3:] + 1) / 2
            return fraction * high + (1 - fraction) * low
        fixed = np.append(
            self.posterior_variance[0], self.betas[1:]
        )  # at t = 0 beta stands for the posterior's
        return self._at(np.log(fixed), t, output).expand_as(output)

    @staticmethod
    def _at(table: np.ndarray, t: int | Tensor, like: Tensor) -> Any:
        """A table's entry: a float for an int, else float32 (N, 1, 1, 1) on the device of `like`."""
        if isinstance(t, int):
            return float(table[t])
        values = torch.from_numpy(table).to(like.device)[t].float()
        return values.view(-1, 1, 1, 1)
