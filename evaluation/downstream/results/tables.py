"""Results as Markdown tables, from the rows of results.csv alone."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluation.downstream.results.statistics import Difference, paired_difference, worth
from utils.errors import UserError

PASTED = ("copy_paste", "copy_paste_poisson")
TITLES = {
    "real": "real only",
    "all_real": "all real data",
    "copy_paste": "real + copy-paste",
    "copy_paste_poisson": "real + copy-paste, Poisson",
    "procedural": "real + synthetic boards",
    "ours": "real + ours",
    "ours_filtered": "real + ours, filtered",
    "synthetic_only": "ours only",
}
ORDER = ("real", *PASTED, "procedural", "ours", "ours_filtered", "synthetic_only", "all_real")
FAILED = 0.25  # of the median mAP@50 of its arm, below which a run has not learned
METRICS = ("map50_95", "map50", "recall", "accuracy")
NAMES = {"map50_95": "mAP50-95", "map50": "mAP50", "recall": "recall", "accuracy": "balanced accuracy"}


@dataclass(frozen=True)
class ResultRow:
    """A run: who, on what, and its metrics by the names of the columns; those that it lacks are left out."""

    texts: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.texts[name]

    def metric(self, name: str) -> float:
        """nan where there is none."""
        text = self.texts.get(name) or ""
        return float(text) if text else float("nan")

    @property
    def arm(self) -> tuple[str, int, int, float]:
        """Name, volume, real defects a class, share of real examples."""
        return self["arm"], int(self["volume"]), int(self["per_class"]), float(self["real_share"])

    @property
    def main(self) -> float:
        """What arms are compared by: mAP50-95, or a classifier's balanced accuracy."""
        value = self.metric("map50_95")
        return self.metric("accuracy") if np.isnan(value) else value


@dataclass(frozen=True)
class Group:
    """The rows of one table: one setting, split, part and detector."""

    title: str
    rows: Sequence[ResultRow] = field(repr=False)

    @cached_property
    def arms(self) -> dict[tuple[str, int, int, float], list[ResultRow]]:
        """Arm -> its runs, in the order of the table."""
        found: dict[tuple[str, int, int, float], list[ResultRow]] = defaultdict(list)
        for row in self.rows:
            found[row.arm].append(row)
        return dict(sorted(found.items(), key=lambda item: _order(item[0])))

    @cached_property
    def learned(self) -> dict[tuple[str, int, int, float], list[ResultRow]]:
        """Arm -> its runs without those that have not learned, which say nothing of the data."""
        return {arm: _learned(rows) for arm, rows in self.arms.items()}

    @cached_property
    def usual(self) -> tuple[int, float]:
        """Real defects a class and share of real examples of most rows: what the table compares at."""
        counts: dict[tuple[int, float], int] = defaultdict(int)
        for row in self.rows:
            counts[row.arm[2:]] += 1
        return max(counts, key=counts.__getitem__)

    @cached_property
    def splits(self) -> int:
        """How many draws of the data there are."""
        return len({row["split_seed"] for row in self.rows})

    @cached_property
    def curve(self) -> dict[int, float]:
        """Real defects in all -> mean of the main metric, of the arms without synthetic ones."""
        points: dict[int, list[float]] = defaultdict(list)
        for rows in self.learned.values():
            for row in rows:
                if row["arm"] in ("real", "all_real"):
                    points[int(row["real"])].append(row.main)
        return {count: float(np.mean(values)) for count, values in points.items()}

    def values(self, arm: tuple[str, int, int, float]) -> dict[tuple[str, str], float]:
        """(split, seed) -> main metric."""
        return {(row["split_seed"], row["seed"]): row.main for row in self.learned.get(arm, [])}

    def baselines(self, volume: int) -> tuple[tuple | None, tuple | None]:
        """The arm `real` at the usual size, and the better of the copy-paste ones of a volume; where it has none, of
        the smallest one."""
        arms = [arm for arm in self.arms if arm[2:] == self.usual]
        real = next((arm for arm in arms if arm[0] == "real"), None)
        pasted = [arm for arm in arms if arm[0] in PASTED]
        volumes = {arm[1] for arm in pasted}
        compared = volume if volume in volumes else min(volumes, default=0)
        return real, max((arm for arm in pasted if arm[1] == compared), key=self.mean, default=None)

    def mean(self, arm: tuple[str, int, int, float]) -> float:
        return float(np.mean(list(self.values(arm).values())))


def _learned(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The runs of an arm but for those with an mAP@50 below a share of their median."""
    found = [row.metric("map50") for row in rows]
    least = FAILED * float(np.median(found))  # nan, which nothing is below, for a classifier
    return [row for row, value in zip(rows, found, strict=True) if not value < least]


def _order(arm: tuple[str, int, int, float]) -> tuple:
    name, volume, per_class, share = arm
    number = ORDER.index(name) if name in ORDER else len(ORDER)
    return number, per_class, share, volume, name


def arm_title(arm: tuple[str, int, int, float], usual: tuple[int, float]) -> str:
    """How the table calls an arm; what is not usual is said."""
    name, volume, per_class, share = arm
    words = [TITLES.get(name) or f"real + {name.replace('_', ' ')}"]
    words += [f"{volume}x"] if volume else []
    words += [f"{per_class} a class"] if per_class != usual[0] and name != "all_real" else []
    words += [f"{share:.0%} real"] if share != usual[1] and volume else []
    return ", ".join(words)


# Reading


def parse_rows(path: Path) -> list[ResultRow]:
    """The rows of a results.csv. Raises UserError for another file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [ResultRow(row) for row in csv.DictReader(file)]
        problem = next((found for row in rows if (found := _problem(row))), "")
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise UserError(f"{path}: not a results.csv of evaluation.downstream ({problem})")
    return rows


def _problem(row: ResultRow) -> str:
    """What a row lacks; '' for nothing. Raises ValueError, KeyError or TypeError where a value cannot be read."""
    empty = [name for name in ("arm", "split", "split_seed", "part", "detector", "seed") if not row[name]]
    if empty:
        return f"no {empty[0]}"
    return "no metric" if not row.arm or np.isnan(row.main) else ""


def groups(rows: Sequence[ResultRow]) -> Iterator[Group]:
    """One for each detector, part and split of one setting, in the order of the rows."""
    found: dict[tuple[str, ...], list[ResultRow]] = defaultdict(list)
    for row in rows:
        found[row["detector"], row["part"], row["split"]].append(row)
    for (detector, part, split), members in found.items():
        control = "" if split == "groups" else f", {split} split (leaks)"
        yield Group(f"{detector}, {part} part{control}", members)


# Writing


def setting_text(setting: str, rows: Sequence[ResultRow]) -> str:
    """All tables of a setting."""
    parts = [f"## {setting}"]
    for group in groups(rows):
        parts += [f"### {group.title}", main_table(group), interval_note(group), class_table(group)]
    return "\n\n".join(parts) + "\n"


def main_table(group: Group) -> str:
    """A line for each arm: metrics, differences, what it is worth."""
    metrics = [name for name in METRICS if not all(np.isnan(row.metric(name)) for row in group.rows)]
    heads = ["arm", "real", "synthetic", "runs", *(NAMES[name] for name in metrics)]
    heads += ["against real only", "against copy-paste", "worth real defects"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for arm, rows in group.learned.items():
        cells = [arm_title(arm, group.usual), _mean_count(rows, "real"), _mean_count(rows, "synthetic")]
        failed = len(group.arms[arm]) - len(rows)
        cells += [f"{len(rows)} (and {failed} failed)" if failed else str(len(rows))]
        cells += [_mean_text(rows, name) for name in metrics]
        for base in group.baselines(arm[1]):
            comparable = base is not None and arm != base
            found = paired_difference(group.values(arm), group.values(base)) if comparable and base else None
            cells.append(difference_text(found, several=group.splits > 1))
        cells.append("" if arm[0] in ("real", "all_real") else worth(group.curve, group.mean(arm)))
        lines.append(_line(cells))
    return "\n".join(lines)


def interval_note(group: Group) -> str:
    """What the intervals of a table cover, and what is left out of it."""
    note = (
        f"Intervals are over {group.splits} splits, each the mean of its seeds."
        if group.splits > 1
        else "Intervals are over the seeds of one split: they cover the noise of the detector's training alone, not "
        "another draw of the data or another painter."
    )
    if group.learned == group.arms:
        return note
    return (
        f"{note} Runs with less than {FAILED:.0%} of the median mAP@50 of their arm have failed: they have not "
        "learned, and are left out of means and pairs."
    )


def class_table(group: Group) -> str:
    """A line for each arm: AP50-95 of every class, or the rate of right answers."""
    kind = (
        "ap"
        if any(key.startswith("ap: ") for row in group.rows for key, v in row.texts.items() if v)
        else "accuracy"
    )
    names = [key for key in group.rows[0].texts if key.startswith(f"{kind}: ")]
    names = [key for key in names if not all(np.isnan(row.metric(key)) for row in group.rows)]
    heads = ["AP50-95" if kind == "ap" else "right", *(key.partition(": ")[2] for key in names)]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for arm, rows in group.learned.items():
        lines.append(_line([arm_title(arm, group.usual), *(_mean_text(rows, key) for key in names)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean_count(rows: Sequence[ResultRow], column: str) -> str:
    return str(round(np.mean([int(row[column]) for row in rows])))


def _mean_text(rows: Sequence[ResultRow], name: str) -> str:
    """'0.391 +- 0.012': mean and standard deviation over the runs."""
    values = [value for row in rows if not np.isnan(value := row.metric(name))]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def difference_text(found: Difference | None, several: bool = False) -> str:
    """'+2.1 [+0.4, +3.8] gain', in points; '' for none. `several`: other differences of the table are over splits."""
    if found is None:
        return ""
    if found.pairs < 2:
        return f"{100 * found.mean:+.1f} (one pair)"
    words = [f"{100 * found.mean:+.1f}", f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]", found.verdict]
    return " ".join([*words, "(one split)"] if several and found.splits == 1 else words)
