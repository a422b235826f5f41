"""What a line of `manifest.jsonl` must hold before anything is read, copied or written by it.

A manifest may have been damaged, or come from elsewhere: names stay file names, paths stay in the run's folder,
sizes fit into memory. Keys beyond these are allowed.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from utils.labels import LARGEST_ID
from utils.reading import text_problem

MOST_PIXELS = 2**28  # of an image: a mask of it takes as many bytes
LONGEST_NAME = 250  # bytes of a file's name without suffix


def _file_name(name: str) -> str:
    problem = text_problem(name)
    if problem or name in ("", ".", "..") or set(name) & set("/\\") or len(name.encode()) > LONGEST_NAME:
        raise ValueError(problem or "no name of a file")
    return name


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if text_problem(path) or not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ValueError("no path inside the run's folder")
    return path


FileName = Annotated[str, AfterValidator(_file_name)]
InsidePath = Annotated[str, AfterValidator(_inside)]
Pixels = Annotated[int, Field(ge=0, le=MOST_PIXELS)]
Side = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
BoxLine = tuple[Pixels, Pixels, Pixels, Pixels]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())


class RunLengths(_Part):
    """Uncompressed COCO RLE."""

    size: tuple[Side, Side]  # height, width
    counts: list[Pixels]


class DefectLine(_Part):
    """One defect of a sample."""

    class_name: Annotated[str, Field(min_length=1)]
    class_id: Annotated[int, Field(ge=0, le=LARGEST_ID)]
    line: int
    window: tuple[Pixels, Pixels, Side]
    scale: Annotated[float, Field(gt=0)]
    status: Literal["painted", "rejected"]
    attempt: Annotated[int, Field(ge=0)]
    box: BoxLine | None
    mask: RunLengths | None
    scores: dict[str, float]
    annotation: tuple[Share, Share, Share | None, Share | None] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "DefectLine":
        if "score" not in self.scores:
            raise ValueError("scores: no score")
        if self.box and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("box: no box left, top, right, bottom")
        if self.status == "painted" and (self.box is None) != (self.mask is None):
            raise ValueError("a box comes with a mask")
        return self


class FilesLine(_Part):
    """Paths of a sample's files from the run's folder on."""

    sample: InsidePath | None = None
    mask: InsidePath | None = None
    label: InsidePath | None = None
    crop: list[InsidePath] = []
    attention: list[InsidePath] = []


class FailureLine(_Part):
    """Why a sample could not be computed, and at which step it showed."""

    t: Annotated[int, Field(ge=0)]
    reason: str


class SampleLine(_Part):
    """One finished sample."""

    name: FileName
    status: Literal["painted", "rejected", "failed"]
    source: Annotated[str, Field(min_length=1)]
    source_sha256: str | None = None
    size: tuple[Side, Side]  # width, height
    seed: int
    files: FilesLine
    defects: list[DefectLine]
    config_sha256: str
    weights: dict[str, str]
    version: str
    failure: FailureLine | None = None  # of a failed sample, which has no defects

    @model_validator(mode="after")
    def _fits(self) -> "SampleLine":
        width, height = self.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"size: more than {MOST_PIXELS} px")
        if self.status == "painted" and (self.files.sample is None or self.files.mask is None):
            raise ValueError("files: a painted sample has a sample and a mask")
        for defect in self.defects:
            if defect.box and (defect.box[2] > width or defect.box[3] > height):
                raise ValueError("box: beyond the image")
            left, top, side = defect.window
            if left + side > width or top + side > height:
                raise ValueError("window: beyond the image")
            if defect.mask and (
                defect.mask.size != (height, width) or sum(defect.mask.counts) != width * height
            ):
                raise ValueError("mask: not of the image's size")
        return self


def check_line(line: bytes) -> None:
    """Raises ValueError, in a sentence, for a JSON text that is no line of a manifest."""
    try:
        SampleLine.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """Place and reason of the first thing that does not fit a layout."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
