"""Which defects share one pass of the sampler, and which passes may go side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from generation.geometry import Context, Geometry, Size, Window, native_window, overlap, share_context


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
    drafts: list[list[Pass]] = []  # by turn
    turn_of: list[int] = []
    for i, context in enumerate(contexts):
        earliest = max((turn_of[j] + 1 for j in range(i) if overlap(windows[i], windows[j])), default=0)
        for turn in count(earliest):
            if turn == len(drafts):
                drafts.append([])
            if _join(drafts[turn], i, context, windows, size, geometry, whole_contexts):
                turn_of.append(turn)
                break
    return tuple(tuple(turn) for turn in drafts)


def _join(
    turn: list[Pass],
    i: int,
    single: Context,
    windows: Sequence[Window],
    size: Size,
    geometry: Geometry,
    whole_contexts: bool,
) -> bool:
    """Add defect i to a pass of a turn, or as a pass of its own; False when it disturbs one of the turn."""
    for place_in_turn, one in enumerate(turn):
        members = (*one.defects, i)
        if one.context.scale != single.scale:
            continue
        context = share_context([windows[m] for m in members], single.scale, size, geometry)
        others = [other for other in turn if other is not one]
        if context and not (whole_contexts and _touches(context, others)):
            turn[place_in_turn] = Pass(context, members)
            return True
    if whole_contexts and _touches(single, turn):
        return False
    turn.append(Pass(single, (i,)))
    return True


def _touches(context: Context, others: Sequence[Pass]) -> bool:
    def square(c: Context) -> Window:
        return (0, 0, 1) if c.side is None else (c.left, c.top, c.side)

    return any(overlap(square(context), square(other.context)) for other in others)
