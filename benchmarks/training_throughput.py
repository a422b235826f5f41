"""Training speed: images a second, forward and backward, against a plain float32 loop on contiguous tensors.

    python -m benchmarks.training_throughput --confs confs/demo-train-64.yml --device cpu

Random images and weights, the conf's losses, the batch of `--batches`; the optimizer's step is left out. Each row
runs in a process of its own. Operations are three times a forward's: the gradients of inputs and weights cost as much
each.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from benchmarks.measure import (
    in_own_process,
    machine,
    memory_gb,
    peak_rate,
    timed,
)
from generation.cost import forward_operations, random_network
from training.setup import make_diffusion
from utils.command_line import make_parser
from utils.config import load_training_config
from utils.device import DTYPES, has_fast_bf16, prefers_channels_last, resolve_device
from utils.errors import UserError, run_main

# Images at once where a CPU is to be kept busy but not waited for
CONFS = {
    "confs/demo-train-64.yml": 32,
    "confs/demo-train-128.yml": 6,
    "confs/train-64.yml": 2,
    "confs/train-256.yml": 1,
}


def main(argv: list[str]) -> None:
    parser = make_parser("python -m benchmarks.training_throughput", __doc__)
    parser.add_argument("--confs", nargs="+", default=list(CONFS), help="settings to time")
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:N")
    parser.add_argument("--batch", type=int, help="images at once; default: 1 to 32, by the network's size")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement, whose median counts")
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    if args.repeats < 1 or (args.batch or 1) < 1:
        raise UserError("--batch, --repeats: expected 1 or more")
    print(machine(device))
    print(
        f"{'configuration':<28}{'loop':<22}{'batch':>5}{'images/s':>10}{'GFLOP/s':>9}{'of peak':>9}{'memory':>9}"
    )
    for conf in args.confs:
        network = load_training_config(conf, []).network
        operations = 3 * forward_operations(network)
        batch, plain = args.batch or CONFS.get(conf, 1), None
        for precision in ["fp32", "bf16"] if has_fast_bf16(device) else ["fp32"]:
            ours = prefers_channels_last(precision, network.num_channels, device)
            for channels_last in dict.fromkeys([False, ours] if precision == "fp32" else [ours]):
                loop = (conf, precision, channels_last, batch, args.repeats, str(device))
                seconds, memory, peak = in_own_process(measure, *loop)
                plain = plain or seconds
                rate = operations * batch / seconds
                print(
                    f"{conf:<28}{precision + (', channels_last' if channels_last else ''):<22}{batch:>5}"
                    f"{batch / seconds:>10.2f}{rate / 1e9:>9.0f}{rate / peak:>9.0%}{memory:>6.2f} GB"
                    + (f"  {plain / seconds:.2f} times as fast" if seconds != plain else ""),
                    flush=True,
                )


def measure(
    conf: str, precision: str, channels_last: bool, batch: int, repeats: int, device_name: str
) -> tuple[float, float, float]:
    """Seconds of forward and backward of a batch, GB beyond the imported packages, and the machine's fastest rate."""
    device = torch.device(device_name)
    base = memory_gb(device)
    run = step(conf, precision, channels_last, batch, device)
    seconds = timed(run, repeats, device)
    return seconds, memory_gb(device) - base, peak_rate(DTYPES[precision], device)


def step(
    conf: str, precision: str, channels_last: bool, batch: int, device: torch.device
) -> Callable[[], None]:
    """Forward and backward of the conf's training loss on random images."""
    config = load_training_config(conf, [])
    diffusion, (first, end) = make_diffusion(config)
    model = random_network(config.network).to(device).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    side = config.network.image_size
    x = torch.randn(batch, 3, side, side, device=device).to(memory_format=layout)
    y = torch.zeros(batch, dtype=torch.long, device=device) if config.network.class_cond else None
    t = torch.linspace(first, end - 1, batch, device=device).long()

    def network(x_t: Tensor, steps: Tensor) -> Tensor:
        low = precision != "fp32"
        with torch.autocast(device.type, DTYPES[precision]) if low else nullcontext():
            return model(x_t, steps, y)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        diffusion.training_losses(network, x, t, torch.randn_like(x))["loss"].mean().backward()

    return run


if __name__ == "__main__":
    sys.exit(run_main(main))
