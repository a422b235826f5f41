"""The stages of one experiment on one split: source, parts, painter, places, paintings."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.downstream.copy_paste import paste_all
from evaluation.downstream.leakage import find_leaks
from evaluation.downstream.painting import ABLATIONS, Ablation, Painting, paint, plan_places, train_painter
from evaluation.downstream.split import (
    TEST,
    VALIDATION,
    Split,
    count_classes,
    held_groups,
    make_split,
    write_prepared,
)
from evaluation.downstream.stages import CachedStage, Stages, folder_digest
from evaluation.downstream.world import write_world
from utils.errors import UserError
from utils.schema.downstream import DownstreamConfig

OF_SPLIT = (
    "format",
    "group_pattern",
    "split",
    "holdout",
    "holdout_share",
    "validation",
    "validation_share",
)
SHOWN_LEAKS = 5


class Experiment:
    """One split of an experiment; its folders are made when they are first asked for."""

    def __init__(self, config: DownstreamConfig, seed: int):
        self.config, self.seed = config, seed
        self.stages = Stages(Path(config.outdir) / "stages")

    # Data

    @cached_property
    def source(self) -> Path:
        """The folder with the annotated images."""
        if self.config.source:
            return Path(self.config.source)
        world = self.config.world
        stage = CachedStage("world", {"world": world.model_dump(mode="json")})
        return self.stages.make(stage, lambda folder: write_world(folder, world))

    @cached_property
    def split(self) -> Split:
        return make_split(self.config, self.source, self.seed)

    @cached_property
    def split_key(self) -> Mapping[str, Any]:
        """What the parts depend on."""
        clean = self.config.clean_dir
        return {
            "source": folder_digest(self.source),
            "clean": folder_digest(Path(clean)) if clean else "",
            "seed": self.seed,
            **self.config.model_dump(mode="json", include=set(OF_SPLIT)),
        }

    def check_leaks(self) -> int:
        """The number of pairs of a training and a held-out image that show the same thing. Raises UserError for any,
        unless they are allowed or the split is meant to leak.

        A validation part that is drawn from the training groups is seen as a part of those.
        """
        own_groups = bool(held_groups(self.config)[1])
        paths = {part: [one.path for one in self.split.images(part)] for part in ("train", VALIDATION, TEST)}
        leaks = find_leaks([*paths["train"], *paths[VALIDATION]], paths[TEST])
        leaks += find_leaks(paths["train"], paths[VALIDATION]) if own_groups else []
        if leaks and self.config.split == "groups" and not self.config.allow_leaks:
            shown = [f"{leak.why}: {leak.first} and {leak.second}" for leak in leaks[:SHOWN_LEAKS]]
            raise UserError.from_problems(
                f"{len(leaks)} pairs of a training and a held-out image show the same thing; set group_pattern, "
                "holdout or validation so that they are in one part, or allow_leaks=true",
                [*shown, f"{len(leaks)} pairs in all"],
            )
        return len(leaks)

    # Painting

    @cached_property
    def real_counts(self) -> dict[str, int]:
        """Class -> real defects of the scarce training set."""
        return count_classes(self.split.chosen(self.config.per_class, self.seed), self.split.names)

    def wanted(self, ablation: str | None = None) -> dict[str, int]:
        """Class -> places: enough for the largest volume, of an ablation for the first."""
        volume = self.config.volumes[0] if ablation else max(self.config.volumes)
        return {name: volume * count for name, count in self.real_counts.items()}

    @property
    def prepared_stage(self) -> CachedStage:
        own = {"per_class": self.config.per_class, "minutes": self.config.painter.minutes}
        return CachedStage("prepared", {**self.split_key, **own})

    @property
    def painter_stage(self) -> CachedStage:
        painter = self.config.painter.model_dump(mode="json", exclude={"generate", "minutes"})
        return CachedStage("painter", {"prepared": self.prepared_stage.digest, **painter})

    def places_stage(self, ablation: str | None = None) -> CachedStage:
        own = {"counts": self.wanted(ablation), "plan": dict(self.changes(ablation).plan)}
        return CachedStage("places", {"prepared": self.prepared_stage.digest, **own})

    def painted_stage(self, ablation: str | None = None) -> CachedStage:
        return CachedStage(
            "painted",
            {
                "painter": self.painter_stage.digest,
                "places": self.places_stage(ablation).digest,
                "changes": [*self.config.painter.generate, *self.changes(ablation).keys],
            },
        )

    def pasted_stage(self, poisson: bool) -> CachedStage:
        return CachedStage("pasted", {"places": self.places_stage().digest, "poisson": poisson})

    @staticmethod
    def changes(ablation: str | None) -> Ablation:
        return ABLATIONS[ablation] if ablation else Ablation()

    def prepared(self) -> Path:
        """The folder that utils.prepare_data writes."""
        config = self.config

        def build(folder: Path) -> None:
            minutes = config.painter.minutes
            write_prepared(self.split, folder / "data", config.per_class, self.seed, minutes)

        return self.stages.make(self.prepared_stage, build) / "data"

    def painter(self) -> Path:
        """The folder of the networks."""
        prepared = self.prepared()
        return self.stages.make(
            self.painter_stage, lambda folder: train_painter(prepared, folder, self.config)
        )

    def places(self, ablation: str | None = None) -> Path:
        """The folder of clean images with labels where to paint."""
        prepared, counts, changes = self.prepared(), self.wanted(ablation), self.changes(ablation).plan
        return self.stages.make(
            self.places_stage(ablation), lambda folder: plan_places(prepared, folder, counts, changes)
        )

    def painted(self, ablation: str | None = None) -> Path:
        """The folder of a painting, with its pool of defects."""
        changes = self.changes(ablation).keys
        painting = Painting(self.prepared(), self.painter(), self.places(ablation), changes)
        return self.stages.make(
            self.painted_stage(ablation), lambda folder: paint(painting, folder, self.config)
        )

    def pasted(self, poisson: bool) -> Path:
        """The folder of pasted defects, with their pool."""
        prepared, places = self.prepared(), self.places()
        return self.stages.make(
            self.pasted_stage(poisson),
            lambda folder: paste_all(prepared, places, folder, self.split, poisson),
        )
