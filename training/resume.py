"""Going on where a stopped run ended, and what to say of settings that changed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.train_loop import TrainLoop
from utils.config import differences, load_training_config
from utils.errors import UserError
from utils.files import SETTINGS, drop_rows
from utils.labels import same_classes
from utils.network_metadata import described, load_metadata
from utils.schema.fields import spelled_path
from utils.schema.training import TrainingConfig


def resume(
    loop: TrainLoop, config: TrainingConfig, names: Mapping[str, int], files: Mapping[str, Any]
) -> None:
    """Go on from `resume_checkpoint`, or where the last run in `checkpoint_dir` ended, if there was one.

    Warns of settings and `files` (`read_files`) that the run did not have so far, and when it has taken all its steps.
    Raises UserError for a state that is missing or does not fit the network, or was trained with other classes than
    `names`.
    """
    try:
        loop.resume(Path(config.resume_checkpoint) if config.resume_checkpoint else None)
    except UserError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (
            "; ".join(changed_settings(config, architecture_settings))
            or str(error).strip().partition("\n")[0]
        )
        where = (
            config.resume_checkpoint or f"the last training state in checkpoint_dir {config.checkpoint_dir}"
        )
        raise UserError(
            f"{where} does not fit this configuration: {reason}; use the settings that it was trained with "
            "(config.yml beside it), or another checkpoint_dir"
        ) from error
    before = told_by(state_folder(config) / loop.last_weights.name) if loop.step > 0 else {}
    check_classes(described(before, "classes"), config, names)
    if loop.rank == 0:  # the steps since that state are taken again
        drop_rows(Path(config.checkpoint_dir) / "train_log.csv", "step", loop.step)
    if loop.step > 0:
        changes = changed_settings(config, objective_settings)
        warn_about_resumption(loop, config, [*changes, *changed_files(described(before, "files"), files)])


def warn_about_resumption(loop: TrainLoop, config: TrainingConfig, changes: Sequence[str]) -> None:
    """Say what a resumed run learns otherwise than before, and that it is over, if it is."""
    folder = state_folder(config)
    hint = "choose another checkpoint_dir"
    if config.resume_checkpoint:
        hint += " and leave resume_checkpoint out"
    if changes:
        loop.hooks.warning(
            f"the run in {folder} learned from other settings or images so far ({'; '.join(changes)}: then against "
            f"now), and is resumed all the same; to train anew, {hint}"
        )
    if loop.step >= loop.last_step:
        key = "total_steps" if config.total_steps else "lr_anneal_steps"
        loop.hooks.warning(
            f"the run in {folder} has already taken its {loop.step} steps: nothing is left to do; raise {key} or "
            f"{hint}"
        )


def told_by(weights: Path) -> dict[str, Any]:
    """The metadata of a run's last weights; weights that cannot be read tell nothing."""
    with suppress(UserError):
        return load_metadata(weights)
    return {}


def changed_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line, if a run has learned from other files than are there now; earlier versions did not tell."""
    if not before or before == now:
        return []
    return [f"the images: {before.get('images')} against {now['images']}, other names or contents"]


def check_classes(before: Mapping[str, Any], config: TrainingConfig, names: Mapping[str, int]) -> None:
    """Raises UserError when the run so far had other class ids, `before`, than `names`: what it has learned of one
    class would go on as another."""
    if before and not same_classes(before, names):
        changes = "; ".join(differences(before, names))
        raise UserError(
            f"the run in {state_folder(config)} was trained with other classes ({changes}: then against now); put back "
            f"the class file {config.class_json_path}, or choose another checkpoint_dir"
        )


def state_folder(config: TrainingConfig) -> Path:
    """Where the training state to go on from lies, with the config.yml of its run beside it."""
    return Path(config.resume_checkpoint).parent if config.resume_checkpoint else Path(config.checkpoint_dir)


def changed_settings(
    config: TrainingConfig, settings: Callable[[TrainingConfig], dict[str, Any]]
) -> list[str]:
    """One line for each of the `settings` that is not as the config.yml beside the training state says."""
    try:
        before = load_training_config(state_folder(config) / SETTINGS)
    except UserError:
        return []
    return differences(settings(before), settings(config))


def architecture_settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide whether a training state fits."""
    return config.network.plain() | {key: getattr(config, key) for key in ("schedule_sampler", "num_classes")}


def objective_settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide what a run learns, but not the state's shape; paths in one spelling."""
    paths = {key: getattr(config, key) for key in ("data_dir", "class_json_path", "init_from")}
    values = {key: spelled_path(path) if path else "" for key, path in paths.items()}
    values |= {key: getattr(config, key) for key in ("min_t", "max_t", "class_balanced")}
    values |= {f"augment.{key}": value for key, value in config.augment.model_dump().items()}
    return values | config.diffusion.plain() | {"dropout": config.network.dropout}
