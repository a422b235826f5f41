"""How a training goes: its log as numbers, its curves as an image, and what looks wrong in either."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from utils.files import replacing

QUARTERS = tuple(f"loss_q{q}" for q in range(4))
PANELS = (
    ("loss", ("loss",), "log"),
    ("loss by quarter of t (q0: least noise)", QUARTERS, "log"),
    ("gradient norm, before clipping", ("grad_norm",), "log"),
    ("learning rate", ("lr",), "linear"),
)
FEWEST_ROWS = 20  # of the log, before its trend is judged
FALLING = 0.98  # a loss above this share of the earlier one does not fall
RISING = 1.1
LEARNED = 0.5  # below this share of the first loss, a level stretch is what a trained network shows
NOISY = 3.0  # times the grain of the training images
LEAST_GRAIN = 1e-4  # mean square; about one step of 8 bits


def read_log(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of a `train_log.csv`, float64 (rows,), nan where a value is missing.

    Left out are lines cut short by a kill, and those that a resumed run wrote anew.
    """
    rows: list[dict[str, float]] = []
    with Path(path).open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or ())
        for line in reader:
            if None in line or None in line.values():
                continue
            try:
                row = {name: float(line[name]) for name in names}
            except ValueError:  # a line cut short inside a number
                continue
            while rows and rows[-1]["step"] >= row["step"]:
                rows.pop()
            rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in names}


def draw_curves(log: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write a PNG of loss, loss by quarter of t, gradient norm and learning rate over the steps of `read_log`.

    The first three are logarithmic where all values are positive.
    """
    figure = Figure(figsize=(11, 7))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.08, top=0.95, wspace=0.16, hspace=0.32)
    for axis, (title, names, scale) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        shown = {name: log[name] for name in names if np.isfinite(log[name]).any()}
        for name, values in shown.items():
            axis.plot(log["step"], values, label=name, linewidth=1.2, marker="." if len(values) < 3 else "")
        if shown and all((v[np.isfinite(v)] > 0).all() for v in shown.values()):
            axis.set_yscale(scale)
        if len(names) > 1 and shown:
            axis.legend()
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def loss_warning(log: Mapping[str, np.ndarray], warmup_steps: int = 0) -> str | None:
    """A sentence when the loss rises, or stays level without having fallen much since the beginning.

    Compared are the mean of the last tenth of the rows after warm-up and that of the tenth before their
    middle. None while there are fewer than 20 rows.
    """
    loss = log["loss"][log["step"] > warmup_steps]
    loss = loss[np.isfinite(loss)]
    if len(loss) < FEWEST_ROWS:
        return None
    tenth, middle = len(loss) // 10, len(loss) // 2
    first, before, last = (
        float(part.mean()) for part in (log["loss"][:tenth], loss[middle - tenth : middle], loss[-tenth:])
    )
    numbers = f"{last:.4g} over the last tenth of the log, {before:.4g} before its middle"
    if before > 0 and last > RISING * before:
        return f"the loss is rising: {numbers}; a lower lr, or more warmup_steps, often helps"
    if before > 0 and last > FALLING * before and last > LEARNED * first:
        return f"the loss is not falling: {numbers}, {first:.4g} at the beginning; try another lr, or look at the data"
    return None


def grain(x: Tensor) -> float:
    """High-frequency energy of (N, C, H, W): mean square difference of a pixel from its four neighbors' mean.

    White noise of variance v has 1.25 v; a smooth image next to nothing.
    """
    neighbors = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return float((x[..., 1:-1, 1:-1] - neighbors / 4).square().mean())


def preview_warning(samples: Tensor, training: Tensor) -> str | None:
    """A sentence when `samples` (N, 3, H, W) in [-1, 1] have far more grain than `training` images of that kind."""
    ratio = grain(samples) / max(grain(training), LEAST_GRAIN)
    if not ratio > NOISY:
        return None
    return (
        f"the previews are still noise: their high-frequency energy (mean square difference from the four "
        f"neighboring pixels) is {ratio:.1f} times the training images'; expected below {NOISY:g} once the "
        "network has learned"
    )
