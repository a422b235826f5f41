"""Options of detectors, as users write them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from utils.errors import UserError

T = TypeVar("T")


def read_options(kind: type[T], name: str, options: Mapping[str, Any]) -> T:
    """The dataclass `kind` of the options of detector `name`. Raises UserError for an unknown option, or a value of
    another type than the default's."""
    defaults = kind()
    known = {field.name: getattr(defaults, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in known:
            raise UserError(f"detector {name}: got the option {key!r}, expected one of {', '.join(known)}")
        wanted = (float, int) if isinstance(known[key], float) else type(known[key])
        if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(known[key], bool)):
            raise UserError(f"detector {name}, {key}: got {value!r}, expected something like {known[key]!r}")
    return kind(**options)
