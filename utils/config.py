"""The only reader of YAML: configuration file + command line -> one frozen, checked config object."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from utils.errors import UserError, shortened
from utils.reading import is_file, parse_yaml, read_yaml
from utils.schema.completion import complete_from_weights
from utils.schema.downstream import DownstreamConfig
from utils.schema.fields import Section, input_path, spelled_path
from utils.schema.generation import GenerationConfig
from utils.schema.problems import (
    HOISTED,
    Findings,
    describe,
    section_of,
    show_value,
)
from utils.schema.sampling import ScheduleConfig
from utils.schema.training import TrainingConfig

Config = TypeVar("Config", GenerationConfig, TrainingConfig, DownstreamConfig)
AnyConfig = GenerationConfig | TrainingConfig | DownstreamConfig
Overrides = Sequence[str] | Mapping[str, Any]
PROGRAMS: dict[type[Section], str] = {
    GenerationConfig: "sample_generation.py",
    TrainingConfig: "train.py",
    DownstreamConfig: "-m evaluation.downstream",
}

# Keys of published files that are accepted and ignored (patterns)
IGNORED: dict[type[Section], tuple[str, ...]] = {
    GenerationConfig: (
        "algorithm",
        "n_jobs",
        "print_estimated_vars",
        "inpa_inj_sched_prev",
        "inpa_inj_sched_prev_cumnoise",
        "use_git",
        "gd_mask_radius",
        "max_iter",
        "gt_path",
        "repaint",
        "classifier_*",
        "lr_kernel_n_std",
        "num_samples",
        "use_ddim",
        "respace_interpolate",
        "schedule_sampler",
        "optimize_xt.num_iteration_optimize_xt",
        "crop.classifier_*",
    ),
    TrainingConfig: (
        "fp16_scale_growth",
        "classifier_*",
        "lr_kernel_n_std",
        "num_samples",
        "show_progress",
        "respace_interpolate",
    ),
    DownstreamConfig: (),
}

# Spelled in several ways, such as with a slash at the end
PATH_KEYS = ("model_path", "crop_model_path", "judge_path", "defect_free_dir", "crop_class_json_path")

# Settings that do not change an image (device and batch size move it by rounding at most)
NON_PIXEL_KEYS = (
    "outdir",
    "n_samples",
    "n_iter",
    "batch_size",
    "cuda",
    "device",
    "overwrite",
    "dry_run",
    "debug",
    "report",
    "dataset.export",
    "dataset.val_share",
    "dataset.background_share",
    "dataset.labels",
    "dataset.first_category_id",
    "visualize",
    "generate_gif",
    "show_progress",
    "use_checkpoint",
    "crop.use_checkpoint",
    # Resolved into `precision`
    "use_fp16",
    "crop.use_fp16",
)


# Reading


def load_generation_config(path: str | Path, overrides: Overrides = ()) -> GenerationConfig:
    """Read a generation file, apply overrides and check everything.

    `overrides` are `key=value` texts of a command line, with YAML values, or a mapping of keys to values; dots
    separate a group from its key. Paths to read from may be relative to the working directory or the project.
    Raises UserError listing every problem with file, key, got and expected.
    """
    return _load(GenerationConfig, path, overrides)


def load_training_config(path: str | Path, overrides: Overrides = ()) -> TrainingConfig:
    """Read a training file as `load_generation_config` reads one for painting."""
    return _load(TrainingConfig, path, overrides)


def load_downstream_config(path: str | Path, overrides: Overrides = ()) -> DownstreamConfig:
    """Read a file for `evaluation.downstream` as `load_generation_config` reads one for painting."""
    return _load(DownstreamConfig, path, overrides)


def _load(schema: type[Config], path: str | Path, overrides: Overrides) -> Config:
    raw = read_conf(Path(input_path(str(path))))
    if (other := program_of(raw)) not in (None, schema):
        raise UserError(
            f"{path} is a configuration for {_name(other)}, not for {_name(schema)}; run "
            f"`python {PROGRAMS[other]} {path}`, or choose another file of confs/"
        )
    source = "argument" if isinstance(overrides, Mapping) else "command line"
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_split_override, overrides)
    overridden = [_apply_override(raw, name, value, source) for name, value in pairs]

    def where(key: str) -> str:
        return source if any(f"{key}.".startswith(f"{name}.") for name in overridden) else str(path)

    findings = Findings(schema, where)
    values = _group(raw, findings)
    if schema is GenerationConfig:
        complete_from_weights(values, findings)
    config = None
    try:
        config = schema.model_validate({**values, "ignored_keys": tuple(findings.ignored)})
    except ValidationError as error:
        describe(error, values, findings)
    if findings.problems or config is None:
        raise UserError.from_problems(f"{path} cannot be used", findings.problems)
    return config


def _name(schema: type[Section]) -> str:
    return PROGRAMS[schema].removeprefix("-m ")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def program_of(raw: Mapping[Any, Any]) -> type[Section] | None:
    """The schema that a file is for, told by three or more keys that the others lack; None if nothing tells."""
    keys = {schema: {name.partition(".")[0] for name in key_names(schema)} for schema in PROGRAMS}
    times = Counter(name for own in keys.values() for name in own)
    counts = {schema: sum(times[name] == 1 for name in raw.keys() & own) for schema, own in keys.items()}
    schema = max(counts, key=counts.__getitem__)
    return schema if counts[schema] >= 3 else None


def read_conf(path: Path) -> dict[Any, Any]:
    """The keys and values of a file, not checked; UserError for a file that holds none."""
    if not is_file(path):
        raise UserError(
            f"{path}: no such configuration file; see confs/ for those that come with the project"
        )
    raw = read_yaml(path, _Loader)
    if raw is None:
        raise UserError(f"{path}: the file is empty; expected lines of `key: value`")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: got a {type(raw).__name__}, expected lines of `key: value`")
    return raw


def _split_override(text: str) -> tuple[str, Any]:
    """`key=value` of a command line -> key and value."""
    name, equals, value_text = text.partition("=")
    if not equals:
        raise UserError(
            f"command line: got {shortened(text)!r}, expected key=value (as in seed=1 or ddim.start_step=60)"
        )
    try:
        return name, parse_yaml(value_text, _Loader)
    except ValueError as error:
        shown = f"{shortened(name)}: {shortened(value_text)!r}"
        raise UserError(f"command line: {shown} is not a YAML value ({error})") from error


def _apply_override(raw: dict[Any, Any], name: str, value: Any, source: str) -> str:
    """Put a value into `raw`; returns the key in its full spelling. `source` is who gave it, for messages."""
    keys = [part.strip() for part in name.split(".")]
    if not all(keys):
        raise UserError(f"{source}: got the key {shortened(name)!r}, expected one as seed or ddim.start_step")
    # Both spellings of a schedule key may be in the file: the command line replaces either
    if keys[0] == "ddim" and keys[-1] in ScheduleConfig.model_fields:
        if isinstance(raw.get("ddim"), dict):
            raw["ddim"].pop(keys[-1], None)
        keys = ["ddim", "schedule_params", keys[-1]]
    target = raw
    for depth, key in enumerate(keys[:-1]):
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            parent = ".".join(keys[: depth + 1])
            raise UserError(
                f"{source}: {name}: {parent} is a single value ({show_value(target)}), not a group"
            )
    target[keys[-1]] = value
    return ".".join(keys)


# Grouping: the flat file -> the nested shape of the schema


def _group(raw: Mapping[Any, Any], findings: Findings) -> dict[str, Any]:
    raw = dict(raw)
    if raw.get("precision", "") is None:  # null = follow use_fp16, as when it is absent
        del raw["precision"]
    if findings.schema is GenerationConfig:
        if str(raw.get("respace_interpolate", False)).lower() == "true":
            findings.add(
                "respace_interpolate", "got true, expected false (interpolated chains do not exist here)"
            )
        if isinstance(raw.get("ddim"), Mapping):
            raw["ddim"] = _gather_schedule(raw["ddim"], findings)
    hoisted = [name for name in HOISTED if name in findings.schema.model_fields]
    values: dict[str, Any] = {name: {} for name in hoisted}
    own = {}
    for key, value in raw.items():
        for name in hoisted:
            section = section_of(findings.schema.model_fields[name])
            if section and key in section.model_fields:
                values[name][key] = value
                break
        else:
            own[key] = value
    return {**values, **_known_keys(own, findings.schema, "", findings)}


def _gather_schedule(ddim: Mapping[Any, Any], findings: Findings) -> dict[Any, Any]:
    """Move schedule keys given directly under `ddim` into `ddim.schedule_params`."""
    nested = ddim.get("schedule_params")
    if nested is not None and not isinstance(nested, Mapping):
        return dict(ddim)
    direct = {key: value for key, value in ddim.items() if key in ScheduleConfig.model_fields}
    nested = dict(nested or {})
    for key, value in direct.items():
        if key in nested and str(nested[key]) != str(value):
            findings.add(
                f"ddim.{key}",
                f"got {show_value(value)} here and {show_value(nested[key])} in ddim.schedule_params.{key}, "
                "expected one value (remove either)",
            )
    rest = {key: value for key, value in ddim.items() if key not in direct}
    return {**rest, "schedule_params": {**nested, **direct}}


def _known_keys(
    raw: Mapping[Any, Any], model: type[Section], prefix: str, findings: Findings
) -> dict[str, Any]:
    """The keys of `raw` that `model` has; the others are noted as ignored or as problems."""
    kept = {}
    hidden = (*HOISTED, "ignored_keys") if not prefix else ()
    for key, value in raw.items():
        name = f"{prefix}{key}"
        if key in model.model_fields and key not in hidden:
            section = section_of(model.model_fields[key])
            if section is None:
                kept[key] = value
            elif isinstance(value, Mapping):
                kept[key] = _known_keys(value, section, f"{name}.", findings)
            elif value is not None:
                findings.add(name, f"got {show_value(value)}, expected a group of keys")
        elif any(fnmatch(name, pattern) for pattern in IGNORED[findings.schema]):
            findings.ignored.append(name)
        else:
            unknown = [key for key, _ in flatten({name: value})] or [name]
            for key in unknown:
                findings.add(key, f"unknown key{suggestion(key, findings.schema)}")
    return kept


def suggestion(name: str, schema: type[Section]) -> str:
    """The nearest valid name: the same key elsewhere, a near one in the same group, a near one anywhere."""
    names = key_names(schema)
    leaf, group = name.rpartition(".")[2], name.rpartition(".")[0]
    same_key = {key.rpartition(".")[0]: key for key in names if key.rpartition(".")[2] == leaf}
    same_group = {key.rpartition(".")[2]: key for key in names if key.rpartition(".")[0] == group}
    anywhere = {key.rpartition(".")[2]: key for key in reversed(names)}
    groups = [*difflib.get_close_matches(group, same_key, n=1), *same_key]
    found = [same_key[near] for near in groups[:1]]
    for choices in (same_group, anywhere):
        found = found or [choices[near] for near in difflib.get_close_matches(leaf, choices, n=1)]
    return f"; did you mean {found[0]}?" if found else "; docs/configuration.md lists the valid ones"


# Writing


def resolved_yaml(cfg: AnyConfig) -> str:
    """All settings as YAML in the shape of the files; loads back to an equal config, less `ignored_keys`."""
    return yaml.dump(flat_shape(cfg), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=110)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper with lists on one line."""


def _represent_list(dumper: _Dumper, data: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(list, _represent_list)


def flat_shape(cfg: AnyConfig) -> dict[str, Any]:
    values = cfg.model_dump(mode="json", exclude={"ignored_keys"})
    hoisted = {key: value for name in HOISTED for key, value in values.pop(name, {}).items()}
    crop = {"crop": values.pop("crop")} if "crop" in values else {}
    return {**values, **hoisted, **crop}


def settings_fingerprint(cfg: GenerationConfig) -> dict[str, Any]:
    """The settings that decide how an image looks: {dotted key: JSON value}.

    Left out are those that say where, how many, on what device and with how much talk.
    """
    flat = dict(flatten(flat_shape(cfg)))
    settings = {key: value for key, value in flat.items() if key not in NON_PIXEL_KEYS}
    return settings | {key: spelled_path(settings[key]) for key in PATH_KEYS if settings[key]}


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested groups."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """One line `key: value in a, value in b` per key whose value differs or that one of the two lacks."""
    lines = []
    for key in dict.fromkeys([*a, *b]):
        if key not in a or key not in b or a[key] != b[key]:
            values = [show_value(side[key]) if key in side else "nothing" for side in (a, b)]
            lines.append(f"{key}: {values[0]} against {values[1]}")
    return lines


# Names of keys


def key_names(schema: type[Section]) -> list[str]:
    """All keys of a schema, dotted, as in the file."""
    return [key for key, _, _ in fields(schema)]


def fields(schema: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section], str]]:
    """(dotted key as in the file, section that holds it, field name) of every key of a schema."""
    for name, info in schema.model_fields.items():
        section = section_of(info)
        if section is not None:
            hoisted = not prefix and name in HOISTED
            yield from fields(section, prefix if hoisted else f"{prefix}{name}.")
        elif name != "ignored_keys":
            yield f"{prefix}{name}", schema, name
