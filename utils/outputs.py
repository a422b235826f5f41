"""The output folder: names, what is done already, and whether new results fit beside the old ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils import images
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

FOLDERS = ("sample", "grid", "crop", "log")


class Outputs:
    """`outdir` with `sample/`, `grid/`, `crop/`, `log/generation.log` and `config.yml`; files appear whole."""

    def __init__(self, outdir: str | Path, overwrite: bool):
        self.root, self.overwrite = Path(outdir), overwrite
        self.log_file = self.root / "log" / "generation.log"
        self.config_file = self.root / "config.yml"

    def check(self, config: GenerationConfig) -> None:
        """Raises UserError when the folder holds results of other settings, unless they may be overwritten."""
        if self.overwrite or not self.config_file.exists() or not any(self.root.glob("sample/*.png")):
            return
        before = settings_fingerprint(load_generation_config(self.config_file))
        changes = differences(before, settings_fingerprint(config))
        if changes:
            raise UserError(
                f"outdir {self.root} holds samples made with other settings ({'; '.join(changes)}: then against "
                "now); set another outdir, or overwrite=true to replace them"
            )

    def prepare(self, config: GenerationConfig) -> None:
        """Create the folders and write the resolved configuration; raises UserError when that fails."""
        try:
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            with replacing(self.config_file) as temporary:
                temporary.write_text(resolved_yaml(config), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"outdir {self.root} cannot be written ({error.strerror}: {error.filename}); set outdir to a "
                "folder of yours"
            ) from error

    def sample_path(self, job: Job) -> Path:
        return self.root / "sample" / f"{job.name}.png"

    def missing(self, job: Job) -> bool:
        """Whether the job's sample is still to be made."""
        return not self.sample_path(job).exists()

    def save(self, job: Job, sample: np.ndarray, crop: np.ndarray) -> None:
        """Write a job's crop and then its sample, both (H, W, 3) uint8; a sample there stays as it is."""
        if self.missing(job) or self.overwrite:
            images.save_png(self.root / "crop" / f"{job.name}.png", crop)
            images.save_png(self.sample_path(job), sample)

    def save_grid(self, job: Job, tiles: Sequence[np.ndarray]) -> None:
        """Write the clean picture, the noised one and the samples of the job's annotation side by side."""
        images.save_png(self.root / "grid" / f"{job.base}_grid.png", images.grid(tiles, columns=len(tiles)))

    def figure_path(self, job: Job, suffix: str) -> Path:
        folder = self.root / "attention"
        folder.mkdir(exist_ok=True)
        return folder / f"{job.name}{suffix}"


def plan_batches(jobs: Sequence[Job], batch_size: int) -> list[list[Job]]:
    """Consecutive jobs, `batch_size` at a time; planned from all jobs, done or not, so that a resumed or
    shared run computes the same batches."""
    return [list(jobs[i : i + batch_size]) for i in range(0, len(jobs), batch_size)]
