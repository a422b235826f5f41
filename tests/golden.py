"""Access to the golden numbers in `tests/golden/` (see the README there) and the rules that made them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parent / "golden"


def load_json(name: str) -> Any:
    """Parsed content of `tests/golden/<name>`; `name` carries its extension."""
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def load_npz(name: str) -> dict[str, np.ndarray]:
    """All arrays of `tests/golden/<name>` by key, freshly read; `name` carries its extension."""
    with np.load(GOLDEN / name) as archive:
        return {key: archive[key] for key in archive.files}


def fill_weights(
    model: torch.nn.Module, seed: int, gain: float = 0.5, out_gain: float = 0.1
) -> torch.nn.Module:
    """Overwrite every entry of the model's state_dict by the golden README's rule; returns the model.

    One standard normal draw per entry, over the keys in sorted order. 1-D `*.weight`: 1 + 0.1 z; other 1-D:
    0.05 z; the rest: gain z / sqrt(fan-in), with `out_gain` for `out.2.weight`.
    """
    random = np.random.RandomState(seed)
    state = {}
    for name, old in sorted(model.state_dict().items()):
        z = random.standard_normal(tuple(old.shape)).astype(np.float32)
        if z.ndim == 1:
            value = 1 + 0.1 * z if name.endswith(".weight") else 0.05 * z
        else:
            scale = out_gain if name == "out.2.weight" else gain
            value = scale * z / math.sqrt(math.prod(z.shape[1:]))
        state[name] = torch.from_numpy(value)
    model.load_state_dict(state, strict=True)
    return model


class NoiseStream:
    """Standard normal float32 tensors from `numpy.random.RandomState(seed)`; `draws` counts the calls."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.RandomState(seed)
        self.draws = 0

    def __call__(self, shape: Sequence[int]) -> torch.Tensor:
        """The next draw, of this shape, on the CPU."""
        self.draws += 1
        return torch.from_numpy(self.random.standard_normal(tuple(shape)).astype(np.float32))


def noise_stream(seed: int) -> NoiseStream:
    """The noise of a golden loop: `noise = noise_stream(seed); z = noise(shape)`."""
    return NoiseStream(seed)
