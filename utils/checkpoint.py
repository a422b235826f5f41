"""Weights in and out: strict loading with errors a user can act on, atomic saving."""

import errno
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from utils.errors import UserError
from utils.files import replacing
from utils.network_metadata import UnreadableCheckpoint, metadata_of, missing_checkpoint, opened_safetensors

WRAPPERS = ("state_dict", "model")
SHOWN = 5  # differing keys named in one message


class _TrainingState(BaseModel):
    """The layout of what a resumed run needs; the parts say themselves whether they fit the run."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True, protected_namespaces=())
    step: Annotated[int, Field(ge=0)]
    model: dict[str, Tensor]
    ema: dict[float, dict[str, Tensor]]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    time_sampler: dict[str, Any]


# Loading


def load_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a `.safetensors`, `.pt` or `.pth` file, on the CPU, as stored.

    `.pt` files are read without running code from them (`weights_only`), may wrap the weights in
    {"state_dict": ...} or {"model": ...}, and have no metadata. `module.` prefixes of data-parallel training
    are stripped. Metadata values that are JSON come back as what it says. Raises UserError when the file
    is missing, damaged or holds no weights.
    """
    path = Path(path)
    if problem := missing_checkpoint(path):
        raise UserError(problem)
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    content = _load_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return _checked_weights(content, path), {}


def load_training_state(path: str | Path) -> dict[str, Any]:
    """What `save_atomic` wrote, tensors on the CPU; no code from the file is run.

    Raises UserError when the file is missing, UnreadableCheckpoint when it is damaged or no training state.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such training state; the checkpoint folder holds them as state_*.pt")
    state = _load_pickle(path)
    if not isinstance(state, dict):
        raise UnreadableCheckpoint(f"{path}: got a {type(state).__name__}, expected a training state")
    try:
        _TrainingState.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UnreadableCheckpoint(f"{path}: no training state: {place}: {first['msg']}") from error
    return state


def _load_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle makes the reader raise nearly everything
        reason = "it is no PyTorch file, or holds other things than tensors, which are not loaded"
        if isinstance(error, (RuntimeError, OSError)):
            reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UnreadableCheckpoint(
            f"{path}: not a readable checkpoint, perhaps cut short while copying: {reason}"
        ) from error


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with opened_safetensors(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = metadata_of(file)
    return _checked_weights(weights, path), metadata


def _checked_weights(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise UnreadableCheckpoint(
            f"{path}: got a {type(content).__name__}, expected the weights of a network by name"
        )
    strange = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise UnreadableCheckpoint(
            f"{path}: got entries that are not weights ({', '.join(strange[:SHOWN])}), expected weights alone"
        )
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def load_strict(model: nn.Module, path: str | Path, conf_keys: Sequence[str], what: str) -> dict[str, Any]:
    """Load a checkpoint's weights into `model`, every name and shape equal; returns the file's metadata.

    float16 files load into float32 models and the other way round. `what` names the model in messages, as in
    "the defect prior"; `conf_keys` are the settings to compare when it does not fit. Raises UserError.
    """
    weights, metadata = load_state_dict(path)
    check_fit(model, weights, path, conf_keys, what)
    model.load_state_dict(weights, strict=True)
    return metadata


def check_fit(
    model: nn.Module, weights: Mapping[str, Tensor], path: str | Path, conf_keys: Sequence[str], what: str
) -> None:
    """Raises UserError unless `weights`, read from `path`, have the names and shapes of `model` (see `load_strict`)."""
    lines = _mismatches(model.state_dict(), weights)
    if lines:
        shown = "\n".join(f"  - {line}" for line in lines[:SHOWN])
        more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise UserError(
            f"{path} does not fit {what}: {len(lines)} weights differ in name or shape. "
            "Compare these keys of the configuration with those it was trained with: "
            f"{', '.join(conf_keys)}\n"
            f"{shown}{more}"
        )


def _mismatches(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """One line per name whose shape differs or that only one side has, in the model's order."""
    lines = []
    for name in dict.fromkeys([*expected, *got]):
        shapes = [str(tuple(side[name].shape)) if name in side else "nothing" for side in (got, expected)]
        if shapes[0] != shapes[1]:
            lines.append(f"{name}: the file has {shapes[0]}, the configuration asks for {shapes[1]}")
    return lines


# Saving


def save_safetensors(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write weights atomically, floats as `dtype` (None: as they are), metadata as text or else JSON.

    Equal weights and metadata give equal bytes.
    Makes the folder when there is none. Raises OSError when there is no room or no right to.
    """
    weights = {}
    for key, value in state_dict.items():
        kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
        value = value.detach().to(
            "cpu", kind, copy=True
        )  # a copy: tied weights share memory, the format does not
        weights[key] = value.contiguous(memory_format=torch.contiguous_format)
    items = (metadata or {}).items()
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in items
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with _written(path) as temporary:
        save_file(weights, temporary, metadata=texts)
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Put the entries of a safetensors header in alphabetical order, so that equal contents are equal bytes.

    The library writes the metadata in another order each time. The header is JSON after its length (8 bytes,
    little-endian), padded with spaces.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size
        file.seek(8)
        file.write(text.ljust(size))


def save_atomic(path: str | Path, obj: Any) -> None:
    """`torch.save(obj)` under a temporary name, then rename; makes the folder when there is none.

    Equal contents give equal bytes. Raises OSError when there is no room or no right to.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # Into an open file: PyTorch would write the temporary name, which holds the process id, into the file
    with _written(path) as temporary, temporary.open("wb") as file:
        torch.save(_interned(obj), file)


def _interned(obj: Any) -> Any:
    """`obj` with dicts and lists of its own in which equal texts are one object, as in a run that was never stopped;
    pickle writes a text that it has met as a reference, and an equal one of another object in full."""
    if isinstance(obj, Mapping):
        return {_interned(key): _interned(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return type(obj)(map(_interned, obj))
    return sys.intern(obj) if type(obj) is str else obj


@contextmanager
def _written(path: str | Path) -> Iterator[Path]:
    """As `replacing`; the writers' own errors, which a full disk gives, as OSError naming `path`."""
    try:
        with replacing(path) as temporary:
            yield temporary
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise OSError(errno.EIO, f"cannot be written whole ({reason})", str(path)) from error
