"""The paper's figure: mean average precision against recall, marker size the volume of synthetic data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.downstream.results.tables import ORDER, TITLES, Group, ResultRow, groups
from utils.files import replacing

SMALLEST, PER_VOLUME = 40, 60  # area of a marker, square points


def write_figure(path: Path, rows: Sequence[ResultRow]) -> bool:
    """A panel for each detector with such metrics; False, and nothing written, where there is none."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [group for group in groups(rows) if not np.isnan(group.rows[0].metric("map50_95"))]
    if not shown:
        return False
    figure, axes = plt.subplots(1, len(shown), figsize=(5.5 * len(shown), 4.5), squeeze=False)
    for axis, group in zip(axes[0], shown, strict=True):
        draw_panel(axis, group)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return True


def draw_panel(axis: Any, group: Group) -> None:
    """A marker for each volume of an arm of the usual size and share, in the arm's color; the legend names each arm
    once."""
    from matplotlib import colormaps

    named: set[str] = set()
    for arm, members in group.learned.items():
        name, volume = arm[:2]
        if name not in ORDER or arm[2:] != group.usual:
            continue
        x, y = (float(np.mean([row.metric(key) for row in members])) for key in ("recall", "map50_95"))
        label = None if name in named else TITLES[name]
        color = colormaps["tab10"](ORDER.index(name))
        axis.scatter(x, y, SMALLEST + PER_VOLUME * volume, color=color, alpha=0.7, label=label)
        named.add(name)
    axis.set(xlabel="recall (AR50-95)", ylabel="mAP50-95", title=group.title)
    axis.legend(fontsize=7)
