"""What the configuration's sections are made of: tolerant readers of numbers and lists, and the frozen base."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

PROJECT = Path(__file__).resolve().parents[2]


def input_path(text: str) -> str:
    """A path to read from: relative to the working directory or, when it exists only there, to the project.

    `~` is expanded. Paths to write to are always relative to the working directory.
    """
    path = os.path.expanduser(text)
    in_project = str(PROJECT / path)
    return in_project if path and not os.path.exists(path) and os.path.exists(in_project) else path


def spelled_path(path: str) -> str:
    """One spelling for the paths of a file or folder: without a slash at the end, inside the project from there."""
    path = os.path.normpath(path)
    return os.path.relpath(path, PROJECT) if Path(path).is_relative_to(PROJECT) else path


# Tolerant readers: numbers may be strings ('1e-4' is one to PyYAML), lists may be strings ('16, 8')


def _number(value: Any) -> Any:
    """A numeric string becomes a number; a boolean, which Python would take for 0 or 1, is refused."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    if not isinstance(value, str) or len(value) > LONGEST_NUMBER:
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _split(value: Any) -> Any:
    """'16, 8' -> ['16', '8']; a lone number -> a list of one; null or '' -> an empty list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value]
    return value


def _respacing_text(value: Any) -> Any:
    """250 -> '250', [10, 15] -> '10,15', null -> ''."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(str(part) for part in value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _empty_for_null(value: Any) -> Any:
    return "" if value is None else value


def usable_path(value: str) -> str:
    """With ~ expanded; PydanticCustomError, a ValueError, for what no file system takes."""
    path = os.path.expanduser(value)
    if len(path) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.split("/")):
        limits = f"a path of at most {LONGEST_PATH} characters, {LONGEST_NAME} bytes a name"
        raise PydanticCustomError(UNUSABLE_PATH, limits)
    return path


def _readable_path(value: str) -> str:
    """Both in one: of two validators that follow one another pydantic 2.10 forgets the first."""
    return input_path(usable_path(value))


def _none_for_null(value: Any) -> Any:
    return "none" if value is None else value


# Larger values are typing errors, which must not cost an hour or all memory
MOST, LARGEST_SEED, LARGEST_NUMBER = 10**6, 2**63 - 1, 1e9
GENERAL_LIMITS = (MOST, 1000 * MOST, LARGEST_SEED, LARGEST_NUMBER)  # not repeated in the reference
LONGEST_LIST = 16
LONGEST_NUMBER = 40  # characters
LONGEST_PATH, LONGEST_NAME = 4000, 255
UNUSABLE_PATH = "unusable_path"  # kind of a problem

Int = Annotated[int, BeforeValidator(_number), Field(le=MOST)]
Steps = Annotated[int, BeforeValidator(_number), Field(le=1000 * MOST)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0, le=LARGEST_SEED)]
Float = Annotated[float, BeforeValidator(_number), Field(le=LARGEST_NUMBER)]
IntList = Annotated[
    tuple[Annotated[Int, Field(ge=1)], ...], BeforeValidator(_split), Field(max_length=LONGEST_LIST)
]
SeedList = Annotated[tuple[Seed, ...], BeforeValidator(_split), Field(max_length=LONGEST_LIST)]
FloatList = Annotated[
    tuple[Annotated[Float, Field(gt=0, le=64)], ...], BeforeValidator(_split), Field(max_length=LONGEST_LIST)
]
RateList = Annotated[
    tuple[Annotated[Float, Field(ge=0, lt=1)], ...], BeforeValidator(_split), Field(max_length=LONGEST_LIST)
]
OutputPath = Annotated[
    str, AfterValidator(usable_path), Field(min_length=1, json_schema_extra={"expected": "a path"})
]
PathInUnion = Annotated[
    str, AfterValidator(_readable_path), Field(min_length=1, json_schema_extra={"expected": "a path"})
]
InputPath = Annotated[PathInUnion, Field(validate_default=True)]
OptionalPath = Annotated[
    str,
    BeforeValidator(_empty_for_null),
    AfterValidator(_readable_path),
    Field(validate_default=True, json_schema_extra={"expected": "path or ''"}),
]
Respacing = Annotated[
    str,
    BeforeValidator(_respacing_text),
    Field(
        pattern=r"^(\d+(\s*,\s*\d+)*|ddim\d+)?$",
        json_schema_extra={"expected": "'', '250', '10,15,20' or 'ddim25'"},
    ),
]
JumpFilter = Annotated[
    str,
    BeforeValidator(_none_for_null),
    Field(
        pattern=r"^(none|(first|last)(p-[0-9]+(\.[0-9]+)?|n-[0-9]+))$",
        json_schema_extra={"expected": "none, firstp-P, lastp-P (P in percent), firstn-K or lastn-K"},
    ),
]
Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", json_schema_extra={"expected": "auto, cpu, cuda or cuda:N"}),
]
PRECISION_DEFAULT: dict[str, Any] = {"default_text": "null (fp16 with `use_fp16: true`, else fp32)"}


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
