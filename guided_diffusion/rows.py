"""Rows of a batch."""

from collections.abc import Sequence

from torch import Tensor


def select_rows(values: Tensor, index: Sequence[int]) -> Tensor:
    """The rows of `values` in the order of `index`; `values` itself, not a copy, when that is all of them."""
    return values if list(index) == list(range(len(values))) else values[list(index)]
