"""Defects requested by numbers: the plan's folder of annotation files, made once and then used as it is."""

import atexit
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from generation.geometry import Geometry
from generation.jobs import output_size
from generation.models import count_classes
from generation.placement.candidates import Candidate, Score, Wanted, choose, random_stream, survey
from generation.placement.request import PlacementRequest
from generation.placement.roi import Regions
from generation.placement.score import placement_score
from generation.placement.surroundings import survey_surroundings
from generation.records import Provenance
from generation.setup import Run, make_geometry
from generation.training_defects import training_defects_sha256
from utils import images, labels
from utils.errors import UserError, shortened
from utils.export_dataset.outdated import label_folder
from utils.files import write_text
from utils.logger import setup_logging
from utils.processes.group import decided
from utils.reading import PARSE_ERRORS, read_json
from utils.schema.generation import GenerationConfig
from utils.schema.manifest import FileName, first_problem
from utils.schema.places import PlanConfig

log = logging.getLogger(__name__)

PLAN_FILE = "plan.json"


class _PlanFile(BaseModel):
    """What a plan.json must hold before files are written or deleted by it; it may have come from elsewhere."""

    model_config = ConfigDict(strict=True)
    fingerprint: dict[str, Any]
    labels: dict[FileName, list[str]]  # stem of an image -> lines of its annotation file


# The plan's folder


def make_plan(request: PlacementRequest, score: Score, out: Path, overwrite: bool = False) -> Path:
    """Write `<stem>.txt` (YOLO lines) per image with places, and `plan.json`, to the folder `out`; returns it.

    `score` is called with windows at the prior's size and a class id, with `rank: score` alone. A plan in `out`
    for the same request is used as it is, so its label files may have been edited; missing ones come back. Fewer
    places than requested are logged as a warning. Raises UserError for unknown classes, masks that do not fit,
    contexts larger than an image, no place at all, and a folder with label files of others or, without
    `overwrite`, with another plan.
    """
    pictures, plan, geometry = request.pictures, request.plan, request.geometry
    wanted = wanted_counts(plan.counts, request.classes)
    regions = Regions(plan.roi, pictures, request.classes)
    _check_stems(pictures)
    fingerprint = request.fingerprint(regions.files)
    found = _read_plan(out, fingerprint, overwrite)
    if found is None:
        if plan.rank == "surroundings":
            pools, counts = survey_surroundings(request, wanted, regions.mask)
        else:
            pools, counts = survey(request, wanted, regions.mask, score)
        stream = random_stream(request.seed, "choice")
        chosen = choose(pools, wanted, plan.spacing, plan.per_image, stream)
        tally = count_places(wanted, chosen, counts)
        _warn(tally, len(pictures))
        found = {"fingerprint": fingerprint, "classes": tally, **_record(pictures, chosen, geometry)}
        _write_text(out / PLAN_FILE, json.dumps(found, indent=1) + "\n")
    for stem, lines in found["labels"].items():
        if not (out / f"{stem}.txt").exists():
            _write_text(out / f"{stem}.txt", "".join(f"{line}\n" for line in lines))
    return out


def wanted_counts(counts: Mapping[str, int], classes: Mapping[str, int]) -> list[Wanted]:
    """The requested counts with the class file's names and ids, in the order of ids; zeros are left out.

    Raises UserError for unknown classes, two spellings of one class, and no positive count.
    """
    names = {class_id: name for name, class_id in classes.items()}
    found: dict[int, int] = {}
    problems = []
    for spelling, count in counts.items():
        try:
            class_id = labels.match_class(spelling, classes)
        except UserError as error:
            problems.append(f"plan.counts: {error}")
            continue
        if class_id in found:
            problems.append(
                f"plan.counts: class {names[class_id]!r} is given twice (the second is {spelling!r})"
            )
        found[class_id] = count
    wanted = [Wanted(names[class_id], class_id, count) for class_id, count in sorted(found.items()) if count]
    if not (wanted or problems):
        problems.append("plan.counts: got no defect to place; expected class: number, as in opencircuit: 20")
    if problems:
        raise UserError.from_problems("the plan cannot be made", problems)
    return wanted


def _check_stems(pictures: Sequence[Path]) -> None:
    twice = sorted(stem for stem, count in Counter(path.stem for path in pictures).items() if count > 1)
    if twice:
        raise UserError(
            f"{', '.join(twice)}: several clean images of one name, whose label files would collide; rename them"
        )


def _read_plan(out: Path, fingerprint: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The plan in `out` if it was made for the same request, None if there is none.

    A plan for another request raises UserError or, with `overwrite`, is deleted.
    """
    path = out / PLAN_FILE
    if not path.exists():
        if unrelated := sorted(p.name for p in out.glob("*.txt")):
            raise UserError(
                f"{out}: holds label files that no plan made ({unrelated[0]}, ...); expected an empty folder: "
                "move them elsewhere"
            )
        return None
    try:
        found = read_json(path)
        stored = _PlanFile.model_validate(found)
        before, now = stored.fingerprint, json.loads(json.dumps(fingerprint))
        before["plan"] = PlanConfig(**before["plan"]).plain()  # keys of earlier versions, in today's spelling
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    except PARSE_ERRORS as error:
        reason = shortened(first_problem(error) if isinstance(error, ValidationError) else str(error))
        raise UserError(f"{path}: not a plan of this program ({reason}); remove its folder {out}") from error
    if not changed:
        return found
    if not overwrite:
        raise UserError(
            f"{out}: holds a plan for another request (what differs: {', '.join(changed)}); set another outdir, or "
            "overwrite=true to make a new one"
        )
    for stem in stored.labels:
        (out / f"{stem}.txt").unlink(missing_ok=True)
    path.unlink()
    return None


def count_places(
    wanted: Sequence[Wanted], chosen: Sequence[Candidate], counts: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Class -> how many places were requested and found, and the numbers of candidates behind them."""
    found = Counter(place.class_name for place in chosen)
    return {
        one.class_name: {"asked": one.count, "found": found[one.class_name], **counts[one.class_name]}
        for one in wanted
    }


def _warn(tally: Mapping[str, Mapping[str, int]], pictures: int) -> None:
    """Log the numbers; warn of classes that lack places. Raises UserError when there is no place at all."""
    short = []
    for name, n in tally.items():
        text = (
            f"{name}: {n['found']} of {n['asked']} places found on {pictures} images ({n['possible']} possible, "
            f"{n['looked_at']} looked at, {n['kept']} good enough)"
        )
        log.info("plan: %s", text)
        short += [text] if n["found"] < n["asked"] else []
    hint = "take more or larger images, a smaller spacing or edge_margin, a larger keep, roi or per_image"
    if not any(n["found"] for n in tally.values()):
        raise UserError.from_problems(f"plan: no place found; {hint}", [*short, f"what helps: {hint}"])
    if short:
        log.warning("plan: too few places: %s; for more, %s", "; ".join(short), hint)


def _record(pictures: Sequence[Path], chosen: Sequence[Candidate], geometry: Geometry) -> dict[str, Any]:
    """What plan.json says about the places, and the label lines of each image that has some."""
    places: list[dict[str, Any]] = []
    lines: dict[str, list[str]] = {}
    for one in sorted(chosen, key=lambda one: (one.picture, one.class_id, one.y, one.x)):
        path = pictures[one.picture]
        places.append(
            {"picture": path.name, "class": one.class_name, "centre": [one.x, one.y], "box": [one.w, one.h]}
            | {"score": round(one.score, 6)}
        )
        a = one.annotation(output_size(path, geometry))
        lines.setdefault(path.stem, []).append(labels.format_annotation(a.class_id, a.cx, a.cy, a.w, a.h))
    return {"places": places, "labels": lines}


def _write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _identity(config: GenerationConfig) -> dict[str, Any]:
    """What the ranking of places depends on beside the plan."""
    if config.plan.rank == "score":
        return {"weights": dict(Provenance.of(config).weights)}
    queries = config.plan.queries
    if config.plan.rank == "surroundings" and queries:
        return {"queries": training_defects_sha256(Path(queries))}
    return {}


def place_defects(run: Run) -> Path:
    """The folder of annotation files that `plan` asks for, made if missing; a dry run's is deleted on exit."""
    config, classes, outputs = run.config, run.classes, run.outputs
    setup_logging(None, config.debug)
    if config.crop.class_cond:  # the classes that the prior knows
        classes = {name: i for name, i in classes.items() if i < count_classes(config, classes)}

    def score(windows: np.ndarray, class_id: int) -> np.ndarray:
        clean = torch.cat([images.to_tensor(window) for window in windows]).to(run.device)
        others = sorted(set(classes.values()) - {class_id}) if config.crop.class_cond else []
        return placement_score(run.sampler, clean, class_id, others).cpu().numpy()

    folder = label_folder(outputs.root, config)
    if config.dry_run and (config.overwrite or not (folder / PLAN_FILE).exists()):
        folder = Path(tempfile.mkdtemp(prefix="plan-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    request = PlacementRequest(
        images.image_files(Path(config.defect_free_dir)),
        classes,
        config.plan,
        make_geometry(config),
        config.resolved_seed,
        identity=_identity(config),
    )
    return decided(lambda: make_plan(request, score, folder, config.overwrite))
