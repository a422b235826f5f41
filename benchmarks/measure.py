"""What the benchmarks share: time, memory, the machine's own limit, networks with random weights, and a probe."""

import platform
import re
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from guided_diffusion.gaussian_diffusion import Model

T = TypeVar("T")


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median seconds of `call` after one warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def peak_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the fastest large product in `dtype`: of matrices, or in a 1x1 or 3x3 convolution.

    Random data; convolutions in both memory layouts; two operations per multiply-add. Libraries differ in which of
    the three they do best.
    """
    size, batch = (2048, 1) if device.type == "cpu" else (8192, 16)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = min(timed(lambda: a @ b, 3, device) for _ in range(3))
    rates = [2 * size**3 / seconds]
    for channels, kernel in ((size, 1), (size // 4, 3)):
        weight = torch.randn(channels, channels, kernel, kernel, device=device).to(dtype)
        x = torch.randn(batch, channels, 32, 32, device=device).to(dtype)
        operations = 2 * weight.numel() * x.numel() / channels
        for layout in (torch.contiguous_format, torch.channels_last):
            rates.append(operations / convolution_seconds(x, weight, layout))
    return max(rates)


def convolution_seconds(x: Tensor, weight: Tensor, layout: torch.memory_format) -> float:
    """The best of several medians, for an output of the input's size."""
    x, weight = x.to(memory_format=layout), weight.to(memory_format=layout)
    return min(timed(lambda: F.conv2d(x, weight, padding="same"), 3, x.device) for _ in range(2))


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU computes float32 products and convolutions in TF32: both, where PyTorch's defaults differ."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def memory_gb(device: torch.device) -> float:
    """Peak memory so far: of the process on a CPU, of PyTorch's allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    if match := re.search(r"VmHWM:\s*(\d+)", text):  # the other number is inherited from the parent process
        return int(match[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_own_process(function: Callable[..., T], *arguments: object) -> T:
    """`function(*arguments)` in a fresh process, so that peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def machine(device: torch.device) -> str:
    """Processor, threads or GPU, and PyTorch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    cpu = Path("/proc/cpuinfo")
    name = platform.machine()
    if cpu.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpu.read_text())):
        name = found[1]
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


# What networks do within a run


@dataclass
class Calls:
    """Of one network: images forward and back, the seconds of both, and each call's (side, images, graph)."""

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    log: list[tuple[int, int, bool]] = field(default_factory=list)


class Probe:
    """A network that counts and times what goes through it, forward and back."""

    def __init__(self, model: Model, device: torch.device):
        self.model, self.device, self.calls = model, device, Calls()
        self._started = 0.0

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        graph = torch.is_grad_enabled() and x.requires_grad
        if graph:
            x = _Stamp.apply(x, self._backward_ends)
        synchronize(self.device)
        started = time.perf_counter()
        out = self.model(x, t, y)
        synchronize(self.device)
        self.calls.seconds += time.perf_counter() - started
        self.calls.forward += len(x)
        self.calls.log.append((x.shape[-1], len(x), graph))
        return _Stamp.apply(out, self._backward_begins) if graph else out

    def _backward_begins(self, grad: Tensor) -> None:
        synchronize(self.device)
        self.calls.backward += len(grad)
        self._started = time.perf_counter()

    def _backward_ends(self, grad: Tensor) -> None:
        synchronize(self.device)
        self.calls.seconds += time.perf_counter() - self._started


class _Stamp(torch.autograd.Function):
    """The identity; its backward pass calls `notify` with the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, notify: Callable[[Tensor], None]) -> Tensor:
        ctx.notify = notify
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.notify(grad)
        return grad, None
