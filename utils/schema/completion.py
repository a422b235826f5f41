"""Keys that a generation file leaves out are completed from the metadata of its weights."""

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
from utils.schema.fields import Int, input_path, usable_path
from utils.schema.network import AGREED_KEYS, CROP_VALUES, NetworkConfig
from utils.schema.problems import Findings

# Group of a network -> key of its weights, whose metadata complete the group
WEIGHTS = {"network": "model_path", "crop": "crop_model_path"}

KEYS_OF_WEIGHTS = NetworkConfig.model_fields.keys() - {"use_fp16", "use_checkpoint", "dropout"}

# The keys that determine a network's size
SIZE_KEYS = {"image_size", "num_channels", "num_res_blocks", "channel_mult"}


def complete_from_weights(values: dict[str, Any], findings: Findings) -> None:
    """Put what the file leaves out as the metadata of its weights say: networks, diffusion process, classes.

    Weights without metadata, such as the published `.pt` files, leave it at the defaults of the schema. Missing
    `.safetensors` weights are a problem if the file does not set all of SIZE_KEYS. Raises
    UserError for a damaged file, and for metadata that no network can have.
    """
    for name, path_key in WEIGHTS.items():
        path, given = values.get(path_key), values.get(name, {})
        if not isinstance(path, str):
            continue
        try:
            path = input_path(usable_path(path))
        except ValueError:  # the schema says why
            continue
        missing = missing_checkpoint(path) if path.endswith(".safetensors") else None
        if missing and not given.keys() >= SIZE_KEYS:
            findings.add(path_key, f"the network's options are read from these weights, but {missing}")
            findings.guessed = True
        metadata = load_metadata(path)
        trained = trained_network(metadata, path)
        known = {key: value for key, value in trained.items() if key in KEYS_OF_WEIGHTS}
        values[name] = {**known, **_attention_at_size(known, given), **given}
        agreed = {k: v for k, v in trained_diffusion(metadata, path).items() if k in AGREED_KEYS}
        values["diffusion"] = {**agreed, **values.get("diffusion", {})}
        if name == "crop" and described(metadata, "classes"):
            values.setdefault("crop_class_json_path", "")
    if values.get("model_path", "-") in (None, ""):
        # Only the prior paints, so the whole image is its window
        unconditional = {"class_cond": False, "condition": "none"}
        values["network"] = {**CROP_VALUES, **values.get("crop", {}), **unconditional}


def _attention_at_size(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`attention_resolutions` for an `image_size` other than the training's, at its downsampling factors.

    {} if they are given, or if the size that they belong to is unknown.
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
