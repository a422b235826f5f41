"""Train the defect-free model or the defect prior: `python train.py --conf_path confs/train-64.yml [key=value ...]`.

The same command goes on where a stopped run ended. `torchrun --nproc-per-node=N train.py ...` trains on
several devices.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.interrupts import exit_on_signals

    exit_on_signals()

import argparse
import sys

import torch.distributed as dist

from training.initial import start_from
from training.loop import make_hooks, make_loop, run_to_the_end
from training.resume import resume
from training.setup import (
    ProcessInfo,
    join_processes,
    make_model,
    setup_run,
)
from utils.config import load_training_config
from utils.errors import run_main
from utils.interrupts import Stopped
from utils.schema.training import TrainingConfig


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/train-64.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    config = load_training_config(args.conf_path, args.overrides)
    process = join_processes(config)
    try:
        train(config, process)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def train(config: TrainingConfig, process: ProcessInfo) -> None:
    """One run, from the configuration to the last checkpoint; raises Stopped after Ctrl-C or SIGTERM."""
    run = setup_run(config, process)
    model = make_model(run)
    config, loop = run.config, make_loop(run, model, make_hooks(run))
    resume(loop, config)
    if config.init_from and loop.step == 0:
        start_from(model, config.init_from, run)
        loop.start_averages()
    run_to_the_end(loop, config)
    end = "stopped" if loop.interrupted else "finished"
    run.log.info("%s at step %d; the averaged weights are in %s", end, loop.step, loop.last_weights)
    if loop.interrupted:
        raise Stopped(loop.interrupted, told=True)


if __name__ == "__main__":
    sys.exit(run_main(main))
