"""Reading small text files that may be anything: bounded in size, depth and count, with one sentence per error.

Every configuration, class file, annotation and manifest goes through here. What comes back is plain: no string
has a lone surrogate (which no file can hold) or a null character, no number more than 64 bits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from utils.errors import UserError, shortened

LARGEST_FILE = 256 * 2**20  # bytes of a text file
LARGEST_CONFIG = 2**20  # bytes of a configuration or data.yaml
LARGEST_XML = 16 * 2**20  # bytes of the annotations of one image
DEEPEST = 50  # levels of nested lists and mappings
MOST_VALUES = 100_000  # in a configuration: aliases may repeat a value beyond any memory

# What the parsers raise on broken text, beside their own errors: numbers and dates that are none, deep nesting
PARSE_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, AttributeError)


def read_text(path: str | Path, limit: int = LARGEST_FILE) -> str:
    """The text of a file in UTF-8, a byte-order mark left out; UserError for a file that is none, or too large."""
    try:
        if (size := Path(path).stat().st_size) > limit:
            raise UserError(
                f"{path}: got {size / 2**20:.1f} MB, expected at most {limit / 2**20:g} MB of text"
            )
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text: {error}; save it in UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def is_file(path: str | Path) -> bool:
    """Whether there is a file; False, too, for a path that no file system takes."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def parse_json(text: str | bytes, most_values: int | None = None) -> Any:
    """The value of a JSON text; ValueError for broken, too deep or otherwise unusable ones."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from error
    check_plain(value, most_values)
    return value


def read_json(path: str | Path, limit: int = LARGEST_FILE) -> Any:
    """The value of a JSON file. Raises UserError."""
    try:
        return parse_json(read_text(path, limit))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {shortened(str(error))}") from error


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of a YAML text; ValueError with place and reason for broken, too deep or otherwise unusable ones."""
    try:
        value = yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"in line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem}") from error
    except (yaml.YAMLError, *PARSE_ERRORS) as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
    check_plain(value, MOST_VALUES)
    return value


def read_yaml(path: str | Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of a YAML file. Raises UserError."""
    text = read_text(path, LARGEST_CONFIG)
    try:
        return parse_yaml(text, loader)
    except ValueError as error:
        reason = shortened(str(error))
        colon = "" if reason.startswith("in line") else ":"
        raise UserError(f"{path}: not valid YAML{colon} {reason}") from error


def read_xml(path: str | Path) -> ElementTree.Element:
    """The root of an XML file. Raises UserError."""
    try:
        if Path(path).stat().st_size > LARGEST_XML:
            raise ValueError(f"larger than {LARGEST_XML / 2**20:g} MB")
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, *PARSE_ERRORS) as error:
        raise UserError(f"{path}: broken XML: {shortened(str(error))}") from error


def check_plain(value: Any, most_values: int | None = None) -> None:
    """ValueError for a value nested too deep or holding itself, with too many parts, or with a string
    that cannot be written down again or a number beyond 64 bits."""
    seen, waiting = 0, [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        if most_values is not None and seen > most_values:
            raise ValueError(f"more than {most_values} values")
        if isinstance(one, Mapping):
            waiting += [(part, depth + 1) for pair in one.items() for part in pair]
        elif isinstance(one, list | tuple | set):
            waiting += [(part, depth + 1) for part in one]
        elif isinstance(one, str) and (problem := text_problem(one)):
            raise ValueError(problem)
        elif isinstance(one, int) and one.bit_length() > 64:
            raise ValueError(f"a number of {one.bit_length()} bits; expected at most 64")


def text_problem(text: str) -> str | None:
    """What keeps a text from being written down: a lone surrogate; a null character, which no name may have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{ascii(shortened(text))} holds a character that is none (a lone surrogate, or a name not in UTF-8)"
    return f"{shortened(text)!r} holds a null character" if "\0" in text else None
