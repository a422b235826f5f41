"""Which device to compute on, and the process group that torchrun asks for."""

import os

import torch
import torch.distributed as dist

from utils.errors import UserError


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


def start_process_group(device: torch.device) -> tuple[int, int]:
    """Join torchrun's process group, if there is one; returns (rank, world size), (0, 1) without.

    The processes talk through nccl when they compute on GPUs, else through gloo.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), world_size
