"""How fast is it? Our wiring and the published one, demo and published configuration, in one table.

    python -m benchmarks.run --confs confs/demo.yml --device cpu --batches 1 2

Times one guided step with random weights and every line-search trial accepted; an image's seconds are the steps of
its timestep sequence. The published wiring runs on the same U-Net, with trainable parameters, contiguous tensors and
gradient checkpointing in the attention blocks: one evaluation with a graph, then for each gradient step the gradient
of x and of the crop only, a trial without a graph and an evaluation with one, of the contextual model and of the
prior alike. On a GPU both wirings are timed in float32 and in TF32. benchmarks.painting measures whole images with
trained weights, rejected trials included.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from benchmarks.measure import allow_tf32, in_own_process, machine, memory_gb, peak_rate, timed
from generation.cost import StepCost, gradient_count, operations, random_network
from generation.setup import make_schedule
from guided_diffusion.ddim import Sampler, SamplerOptions, guided_steps
from guided_diffusion.refinement import State, energy
from guided_diffusion.unet import AttentionBlock, UNetModel
from guided_diffusion.windows import Target, Windows
from utils.command_line import make_parser
from utils.config import load_generation_config
from utils.device import DTYPES, has_fast_bf16, prefers_channels_last, resolve_device
from utils.errors import UserError, run_main
from utils.schema.generation import GenerationConfig
from utils.seeding import SampleNoise

ARITHMETIC = {**DTYPES, "tf32": torch.float32}


@dataclass(frozen=True)
class Plan:
    """What an image of a configuration costs: the sampler's options, and operations of one forward each."""

    options: SamplerOptions
    cost: StepCost
    windows: int = 1  # defects that share a context

    @property
    def gradient_steps(self) -> list[int]:
        """Of every guided step."""
        return [gradient_count(self.options, t) for t in guided_steps(self.options)]

    @property
    def forwards(self) -> int:
        """Of the contextual model, ours; as many as n + 1 at n gradient steps."""
        return sum(n + 1 for n in self.gradient_steps)

    @property
    def backwards(self) -> int:
        return sum(self.gradient_steps)

    @property
    def ours(self) -> float:
        """Operations per image."""
        return self.cost.sequence(self.options, self.windows)

    @property
    def published(self) -> float:
        """Operations per image: 2n + 1 forwards and n backwards of both networks."""
        return sum(map(self.published_step, self.gradient_steps))

    def our_step(self) -> float:
        """Operations of the step that is timed."""
        return self.cost.step(self.options, timed_step(self.options), self.windows)

    def published_step(self, n: int) -> float:
        """Operations of a step in the published wiring: it differentiates only by its inputs, so that a backward is
        a forward's work. What gradient checkpointing repeats in the attention blocks is not counted.
        """
        return (3 * n + 1) * (self.cost.contextual + self.cost.prior)


def timed_step(options: SamplerOptions) -> int:
    """The guided step's t with the most gradient steps, the largest of them."""
    return max(guided_steps(options), key=lambda t: (gradient_count(options, t), t))


@dataclass(frozen=True)
class Measurement:
    """One measurement: seconds of a guided step with `n` gradient steps, memory beyond the imported packages."""

    wiring: str
    precision: str
    batch: int
    seconds: float
    memory: float
    peak: float  # operations/s of the fastest product in this arithmetic, measured beside


def main(argv: list[str]) -> None:
    parser = make_parser("python -m benchmarks.run", __doc__)
    parser.add_argument(
        "--confs", nargs="+", default=["confs/demo.yml", "confs/pcb_gen.yml"], help="settings to time"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=ARITHMETIC,
        help="default: fp32, tf32 on a GPU, bf16 if it pays here",
    )
    parser.add_argument("--batches", nargs="+", type=int, help="default: 1 2 on a CPU, 1 2 4 ... 64 on a GPU")
    parser.add_argument(
        "--windows", nargs="+", type=int, default=[1], help="defects that share a context, for our wiring"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement, whose median counts")
    parser.add_argument("--skip-published", action="store_true", help="time only our wiring")
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    exact = ["fp32", "tf32"] if device.type == "cuda" else ["fp32"]
    precisions = args.precisions or [*exact, *(["bf16"] if has_fast_bf16(device) else [])]
    batches = args.batches or ([1, 2] if device.type == "cpu" else [1, 2, 4, 8, 16, 32, 64])
    if min([*batches, *args.windows, args.repeats]) < 1:
        raise UserError("--batches, --windows, --repeats: expected 1 or more")
    print(machine(device))
    for conf in args.confs:
        config = load_generation_config(conf, [])
        plan = plan_of(config)
        n = gradient_count(plan.options, timed_step(plan.options))
        print(
            f"\n{conf}: {len(plan.gradient_steps)} guided steps an image; contextual model "
            f"{config.network.image_size} px, {plan.cost.contextual / 1e9:.1f} GFLOP a forward, prior "
            f"{config.crop.image_size} px, {plan.cost.prior / 1e9:.1f} GFLOP"
        )
        print(
            f"{'wiring':<13}{'arith.':<8}{'batch':>5}{'s/step':>9}{'s/image':>11}{'forward+back':>14}"
            f"{'TFLOP':>8}{'GFLOP/s':>9}{'of peak':>9}{'memory':>9}"
        )
        baselines: dict[str, Measurement] = {}
        for precision in [] if args.skip_published else exact:
            baselines[precision] = in_own_process(
                published_row, conf, n, precision, args.repeats, str(device)
            )
            show(baselines[precision], plan, n, None)
        fastest = min(baselines.values(), key=lambda row: row.seconds, default=None)
        for precision, count, batch in product(precisions, args.windows, batches):
            row = in_own_process(our_row, conf, batch, count, precision, args.repeats, str(device))
            if row is None:
                print(f"{'ours':<13}{precision:<8}{batch:>5}  the memory of {device} is too small")
            else:
                show(row, replace(plan, windows=count), n, baselines.get(precision, fastest))


def plan_of(config: GenerationConfig) -> Plan:
    return Plan(make_schedule(config)[1], operations(config))


def show(row: Measurement, plan: Plan, n: int, baseline: Measurement | None) -> None:
    """Print a row; an image's seconds are those of the step in proportion to the operations."""
    if row.wiring != "published":
        step = plan.our_step()
        total, calls = plan.ours, f"{plan.forwards}+{plan.backwards}"
    else:
        step = plan.published_step(n)
        total, calls = plan.published, f"{plan.forwards + plan.backwards}+{plan.backwards}"
    each = row.seconds / row.batch
    rate = step / each
    times = f"  {baseline.seconds / each:.2f} times as fast" if baseline else ""
    print(
        f"{row.wiring:<13}{row.precision:<8}{row.batch:>5}{each:>9.3f}{each * total / step:>11.1f}{calls:>14}"
        f"{total / 1e12:>8.1f}{rate / 1e9:>9.0f}{rate / row.peak:>9.0%}{row.memory:>6.2f} GB{times}",
        flush=True,
    )


# Measurements, each in a process of its own


def our_row(
    conf: str, batch: int, windows: int, precision: str, repeats: int, device_name: str
) -> Measurement | None:
    """A guided step of the sampler without line search, which costs what one with every trial accepted does; None: out
    of memory."""
    config, device = load_generation_config(conf, []), torch.device(device_name)
    allow_tf32(precision == "tf32")
    base = memory_gb(device)
    networks = []
    for network in (config.network, config.crop):
        model = random_network(network).to(device).requires_grad_(False)
        if prefers_channels_last(precision, network.num_channels, device):
            model.to(memory_format=torch.channels_last)
        networks.append(model.set_precision(ARITHMETIC[precision]))
    contextual, prior = networks
    diffusion, configured = make_schedule(config)
    t = timed_step(configured)
    options = replace(configured, timesteps=[t, t - 1], start_index=t, use_adaptive_lr_xt=False)
    sampler = Sampler(contextual, prior, diffusion, options)
    x, crop, y = inputs(config, batch, device)
    crop, y = crop.repeat_interleave(windows, dim=0), y.repeat_interleave(windows)
    room = x.shape[-1] - crop.shape[-1]
    corners = [(room * k // max(windows - 1, 1), room // 2) for k in range(windows)] * batch
    owner = torch.arange(batch, device=device).repeat_interleave(windows)
    target = Target.of_clean(torch.zeros_like(x), Windows(corners, crop.shape[-1], owner))
    state = State(x, crop, None, options.lr_xt, 0.0)
    noise = SampleNoise(range(batch), owner.tolist())
    try:
        seconds = timed(lambda: sampler.guided_step(state, t, target, y, noise), repeats, device)
    except torch.cuda.OutOfMemoryError:
        return None
    memory = memory_gb(device) - base
    wiring = "ours" if windows == 1 else f"ours, {windows} in 1"
    return Measurement(wiring, precision, batch, seconds, memory, peak_rate(ARITHMETIC[precision], device))


def published_row(conf: str, n: int, precision: str, repeats: int, device_name: str) -> Measurement:
    """A guided step in the published wiring at batch 1, in float32 or TF32."""
    config, device = load_generation_config(conf, []), torch.device(device_name)
    allow_tf32(precision == "tf32")
    base = memory_gb(device)
    contextual, prior = (
        checkpoint_attention(random_network(network)).to(device) for network in (config.network, config.crop)
    )
    diffusion, configured = make_schedule(config)
    t = timed_step(configured)
    times = diffusion.network_times(t, device)
    x, crop, y = inputs(config, 1, device)
    corner = (x.shape[-1] - crop.shape[-1]) // 2
    windows = Windows([(corner, corner)], crop.shape[-1], torch.zeros_like(y))
    target = Target.of_clean(torch.zeros_like(x), windows)

    def value(x: Tensor, crop: Tensor) -> Tensor:
        end = diffusion.predict(contextual(x, times, None), x, t, clip=True).x0
        return energy(end, diffusion.predict(prior(crop, times, y), crop, t, clip=True).x0, target).sum()

    seconds = timed(lambda: published_step(value, x, crop, n), repeats, device)
    memory = memory_gb(device) - base
    return Measurement("published", precision, 1, seconds, memory, peak_rate(ARITHMETIC[precision], device))


def published_step(value: Callable[[Tensor, Tensor], Tensor], x: Tensor, crop: Tensor, n: int) -> None:
    """n gradient steps, every trial accepted; after each the value and its graph are computed afresh."""
    with_graph = value(x.requires_grad_(), crop.requires_grad_())
    for _ in range(n):
        grads = torch.autograd.grad(with_graph, (x, crop))
        x, crop = ((at - 1e-9 * grad).detach() for at, grad in zip((x, crop), grads, strict=True))
        with torch.no_grad():
            value(x, crop)
        with_graph = value(x.requires_grad_(), crop.requires_grad_())


def checkpoint_attention(model: UNetModel) -> UNetModel:
    """Let attention blocks be computed again in the backward pass; returns the model."""
    for module in model.modules():
        if isinstance(module, AttentionBlock):
            module.use_checkpoint = True
    return model


def inputs(config: GenerationConfig, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Random images and crops at the networks' sizes, and classes."""
    generator = torch.Generator().manual_seed(1)
    sides = config.network.image_size, config.crop.image_size
    x, crop = (torch.randn(batch, 3, side, side, generator=generator).to(device) for side in sides)
    return x, crop, torch.zeros(batch, dtype=torch.long, device=device)


if __name__ == "__main__":
    sys.exit(run_main(main))
