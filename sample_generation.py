"""Paint defects on defect-free images, as a configuration file says.

    python sample_generation.py confs/demo.yml
    python sample_generation.py confs/demo.yml dry_run=true
    python sample_generation.py confs/demo.yml seed=1 n_samples=4 outdir=images/four

Images, masks and labels go to the folder `outdir`. The same command goes on where a stopped run ended.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import logging
import sys

from utils.command_line import make_parser, parse_with_conf
from utils.config import load_generation_config
from utils.errors import run_main
from utils.processes.interrupts import exiting_signals

log = logging.getLogger("crg")


def main(argv: list[str]) -> int:
    args = parse_with_conf(make_parser("sample_generation.py", __doc__), argv)
    config = load_generation_config(args.conf_path, args.overrides)
    with exiting_signals():  # these import PyTorch, for which neither help nor a mistake should wait
        from generation.cost import print_plan
        from generation.jobs import make_groups, nothing_to_paint
        from generation.run import collect_jobs, finish, paint, prepare
        from generation.setup import joined_processes, setup_run
        from utils.processes.group import rank, wait_for_all, world_size

    with joined_processes(config):
        run = setup_run(config)
        jobs = collect_jobs(run)
        if config.dry_run:
            print_plan(run, jobs)
            return 0
        groups = make_groups(jobs, run.config.resolved_batch_size, run.outputs.wanted)
        prepare(run, jobs, groups)
        kept = sum(map(run.outputs.kept, jobs))
        if groups:
            paint(run, groups, jobs)
        else:
            log.info(nothing_to_paint(len(jobs), sum(map(run.outputs.missing, jobs))))
        wait_for_all()
        code = 0
        if rank() == 0:
            code = finish(run, jobs, kept)
            log.info("results are in %s", run.outputs.root)
    return code if world_size() == 1 else 0  # torchrun would take any other for a crash


if __name__ == "__main__":
    sys.exit(run_main(main))
