"""Time and memory of one guided step, against the published wiring: `python -m benchmarks.guided_step --help`.

Random weights; a step with every line-search trial accepted. The published wiring is composed of its timed
parts: trainable parameters, contiguous tensors, one forward with graph, then per gradient step a backward, a
forward without and one with graph, for the contextual model and for the prior alike.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from guided_diffusion.attention_mask import AttentionConfig
from guided_diffusion.create import create_diffusion, create_unet
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.refinement import Target, Windows
from utils.config import GenerationConfig, load_generation_config
from utils.errors import run_main

GRADIENT_STEPS = 2
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf_path", default="confs/pcb_gen.yml", help="whose networks to time")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true", help="memory layout of our networks")
    parser.add_argument("--skip-published", action="store_true", help="time our step alone")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    config = load_generation_config(args.conf_path)
    device = torch.device(args.device)
    base = memory_gb(device)
    x, crop, y, networks = build(config, args.batch, device)
    ours = our_step(config, networks, x, crop, y, args)
    seconds = timed(ours, args.repeats, device)
    peak = memory_gb(device) - base
    operations = step_operations(networks, x, crop, y)
    peak_rate = matrix_peak(DTYPES[args.precision], device)
    print(f"{args.conf_path}, batch {args.batch}, {device}, torch {torch.__version__}")
    print(f"{'step':<28}{'seconds':>10}{'GFLOP':>10}{'GFLOP/s':>10}{'of peak':>9}")
    report(f"ours, {args.precision}", seconds, operations, peak_rate)
    print(f"peak memory of our step: {peak:.2f} GB beyond the imported packages")
    if args.skip_published:
        return
    published = published_seconds(config, x, crop, y, args.repeats, device)
    report("published wiring, fp32", published, None, None)
    print(f"ours is {published / seconds:.2f} times as fast")


def build(config: GenerationConfig, batch: int, device: torch.device):
    """Random inputs and both networks with random weights, frozen."""
    torch.manual_seed(0)
    nets = [
        randomised(create_unet(**config.network.plain())),
        randomised(create_unet(**config.crop.plain(), num_classes=6)),
    ]
    x = torch.randn(batch, 3, config.network.image_size, config.network.image_size, device=device)
    crop = torch.randn(batch, 3, config.crop.image_size, config.crop.image_size, device=device)
    y = torch.zeros(batch, dtype=torch.long, device=device)
    return x, crop, y, [net.eval().requires_grad_(False).to(device) for net in nets]


def randomised(model: nn.Module) -> nn.Module:
    """Give the zero-initialised layers weights too, so that every branch takes part."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


def our_step(
    config: GenerationConfig, networks, x: Tensor, crop: Tensor, y: Tensor, args
) -> Callable[[], object]:
    """A guided step of the sampler, at rates so small that every trial is accepted."""
    if args.channels_last:
        networks = [net.to(memory_format=torch.channels_last) for net in networks]
    networks = [net.set_precision(DTYPES[args.precision]) for net in networks]
    diffusion = create_diffusion(
        diffusion_steps=config.diffusion.diffusion_steps,
        timestep_respacing=config.diffusion.timestep_respacing,
    )
    options = SamplerOptions(
        timesteps=[20, 19],
        start_index=20,
        gradient_steps=[GRADIENT_STEPS] * diffusion.num_timesteps,
        lr_xt=1e-9,
        attention=AttentionConfig(),
    )
    sampler = Sampler(*networks, diffusion, options)
    offset = (x.shape[-1] - crop.shape[-1]) // 2
    windows = Windows([(offset, offset)] * len(x), crop.shape[-1], torch.arange(len(x), device=x.device))
    target = Target.of_clean(torch.zeros_like(x), windows)
    return lambda: sampler.guided_step(x, crop, 20, target, y, None, options.lr_xt, 0.0)


def step_operations(networks, x: Tensor, crop: Tensor, y: Tensor) -> float:
    """Operations of our step: n + 1 forwards and n backwards (a forward's work each, weights being frozen)."""
    t = torch.zeros(1, device=x.device)
    totals = []
    for net, inputs in zip(networks, [(x[:1], t), (crop[:1], t, y[:1])], strict=True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(*inputs)
        totals.append(counter.get_total_flops())
    return len(x) * ((2 * GRADIENT_STEPS + 1) * totals[0] + totals[1])


def published_seconds(
    config: GenerationConfig, x: Tensor, crop: Tensor, y: Tensor, repeats: int, device: torch.device
) -> float:
    """Seconds of a step in the published wiring, from its timed forwards and backwards."""
    torch.manual_seed(0)
    n, total = GRADIENT_STEPS, 0.0
    for network, inputs, classes in ((config.network, x, None), (config.crop, crop, y)):
        model = randomised(create_unet(**network.plain(), num_classes=6)).eval().to(device)
        t = torch.zeros(len(x), device=device)

        def with_graph(model=model, inputs=inputs, t=t, classes=classes) -> Tensor:
            return model(inputs.detach().requires_grad_(), t, classes)

        def without_graph(model=model, inputs=inputs, t=t, classes=classes) -> Tensor:
            with torch.no_grad():
                return model(inputs, t, classes)

        def both(forward=with_graph) -> None:
            forward().square().sum().backward()

        graph, plain = timed(with_graph, repeats, device), timed(without_graph, repeats, device)
        backward = max(timed(both, repeats, device) - graph, 0.0)
        total += (n + 1) * graph + n * plain + n * backward
    return total


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median seconds of `call` after one warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_peak(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """Operations per second of a large matrix product on random data."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, 5, device)


def memory_gb(device: torch.device) -> float:
    """Peak memory so far: of the process on a CPU, of PyTorch's allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def report(name: str, seconds: float, operations: float | None, peak: float | None) -> None:
    if operations is None or peak is None:
        print(f"{name:<28}{seconds:>10.3f}")
        return
    rate = operations / seconds
    print(f"{name:<28}{seconds:>10.3f}{operations / 1e9:>10.0f}{rate / 1e9:>10.0f}{rate / peak:>8.0%}")


if __name__ == "__main__":
    sys.exit(run_main(main))
