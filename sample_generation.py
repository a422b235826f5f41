"""Paint defects on defect-free images: `python sample_generation.py --conf_path confs/demo.yml [key=value ...]`."""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.interrupts import exit_on_signals

    exit_on_signals()

import argparse
import logging
import sys

from generation.cost import print_plan
from generation.jobs import Job, make_groups, nothing_to_paint, plan_jobs
from generation.models import check_class_ids
from generation.placement.plan import place_defects
from generation.progress import log_settings
from generation.run import finish, paint
from generation.setup import Run, job_options, make_geometry, setup_run
from utils.errors import run_main
from utils.logger import setup_logging

log = logging.getLogger("crg")


def main(argv: list[str]) -> None:
    args = parse(argv)
    run = setup_run(args.conf_path, args.overrides)
    jobs = collect_jobs(run)
    groups = make_groups(jobs, run.config.batch_size, run.outputs.wanted)
    if run.config.dry_run:
        return print_plan(run, groups, len(jobs))
    prepare(run, jobs, groups)
    if groups:
        paint(run, groups, jobs)
    else:
        log.info(nothing_to_paint(len(jobs)))
    finish(run, jobs)
    log.info("results are in %s", run.outputs.root)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--conf_path", required=True, help="YAML file, e.g. confs/demo.yml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    return parser.parse_intermixed_args(argv)


def collect_jobs(run: Run) -> list[Job]:
    """One job per output image; where defects are asked for by numbers, their places are chosen first."""
    config = run.config
    label_folder = place_defects(run) if config.plan.counts else None
    geometry, options = make_geometry(config), job_options(config)
    jobs = plan_jobs(config.defect_free_dir, run.classes, geometry, options, label_folder)
    check_class_ids(config, jobs, run.classes)
    return jobs


def prepare(run: Run, jobs: list[Job], groups: list[list[Job]]) -> None:
    """Load the networks if they are needed, then make the output folder and begin the log."""
    if groups:
        _ = run.sampler  # weights that do not fit are refused before anything is written
    config, outputs = run.config, run.outputs
    outputs.prepare(config, replaced=[job for group in groups for job in group] if config.overwrite else ())
    setup_logging(outputs.log_file, config.debug)
    log_settings(config, jobs, outputs.unrelated_samples(jobs) if config.overwrite else [])


if __name__ == "__main__":
    sys.exit(run_main(main))
