"""Does a detector get better by painted defects? Runs the whole experiment that docs/protocol.md describes.

    python -m evaluation.downstream --conf_path confs/downstream-synthetic.yml dry_run=true
    python -m evaluation.downstream --conf_path confs/downstream-synthetic.yml
    python -m evaluation.downstream --conf_path confs/downstream-own.yml source=PHOTOGRAPHS outdir=runs/mine

Splits the data by group, trains the painter on a scarce training part, paints, trains detectors on real defects alone,
with pasted ones and with painted ones, and writes results.csv, results.md and figure.png to `outdir`. Every stage is
kept; the same command goes on where a stopped one ended, and repeats only what other keys concern.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import logging
import sys
from itertools import groupby
from pathlib import Path

from utils.command_line import make_parser, parse_with_conf
from utils.config import load_downstream_config, resolved_yaml
from utils.errors import run_main
from utils.processes.exclusive import only_run_in
from utils.processes.interrupts import exiting_signals
from utils.schema.downstream import DownstreamConfig


def main(argv: list[str]) -> None:
    args = parse_with_conf(make_parser("python -m evaluation.downstream", __doc__), argv, DownstreamConfig)
    config = load_downstream_config(args.conf_path, args.overrides)
    out = Path(config.outdir)
    setting = Path(args.conf_path).stem.removeprefix("downstream-")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with only_run_in(out, "outdir"):
        run(config, setting, out)


def run(config: DownstreamConfig, setting: str, out: Path) -> None:
    """All splits of an experiment; prints the estimate first, and the tables at the end."""
    with exiting_signals():  # these import PyTorch, for which neither help nor a mistake should wait
        from evaluation.downstream.estimate import estimate, format_estimate
        from evaluation.downstream.experiment import Experiment
        from evaluation.downstream.results.figure import write_figure
        from evaluation.downstream.results.tables import parse_rows, setting_text
        from evaluation.downstream.runs import Runner, write_results

    runners = [Runner(Experiment(config, seed), setting) for seed in config.split_seeds]
    for runner in runners:
        leaks = runner.experiment.check_leaks()
        print(f"split {runner.experiment.seed}: {leaks} pairs of images leak")
        print(format_estimate(estimate(runner)), flush=True)
    if config.dry_run:
        return
    (out / "config.yml").write_text(resolved_yaml(config), encoding="utf-8")
    for runner in runners:
        for _, runs in groupby(runner.all_runs(), key=lambda run: run.arm):
            runner.run_arm(list(runs))
            write_results(out / "results.csv", [row for one in runners for row in one.rows()])
    rows = parse_rows(out / "results.csv")
    text = setting_text(setting, rows)
    (out / "results.md").write_text(text, encoding="utf-8")
    write_figure(out / "figure.png", rows)
    print(text)


if __name__ == "__main__":
    sys.exit(run_main(main))
