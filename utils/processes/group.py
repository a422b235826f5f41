"""Several processes of one run, as torchrun starts them: the first decides, the others follow."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from utils.errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # the slowest process of a run may have hours to go
LOST = "another process of this run has ended (torchrun tells which); the same command goes on from what is finished"


def rank() -> int:
    """The number of this process among those that torchrun started, from 0; 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """The number of this process among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(backend: str = "gloo", patience: timedelta | None = None) -> Iterator[None]:
    """Within it the processes of a run, if there are several, can agree and wait.

    Raises UserError where they were not started by torchrun, and when one of them ends before the others.
    """
    if world_size() == 1:
        yield
        return
    try:
        dist.init_process_group(backend, timeout=patience)
    except (ValueError, dist.DistError) as error:
        raise UserError(
            f"WORLD_SIZE is {world_size()}, but the processes do not find each other ({error}); start them with "
            "torchrun"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if is_lost_connection(error):
            raise UserError(LOST) from error
        raise
    finally:
        dist.destroy_process_group()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed because another process is gone."""
    told = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in told or "connection closed by peer" in told


def decided(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in all of them; the result must be picklable.

    What it raises there ends the others without a message of their own, with the code of user errors.
    """
    if not dist.is_initialized():
        return make()
    if rank() > 0:
        box: list[list[T]] = [[]]
        dist.broadcast_object_list(box)
        if not box[0]:
            raise SystemExit(2)
        return box[0][0]
    try:
        result = make()
    except BaseException:
        with suppress(RuntimeError):
            dist.broadcast_object_list([[]])
        raise
    dist.broadcast_object_list([[result]])
    return result


def wait_for_all() -> None:
    """Returns when every process of the run has come here; signals are heeded meanwhile."""
    if dist.is_initialized():
        work = dist.barrier(async_op=True)
        while not work.is_completed():
            time.sleep(0.05)
        work.wait()
