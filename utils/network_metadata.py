"""What a weights file says of itself: its metadata, without its tensors, compared with a configuration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from utils.errors import UserError
from utils.files import LAST
from utils.labels import load_class_names, normalize_class_name
from utils.reading import MOST_VALUES, parse_json
from utils.schema.network import AGREED_KEYS, NetworkConfig, TrainedDiffusion

PUBLISHED = ("checkpoint-256-defect-free.pt", "checkpoint-64-defect.pt")

# The configuration keys of a network that decide names and shapes of its weights
SHAPE_KEYS = (
    "image_size",
    "num_channels",
    "num_res_blocks",
    "channel_mult",
    "attention_resolutions",
    "resblock_updown",
    "use_scale_shift_norm",
    "class_cond",
    "learn_sigma",
    "condition",
)

# Those that a network may change after its training
FREE_KEYS = ("image_size", "attention_resolutions", "dropout", "use_checkpoint")


CONTRASTS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, le=255)]])


class UnreadableCheckpoint(UserError, ValueError):
    """A damaged or foreign file: a ValueError to code that can go on without it, else the user's to mend."""


def load_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a `.safetensors` file, read without its weights; {} for other files and missing ones.

    Raises UserError when the file is damaged.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with opened_safetensors(path) as file:
        return metadata_of(file)


def missing_checkpoint(path: str | Path) -> str | None:
    """None when there is a file at `path`, else a sentence saying where to get it."""
    path = Path(path)
    if path.is_file():
        return None
    message = f"{path}: no such checkpoint"
    if path.name == LAST:
        return f"{message}; train.py writes it, so run the conf that trains these weights first (train-prior.yml)"
    if path.name in PUBLISHED:
        message += (
            "; the published weights are on the authors' Google Drive, linked from "
            "github.com/xiaohang0608/CRG-Diffusion"
        )
    return f"{message}; confs/demo.yml uses a small pair that comes with the project and needs no download"


@contextmanager
def opened_safetensors(path: Path, framework: str = "np") -> Iterator[Any]:
    """A safetensors file, whose tensors are of `framework`; raises UnreadableCheckpoint for what goes wrong."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UnreadableCheckpoint(f"{path}: not a readable safetensors file: {error}") from error


def metadata_of(file: Any) -> dict[str, Any]:
    return {key: _from_text(value) for key, value in (file.metadata() or {}).items()}


def _from_text(text: str) -> Any:
    """Metadata of files that others wrote may be plain text."""
    try:
        return parse_json(text, MOST_VALUES)
    except ValueError:
        return text


# Comparing with a configuration


def described(metadata: Mapping[str, Any], part: str) -> dict[str, Any]:
    """`network` (U-Net options), `diffusion` (process, range of t), `classes` (name -> id), `contrasts` (name -> gray
    levels) or `files` (those trained on: number of images, hash) as `train.py` wrote them.

    {} for foreign files.
    """
    value = metadata.get(part)
    return value if isinstance(value, dict) else {}


def trained_network(metadata: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Those options of the network that the metadata of the weights at `path` tell, as `NetworkConfig` reads them.

    Options that this version does not know are left out; {} for foreign files. Raises UserError for options
    that no network can have.
    """
    known = {k: v for k, v in described(metadata, "network").items() if k in NetworkConfig.model_fields}
    try:
        values = NetworkConfig.model_validate(known).plain()
    except (ValidationError, ArithmeticError) as error:
        raise UserError(
            f"{path}: its metadata describe no network that can be built ({_reason(error)}); use other weights, "
            "or save these without their metadata"
        ) from error
    return {key: value for key, value in values.items() if key in known}


def trained_diffusion(metadata: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What the metadata of the weights at `path` tell of AGREED_KEYS, `min_t` and `max_t`; {} for foreign files.

    Raises UserError for values that no diffusion process can have.
    """
    keys = (*AGREED_KEYS, "min_t", "max_t")
    known = {k: v for k, v in described(metadata, "diffusion").items() if k in keys}
    try:
        values = TrainedDiffusion.model_validate(known)
    except ValidationError as error:
        raise UserError(
            f"{path}: its metadata describe no diffusion process ({_reason(error)}); use other weights, or save "
            "these without their metadata"
        ) from error
    return {key: getattr(values, key) for key in known}


def trained_contrasts(metadata: Mapping[str, Any], path: str | Path) -> dict[str, float]:
    """Class name -> contrast, in gray levels, of the defects that the weights at `path` were trained on; {} where
    they do not tell it. Raises UserError for what is no contrast."""
    try:
        return CONTRASTS.validate_python(described(metadata, "contrasts"))
    except ValidationError as error:
        raise UserError(
            f"{path}: its metadata hold no contrasts that can be used ({_reason(error)}); set "
            "ddim.schedule_params.start_step to a number"
        ) from error


def diffusion_differences(metadata: Mapping[str, Any], now: Mapping[str, Any], path: str | Path) -> list[str]:
    """One line for each of the values `now` (`DiffusionConfig.agreed`) that is not as the weights were trained."""
    trained = trained_diffusion(metadata, path)
    return [
        f"{key}: got {now[key]}, but {path} was trained with {trained[key]}"
        for key in AGREED_KEYS
        if key in trained and now[key] != trained[key]
    ]


def class_names(class_file: str, weights: str) -> dict[str, int]:
    """Class name -> id, from the class file or, where its path is '', from the metadata of the weights.

    Raises UserError when neither has them.
    """
    if class_file:
        return load_class_names(class_file)
    classes = described(load_metadata(weights), "classes")
    if problem := class_problem(classes):
        raise UserError(
            f"{weights}: its metadata name no classes that can be used ({problem}); set crop_class_json_path to a "
            "class file"
        )
    return classes


def class_problem(classes: Mapping[str, Any]) -> str | None:
    """None when `classes` maps names to ids, else what is wrong with it."""
    if not classes:
        return "there are none"
    ids = list(classes.values())
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        return f"got the ids {ids}, expected whole numbers >= 0"
    names = {normalize_class_name(name) for name in classes}
    if len(set(ids)) < len(ids) or len(names) < len(ids) or "" in names:
        return f"got {dict(classes)}, expected each name and each id once"
    return None


def _reason(error: ValidationError | ArithmeticError) -> str:
    """The first thing wrong, in a line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    sentence = first["msg"].removeprefix("Value error, ").partition("\n")[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), sentence]))


def network_differences(
    metadata: Mapping[str, Any], now: Mapping[str, Any], path: str | Path, prefix: str = ""
) -> list[str]:
    """One line for each option of the network `now` that is not as the weights at `path` were trained.

    `now` are values of `NetworkConfig.plain`. Another `image_size` is no difference, as long as attention sits at
    the same downsampling factors. `prefix` is put before the keys' names. Empty for weights that do not say how
    they were trained; UserError for those whose metadata no network can have.
    """
    trained = trained_network(metadata, path)
    lines = [
        f"{prefix}{key}: got {_shown(now[key])}, but {path} was trained with {_shown(trained[key])}"
        for key in sorted((now.keys() & trained.keys()).difference(FREE_KEYS))
        if now[key] != trained[key]
    ]
    factors = _attention_factors(trained)
    if factors is not None and factors != _attention_factors(now):
        size, resolutions = "image_size", "attention_resolutions"
        lines.append(
            f"{prefix}{resolutions}: got {_shown(now[resolutions])} at {size} {now[size]}, but {path} was "
            f"trained with {_shown(trained[resolutions])} at {size} {trained[size]}"
        )
    return lines


def _shown(value: Any) -> Any:
    """Lists as they are written in a configuration."""
    return list(value) if isinstance(value, tuple) else value


def _attention_factors(network: Mapping[str, Any]) -> set[int] | None:
    """How many times smaller than the image the maps with self-attention are; None where it is not said."""
    size, resolutions = network.get("image_size"), network.get("attention_resolutions")
    return None if size is None or resolutions is None else {size // r for r in resolutions}
