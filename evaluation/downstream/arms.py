"""What is compared: the arms, and the tiles that detectors of each are trained on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.detectors.interface import Example
from evaluation.downstream.experiment import Experiment
from evaluation.downstream.pool import pool_scenes, read_pool, select
from evaluation.downstream.scenes import VIEWS, Scene, clean_tiles, training_tiles
from evaluation.downstream.split import Split, count_classes
from evaluation.downstream.world import procedural_scenes
from utils.schema.downstream import DownstreamConfig

BACKGROUND = 0.25  # clean tiles per tile with a defect
CHANGED = "ours, "  # begins the name of an arm that paints with one thing changed


@dataclass(frozen=True)
class Arm:
    """One line of the table: `per_class` real defects and `volume` times as many synthetic ones."""

    name: str
    volume: int
    per_class: int
    real_share: float

    @property
    def ablation(self) -> str | None:
        return self.name.removeprefix(CHANGED) if self.name.startswith(CHANGED) else None


@dataclass(frozen=True)
class ArmData:
    """The tiles of an arm, and how many defects they show."""

    real: Sequence[Example]
    synthetic: Sequence[Example]
    real_defects: int
    synthetic_defects: int


def main_arms(config: DownstreamConfig) -> list[Arm]:
    """The arms of `arms`, `real` first."""
    base = Arm("real", 0, config.per_class, config.real_share)
    first = config.volumes[0]
    arms = []
    for name in config.arms:
        if name in ("real", "all_real"):
            arms.append(replace(base, name=name))
        elif name in ("ours", "ours_filtered", "copy_paste"):
            arms += [replace(base, name=name, volume=volume) for volume in config.volumes]
        else:
            arms.append(replace(base, name=name, volume=first))
    return sorted(dict.fromkeys(arms), key=lambda arm: arm.name != "real")


def list_arms(config: DownstreamConfig) -> list[Arm]:
    """All arms: those of `main_arms`, then what is run with the cheap detectors alone."""
    base = Arm("real", 0, config.per_class, config.real_share)
    first = config.volumes[0]
    arms = main_arms(config)
    arms += [replace(base, per_class=count) for count in config.curve]
    arms += [replace(base, name="ours", volume=first, real_share=share) for share in config.real_shares]
    arms += [replace(base, name=f"{CHANGED}{name}", volume=first) for name in config.ablations]
    return list(dict.fromkeys(arms))


def paints(arm: Arm) -> bool:
    """Whether the painter is needed."""
    return arm.name in ("ours", "ours_filtered", "synthetic_only") or arm.ablation is not None


class ArmBuilder:
    """Makes the tiles of arms; the real ones are the same for all arms of a size."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self._real: dict[tuple[str, int], tuple[list[Example], int]] = {}

    @property
    def split(self) -> Split:
        return self.experiment.split

    @property
    def classes(self) -> Mapping[str, int]:
        """Class -> index in `Example`."""
        return {name: k for k, name in enumerate(self.split.names)}

    def build(self, arm: Arm) -> ArmData:
        """The tiles of an arm; makes what it needs first."""
        real, count = self.real_tiles(arm)
        synthetic, made = self.synthetic_tiles(arm)
        if arm.name == "synthetic_only":
            return ArmData([], [*synthetic, *[one for one in real if not len(one.boxes)]], 0, made)
        return ArmData(real, synthetic, count, made)

    def real_tiles(self, arm: Arm) -> tuple[list[Example], int]:
        """Tiles of the arm's real defects and clean ones, and the number of defects."""
        key = ("all", 0) if arm.name == "all_real" else ("chosen", arm.per_class)
        if key not in self._real:
            number = None if arm.name == "all_real" else arm.per_class
            chosen = self.split.chosen(number, self.experiment.seed)
            tiles = self._tiles(self.split.training_scenes(chosen), 1)
            count = sum(map(len, chosen.values()))
            self._real[key] = [*tiles, *self._background(len(tiles))], count
        return self._real[key]

    def synthetic_tiles(self, arm: Arm) -> tuple[list[Example], int]:
        """Tiles of the arm's synthetic defects, and their number."""
        if not arm.volume:
            return [], 0
        scenes = self._synthetic_scenes(arm)
        tiles = self._tiles(scenes, 2)
        return tiles, len(tiles) // VIEWS

    def _synthetic_scenes(self, arm: Arm) -> Iterator[Scene]:
        experiment = self.experiment
        chosen = self.split.chosen(arm.per_class, experiment.seed)
        wanted = {name: arm.volume * n for name, n in count_classes(chosen, self.split.names).items()}
        if arm.name == "procedural":
            return procedural_scenes(wanted, self.classes)
        if arm.name.startswith("copy_paste"):
            folder = experiment.pasted(poisson=arm.name == "copy_paste_poisson")
        else:
            folder = experiment.painted(arm.ablation)
        pool = read_pool(folder)
        least = experiment.config.min_score if arm.name == "ours_filtered" else 0.0
        return pool_scenes(pool, select(pool, wanted, experiment.seed, least), self.classes)

    def _background(self, tiles: int) -> list[Example]:
        """Tiles of clean training images, BACKGROUND per tile with a defect, spread over the images."""
        rng = self._stream(3)
        scenes = self.split.clean_images()
        wanted = round(BACKGROUND * tiles)
        shares = np.diff(np.linspace(0, wanted, len(scenes) + 1).round().astype(int))
        found: list[Example] = []
        for k in rng.permutation(len(scenes)):
            if shares[k]:
                found += clean_tiles(self.split.scene(scenes[k], []), self._side, int(shares[k]), rng)
        return found

    def _tiles(self, scenes: Iterable[Scene], purpose: int) -> list[Example]:
        alone = self.experiment.config.one_per_tile
        return training_tiles(scenes, self._side, self._stream(purpose), alone)

    @property
    def _side(self) -> int:
        return self.experiment.config.tile

    def _stream(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.experiment.seed, 20, purpose])
