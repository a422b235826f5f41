"""The paper's figure: mean average precision against recall, marker size the volume of synthetic data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.downstream.results.tables import ORDER, TITLES, ResultRow, groups
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
        colors = plt.get_cmap("tab10")
        for arm, members in group.arms.items():
            x, y = (float(np.mean([row.metric(key) for row in members])) for key in ("recall", "map50_95"))
            name, volume, per_class, _ = arm
            if name not in ORDER or per_class != group.usual[0]:
                continue
            label = TITLES[name] if volume <= 1 else None
            axis.scatter(
                x, y, SMALLEST + PER_VOLUME * volume, color=colors(ORDER.index(name)), alpha=0.7, label=label
            )
        axis.set(xlabel="recall (AR50-95)", ylabel="mAP50-95", title=group.title)
        axis.legend(fontsize=7)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
    return True
