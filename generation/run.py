"""The steps of a run: its jobs, the painting loop, and what follows once all samples exist."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from generation.cost import count_contexts, duration
from generation.inputs import check_inputs
from generation.jobs import BatchItem, Job, item_seed, plan_jobs
from generation.models import check_class_ids
from generation.outputs import Outputs
from generation.painting.canvas import Canvas
from generation.passes import Pass
from generation.placement.plan import place_defects
from generation.progress import Progress, log_sample, log_settings, some_of
from generation.records import Provenance
from generation.setup import Run, job_options, make_geometry, make_painter
from guided_diffusion.ddim import guided_steps
from utils import images
from utils.errors import UserError
from utils.export_dataset import ExportOptions, export_dataset
from utils.export_dataset.outdated import label_folder
from utils.images import ImageCache, Loader
from utils.logger import setup_logging
from utils.processes.group import decided, rank
from utils.report import write_report
from utils.seeding import SampleNoise

log = logging.getLogger(__name__)

INCOMPLETE = 3  # the exit code when samples or defects were rejected or failed


def samples_by_annotation(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Base name -> all samples of that annotation, by sample index."""
    found: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.index):
        found.setdefault(job.base, []).append(job)
    return found


def collect_jobs(run: Run) -> list[Job]:
    """One job per output image; where defects are requested by numbers, their places are chosen first."""
    config, label_folder = run.config, None
    if config.plan.counts:
        _ = run.assessor  # a judge that cannot be read is told before places are looked for
        label_folder = place_defects(run)
    geometry, options = make_geometry(config), job_options(config)
    jobs = plan_jobs(config.defect_free_dir, run.classes, geometry, options, label_folder)
    check_class_ids(config, jobs, run.classes)
    _ = run.exemplars  # a folder without any is refused before anything is written
    check_inputs(run.outputs, jobs, run.classes)
    return jobs


def prepare(run: Run, jobs: Sequence[Job], groups: Sequence[Sequence[Job]]) -> None:
    """Load the networks if they are needed, then make the output folder and begin the log."""
    if groups:
        _ = run.sampler, run.assessor  # weights that do not fit are refused before anything is written
    config, outputs = run.config, run.outputs

    def begin() -> list[str]:
        outputs.prepare(config, run.classes, jobs if config.overwrite else ())
        return outputs.outdated(label_folder(outputs.root, config), run.classes)

    outdated = decided(begin)
    outputs.reread()
    setup_logging(outputs.log_file, config.debug)
    if rank() > 0:
        return
    if outdated:
        told = "samples are of annotations that no longer exist: data sets leave them out"
        log.warning("%d %s: %s", len(outdated), told, some_of(outdated))
    log_settings(config, jobs, outputs.unrelated_samples(jobs) if config.overwrite else [])
    if groups and run.assessor is not None:
        log.info("judge: %s", run.assessor.reliability)


def paint(run: Run, groups: Sequence[Sequence[Job]], jobs: Sequence[Job]) -> None:
    """Paint the groups, save the samples' files as they come, and the grids of whole annotations.

    `jobs` are all jobs of the run, those of other processes and finished ones included.
    """
    config, annotations = run.config, samples_by_annotation(jobs)
    share = f"{sum(map(len, groups))} of {len(jobs)} samples"
    arithmetic = f"{run.device}, {config.precision}"
    log.info(
        "%s to paint, seed %d, %s, %d contexts at a time, from %s",
        share,
        config.seed,
        arithmetic,
        config.batch_size,
        run.beginning,
    )
    started, steps = time.perf_counter(), len(guided_steps(run.options))
    provenance = Provenance.of(config)
    total, hidden = steps * count_contexts(groups) * config.candidates, not config.show_progress
    with tqdm(total=total, unit="step", disable=hidden, smoothing=0.05) as bar:
        progress = Progress(config, run.outputs, bar, steps)
        painter = make_painter(run, progress)
        for group in groups:
            group_started = time.perf_counter()
            last = {job.base: job.name for job in group}
            for sample in painter.paint(group):
                seconds = (time.perf_counter() - group_started) / len(group)
                run.outputs.save(sample, provenance, seconds)
                log_sample(sample)
                if last[sample.job.base] == sample.job.name:  # now, while the clean image is at hand
                    save_grid(run, annotations[sample.job.base], painter.load)
    log.info("painted in %s", duration(time.perf_counter() - started))


def finish(run: Run, jobs: Sequence[Job], kept: int) -> int:
    """Once every sample exists: missing grids, order of the manifest, summary, data set and report.

    `kept` samples were there before. Returns the exit code, 3 when some are not as requested. Raises UserError when
    the export fails, after the report is written.
    """
    config, outputs = run.config, run.outputs
    outputs.reread()
    clean = ImageCache(config.network.image_size if config.resize == "squash" else None)
    for samples in samples_by_annotation(jobs).values():
        if not outputs.paths.grid(samples[0]).exists():
            save_grid(run, samples, clean)
    if lost := [job.name for job in jobs if outputs.missing(job)]:
        raise UserError(
            f"{len(lost)} samples have gone since they were painted ({some_of(lost)}); run it again"
        )
    outputs.finish_manifest(jobs)
    complete = summarize(outputs, jobs, kept)
    try:
        if config.dataset.export:
            options = ExportOptions(**config.dataset.model_dump())
            log.info("data set: %s", export_dataset(outputs.root, options=options, overwrite=True))
    finally:
        if config.report:
            log.info("page to look through the results: %s", write_report(outputs.root, overwrite=True))
    return 0 if complete else INCOMPLETE


def summarize(outputs: Outputs, jobs: Sequence[Job], kept: int) -> bool:
    """Log how many samples were painted, kept, rejected and failed; whether all are as requested."""
    names: dict[str | None, list[str]] = {"painted": [], "rejected": [], "failed": []}
    for job in jobs:
        names[outputs.status(job)].append(job.name)
    if names["rejected"]:
        told = "samples fail min_score and were not saved"
        log.warning("%d of %d %s: %s", len(names["rejected"]), len(jobs), told, some_of(names["rejected"]))
    if names["failed"]:
        told = (
            "samples failed, as their lines of manifest.jsonl say; without these lines they are tried again"
        )
        log.warning("%d of %d %s: %s", len(names["failed"]), len(jobs), told, some_of(names["failed"]))
    painted, rejected, failed = (len(found) for found in names.values())
    defects = outputs.rejected_defects(jobs)
    told = f"{painted - kept} painted, {kept} kept from an earlier run, {rejected} rejected, {failed} failed"
    log.info("%d samples: %s%s", len(jobs), told, f"; {defects} defects rejected" if defects else "")
    return not (failed or defects)


def save_grid(run: Run, samples: Sequence[Job], load: Loader) -> None:
    """Write the grid of an annotation once all its `samples` exist: clean context, noised context, samples, side by
    side; one row per context. `load` reads the clean image."""
    outputs = run.outputs
    if any(map(outputs.missing, samples)):
        return
    size, first = run.config.network.image_size, samples[0]
    clean, painted = Canvas(first.image, load), [painted_canvas(outputs, job) for job in samples]
    rows = []
    for number, one in enumerate(first.passes):
        before = clean.context(one.context, size)
        white = np.full_like(before, 255)
        shown = [white if canvas is None else canvas.context(one.context, size) for canvas in painted]
        rows.append([before, noised(run, first, number, one, before), *shown])
    outputs.save_grid(first, rows)


def painted_canvas(outputs: Outputs, job: Job) -> Canvas | None:
    """A finished sample to cut contexts from; None where all its defects were rejected."""
    return Canvas(outputs.paths.sample(job), ImageCache()) if outputs.shipped(job) else None


def noised(run: Run, job: Job, number: int, one: Pass, clean: np.ndarray) -> np.ndarray:
    """What the sampler began with, at the first attempt: (S, S, 3) uint8."""
    tensor, item = images.to_tensor(clean), BatchItem(0, number, one.context, one.defects)
    noise = SampleNoise([item_seed(run.config.resolved_seed, job, item)], [0]).image(tensor)
    return images.to_uint8(run.diffusion.q_sample(tensor, run.options.start_index, noise))[0]
