"""What a run's samples were made from, compared with what is there now: classes, source images, annotations."""

from collections.abc import Mapping, Sequence
from typing import Any

from generation.jobs import Job
from generation.outputs import Outputs
from utils.config import differences
from utils.errors import UserError
from utils.manifest import iterate_manifest


def check_inputs(outputs: Outputs, jobs: Sequence[Job], classes: Mapping[str, int]) -> None:
    """Raises UserError when samples that the run would keep were made from other classes, images or annotations."""
    if outputs.overwrite or not outputs.manifest_file.exists():
        return
    if changes := differences(outputs.recorded_classes(), classes):
        raise UserError(_refusal(outputs, f"other classes ({'; '.join(changes)}: then against now)"))
    lines = (line for line in iterate_manifest(outputs.manifest_file) if line["status"] != "failed")
    made_from = {line["name"]: _made_from(line) for line in lines}
    sources, places = [], []
    for job in jobs:
        if job.name in made_from:
            sha256, defects = made_from[job.name]
            if sha256 not in (None, outputs.source_sha256(job.image)):
                sources.append(f"{job.image}: the image has changed since")
            if not _same_defects(defects, job):
                places.append(f"{job.name}: its annotations have changed since")
    if problems := [*dict.fromkeys(sources), *places]:
        raise UserError("\n  - ".join([_refusal(outputs, "other images or annotations"), *problems]))


def _refusal(outputs: Outputs, what: str) -> str:
    return (
        f"outdir {outputs.root} holds samples made from {what}; put back what they were made from, set another "
        "outdir, or overwrite=true to replace them"
    )


def _made_from(line: Mapping[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
    keys = ("class_id", "annotation")
    return line.get("source_sha256"), [{key: one.get(key) for key in keys} for one in line["defects"]]


def _same_defects(recorded: Sequence[Mapping[str, Any]], job: Job) -> bool:
    """Whether a sample's defects are those of the job; older manifests do not record annotations."""
    wanted = [defect.annotation for defect in job.defects]
    return len(recorded) == len(wanted) and all(
        one["class_id"] == annotation.class_id and one["annotation"] in (None, annotation.place)
        for one, annotation in zip(recorded, wanted, strict=True)
    )
