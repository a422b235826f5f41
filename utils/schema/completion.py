"""What a generation file leaves out, the metadata of its weights say."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from utils.network_metadata import (
    described,
    load_metadata,
    missing_checkpoint,
    trained_diffusion,
    trained_network,
)
from utils.schema.fields import Int, input_path
from utils.schema.network import AGREED_KEYS, CROP_VALUES, NetworkConfig
from utils.schema.problems import Findings

# Group of a network -> key of its weights, whose metadata tell what the file leaves out
WEIGHTS = {"network": "model_path", "crop": "crop_model_path"}

TOLD_BY_WEIGHTS = NetworkConfig.model_fields.keys() - {"use_fp16", "use_checkpoint", "dropout"}

# Without these nobody knows how large a network is
SIZE_KEYS = {"image_size", "num_channels", "num_res_blocks", "channel_mult"}


def complete_from_weights(values: dict[str, Any], findings: Findings) -> None:
    """Put what the file leaves out as the metadata of its weights say: networks, diffusion process, classes.

    Weights without metadata, such as the published `.pt` files, leave it at the defaults of the schema. Those
    that could tell, but are not there, are a problem when without them the network's size is unknown. Raises
    UserError for a damaged file, and for metadata that no network can have.
    """
    for name, path_key in WEIGHTS.items():
        path, given = values.get(path_key), values.get(name, {})
        if not isinstance(path, str):
            continue
        path = input_path(path)
        missing = missing_checkpoint(path) if path.endswith(".safetensors") else None
        if missing and not given.keys() >= SIZE_KEYS:
            findings.add(path_key, f"the network's options are read from these weights, but {missing}")
            findings.guessed = True
        metadata = load_metadata(path)
        trained = trained_network(metadata, path)
        told = {key: value for key, value in trained.items() if key in TOLD_BY_WEIGHTS}
        values[name] = {**told, **_attention_at_size(told, given), **given}
        agreed = {k: v for k, v in trained_diffusion(metadata, path).items() if k in AGREED_KEYS}
        values["diffusion"] = {**agreed, **values.get("diffusion", {})}
        if name == "crop" and described(metadata, "classes"):
            values.setdefault("crop_class_json_path", "")
    if values.get("model_path", "-") in (None, ""):
        # The prior paints alone: its window is all there is
        alone = {"class_cond": False, "condition": "none"}
        values["network"] = {**CROP_VALUES, **values.get("crop", {}), **alone}


def _attention_at_size(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`attention_resolutions` for an `image_size` other than the training's, at its downsampling factors.

    {} when they are given, or when nothing says at what size they were meant.
    """
    keys = {"image_size", "attention_resolutions"}
    if keys & given.keys() != {"image_size"} or not trained.keys() >= keys:
        return {}
    try:
        size = TypeAdapter(Int).validate_python(given["image_size"])
    except ValidationError:  # as the schema will say
        return {}
    resolutions = [max(1, r * size // trained["image_size"]) for r in trained["attention_resolutions"]]
    return {"attention_resolutions": resolutions}
