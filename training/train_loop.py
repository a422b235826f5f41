"""The training loop: mixed precision, averaged weights, resume, logs and previews.

Everything random in a step (data, t, noise, dropout) is drawn from streams seeded by (seed, step), so a run
that was stopped and resumed takes the same steps as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.resample import TimestepSampler
from guided_diffusion.surroundings import Surroundings, box_weights
from utils.device import DTYPES
from utils.files import LAST, append_csv, state_files, step_of
from utils.processes.interrupts import stop_requests
from utils.seeding import dropout_seed, step_generator


@dataclass(frozen=True)
class TrainOptions:
    """Plain values of a training configuration (utils/schema/training.py), `precision` and `channels_last` resolved."""

    lr: float
    weight_decay: float
    warmup_steps: int
    lr_anneal_steps: int
    microbatch: int
    ema_rate: tuple[float, ...]
    grad_clip: float
    total_steps: int
    max_minutes: float
    precision: str
    channels_last: bool
    compile: bool
    seed: int
    log_interval: int
    save_interval: int
    keep_checkpoints: int
    sample_interval: int
    min_snr_gamma: float
    outside_weight: float


@dataclass
class Hooks:
    """What the script plugs in: writing files, showing images, plain messages."""

    save: Callable[[Path, dict], None]  # one training state, whole or not at all
    load: Callable[[Path], dict]  # raises OSError, ValueError or RuntimeError on a file that cannot be read
    export: Callable[[Path, dict[str, Tensor]], None]  # averaged weights
    preview: Callable[[nn.Module, int], None] = lambda model, step: None
    scalars: Callable[[dict[str, float], int], None] = lambda values, step: None
    report: Callable[[int], None] = lambda step: None  # after every checkpoint, with the step
    message: Callable[[str], None] = print
    note: Callable[[str], None] = lambda text: None  # a message for the log file, not for the terminal
    warning: Callable[[str], None] = print


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient is not a number any more; the run stops with the last checkpoint intact."""


def learning_rate(step: int, options: TrainOptions) -> float:
    """Rate at `step` (from 0): linear warm-up to `lr`, then, if asked, a linear fall to 0."""
    rate = options.lr * min(1.0, (step + 1) / max(options.warmup_steps, 1))
    if options.lr_anneal_steps:
        rate *= max(0.0, 1.0 - step / options.lr_anneal_steps)
    return rate


def update_ema(averages: dict[str, Tensor], model: nn.Module, rate: float) -> None:
    """In place: average <- rate * average + (1 - rate) * weight, for every entry of the state_dict."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            averages[name].lerp_(value.float(), 1.0 - rate)


def progress_line(step: int, last: float, loss: float, speed: float, batch: int) -> str:
    """How far a run is; `last` is its final step (inf: none), `speed` in images/s, `batch` images a step."""
    text = f"step {step}{f' of {last}' if math.isfinite(last) else ''}: loss {loss:.4f}, {speed:.1f} images/s"
    if not math.isfinite(last):
        return text
    minutes = (last - step) * batch / speed / 60
    return f"{text}, {f'{minutes:.0f} min' if minutes < 120 else f'{minutes / 60:.1f} h'} left"


@dataclass
class TrainLoop:
    """Trains `model` on `data` (batches x (N, 3, S, S) in [-1, 1], y (N,)), resuming from `folder` by itself.

    Where batches bring a third tensor, the masks (N, 1, S, S) of the defects' boxes, the network is shown the
    surroundings of the boxes (surroundings.py).

    `time_sampler` draws t; `class_cond` says whether the network takes y. `rank`/`world_size` describe the
    process group, if one is initialized; each rank gets its own share of every global batch.
    """

    model: nn.Module
    diffusion: GaussianDiffusion
    time_sampler: TimestepSampler
    data: Callable[[int], Iterator[Sequence[Tensor]]]  # first step -> batches
    folder: Path
    options: TrainOptions
    hooks: Hooks
    class_cond: bool
    device: torch.device
    rank: int = 0
    world_size: int = 1
    step: int = 0
    interrupted: int = 0  # the signal that ended the run
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model.to(self.device).train()
        if self.options.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.options.lr, weight_decay=self.options.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.options.precision == "fp16")
        self.start_averages()
        # Both wrappers share the model's weights; files and previews use the model itself.
        self.network: Any = torch.compile(self.model) if self.options.compile else self.model
        if self.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.network = nn.parallel.DistributedDataParallel(self.network, device_ids=ids)

    @property
    def last_weights(self) -> Path:
        """The newest weights of the first average, under a name that stays."""
        return self.folder / LAST

    @property
    def last_step(self) -> float:
        """The step at which the run ends by itself; inf: it goes on until stopped."""
        return self.options.total_steps or self.options.lr_anneal_steps or math.inf

    # One step

    def run(self) -> None:
        """Train until `total_steps`, `max_minutes`, Ctrl-C or SIGTERM; saves at the end of each."""
        last = self.last_step
        started = self._segment_start = time.monotonic()
        self._segment_step, saved = self.step, self.step
        data, bar = self.data(self.step), self._bar(last)
        with stop_requests() as asked:
            try:
                while self.step < last and not self.interrupted:
                    batch = next(data)
                    self.train_step(*batch)
                    bar.update()
                    if self.step % self.options.log_interval == 0:
                        self._log(bar, len(batch[0]) * self.world_size, last)
                    if self.step % self.options.save_interval == 0:
                        self.save()
                        saved = self.step
                    if self.options.sample_interval and self.step % self.options.sample_interval == 0:
                        self._preview()
                    self.interrupted = self._highest(asked())
                    over = time.monotonic() - started > 60 * self.options.max_minutes
                    if self.options.max_minutes and self._highest(over):
                        break
            finally:
                bar.close()
            if saved != self.step:
                self.save()
        if self.interrupted:
            self.hooks.message(f"interrupted after step {self.step}; the same command goes on from here")

    def _bar(self, last: float) -> tqdm:
        return tqdm(
            total=None if last == math.inf else last,
            initial=self.step,
            unit="step",
            disable=None if self.rank == 0 else True,  # None: off without a terminal
        )

    def _highest(self, number: int) -> int:
        """The highest of the ranks' numbers: all ranks have to leave the loop at the same step."""
        return int(self._gather(torch.tensor([int(number)], device=self.device)).max())

    def train_step(self, x: Tensor, y: Tensor, box: Tensor | None = None) -> dict[str, float]:
        """One optimizer step on this rank's share of the batch; returns its record of scalars."""
        torch.manual_seed(dropout_seed(self.options.seed, self.step, self.rank))
        n = len(x)
        x, y, t, weights, noise = self._draw(x, y)
        known = None if box is None else Surroundings(x, box.to(x.device, non_blocking=True))
        rate = learning_rate(self.step, self.options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        size = n if self.options.microbatch < 1 else self.options.microbatch
        losses = []
        for first in range(0, n, size):
            part = slice(first, first + size)
            context = nullcontext()
            if self.world_size > 1 and first + size < n:
                context = self.network.no_sync()
            with context:
                shown = None if known is None else known.select(range(n)[part])
                loss = self._losses((x[part], y[part], t[part], noise[part]), shown)
                self.scaler.scale((loss * weights[part]).sum() / n).backward()
            losses.append(loss.detach())
        return self._update(t, torch.cat(losses), rate)

    def _draw(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Inputs on the device, and this rank's share of the global batch's t, weights and noise."""
        generator, n = step_generator(self.options.seed, self.step), len(x)
        share = slice(self.rank * n, (self.rank + 1) * n)
        t, weights = self.time_sampler.sample(n * self.world_size, generator)
        noise = torch.randn((n * self.world_size, *x.shape[1:]), generator=generator)
        layout = torch.channels_last if self.options.channels_last else torch.contiguous_format
        move: dict[str, Any] = {"device": self.device, "non_blocking": True}
        return (
            x.to(memory_format=layout, **move),
            y.to(**move),
            t[share].to(**move),
            weights[share].to(**move),
            noise[share].to(memory_format=layout, **move),
        )

    def _losses(self, inputs: tuple[Tensor, ...], known: Surroundings | None) -> Tensor:
        """Loss of each image (N,) of the inputs x, y, t and noise, the network in low precision and the rest in
        float32."""
        x, y, t, noise = inputs
        dtype, gamma = DTYPES[self.options.precision], self.options.min_snr_gamma
        model = self.network if known is None else known.seen_by(self.network)

        def network(x_t: Tensor, steps: Tensor) -> Tensor:
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                return model(x_t, steps, y if self.class_cond else None)

        weights = self.diffusion.min_snr_weights(t, gamma) if gamma else 1.0
        if known is not None:
            weights = weights * box_weights(known.box, self.options.outside_weight)
        return self.diffusion.training_losses(network, x, t, noise, weights)["loss"]

    def _update(self, t: Tensor, losses: Tensor, rate: float) -> dict[str, float]:
        """Clip, step, average; then tell the loss-aware sampler what all ranks saw."""
        self.scaler.unscale_(self.optimizer)
        limit = self.options.grad_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        t, losses = self._gather(t), self._gather(losses)
        loss = float(losses.mean())
        if not math.isfinite(loss):
            raise NonFiniteLoss(f"the loss is {loss} at step {self.step} (learning rate {rate:.2g})")
        # In float16 the scaler leaves out such a step by itself and scales less from then on.
        if not self.scaler.is_enabled() and not math.isfinite(norm):
            raise NonFiniteLoss(
                f"the gradient's norm is {float(norm)} at step {self.step} (learning rate {rate:.2g})"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for decay, averages in self.ema.items():
            update_ema(averages, self.model, decay)
        self.time_sampler.update(t.cpu(), losses.cpu())
        self.step += 1
        record = {"step": self.step, "loss": loss, "grad_norm": float(norm), "lr": rate}
        record |= self._quarters(t, losses)
        self.history.append(record)
        return record

    def _gather(self, values: Tensor) -> Tensor:
        """Concatenate over ranks, in rank order."""
        if self.world_size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world_size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def _quarters(self, t: Tensor, losses: Tensor) -> dict[str, float]:
        """Mean loss by quarter of the chain, for those quarters that were drawn."""
        quarter = 4 * t // self.diffusion.num_timesteps
        return {f"loss_q{q}": float(losses[quarter == q].mean()) for q in range(4) if (quarter == q).any()}

    # Records and files

    def _log(self, bar: tqdm, batch: int, last: float) -> None:
        """Mean of the records since the last log line, to the bar, the CSV and TensorBoard."""
        now = time.monotonic()
        speed = (self.step - self._segment_step) * batch / max(now - self._segment_start, 1e-9)
        self._segment_start, self._segment_step = now, self.step
        names = ["loss", "grad_norm", "lr", *(f"loss_q{q}" for q in range(4))]
        row = {"step": self.step, "images_per_s": round(speed, 2)}
        for name in names:
            values = [record[name] for record in self.history if name in record]
            row[name] = sum(values) / len(values) if values else math.nan
        self.history.clear()
        bar.set_postfix(loss=f"{row['loss']:.4f}", images_s=f"{speed:.1f}")
        if self.rank > 0:
            return
        # Where the bar is shown, the line goes to the log file only
        say = self.hooks.message if bar.disable else self.hooks.note
        say(progress_line(self.step, last, row["loss"], speed, batch))
        append_csv(self.folder / "train_log.csv", row)
        self.hooks.scalars({k: v for k, v in row.items() if k != "step" and not math.isnan(v)}, self.step)

    def start_averages(self) -> None:
        """Begin the averages at the current weights."""
        weights = self.model.state_dict()
        self.ema = {
            rate: {k: v.detach().float().clone() for k, v in weights.items()}
            for rate in self.options.ema_rate
        }

    def state(self) -> dict:
        """Everything a resumed run needs."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "time_sampler": self.time_sampler.state_dict(),
        }

    def save(self) -> None:
        """Write the training state, the averaged weights and, as a rule, a preview; drop the oldest states."""
        if self.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            # The state comes last: a kill between the two is mended by taking the steps again
            for rate, averages in self.ema.items():
                self.hooks.export(self.folder / f"ema_{rate:g}_{self.step:07d}.safetensors", averages)
            self.hooks.export(self.last_weights, next(iter(self.ema.values())))
            self.hooks.save(self.folder / f"state_{self.step:07d}.pt", self.state())
            self._prune()
            if not self.options.sample_interval:
                self._preview()
            self.hooks.report(self.step)
        if self.world_size > 1:
            dist.barrier()

    def _prune(self) -> None:
        """Drop the oldest states up to this step; later ones belong to a run that this one does not follow."""
        own = [path for path in state_files(self.folder) if step_of(path) <= self.step]
        for old in own[: -self.options.keep_checkpoints]:
            for path in [old, *self.folder.glob(f"ema_*_{old.stem.removeprefix('state_')}.safetensors")]:
                path.unlink()

    def _preview(self) -> None:
        """Show samples of the first average, then put the training weights back."""
        if self.rank > 0:
            return
        kept = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(next(iter(self.ema.values())))
        self.model.eval()
        with torch.no_grad():
            self.hooks.preview(self.model, self.step)
        self.model.load_state_dict(kept)
        self.model.train()

    def resume(self, path: Path | None = None) -> None:
        """Go on from `path`, or from the newest readable state in the folder; says what it did.

        Raises ValueError when the ranks found different states.
        """
        candidates = [path] if path is not None else state_files(self.folder)[::-1]
        for candidate in candidates:
            try:
                state = self.hooks.load(candidate)
            except (OSError, ValueError, RuntimeError, EOFError) as error:
                if path is not None:
                    raise
                self.hooks.warning(f"skipping {candidate.name}, which cannot be read ({error})")
                continue
            self._restore(state)
            self.hooks.message(f"resuming from {candidate} at step {self.step}")
            break
        else:
            if candidates:
                self.hooks.warning(
                    f"none of the {len(candidates)} training states in {self.folder} can be read: starting anew"
                )
        steps = self._gather(torch.tensor([self.step], device=self.device)).tolist()
        if len(set(steps)) > 1:
            raise ValueError(f"the processes are at steps {steps}; all of them have to see the same folder")

    def _restore(self, state: dict) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.options.weight_decay  # the state brings the value of its own run
        if state["scaler"]:  # empty unless that run was in float16
            self.scaler.load_state_dict(state["scaler"])
        self.time_sampler.load_state_dict(state["time_sampler"])
        for rate in self.ema:
            # A rate that the state does not know begins its average at the restored weights.
            averages = state["ema"].get(rate, state["model"])
            self.ema[rate] = {k: v.float().to(self.device, copy=True) for k, v in averages.items()}
