"""Train the contextual model or the defect prior, as a configuration file says.

    python train.py confs/train-64.yml
    python train.py confs/demo-train-64.yml batch_size=4 checkpoint_dir=runs/mine
    torchrun --nproc-per-node=2 train.py confs/train-64.yml

Weights, previews and curves go to the folder `checkpoint_dir`. The same command goes on where a stopped run ended.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import sys

from utils.command_line import make_parser, parse_with_conf
from utils.config import load_training_config
from utils.errors import run_main
from utils.processes.interrupts import Stopped, exiting_signals
from utils.schema.training import TrainingConfig


def main(argv: list[str]) -> None:
    args = parse_with_conf(make_parser("train.py", __doc__), argv, TrainingConfig)
    config = load_training_config(args.conf_path, args.overrides)
    with exiting_signals():  # these import PyTorch, for which neither help nor a mistake should wait
        from training.initial import start_from
        from training.judge import judge_beside
        from training.loop import make_hooks, make_loop, run_to_the_end
        from training.resume import resume
        from training.setup import joined_processes, make_model, setup_run

    with joined_processes(config) as process:
        run = setup_run(config, process)
        model = make_model(run)
        config, loop = run.config, make_loop(run, model, make_hooks(run))
        resume(loop, config, run.names, run.files)
        if config.init_from and loop.step == 0:
            start_from(model, config.init_from, run)
            loop.start_averages()
        run_to_the_end(loop, config)
        if config.judge_steps and not loop.interrupted and run.process.rank == 0:
            judge_beside(run)
    end = "stopped" if loop.interrupted else "finished"
    run.log.info("%s at step %d; the averaged weights are in %s", end, loop.step, loop.last_weights)
    if loop.interrupted:
        raise Stopped(loop.interrupted, told=True)


if __name__ == "__main__":
    sys.exit(run_main(main))
