"""The output folder: names, what is done already, and whether new results fit beside the old ones."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from utils import images, labels
from utils.config import (
    GenerationConfig,
    differences,
    load_generation_config,
    resolved_yaml,
    settings_fingerprint,
)
from utils.errors import UserError
from utils.files import replacing
from utils.jobs import Job
from utils.painted import Region

FOLDERS = ("sample", "grid", "crop", "mask", "label", "log")

GRID_COLUMNS = 6


class Outputs:
    """`outdir` with `sample/`, `mask/`, `label/`, `grid/`, `crop/`, `log/generation.log` and `config.yml`.

    Files appear whole or not at all.
    """

    def __init__(self, outdir: str | Path, overwrite: bool):
        self.root, self.overwrite = Path(outdir), overwrite
        self.log_file = self.root / "log" / "generation.log"
        self.config_file = self.root / "config.yml"

    def with_seed(self, config: GenerationConfig) -> GenerationConfig:
        """The configuration with a seed: its own, or for null the one the folder's samples were made with, or
        a new one. So a stopped run without a seed goes on with the noise it began with."""
        if config.seed is not None:
            return config
        seed = None
        if not self.overwrite and self.config_file.exists() and any(self.root.glob("sample/*.png")):
            with suppress(UserError):  # `check` says what is wrong with the file
                seed = load_generation_config(self.config_file).seed
        return config.model_copy(
            update={"seed": int.from_bytes(os.urandom(4), "big") if seed is None else seed}
        )

    def check(self, config: GenerationConfig) -> None:
        """Raises UserError when the folder cannot be written, or holds results of other settings that may
        not be overwritten. Changes nothing."""
        for folder in (self.root, *(self.root / name for name in FOLDERS)):
            self._check_writable(folder)
        if self.overwrite or not any(self.root.glob("sample/*.png")):
            return
        way_out = "set another outdir, or overwrite=true to replace them"
        if not self.config_file.exists():
            raise UserError(
                f"outdir {self.root} holds samples, but no config.yml that says how they were made; {way_out}"
            )
        try:
            before = settings_fingerprint(load_generation_config(self.config_file))
        except UserError as error:
            raise UserError(
                f"outdir {self.root} holds samples, but the settings they were made with cannot be read; "
                f"{way_out} ({error})"
            ) from error
        changes = differences(before, settings_fingerprint(config))
        if changes:
            raise UserError(
                f"outdir {self.root} holds samples made with other settings ({'; '.join(changes)}: then against "
                f"now); {way_out}"
            )

    def _check_writable(self, folder: Path) -> None:
        """Looks at the nearest path that exists: everything below it is still to be made."""
        folder = folder.absolute()
        nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        if not nearest.is_dir():
            raise UserError(self._unwritable(f"{nearest} is not a folder"))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(self._unwritable(f"no permission to write in {nearest}"))

    def _unwritable(self, why: str) -> str:
        return f"outdir {self.root} cannot be written ({why}); mend that or set another outdir"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the system's refusal (permission, full disk) into a UserError."""
        try:
            yield
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            raise UserError(self._unwritable(f"{error.strerror or error}{place}")) from error

    def prepare(self, config: GenerationConfig, replaced: Sequence[Job] = ()) -> None:
        """Create the folders, the log and the resolved configuration; raises UserError when that fails.

        What is there of the jobs to be `replaced` goes first: so a stopped repainting goes on where it was,
        and no sample of the old settings is ever taken for one of the new.
        """
        with self._writing():
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self.log_file.touch()
            for job in replaced:
                for path in self._files(job):
                    path.unlink(missing_ok=True)
            with replacing(self.config_file) as temporary:
                temporary.write_text(resolved_yaml(config), encoding="utf-8")

    def strangers(self, jobs: Sequence[Job]) -> list[str]:
        """Names of samples in the folder that belong to none of `jobs`, sorted."""
        names = {f"{job.name}.png" for job in jobs}
        return sorted(path.name for path in self.root.glob("sample/*.png") if path.name not in names)

    def sample_path(self, job: Job) -> Path:
        return self.root / "sample" / f"{job.name}.png"

    def missing(self, job: Job) -> bool:
        """Whether the job's sample is still to be made."""
        return not self.sample_path(job).exists()

    def crop_path(self, job: Job) -> Path:
        return self.root / "crop" / f"{job.name}.png"

    def grid_path(self, job: Job) -> Path:
        """The grid of the job's annotation, which all its samples share."""
        return self.root / "grid" / f"{job.base}_grid.png"

    def mask_path(self, job: Job) -> Path:
        return self.root / "mask" / f"{job.name}.png"

    def label_path(self, job: Job) -> Path:
        return self.root / "label" / f"{job.name}.txt"

    def _files(self, job: Job) -> tuple[Path, ...]:
        """All files of a job, and its annotation's grid; the sample, which says that it is done, first."""
        own = self.sample_path(job), self.crop_path(job), self.mask_path(job), self.label_path(job)
        return *own, self.grid_path(job)

    def save(self, job: Job, sample: np.ndarray, crop: np.ndarray, region: Region) -> None:
        """Write a job's crop, mask and label, then its sample; a sample there stays as it is.

        `sample` (H, W, 3) and `crop` (h, w, 3) uint8; the mask is 255 where `region` was painted, the label
        one YOLO line with its box, or empty when nothing was. Raises UserError when they cannot be written.
        """
        if not self.missing(job):
            return
        line = ""
        if region.box is not None:
            box = labels.relative_box(region.box, sample.shape[1], sample.shape[0])
            line = labels.format_annotation(job.annotation.class_id, *box) + "\n"
        with self._writing():
            images.save_png(self.crop_path(job), crop)
            images.save_png(self.mask_path(job), region.mask.astype(np.uint8) * 255)
            with replacing(self.label_path(job)) as temporary:
                temporary.write_text(line, encoding="utf-8")
            images.save_png(self.sample_path(job), sample)

    def save_grid(self, job: Job, tiles: Sequence[np.ndarray]) -> None:
        """Write the clean picture, the noised one and the samples of the job's annotation side by side."""
        with self._writing():
            images.save_png(self.grid_path(job), images.grid(tiles, columns=GRID_COLUMNS))

    def figure_path(self, job: Job, suffix: str) -> Path:
        """Where the attention's evolution goes; its folder is made when first asked for."""
        folder = self.root / "attention"
        with self._writing():
            folder.mkdir(exist_ok=True)
        return folder / f"{job.name}{suffix}"


def plan_batches(jobs: Sequence[Job], batch_size: int) -> list[list[Job]]:
    """Consecutive jobs, `batch_size` at a time; planned from all jobs, done or not, so that a resumed or
    shared run computes the same batches."""
    return [list(jobs[i : i + batch_size]) for i in range(0, len(jobs), batch_size)]
