"""Which samples of a run its annotation files still ask for."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from utils.labels import label_files, read_annotations_and_problems
from utils.schema.generation import GenerationConfig

PLAN_FOLDER = "plan"  # in a run's folder: the annotation files of `plan.counts`


def label_folder(run: Path, config: GenerationConfig) -> Path:
    """Where a run's annotation files lie: its plan, else beside the clean images."""
    return run / PLAN_FOLDER if config.plan.counts else Path(config.defect_free_dir)


def outdated_samples(
    lines: Iterable[Mapping[str, Any]], folder: Path, classes: Mapping[str, int]
) -> list[str]:
    """Names of the manifest's samples with a defect that the annotation files in `folder` do not ask for (any more).

    Lines of earlier versions, which do not record annotations, ask for any of the class. None is outdated where there
    is no such folder: the run was moved, and nothing is known.
    """
    files = label_files(folder) if folder.is_dir() else None

    @cache
    def asked(stem: str) -> list[tuple[int, list[float | None]]]:
        if files is None or stem not in files:
            return []
        found, _ = read_annotations_and_problems(files[stem], classes)
        return [(one.class_id, one.place) for one in found]

    def wanted(line: Mapping[str, Any], defect: Mapping[str, Any]) -> bool:
        recorded = defect.get("annotation")
        return any(
            class_id == defect["class_id"] and recorded in (None, values)
            for class_id, values in asked(Path(line["source"]).stem)
        )

    if files is None:
        return []
    return [line["name"] for line in lines if not all(wanted(line, one) for one in line["defects"])]
