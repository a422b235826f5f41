"""The contextual model and the defect prior: loaded, checked against the configuration, frozen."""

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.jobs import Job
from guided_diffusion.create import create_unet, unet_bytes
from guided_diffusion.gaussian_diffusion import Model
from guided_diffusion.unet import UNetModel
from utils import labels
from utils.checkpoint import load_strict
from utils.device import DTYPES, check_memory, free_bytes, prefers_channels_last, resolve_precision
from utils.errors import UserError
from utils.network_metadata import (
    SHAPE_KEYS,
    described,
    diffusion_differences,
    load_metadata,
    missing_checkpoint,
    network_differences,
)
from utils.schema.generation import GenerationConfig
from utils.schema.network import NetworkConfig

MEMORY_SHARE = 0.7  # of the free memory that a batch may take
MEMORY_OVERHEAD = (
    1.6  # memory of a guided step in units of what one forward pass keeps (temporaries, gradients)
)
LARGEST_BATCH = {"cpu": 8, "cuda": 64}  # beyond which a larger batch gains nothing


def load_models(
    config: GenerationConfig, classes: dict[str, int], device: torch.device
) -> tuple[Model | None, Model]:
    """The contextual model (None without `model_path`) and the defect prior, frozen, in eval mode and the wanted
    precision."""
    problems = list(filter(None, map(missing_checkpoint, weight_paths(config))))
    if problems:
        raise UserError.from_problems("weights are missing", problems)
    check_metadata(config, classes)
    count = count_classes(config, classes)
    contextual = None
    if config.model_path:
        contextual = build(config.network)
        load_strict(contextual, config.model_path, SHAPE_KEYS, "the contextual model (top-level keys)")
        check_finite(contextual, config.model_path)
        contextual = prepare(contextual, config.network, config, device)
    prior = build(config.crop, count)
    keys = [f"crop.{key}" for key in SHAPE_KEYS] + ["num_classes"]
    load_strict(prior, config.crop_model_path, keys, "the defect prior (keys under crop)")
    check_finite(prior, config.crop_model_path)
    prior = prepare(prior, config.crop, config, device)
    return contextual, prior if config.crop.class_cond else without_classes(prior)


def check_finite(model: UNetModel, path: str) -> None:
    """Raises UserError when weights are not numbers."""
    if bad := [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]:
        raise UserError(
            f"{path}: {len(bad)} tensors hold values that are not numbers (the first is {bad[0]}); take weights from "
            "before the training went wrong"
        )


def weight_paths(config: GenerationConfig) -> list[str]:
    """The weights that painting reads."""
    return [path for path in (config.model_path, config.crop_model_path) if path]


def build(network: NetworkConfig, num_classes: int | None = None) -> UNetModel:
    """A network with random weights; UserError when the memory cannot hold it."""
    options = {**network.plain(), "num_classes": num_classes}
    check_memory(unet_bytes(**options), f"a network of num_channels {network.num_channels}")
    return create_unet(**options)


def check_metadata(config: GenerationConfig, classes: dict[str, int]) -> None:
    """Raises UserError when weights of ours were trained with another network, diffusion process or other class ids
    than the configuration says: before they are loaded, since shapes alone say less, or nothing."""
    path, prior_path = config.model_path, config.crop_model_path
    metadata = load_metadata(prior_path)
    problems = network_differences(load_metadata(path), config.network.plain(), path) if path else []
    problems += network_differences(metadata, config.crop.plain(), prior_path, "crop.")
    for weights in weight_paths(config):
        problems += diffusion_differences(load_metadata(weights), config.diffusion.agreed(), weights)
    trained = described(metadata, "classes")
    if trained and classes and not labels.same_classes(trained, classes):
        problems.append(
            f"crop_class_json_path: got the classes {classes}, but {prior_path} was trained with {trained}; "
            "use the class file of the training"
        )
    if problems:
        raise UserError.from_problems("the weights do not fit the configuration", problems)


def prepare(
    model: UNetModel, network: NetworkConfig, config: GenerationConfig, device: torch.device
) -> UNetModel:
    """Frozen, in eval mode, in the wanted precision and the memory layout that suits it."""
    model.requires_grad_(False).eval().to(device)
    if prefers_channels_last(config.precision, network.num_channels, device):
        model.to(memory_format=torch.channels_last)
    return model.set_precision(DTYPES[config.precision])


def without_classes(model: Model) -> Model:
    """A network that knows no classes, for a caller that names them."""
    return lambda x, t, y: model(x, t, None)


def count_classes(config: GenerationConfig, classes: dict[str, int]) -> int:
    return config.num_classes or max(classes.values()) + 1


def check_class_ids(config: GenerationConfig, todo: Sequence[Job], classes: dict[str, int]) -> None:
    """Raises UserError when an annotation's class is beyond the prior's `num_classes`."""
    annotations = (defect.annotation for job in todo for defect in job.defects)
    worst = max(annotations, key=lambda annotation: annotation.class_id)
    count = count_classes(config, classes)
    if config.crop.class_cond and worst.class_id >= count:
        raise UserError(
            f"num_classes: got {count}, but annotations use class {worst.class_id} ({worst.class_name}); "
            f"expected at least {worst.class_id + 1}, as the prior was trained with"
        )


def with_arithmetic(config: GenerationConfig, device: torch.device) -> GenerationConfig:
    """The configuration with what `auto` means on this device; UserError for an explicit fp16 on a CPU."""
    explicit = "precision" in config.model_fields_set
    precision = resolve_precision(config.precision, device, explicit)
    config = config.model_copy(update={"precision": precision})
    if config.batch_size != "auto":
        return config
    contextual = prepare(build(config.network), config.network, config, device)
    size = fitting_batch_size(contextual, config.network.image_size, device)
    return config.model_copy(update={"batch_size": size})


def fitting_batch_size(contextual: Model, image_size: int, device: torch.device) -> int:
    """The largest batch of contexts (3, S, S) whose guided step fits into the free memory of `device`."""
    needed = MEMORY_OVERHEAD * kept_bytes(
        contextual, torch.zeros(1, 3, image_size, image_size, device=device)
    )
    return max(1, min(int(MEMORY_SHARE * free_bytes(device) / needed), LARGEST_BATCH.get(device.type, 8)))


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
