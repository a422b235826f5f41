"""Broken and hostile inputs, kills, two processes, full disks, for as long as wanted.

    python -m evaluation.attack --minutes 30

Prints a table of counts, and below it what must not happen: tracebacks, hangs, files written or changed elsewhere,
results that a calm run would not leave. The exit code is 1 if there is any.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path

from evaluation.attack.inputs import ATTACKS, AttackCounts, attack, limit_memory
from evaluation.attack.processes import kill_and_rerun, small_disk, two_at_once
from evaluation.attack.stage import Stage
from utils.errors import run_main

COLUMNS = ("inputs", "refused", "tracebacks", "hangs", "outside", "losses")
INPUT_FRACTION = 0.6  # of the time; the rest goes to processes
DISKS = (64, 128, 256, 512, 1024, 2048)  # KiB; the largest may do
SHOWN = 20  # descriptions printed


def main(argv: list[str]) -> None:
    """Attack and print the table; exits with 1 when something was found."""
    parser = argparse.ArgumentParser("python -m evaluation.attack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=30, help="time to take (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random attacks (0)")
    parser.add_argument("--kinds", nargs="*", choices=[*ATTACKS, "processes"], help="only these kinds")
    args = parser.parse_args(argv)
    limit_memory()
    with tempfile.TemporaryDirectory(prefix="crg-attack-") as folder:
        stage = Stage(Path(folder) / "around/world")
        stage.build()
        tallies = run(
            stage, args.minutes * 60, random.Random(args.seed), args.kinds or [*ATTACKS, "processes"]
        )
    print(table(tallies))
    found = [text for tally in tallies.values() for text in tally.found]
    for text in found[:SHOWN]:
        print(f"\n{text}")
    if found:
        print(f"\n{len(found)} found")
        sys.exit(1)


def run(stage: Stage, seconds: float, chance: random.Random, kinds: list[str]) -> dict[str, AttackCounts]:
    """Attack with inputs of all kinds in turn, then with processes, until the time is over."""
    inputs = [kind for kind in kinds if kind in ATTACKS]
    fraction = INPUT_FRACTION if "processes" in kinds else 1.0
    tallies = {kind: AttackCounts() for kind in inputs}
    end = time.monotonic() + seconds * (fraction if inputs else 0)
    for kind in cycle(inputs or [""]):
        if time.monotonic() > end:
            break
        attack(stage, kind, chance, tallies[kind])
    if "processes" in kinds:
        end = time.monotonic() + seconds * (1 - INPUT_FRACTION if inputs else 1)
        for name, step in cycle(live_attacks(stage, chance)):
            if time.monotonic() > end:
                break
            _guarded(step, tallies.setdefault(name, AttackCounts()))
    return tallies


def live_attacks(
    stage: Stage, chance: random.Random
) -> Iterator[tuple[str, Callable[[AttackCounts], object]]]:
    """The attacks on processes: name and what to do."""
    for name in ("paint", "train", "export"):
        yield f"{name} killed", partial(kill_and_rerun, stage, name, chance)
    for name in ("paint", "train"):
        yield "two at once", partial(two_at_once, stage, name)
    for name in ("paint", "train", "export"):
        yield f"{name}, full disk", partial(small_disk, stage, name, size=chance.choice(DISKS))


def _guarded(step: Callable[[AttackCounts], object], tally: AttackCounts) -> None:
    """A step that cannot be taken is a finding, not the end."""
    try:
        if isinstance(reason := step(tally), str) and reason and reason not in tally.found:
            print(f"skipped: {reason}", file=sys.stderr)
    except Exception:
        tally.found.append(traceback.format_exc())


def table(tallies: dict[str, AttackCounts]) -> str:
    """Counts of each kind, and their sums."""
    rows = [(kind, *(getattr(tally, column) for column in COLUMNS)) for kind, tally in tallies.items()]
    rows.append(("all", *(sum(row[i] for row in rows) for i in range(1, len(COLUMNS) + 1))))
    lines = [("kind", *COLUMNS), *rows]
    return "\n".join(f"{line[0]:<18}" + "".join(f"{value!s:>12}" for value in line[1:]) for line in lines)


if __name__ == "__main__":
    sys.exit(run_main(main))
