"""What is wrong with a configuration, in sentences: file, key, got, expected."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from utils.errors import shortened
from utils.schema.fields import GENERAL_LIMITS, UNUSABLE_PATH, Section

# Groups whose keys stand at the top level of the file
HOISTED = ("network", "diffusion")

# Names of limits, in JSON schema and in pydantic, and their signs
SIGNS = {
    "minimum": ">=",
    "ge": ">=",
    "exclusiveMinimum": ">",
    "gt": ">",
    "maximum": "<=",
    "le": "<=",
    "exclusiveMaximum": "<",
    "lt": "<",
}


@dataclass
class Findings:
    """What reading a file turns up on the way: `where` names the source of a key (file or command line).

    `guessed`: a network has defaults that the user did not choose, so checks across keys would mislead.
    """

    schema: type[Section]
    where: Callable[[str], str]
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    guessed: bool = False

    def add(self, key: str, sentence: str) -> None:
        self.problems.append(f"{self.where(key)}: {key}: {sentence}")


def describe(error: ValidationError, values: Mapping[str, Any], findings: Findings) -> None:
    """One problem per refused key, or per line of a check across keys."""
    done = set()
    for item in error.errors():
        if item["type"] == "default_factory_not_called":
            continue
        keys, info = _locate(findings.schema, item["loc"])
        if info is None and findings.guessed:
            continue
        if info is None:
            for line in str(item["ctx"]["error"]).splitlines():
                key, _, sentence = line.partition(": ")
                findings.add(_spell((*keys, key)), sentence)
        elif keys not in done:
            done.add(keys)
            got: Any = values
            for key in keys:
                got = got[key]
            findings.add(_spell(keys), f"got {show_value(got)}, expected {_expected(item, info)}")


def _expected(item: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """What a refused value should have been; of one beyond a limit that all keys share, that limit."""
    if item["type"] == "too_long":
        return f"at most {item['ctx']['max_length']} values"
    if item["type"] == UNUSABLE_PATH:
        return item["msg"]
    if item["type"] == "less_than_equal" and item["ctx"]["le"] in GENERAL_LIMITS:
        return f"at most {_spelled(item['ctx']['le'])}"
    return expected_values(info)


def _locate(schema: type[Section], loc: Sequence[Any]) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """The key path of a pydantic location, and the JSON schema of that key (None: a whole group)."""
    model, keys = schema, []
    for part in loc:
        keys.append(part)
        section = section_of(model.model_fields[part])
        if section is None:
            return tuple(keys), properties(model)[part]
        model = section
    return tuple(keys), None


def _spell(keys: Sequence[str]) -> str:
    return ".".join(key for depth, key in enumerate(keys) if depth or key not in HOISTED)


def section_of(info: FieldInfo) -> type[Section] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


@cache
def properties(model: type[Section]) -> dict[str, Any]:
    return model.model_json_schema()["properties"]


def show_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shortened(repr(value))


def expected_values(info: Mapping[str, Any]) -> str:
    """Type and range of a key in words, from its JSON schema."""
    if "expected" in info:
        return info["expected"]
    if "anyOf" in info:
        return " or ".join(expected_values(choice) for choice in info["anyOf"])
    if "const" in info:
        return str(info["const"])
    if "enum" in info:
        return " or ".join(str(choice) for choice in info["enum"])
    if info["type"] == "array":
        kind, _, limits = expected_values(info["items"]).partition("number")
        return f"list of {kind}numbers{limits}"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
    bounds = [
        f"{sign} {_spelled(info[name])}"
        for name, sign in SIGNS.items()
        if name in info and info[name] not in GENERAL_LIMITS
    ]
    return " ".join([words.get(info["type"], "text"), " and ".join(bounds)]).strip()


def _spelled(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"
