"""Which steps of the full diffusion chain a shorter one keeps (Nichol & Dhariwal 2021, section 4)."""

from itertools import accumulate


def kept_timesteps(num_timesteps: int, respacing: str | int) -> list[int]:
    """The original steps that are kept, ascending, each in 0..num_timesteps-1.

    `respacing` is one of
    - "": all steps;
    - "250" or 250: that many steps, evenly spread from the first to the last;
    - "10,15,20": the chain is cut into as many equal sections as there are numbers (the first ones one step
      longer when the division leaves a remainder), and each section keeps its number of steps, spread evenly
      from its first to its last;
    - "ddimN": N steps at one fixed integer stride, from 0 (Song et al. 2021).

    Raises ValueError when the text is none of these or asks for more steps than there are.
    """
    if num_timesteps < 1:
        raise ValueError(f"num_timesteps must be at least 1, got {num_timesteps}")
    text = str(respacing).strip()
    if text == "":
        return list(range(num_timesteps))
    if text.startswith("ddim"):
        return _fixed_stride(num_timesteps, _positive_int(text[len("ddim") :], text), text)
    counts = [_positive_int(part, text) for part in text.split(",")]
    size, extra = divmod(num_timesteps, len(counts))
    kept, first = [], 0
    for index, count in enumerate(counts):
        length = size + (index < extra)
        kept += _spread(first, length, count, text)
        first += length
    return kept


def _spread(first: int, length: int, count: int, text: str) -> list[int]:
    """`count` steps from `first` to `first + length - 1`, both included (a single one is `first`)."""
    if count > length:
        raise ValueError(
            f"timestep respacing {text!r}: a section of {length} steps cannot keep {count}; "
            f"expected at most {length}"
        )
    if count == 1:
        return [first]
    # The positions are summed up, not multiplied out: at exact halves the rounding error of the sum decides
    # which step is kept, and the published choice (which trained networks and frozen numbers rest on) sums.
    stride = (length - 1) / (count - 1)
    return [first + round(position) for position in accumulate([0.0] + [stride] * (count - 1))]


def _fixed_stride(num_timesteps: int, count: int, text: str) -> list[int]:
    """`count` steps 0, s, 2s, ... where s is the smallest integer stride that gives exactly that many."""
    for stride in range(1, num_timesteps + 1):
        steps = range(0, num_timesteps, stride)
        if len(steps) == count:
            return list(steps)
    raise ValueError(
        f"timestep respacing {text!r}: no integer stride through {num_timesteps} steps gives {count}; "
        f"expected a count such as {num_timesteps // 2 or 1}, or {count!r} without 'ddim'"
    )


def _positive_int(part: str, text: str) -> int:
    try:
        value = int(part)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError(
            f"timestep respacing: got {text!r}, expected '' (all steps), a positive number such as '250', "
            "a comma list of them such as '10,15,20', or 'ddim' followed by one"
        )
    return value
