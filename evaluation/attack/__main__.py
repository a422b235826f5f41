"""Broken and hostile inputs, kills, two processes, full disks, for as long as wanted.

    python -m evaluation.attack --minutes 30
    python -m evaluation.attack --inputs 2000 --kills 50

Prints a table of counts, and below it what must not happen: tracebacks, hangs, files written or changed elsewhere,
results that a calm run would not leave. The exit code is 1 if there is any. Ctrl-C ends it with the table so far.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import inf
from pathlib import Path

from evaluation.attack.inputs import ATTACKS, AttackCounts, attack, limit_memory
from evaluation.attack.processes import kill_and_rerun, small_disk, two_at_once
from evaluation.attack.stage import Stage
from utils.command_line import below
from utils.errors import UserError, run_main
from utils.processes.interrupts import Stopped

COLUMNS = ("inputs", "refused", "tracebacks", "hangs", "outside", "losses")
MINUTES = 30  # if nothing else is asked for
INPUT_FRACTION = 0.6  # of the time; the rest goes to processes
DISKS = (64, 128, 256, 512, 1024, 2048)  # KiB; the largest may do
SHOWN = 20  # descriptions printed
PROCESSES, KILLED = "processes", " killed"  # the kind beside those of ATTACKS; the end of some rows' names

Tallies = dict[str, AttackCounts]
LiveAttack = Callable[[AttackCounts], object]


@dataclass(frozen=True)
class Limit:
    """What ends a kind of attack: seconds, or a number of inputs."""

    seconds: float = inf
    count: float = inf


def main(argv: list[str]) -> None:
    """Attack and print the table; exits with 1 when something was found. Raises Stopped after Ctrl-C and SIGTERM."""
    args = attack_parser().parse_args(argv)
    limits = limits_of(args)
    limit_memory()
    tallies: Tallies = {}
    stopped = None
    try:
        with tempfile.TemporaryDirectory(prefix="crg-attack-") as folder:
            stage = Stage(Path(folder) / "around/world")
            stage.build()
            run(stage, limits, random.Random(args.seed), args.kinds or [*ATTACKS, PROCESSES], tallies)
    except Stopped as stop:
        stopped = stop
    print(table(tallies))
    found = [text for tally in tallies.values() for text in tally.found]
    for text in found[:SHOWN]:
        print(f"\n{text}")
    if found:
        print(f"\n{len(found)} found")
    if stopped:
        print("stopped early; this is the table so far", file=sys.stderr)
        raise Stopped(stopped.number, told=True)
    if found:
        sys.exit(1)


def attack_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m evaluation.attack", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--minutes", type=float, help=f"time to take ({MINUTES}, unless numbers are given)")
    add("--inputs", type=int, metavar="N", help="break so many inputs, whatever time it takes")
    add(
        "--kills",
        type=int,
        metavar="N",
        help="kill so many processes, the other attacks on processes between",
    )
    add("--seed", type=int, default=0, help="of the random attacks (0)")
    add("--kinds", nargs="*", choices=[*ATTACKS, PROCESSES], help="only these kinds")
    return parser


def limits_of(args: argparse.Namespace) -> tuple[Limit, Limit]:
    """What ends the attacks by inputs, and those on processes: the minutes that they share, or the numbers; one that is
    not given is 0 then. Raises UserError."""
    numbered = args.inputs is not None or args.kills is not None
    problems = below(0, args, "minutes", "inputs", "kills")
    if numbered and args.minutes is not None:
        problems.append(f"--minutes: got {args.minutes:g} beside numbers, expected either")
    if problems:
        raise UserError.from_problems("these options cannot be used", problems)
    if numbered:
        return Limit(count=args.inputs or 0), Limit(count=args.kills or 0)
    seconds = 60 * (MINUTES if args.minutes is None else args.minutes)
    kinds = args.kinds or [*ATTACKS, PROCESSES]
    share = 0.0 if kinds == [PROCESSES] else INPUT_FRACTION if PROCESSES in kinds else 1.0
    return Limit(seconds * share), Limit(seconds * (1 - share))


def run(
    stage: Stage, limits: tuple[Limit, Limit], chance: random.Random, kinds: list[str], tallies: Tallies
) -> None:
    """Attack with inputs, then on processes, until the limits of both are reached; enters what came of it."""
    inputs = [kind for kind in kinds if kind in ATTACKS]
    if inputs:
        attack_inputs(stage, limits[0], chance, inputs, tallies)
    if PROCESSES in kinds:
        attack_processes(stage, limits[1], chance, tallies)


def attack_inputs(
    stage: Stage, limit: Limit, chance: random.Random, kinds: list[str], tallies: Tallies
) -> None:
    """Break inputs of these kinds in turn."""
    tallies |= {kind: AttackCounts() for kind in kinds}
    end = time.monotonic() + limit.seconds
    for number, kind in enumerate(cycle(kinds)):
        if number >= limit.count or time.monotonic() > end:
            return
        attack(stage, kind, chance, tallies[kind])


def attack_processes(stage: Stage, limit: Limit, chance: random.Random, tallies: Tallies) -> None:
    """Attack processes in turn; of a number, no further than a whole turn that has killed none."""
    end, before = time.monotonic() + limit.seconds, -1
    while before < (kills := _kills(tallies)) or limit.count == inf:
        before = kills
        for name, step in live_attacks(stage, chance):
            if _kills(tallies) >= limit.count or time.monotonic() > end:
                return
            _guarded(step, tallies.setdefault(name, AttackCounts()))


def _kills(tallies: Tallies) -> int:
    return sum(tally.inputs for name, tally in tallies.items() if name.endswith(KILLED))


def live_attacks(stage: Stage, chance: random.Random) -> list[tuple[str, LiveAttack]]:
    """One turn of the attacks on processes: name and what to do; drawn anew at each call."""
    programs = ("paint", "train", "prepare", "export")
    return [
        *((f"{name}{KILLED}", partial(kill_and_rerun, stage, name, chance)) for name in programs),
        *(("two at once", partial(two_at_once, stage, name)) for name in ("paint", "train")),
        *(
            (f"{name}, full disk", partial(small_disk, stage, name, size=chance.choice(DISKS)))
            for name in programs
        ),
    ]


def _guarded(step: LiveAttack, tally: AttackCounts) -> None:
    """A step that cannot be taken is a finding, not the end."""
    try:
        if isinstance(reason := step(tally), str) and reason and reason not in tally.found:
            print(f"skipped: {reason}", file=sys.stderr)
    except Exception:
        tally.found.append(traceback.format_exc())


def table(tallies: Tallies) -> str:
    """Counts of each kind, and their sums."""
    rows = [(kind, *(getattr(tally, column) for column in COLUMNS)) for kind, tally in tallies.items()]
    rows.append(("all", *(sum(row[i] for row in rows) for i in range(1, len(COLUMNS) + 1))))
    lines = [("kind", *COLUMNS), *rows]
    return "\n".join(f"{line[0]:<18}" + "".join(f"{value!s:>12}" for value in line[1:]) for line in lines)


if __name__ == "__main__":
    sys.exit(run_main(main))
