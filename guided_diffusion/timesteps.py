"""Integer lists computed before the sampling loop: which index of the respaced chain is visited when.

Throughout, T is `ddpm_num_steps`, the length of the respaced chain, and N is `num_inference_steps`. A list
holds indices of that chain in the order the sampler visits them: a smaller index follows by denoising, a
larger one by adding noise again.
"""

import re

import numpy as np

SCHEDULE_TYPES = ("linear", "quad")
LONGEST = 1_000_000  # steps of a walk
FILTER_TYPES = ("none", "firstp-P", "lastp-P", "firstn-K", "lastn-K")


def sampling_timesteps(
    *,
    num_inference_steps: int,
    ddpm_num_steps: int,
    schedule_type: str,
    jump_length: int,
    jump_n_sample: int,
    use_timetravel: bool,
    time_travel_filter_type: str,
    start_step: int | None,
) -> list[int]:
    """The sampler's timestep sequence; the arguments are the configuration's.

    `schedule_type` counts only without time travel, the jump parameters only with it. Never empty; starts at
    or below `start_step` and ends at 0. Raises ValueError for numbers out of range and unknown names.
    """
    if use_timetravel:
        return time_travel_timesteps(
            num_inference_steps,
            ddpm_num_steps,
            jump_length,
            jump_n_sample,
            time_travel_filter_type,
            start_step,
        )
    return plain_timesteps(num_inference_steps, ddpm_num_steps, schedule_type, start_step)


def plain_timesteps(
    num_inference_steps: int,
    ddpm_num_steps: int,
    schedule_type: str = "linear",
    start_step: int | None = None,
) -> list[int]:
    """Strictly descending indices down to 0, from the first one not above `start_step` (null: from the top).

    "linear": round(i (T/N)) for i < N, T/N rounded to float64 first, as published (60 of 250 steps visit 63, where
    the exact quotient 62.5 would round to 62). "quad": i -> trunc(u_i^2), u evenly spaced from 0 to sqrt(0.8 T),
    duplicates removed (Song et al. 2021, appendix D.2). Raises ValueError for numbers out of range and for an
    unknown schedule type.
    """
    _check_counts(num_inference_steps, ddpm_num_steps, start_step)
    if num_inference_steps > ddpm_num_steps:
        raise ValueError(
            f"num_inference_steps: got {num_inference_steps}, expected at most ddpm_num_steps "
            f"({ddpm_num_steps}) without time travel"
        )
    if schedule_type == "linear":
        stride = ddpm_num_steps / num_inference_steps
        steps = [round(i * stride) for i in range(num_inference_steps)]
    elif schedule_type == "quad":
        roots = np.linspace(0, np.sqrt(ddpm_num_steps * 0.8), num_inference_steps)
        steps = (roots**2).astype(int).tolist()
    else:
        raise ValueError(f"schedule_type: got {schedule_type!r}, expected one of {', '.join(SCHEDULE_TYPES)}")
    first = ddpm_num_steps if start_step is None else start_step
    return sorted({step for step in steps if step <= first}, reverse=True)


def time_travel_timesteps(
    num_inference_steps: int,
    ddpm_num_steps: int,
    jump_length: int,
    jump_n_sample: int,
    time_travel_filter_type: str = "none",
    start_step: int | None = None,
) -> list[int]:
    """Indices down to 0 with jumps of `jump_length` steps back in time (RePaint, Lugmayr et al. 2022).

    Counts run down from floor(start_step N/T), at most N (null: N); at every multiple j of `jump_length` below
    that start minus `jump_length`, `jump_length` undo steps follow, and the stretch is denoised again,
    `jump_n_sample` - 1 times, unless the filter drops j. Counts are multiplied by T//N to become indices.
    N > T counts as T.

    Raises ValueError for numbers out of range, an unknown filter, or a `start_step` that leaves no step.
    """
    _check_counts(num_inference_steps, ddpm_num_steps, start_step)
    num_inference_steps = min(num_inference_steps, ddpm_num_steps)
    if jump_length < 1 or jump_n_sample < 1:
        raise ValueError(
            f"jump_length and jump_n_sample: got {jump_length} and {jump_n_sample}, expected at least 1 each"
        )
    start = num_inference_steps
    if start_step is not None:
        start = min(start_step * num_inference_steps // ddpm_num_steps, num_inference_steps)
    if start < 1:
        least = -(-ddpm_num_steps // num_inference_steps)
        raise ValueError(
            f"start_step: got {start_step}, expected at least {least} with time travel over "
            f"{num_inference_steps} of {ddpm_num_steps} steps"
        )
    lowest, highest = _kept_jumps(time_travel_filter_type, ddpm_num_steps)
    feet = range(0, start - jump_length, jump_length)
    jumps = {j: jump_n_sample - 1 for j in feet if lowest <= j <= highest}
    if (length := start + 2 * jump_length * sum(jumps.values())) > LONGEST:
        raise ValueError(
            f"jump_length and jump_n_sample: got {jump_length} and {jump_n_sample}, which make a walk of {length} "
            f"steps; expected at most {LONGEST}"
        )
    stride = ddpm_num_steps // num_inference_steps
    return [stride * count for count in _resampling_steps(start, jump_length, jumps)]


def _resampling_steps(start: int, jump_length: int, jumps: dict[int, int]) -> list[int]:
    """Counts from `start` - 1 down to 0, going back by `jump_length` undo steps `jumps[j]` times at each j."""
    left = dict(jumps)
    steps, t = [], start
    while t > 0:
        t -= 1
        steps.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            steps += range(t + 1, t + jump_length + 1)
            t += jump_length
    return steps


def _kept_jumps(filter_type: str, ddpm_num_steps: int) -> tuple[float, float]:
    """Lowest and highest count whose jumps are kept: "first" filters keep the noisy end, "last" the clean.

    A percentage may be decimal. Bounds are float64, rounded operation by operation as published: at T = 250,
    `firstp-58` drops the jump at 105, because 250 (1 - 0.58) is a little more than that.
    """
    if filter_type == "none":
        return 0, ddpm_num_steps
    match = re.fullmatch(r"(first|last)(?:p-([0-9]+(?:\.[0-9]+)?)|n-([0-9]+))", filter_type)
    if match is None:
        raise ValueError(
            f"time_travel_filter_type: got {filter_type!r}, expected one of {', '.join(FILTER_TYPES)} "
            "(P a percentage, as in firstp-12.5; K a whole number of steps)"
        )
    end, percentage, count = match.groups()
    if count is not None:
        return (ddpm_num_steps - int(count), ddpm_num_steps) if end == "first" else (0, int(count))
    share = float(percentage)
    if share > 100:
        raise ValueError(
            f"time_travel_filter_type: got {filter_type!r}, expected a percentage of at most 100"
        )
    if end == "first":
        return ddpm_num_steps * (1.0 - share / 100.0), ddpm_num_steps
    return 0, ddpm_num_steps * share / 100.0


def noising_index(start_step: int | None, ddpm_num_steps: int) -> int:
    """Index at which the clean image is noised before the first step: min(start_step, T-1), null: T-1."""
    last = ddpm_num_steps - 1
    return last if start_step is None else min(start_step, last)


def estimate_chain(t: int, intervals: int) -> list[int]:
    """Indices of the DDIM chain behind the contextual model's clean estimate at t (`mid_interval_num`).

    t, (k-1) i, ..., i, 0 with i = t // k: k sub-steps, for t = 0 one less. One interval is the one-step estimate,
    without a chain: [t].
    """
    if intervals == 1:
        return [t]
    if t == 0:
        return [0] * intervals
    return [t, *(n * (t // intervals) for n in range(intervals - 1, -1, -1))]


def gradient_steps(length: int, start: int, end: int, stop: int) -> list[int]:
    """Number of gradient steps per index t, `length` of them.

    Zero for t < `stop`, then a linear ramp from `start` to `end` over the rest, rounded half to even. Raises
    ValueError for negative numbers.
    """
    if min(length, start, end, stop) < 0:
        raise ValueError(
            "gradient steps: expected length, start, end and stop not below 0, "
            f"got {length}, {start}, {end} and {stop}"
        )
    ramp = np.linspace(start, end, max(length - stop, 0))
    return [0] * min(stop, length) + [int(count) for count in np.rint(ramp)]


def check_chain_length(ddpm_num_steps: int, chain_length: int) -> None:
    """Raises ValueError unless the schedule's T is the number of steps the respaced chain really has."""
    if ddpm_num_steps != chain_length:
        raise ValueError(
            f"ddpm_num_steps: got {ddpm_num_steps}, but the respaced diffusion chain has {chain_length}; "
            "set ddpm_num_steps and timestep_respacing to the same number of steps"
        )


def _check_counts(num_inference_steps: int, ddpm_num_steps: int, start_step: int | None) -> None:
    if min(num_inference_steps, ddpm_num_steps) < 1:
        raise ValueError(
            "num_inference_steps and ddpm_num_steps: "
            f"got {num_inference_steps} and {ddpm_num_steps}, expected at least 1 each"
        )
    if start_step is not None and start_step < 0:
        raise ValueError(f"start_step: got {start_step}, expected null or a number not below 0")
