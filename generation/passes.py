"""Which defects share one pass of the sampler, and which passes may go side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generation.geometry import Context, Geometry, Size, Window, native_window, share_context


@dataclass(frozen=True)
class Pass:
    """Defects painted together, in one sampling run over one context."""

    context: Context
    defects: tuple[int, ...]  # places in the job's `defects`, one per window of the context


def joint_turns(
    contexts: Sequence[Context], size: Size, geometry: Geometry, whole_contexts: bool
) -> tuple[tuple[Pass, ...], ...]:
    """Share contexts among defects that have one each, on an image of `size`.

    Defects whose windows fit into one context at one scale are painted in one pass. A window that overlaps an
    earlier one comes in a later turn; with `whole_contexts` so does a context that overlaps one of its turn.
    """
    windows = [native_window(context, context.windows[0], geometry.crop_size) for context in contexts]
    drafts = _Drafts(windows, size, geometry, whole_contexts)
    for i, context in enumerate(contexts):
        drafts.add(i, context)
    return drafts.turns()


class _Drafts:
    """Passes in the making, in arrays: thousands of defects are planned in seconds.

    A column of `bounds` (of a pass's windows) or `squares` (its context) is left, top, right, bottom in px.
    """

    def __init__(self, windows: Sequence[Window], size: Size, geometry: Geometry, whole_contexts: bool):
        n = len(windows)
        self.windows, self.size, self.geometry, self.whole = windows, size, geometry, whole_contexts
        self.boxes = np.array([_box(window) for window in windows], np.int32).reshape(n, 4).T.copy()
        self.turn_of_window = np.zeros(n, np.int32)
        self.passes: list[Pass] = []
        self.turn, self.scale = np.zeros(n, np.int32), np.zeros(n)  # of passes
        self.bounds, self.squares = np.zeros((4, n), np.int32), np.zeros((4, n), np.int32)

    def turns(self) -> tuple[tuple[Pass, ...], ...]:
        """The passes by turn, in the order in which they were begun."""
        found: list[list[Pass]] = [[] for _ in range(self.turn[: len(self.passes)].max(initial=-1) + 1)]
        for one, turn in zip(self.passes, self.turn, strict=False):
            found[turn].append(one)
        return tuple(map(tuple, found))

    def add(self, i: int, single: Context) -> None:
        """Put defect i, whose own context is `single`, into the first turn that it does not disturb."""
        earlier = self.turn_of_window[:i][_overlaps(self.boxes[:, :i], self.boxes[:, i])]
        first = earlier.max(initial=-1) + 1
        alone = self._first_turn_alone(first, single)
        for k in self._roomy(i, single, first, alone):
            members = (*self.passes[k].defects, i)
            context = share_context(
                [self.windows[m] for m in members], single.scale, self.size, self.geometry
            )
            if context and not (self.whole and self._disturbs(context, k)):
                return self._put(k, self.turn[k], Pass(context, members))
        self._put(len(self.passes), alone, Pass(single, (i,)))

    def _first_turn_alone(self, first: int, single: Context) -> int:
        """The first turn from `first` on in which defect i may have a pass of its own."""
        if not self.whole:
            return first
        n = len(self.passes)
        free = np.ones(self.turn[:n].max(initial=-1) + 2, bool)
        free[self.turn[:n][_overlaps(self.squares[:, :n], _square(single))]] = False
        return first + int(free[first:].argmax())  # the one after the last turn is free

    def _roomy(self, i: int, single: Context, first: int, last: int) -> list[int]:
        """The passes of turns `first` to `last` whose context may have room for window i, in order."""
        n, side = len(self.passes), math.inf if single.side is None else single.side
        turn, box = self.turn[:n], self.boxes[:, i]
        found = np.flatnonzero((turn >= first) & (turn <= last))
        found = found[self.scale[found] == single.scale]
        bounds = self.bounds[:, found]
        width = np.maximum(bounds[2], box[2]) - np.minimum(bounds[0], box[0])
        height = np.maximum(bounds[3], box[3]) - np.minimum(bounds[1], box[1])
        found = found[(width <= side) & (height <= side)]
        return found[np.argsort(turn[found], kind="stable")].tolist()

    def _disturbs(self, context: Context, k: int) -> bool:
        """Whether a larger context of pass k overlaps another one of its turn."""
        n = len(self.passes)
        others = (self.turn[:n] == self.turn[k]) & _overlaps(self.squares[:, :n], _square(context))
        others[k] = False
        return bool(others.any())

    def _put(self, k: int, turn: int, one: Pass) -> None:
        self.passes[k : k + 1] = [one]
        members = list(one.defects)
        boxes = self.boxes[:, members]
        self.bounds[:2, k], self.bounds[2:, k] = boxes[:2].min(1), boxes[2:].max(1)
        self.turn[k], self.scale[k], self.squares[:, k] = turn, one.context.scale, _square(one.context)
        self.turn_of_window[members] = turn


def _box(window: Window) -> tuple[int, int, int, int]:
    left, top, side = window
    return left, top, left + side, top + side


def _square(context: Context) -> tuple[int, int, int, int]:
    """A context's square; any for the whole image, which all of them share."""
    return (0, 0, 1, 1) if context.square is None else _box(context.square)


def _overlaps(boxes: np.ndarray, box: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which of the boxes (4, N) share a pixel with `box` (4,): (N,) bool."""
    left, top, right, bottom = boxes
    return (left < box[2]) & (box[0] < right) & (top < box[3]) & (box[1] < bottom)
