"""The keys of where defects are painted and from what: planned places, training defects to start from."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from utils.schema.fields import (
    Int,
    PathInUnion,
    Section,
)

Counts = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[Int, Field(ge=0)]],
    Field(json_schema_extra={"expected": "class: whole number >= 0, ...", "default_text": "none"}),
]


BoxSides = Annotated[
    tuple[Annotated[Int, Field(ge=1)], Annotated[Int, Field(ge=1)]],
    Field(json_schema_extra={"expected": "smallest and largest side, whole numbers >= 1"}),
]


Roi = Annotated[
    PathInUnion | dict[str, PathInUnion] | None,
    Field(json_schema_extra={"expected": "null, a path, or class: path, ..."}),
]


def _score_of_old_name(rank: Any) -> Any:
    return "score" if rank == "appeal" else rank


Sizes = Annotated[
    dict[
        Annotated[str, Field(min_length=1)],
        Annotated[
            tuple[tuple[Annotated[Int, Field(ge=1)], Annotated[Int, Field(ge=1)]], ...],
            Field(min_length=1, max_length=64),
        ],
    ],
    Field(json_schema_extra={"expected": "class: [[width, height], ...]", "default_text": "none"}),
]


class PlanConfig(Section):
    """Defects requested by numbers instead of by annotation files; px are those of the output images."""

    counts: Counts = Field(
        default_factory=dict, description="defects requested of each class; none = no plan"
    )
    spacing: Int = Field(96, ge=0, description="least distance between two centers on an image, px")
    size: BoxSides = Field(
        (24, 48), description="sides of a defect's box, px; drawn between them, small and large alike often"
    )
    sizes: Sizes = Field(
        default_factory=dict, description="classes whose boxes are drawn from a list of [width, height], px"
    )
    edge_margin: Int = Field(16, ge=0, description="least distance of a box from the image's edge, px")
    per_image: Int | None = Field(None, ge=1, description="most defects on one image; null = no limit")
    roi: Roi = Field(
        None,
        description="where centers may lie: an image, white = allowed, or a folder with one of each image's "
        "name; one for all classes or one per class",
    )
    rank: Annotated[Literal["score", "surroundings", "uniform"], BeforeValidator(_score_of_old_name)] = Field(
        "score",
        description="score = where the networks expect the class; surroundings = where it looks as around the "
        "defects of `queries`, whose boxes are taken; uniform = anywhere",
    )
    queries: PathInUnion | None = Field(
        None, description="folder that utils.prepare_data wrote, for rank: surroundings"
    )
    rotate90: bool = Field(
        True, description="rank: surroundings looks for the defects turned by quarters, too"
    )
    flip: bool = Field(True, description="rank: surroundings looks for the defects mirrored, too")
    stride: Int = Field(16, ge=1, description="grid of candidate places, px")
    keep: Annotated[float, Field(ge=1e-4, le=1)] = Field(
        0.1,
        description="best fraction of the candidates, from which places are drawn; less = surer, less varied",
    )

    @field_validator("size")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the smallest side comes first")
        return value

    @model_validator(mode="after")
    def _queries_are_there(self) -> "PlanConfig":
        if self.rank == "surroundings" and not self.queries:
            raise ValueError("queries: got null, which rank: surroundings needs; expected a folder")
        return self

    def plain(self) -> dict[str, Any]:
        """All values in the shape of the file, for a fingerprint."""
        return self.model_dump(mode="json")


class ExemplarsConfig(Section):
    """Training defects that painting starts from, laid over the clean image and noised (Meng et al. 2022, SDEdit)."""

    folder: PathInUnion | None = Field(
        None,
        description="folder that utils.prepare_data wrote, for its training defects; null = painting starts from "
        "the clean image",
    )
    rotate90: bool = Field(True, description="defects may be turned by quarters")
    flip: bool = Field(True, description="defects may be mirrored")
