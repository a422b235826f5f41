"""What a plan is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generation.geometry import Geometry
from utils.files import file_sha256
from utils.schema.places import PlanConfig


@dataclass(frozen=True)
class PlacementRequest:
    """What is requested, and all that the places depend on.

    `pictures` are the clean images, `classes` name -> id; `identity` (JSON values) is what the score depends on.
    """

    pictures: Sequence[Path]
    classes: Mapping[str, int]
    plan: PlanConfig
    geometry: Geometry
    seed: int
    identity: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self, regions: Sequence[Path]) -> dict[str, Any]:
        """What a plan must have been made from to be used again; `regions` are the mask files."""
        geometry = self.geometry
        return {
            "plan": self.plan.plain(),
            "classes": dict(self.classes),
            "geometry": [geometry.resize, geometry.scale, geometry.image_size, geometry.crop_size],
            "seed": self.seed,
            "pictures": {path.name: file_sha256(path) for path in self.pictures},
            "regions": sorted(map(file_sha256, regions)),
            **self.identity,
        }
