"""The keys of `plan`: how many defects of which class are wanted, and where they may lie."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from utils.config_base import FilePath, Int, Section

Counts = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[Int, Field(ge=0)]],
    Field(json_schema_extra={"expected": "class: whole number >= 0, ...", "default_text": "none"}),
]
BoxSides = Annotated[
    tuple[Annotated[Int, Field(ge=1)], Annotated[Int, Field(ge=1)]],
    Field(json_schema_extra={"expected": "smallest and largest side, whole numbers >= 1"}),
]
Roi = Annotated[
    FilePath | dict[str, FilePath] | None,
    Field(json_schema_extra={"expected": "null, a path, or class: path, ..."}),
]


class PlanConfig(Section):
    """Defects asked for by numbers instead of by annotation files; px are those of the output pictures."""

    counts: Counts = Field(default_factory=dict, description="defects wanted of each class; none = no plan")
    spacing: Int = Field(96, ge=0, description="least distance between two centres on a picture, px")
    size: BoxSides = Field(
        (24, 48), description="sides of a defect's box, px; drawn between them, small and large alike often"
    )
    edge_margin: Int = Field(16, ge=0, description="least distance of a box from the picture's edge, px")
    per_image: Int | None = Field(None, ge=1, description="most defects on one picture; null = no limit")
    roi: Roi = Field(
        None,
        description="where centres may lie: a picture, white = allowed, or a folder with one of each picture's "
        "name; one for all classes or one per class",
    )
    rank: Literal["appeal", "uniform"] = Field(
        "appeal",
        description="appeal = where the surroundings resemble those of the class's defects; uniform = anywhere",
    )
    stride: Int = Field(16, ge=1, description="grid of candidate places, px")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="best share of the candidates that places are drawn from; less = surer, less varied"
    )

    @field_validator("size")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the smallest side comes first")
        return value

    def plain(self) -> dict[str, Any]:
        """All values in the shape of the file, for a fingerprint."""
        return self.model_dump(mode="json")
