"""Initial weights from another run (`init_from`), adapted where a run may differ from it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.setup import TrainingRun
from utils import labels
from utils.checkpoint import check_fit, load_state_dict
from utils.errors import UserError
from utils.network_metadata import SHAPE_KEYS, described, network_differences

HEAD, INPUT = "label_emb.weight", "input_blocks.0.0.weight"
CLEAN = "clean"  # the last class of a prior that sees its surroundings


def start_from(model: nn.Module, path: str, run: TrainingRun) -> None:
    """Load the weights at `path` (`init_from`); says what was adapted.

    The rows of the class embedding go by the classes' names; a class that the file does not know starts as the mean of
    the defect classes that it knows. Input channels that the file does not have start at 0, so that a network that sees
    its surroundings can start from one that does not. Raises UserError for any other weight that differs in name or
    shape, and for weights that say that they were trained with another network.
    """
    weights, metadata = load_state_dict(path)
    network = run.config.network.plain()
    trained_condition = described(metadata, "network").get("condition", "none")
    if trained_condition == "none":
        network["condition"] = "none"
    if differences := network_differences(metadata, network, path):
        raise UserError.from_problems("init_from does not fit the configuration", differences)
    run.log.info("starting from the weights of %s", path)
    own = model.state_dict()
    if HEAD in own and HEAD in weights:
        known = class_rows(described(metadata, "classes"), trained_condition, len(weights[HEAD]))
        asked = class_rows(run.names, run.config.network.condition, len(own[HEAD]))
        weights[HEAD], new = adapted_head(weights[HEAD], known, own[HEAD], asked)
        if new:
            run.log.warning(
                "%s does not know the classes %s: they start as the mean of those it knows",
                path,
                ", ".join(new),
            )
    if INPUT in own and INPUT in weights and weights[INPUT].shape[1] < own[INPUT].shape[1]:
        weights[INPUT] = padded_input(weights[INPUT], own[INPUT].shape[1])
        run.log.info("the channels of the surroundings are new to %s and start at 0", path)
    check_fit(model, weights, path, SHAPE_KEYS, "init_from")
    model.load_state_dict(weights, strict=True)


def class_rows(names: Mapping[str, Any], condition: str, count: int) -> dict[str, int]:
    """Normalized class names -> rows of a class embedding of `count` rows, "clean" among them where there is one."""
    rows = {labels.normalize_class_name(name): row for name, row in names.items()}
    if rows and condition == "surroundings":
        rows[CLEAN] = count - 1
    return rows


def adapted_head(
    head: Tensor, known: Mapping[str, int], own: Tensor, asked: Mapping[str, int]
) -> tuple[Tensor, list[str]]:
    """The class embedding (k, e) of a file for the classes `asked` (name -> row) of a network with `own` (c, e).

    Rows go by name; the others are the mean of the file's defect classes, and their names are returned. A file that
    does not name its classes keeps its rows where there are as many as asked for.
    """
    if head.shape[1] != own.shape[1]:
        return head, []  # another network, which the comparison of shapes names
    if (not known and len(head) == len(own)) or known == asked:
        return head, []
    defects = [row for row in range(len(head)) if row != known.get(CLEAN)]
    adapted = head[defects].float().mean(dim=0).expand(len(own), -1).clone()
    new = []
    for name, row in asked.items():
        if name in known and known[name] < len(head):
            adapted[row] = head[known[name]].float()
        else:
            new.append(name)
    return adapted.to(head.dtype), new


def padded_input(weight: Tensor, channels: int) -> Tensor:
    """A first convolution (c, i, 3, 3) with zeros for the further input channels: (c, channels, 3, 3)."""
    padded = torch.zeros(len(weight), channels, *weight.shape[2:], dtype=weight.dtype)
    padded[:, : weight.shape[1]] = weight
    return padded
