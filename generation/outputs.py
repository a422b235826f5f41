"""The output folder: names, what is done already, and whether new results fit beside the old ones."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from generation.jobs import Job
from generation.records import FOLDERS, LabelRule, Provenance, SamplePaths, defect_entry, save_sample
from generation.scoring import PaintedSample
from utils import images
from utils.config import differences, load_generation_config, resolved_yaml, settings_fingerprint
from utils.errors import UserError
from utils.export_dataset.outdated import outdated_samples
from utils.files import SETTINGS, check_begun_by_us, file_sha256, sweep, write_settings, write_text
from utils.labels import load_class_names
from utils.manifest import CLASSES_FILE, VERSION, append_entry, iterate_manifest, rewrite
from utils.processes.exclusive import check_writable, unwritable
from utils.schema.generation import GenerationConfig

GRID_COLUMNS = 6


class Outputs:
    """`outdir` with `sample/`, `mask/`, `label/`, `grid/`, `crop/`, `log/generation.log`, `config.yml`, `classes.json`
    and `manifest.jsonl`, which says what is done.

    Files appear whole or not at all. `rule`: which boxes the labels hold.
    """

    def __init__(self, outdir: str | Path, overwrite: bool, rule: LabelRule | None = None):
        self.root, self.overwrite, self.rule = Path(outdir), overwrite, rule or LabelRule()
        self.paths = SamplePaths(self.root)
        self.log_file = self.root / "log" / "generation.log"
        self.config_file = self.root / SETTINGS
        self.classes_file = self.root / CLASSES_FILE
        self.manifest_file = self.root / "manifest.jsonl"
        self._entries: dict[str, dict[str, Any]] | None = None
        self._sources: dict[Path, str] = {}

    def with_earlier_choices(self, config: GenerationConfig) -> GenerationConfig:
        """The configuration with what it leaves open as the folder's samples were made: seed null, precision
        and batch_size auto. So a stopped run goes on with the noise and the arithmetic it began with."""
        earlier = config
        if not self.overwrite and self.config_file.exists() and self._has_samples():
            with suppress(UserError):  # `check` says what is wrong with the file
                earlier = load_generation_config(self.config_file)
        choices = {"seed": None, "precision": "auto", "batch_size": "auto"}
        known = {
            key: getattr(earlier, key)
            for key, left_open in choices.items()
            if getattr(config, key) == left_open
        }
        return config.model_copy(update=known)

    def _has_samples(self) -> bool:
        return any(self.root.glob("sample/*.png")) or self.manifest_file.exists()

    def check(self, config: GenerationConfig) -> None:
        """Raises UserError when the folder cannot be written, or holds results of other settings that may
        not be overwritten, or files of the user's that a run would replace. Changes nothing."""
        for folder in (self.root, *(self.root / name for name in FOLDERS)):
            check_writable(folder, "outdir")
        if not self._has_samples():
            check_begun_by_us(self.root, "outdir", CLASSES_FILE)
            return
        if self.overwrite:
            return
        hint = "set another outdir, or overwrite=true to replace them"
        if not self.config_file.exists():
            raise UserError(
                f"outdir {self.root} holds samples, but no config.yml that says how they were made; {hint}"
            )
        try:
            before = settings_fingerprint(load_generation_config(self.config_file))
        except UserError as error:
            raise UserError(
                f"outdir {self.root} holds samples, but the settings they were made with cannot be read; "
                f"{hint} ({error})"
            ) from error
        changes = differences(before, settings_fingerprint(config))
        if changes:
            raise UserError(
                f"outdir {self.root} holds samples made with other settings ({'; '.join(changes)}: then against "
                f"now); {hint}"
            )
        self._check_weights(config, hint)

    def _check_weights(self, config: GenerationConfig, hint: str) -> None:
        now = Provenance.of(config).weights if self.entries else {}
        for entry in self.entries.values():
            changed = [key for key, value in now.items() if entry["weights"].get(key, value) != value]
            if changed:
                raise UserError(
                    f"outdir {self.root} holds samples made with other weights ({', '.join(changed)}: the file has "
                    f"changed since); {hint}"
                )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the system's refusal (permission, full disk) into a UserError."""
        try:
            yield
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            raise UserError(unwritable(self.root, "outdir", f"{error.strerror or error}{place}")) from error

    def prepare(
        self, config: GenerationConfig, classes: Mapping[str, int], replaced: Sequence[Job] = ()
    ) -> None:
        """Create the folders, the log, the resolved configuration and the class file; UserError when that fails.

        What is there of the jobs to be `replaced` goes first: so a stopped repainting goes on where it was,
        and no sample of the old settings is ever taken for one of the new.
        """
        with self._writing():
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            sweep(self.root)
            self.log_file.touch()
            if replaced:
                names = {job.name for job in replaced}
                if self.manifest_file.exists():
                    rewrite(
                        self.manifest_file, lambda entries: [e for e in entries if e["name"] not in names]
                    )
                self.reread()
            for job in replaced:
                for path in self.paths.all(job):
                    path.unlink(missing_ok=True)
            write_text(self.classes_file, json.dumps(dict(classes), ensure_ascii=False) + "\n")
            write_settings(self.config_file, resolved_yaml(config))

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Status, weights and number of rejected defects of the manifest's lines by sample name, as far as this
        process knows; UserError for a damaged manifest."""
        if self._entries is None:
            lines = iterate_manifest(self.manifest_file) if self.manifest_file.exists() else ()
            self._entries = {line["name"]: _state(line) for line in lines}
        return self._entries

    def reread(self) -> None:
        """Look at the manifest anew, which other processes may have written to."""
        self._entries = None

    def recorded_classes(self) -> dict[str, int]:
        """Class names and ids that the samples in the folder were made with. Raises UserError."""
        if self.classes_file.exists():
            return load_class_names(self.classes_file)
        lines = iterate_manifest(self.manifest_file)  # of an earlier version, which kept no file
        return {one["class_name"]: one["class_id"] for line in lines for one in line["defects"]}

    def outdated(self, folder: Path, classes: Mapping[str, int]) -> list[str]:
        """Names of the manifest's samples whose annotations in `folder` no longer exist."""
        if not self.manifest_file.exists():
            return []
        return outdated_samples(iterate_manifest(self.manifest_file), folder, classes)

    def unrelated_samples(self, jobs: Sequence[Job]) -> list[str]:
        """Names of samples in the folder that belong to none of `jobs`, sorted."""
        names = {f"{job.name}.png" for job in jobs}
        return sorted(path.name for path in self.root.glob("sample/*.png") if path.name not in names)

    def missing(self, job: Job) -> bool:
        """Whether the job's sample is still to be made: it has no line in the manifest, or its file has gone."""
        entry = self.entries.get(job.name)
        return entry is None or (entry["status"] == "painted" and not self.paths.sample(job).exists())

    def wanted(self, job: Job) -> bool:
        """Whether this run is to make the job's sample."""
        return self.overwrite or self.missing(job)

    def save(self, sample: PaintedSample, provenance: Provenance, seconds: float) -> None:
        """Write a sample's files, then its line of the manifest; what the manifest has already stays as it is.

        The mask is 255 where accepted defects were painted, the label has a YOLO line for each. A sample
        without an accepted defect leaves its line alone. Raises UserError when files cannot be written.
        """
        job = sample.job
        if not self.missing(job):
            return
        with self._writing():
            files = save_sample(self.paths, sample, self.rule) if sample.accepted else {}
            entry = {
                "name": job.name,
                "status": sample.status,
                "source": job.image.as_posix(),
                "source_sha256": self.source_sha256(job.image),
                "size": [sample.image.shape[1], sample.image.shape[0]],
                "index": job.index,
                "seed": provenance.seed,
                "files": files,
                "defects": [defect_entry(sample, k, self.rule) for k in range(len(sample.defects))],
                "config_sha256": provenance.config_sha256,
                "weights": dict(provenance.weights),
                "version": VERSION,
                "seconds": round(seconds, 3),
            }
            if sample.failure is not None:
                entry["failure"] = {"t": sample.failure.t, "reason": sample.failure.reason}
            append_entry(self.manifest_file, entry)
        self.entries[job.name] = _state(entry)

    def source_sha256(self, path: Path) -> str:
        """Of a clean image, read once."""
        if path not in self._sources:
            self._sources[path] = file_sha256(path)
        return self._sources[path]

    def finish_manifest(self, jobs: Sequence[Job]) -> None:
        """Put the lines of a finished run into the order of its jobs, those of other runs first."""
        order = {job.name: n for n, job in enumerate(jobs)}
        with self._writing():
            rewrite(self.manifest_file, lambda lines: sorted(lines, key=lambda e: order.get(e["name"], -1)))
        self.reread()

    def shipped(self, job: Job) -> bool:
        """Whether a finished job left an image: not when all its defects were rejected, or it failed."""
        return self.status(job) == "painted"

    def kept(self, job: Job) -> bool:
        """Whether the job's image is there and this run leaves it as it is."""
        return self.shipped(job) and not self.wanted(job)

    def status(self, job: Job) -> str | None:
        """painted, rejected or failed; None before that."""
        entry = self.entries.get(job.name)
        return None if entry is None else entry["status"]

    def rejected_defects(self, jobs: Sequence[Job]) -> int:
        """Defects of finished jobs, painted ones included, that are not in their images."""
        return sum(self.entries[job.name]["rejected"] for job in jobs if job.name in self.entries)

    def save_grid(self, job: Job, rows: Sequence[Sequence[np.ndarray]]) -> None:
        """Write rows of equal tiles as the grid of the job's annotation; a single row is wrapped."""
        tiles = [tile for row in rows for tile in row]
        columns = GRID_COLUMNS if len(rows) == 1 else len(rows[0])
        with self._writing():
            images.save_png(self.paths.grid(job), images.grid(tiles, columns=columns))

    def save_attention(self, job: Job, defect: int, figure: np.ndarray, frames: Sequence[np.ndarray]) -> None:
        """Write the figure of a defect's attention, and `frames`, if there are some, as an animation."""
        path = self.paths.figure(job, defect, ".png")
        with self._writing():
            path.parent.mkdir(exist_ok=True)
            images.save_png(path, figure)
            if frames:
                images.save_gif(path.with_suffix(".gif"), frames)


def _state(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What of a line of the manifest decides how a run goes on and ends."""
    rejected = sum(defect["status"] == "rejected" for defect in entry["defects"])
    return {"status": entry["status"], "weights": entry["weights"], "rejected": rejected}
