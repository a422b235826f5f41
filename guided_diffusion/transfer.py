"""Between host and GPU without making the host wait for what the GPU has yet to do.

A plain copy waits for everything queued before it; copies through page-locked memory do not.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values`, of the host, on `device`; on a GPU they arrive when the work queued before has been done."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_host(values: Tensor) -> Callable[[], np.ndarray]:
    """Start a copy to the host; the returned call waits for it, and for nothing that was queued behind it."""
    if values.device.type != "cuda":
        return lambda: values.cpu().numpy()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(values.device))

    def wait() -> np.ndarray:
        done.synchronize()
        return host.numpy()

    return wait
