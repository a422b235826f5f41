"""How many contexts fit into memory at once, from what one forward pass keeps for its backward pass."""

import torch
from torch import Tensor

from guided_diffusion.gaussian_diffusion import Model
from utils.device import free_bytes

SHARE = 0.7  # of the free memory that a batch may take
OVERHEAD = 1.6  # memory of a guided step in units of what one forward pass keeps (temporaries, gradients)
LARGEST = {"cpu": 8, "cuda": 64}  # beyond which a larger batch gains nothing


def fitting_batch_size(contextual: Model, image_size: int, device: torch.device) -> int:
    """The largest batch of contexts (3, S, S) whose guided step fits into the free memory of `device`."""
    needed = OVERHEAD * kept_bytes(contextual, torch.zeros(1, 3, image_size, image_size, device=device))
    return max(1, min(int(SHARE * free_bytes(device) / needed), LARGEST.get(device.type, 8)))


def kept_bytes(model: Model, x: Tensor) -> int:
    """Bytes that a forward pass at x keeps for the gradient with respect to x, every storage counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = model(x.requires_grad_(), torch.zeros(1, device=x.device), None)
    del kept
    return sum(storages.values())
