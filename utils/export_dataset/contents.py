"""What the export's modules share: options, a run with its chosen samples, an image of the set, and the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils.manifest import Entry
from utils.schema.generation import DatasetConfig, GenerationConfig

PARTS = ("train", "val")
Kind = Literal["painted", "clean", "real"]


class ExportOptions(DatasetConfig):
    """The configuration's `dataset` group, and what only the command line offers."""

    seed: int = 0  # of the split and the choice of clean images
    min_score: float = 0.0  # samples with a defect below it are left out
    link: bool = False  # hard links instead of copies
    verdicts: Path | None = None  # by eye, of one run (None: its own, if it has some)
    use_verdicts: bool = True  # whether samples rejected by eye are left out
    real: Path | None = None  # folder of real images with defects: the validation part
    real_train: bool = False  # whether those train, too, that a prepared folder does not hold out
    real_train_share: float = (
        0.0  # fraction of their defects in the training part, of a folder that was not prepared
    )


@dataclass(frozen=True)
class SourceRun:
    """A finished run: its folder and settings, the samples chosen from it, and what their names begin with here."""

    folder: Path
    config: GenerationConfig
    entries: Sequence[Entry]
    prefix: str

    @property
    def squash(self) -> int | None:
        """Side in px that its images were squashed to, None for native sizes."""
        return self.config.network.image_size if self.config.resize == "squash" else None


@dataclass(frozen=True)
class Item:
    """One image of the set, and the clean image it shows or, of a real one, itself (`source`).

    `image` is the file with its pixels, squashed to `squash` px where that is given; `mask` the one with its mask,
    None where the mask is what `defects` (of the manifest's layout) say. Where `rejected` ones are, the `source` comes
    back.
    """

    name: str
    kind: Kind
    source: str
    part: str
    size: tuple[int, int]  # width, height
    image: Path
    mask: Path | None = None
    squash: int | None = None
    defects: Sequence[dict[str, Any]] = ()
    rejected: Sequence[dict[str, Any]] = ()


@dataclass
class Report:
    """Contents of an exported data set."""

    folder: Path
    classes: dict[str, int]  # name -> id
    images: dict[str, int] = field(default_factory=dict)  # part -> samples
    backgrounds: dict[str, int] = field(default_factory=dict)  # part -> clean images
    real: dict[str, int] = field(default_factory=dict)  # part -> real images
    defects: dict[str, dict[str, int]] = field(default_factory=dict)  # class -> part -> defects
    warnings: list[str] = field(default_factory=list)

    @property
    def total(self) -> dict[str, int]:
        """Part -> images."""
        return {part: self.images[part] + self.backgrounds[part] + self.real[part] for part in PARTS}

    def __str__(self) -> str:
        kinds = [f"{sum(self.backgrounds.values())} of them clean"]
        kinds += [f"{count} real" for count in [sum(self.real.values())] if count]
        lines = [
            f"{self.folder}: {self.total['train']} images to train on, {self.total['val']} to validate "
            f"({', '.join(kinds)})"
        ]
        lines += [
            f"  {name}: " + ", ".join(f"{count[part]} {part}" for part in PARTS)
            for name, count in self.defects.items()
        ]
        return "\n".join([*lines, *(f"  note: {text}" for text in self.warnings)])
