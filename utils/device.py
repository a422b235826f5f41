"""Which device to compute on, and in which precision."""

import os
import re
import time

import torch

from utils.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WIDE = 64  # base channels from which on a CPU's bf16 kernels gain from the channels_last layout


def resolve_device(name: str | None, cuda: int = 0, rank_on_host: int = 0) -> torch.device:
    """`name` is auto (or None), cpu, cuda or cuda:N; auto takes GPU `cuda` if there is one, else the CPU.

    Under torchrun the processes of a host share its GPUs out, from `cuda` on, by their `rank_on_host`.
    Raises UserError for a GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in (None, "auto", "cuda"):
        if count == 0 and name == "cuda":
            raise UserError("device: got cuda, but this machine has no usable GPU; use device=cpu or auto")
        index = (cuda + rank_on_host) % count if rank_on_host and count else cuda
        name = f"cuda:{index}" if count else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and device.index >= count:
        raise UserError(
            f"{name} asked for, but this machine has {count} usable GPU(s), numbered from 0; "
            "set cuda or device to one of them, or device=cpu"
        )
    return device


def resolve_precision(name: str, device: torch.device, explicit: bool = True) -> str:
    """fp32, bf16 or fp16; 'auto' is bf16 where the device computes faster with it, else fp32.

    On a CPU, an fp16 that is not `explicit` (the older key `use_fp16` asked for it) becomes fp32.

    Raises UserError for fp16 on a CPU, which has no fast arithmetic for it.
    """
    if name == "fp16" and device.type == "cpu":
        if not explicit:
            return "fp32"
        raise UserError(
            "precision: got fp16 on the CPU, which has no fast arithmetic for it; use auto, bf16 or fp32"
        )
    if name != "auto":
        return name
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 pays: by the GPU's or the processor's word, else by trying. Without instructions for it
    (AVX512-BF16, AMX, BF16 of ARM) a CPU is many times slower in bfloat16 than in float32, with them up to three
    times as fast."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = processor_flags()
    if flags:  # the same at every start, however busy the machine is
        return not flags.isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))
    return min(product_seconds(torch.bfloat16)) < min(product_seconds(torch.float32))


def processor_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """What Linux says that the processor can do; empty where it says nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"^(?:flags|Features)\s*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found[1].split()) if found else frozenset()


def product_seconds(dtype: torch.dtype, size: int = 192, repeats: int = 4) -> list[float]:
    """Seconds of small matrix products on the CPU, the first, which warms up, left out."""
    a, seconds = torch.ones(size, size, dtype=dtype), []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def prefers_channels_last(precision: str, num_channels: int, device: torch.device) -> bool:
    """The faster memory layout of a network with `num_channels` base channels: channels_last but for narrow ones
    in bfloat16 on a CPU (measured: twice as fast in float32, half as fast for narrow networks in bfloat16)."""
    return device.type != "cpu" or precision == "fp32" or num_channels >= WIDE


def free_bytes(device: torch.device) -> int:
    """Memory that can be had: on a GPU as reported by the driver, else what the system calls available."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def check_memory(needed: float, what: str) -> None:
    """Raises UserError when `what` needs more bytes than this machine has free; more would end the process."""
    free = free_bytes(torch.device("cpu"))
    if needed > free:
        raise UserError(
            f"{what}: needs {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; choose less"
        )
