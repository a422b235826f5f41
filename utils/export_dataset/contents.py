"""What the export's modules share: options, an image of the set, and the report."""

from dataclasses import dataclass, field
from pathlib import Path

from utils.manifest import Entry
from utils.schema.generation import DatasetConfig

PARTS = ("train", "val")


class ExportOptions(DatasetConfig):
    """The configuration's `dataset` group, and what only the command line offers."""

    seed: int = 0  # of the split and the choice of clean images
    min_score: float = 0.0  # samples with a defect below it are left out
    link: bool = False  # hard links instead of copies


@dataclass(frozen=True)
class Item:
    """One image of the set: a sample's files, or a clean source (`entry` None)."""

    name: str
    source: str
    part: str
    size: tuple[int, int]  # width, height
    entry: Entry | None


@dataclass
class Report:
    """Contents of an exported data set."""

    folder: Path
    classes: dict[str, int]  # name -> id
    images: dict[str, int] = field(default_factory=dict)  # part -> samples
    backgrounds: dict[str, int] = field(default_factory=dict)  # part -> clean images
    defects: dict[str, dict[str, int]] = field(default_factory=dict)  # class -> part -> defects
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = {part: self.images[part] + self.backgrounds[part] for part in PARTS}
        lines = [
            f"{self.folder}: {total['train']} images to train on, {total['val']} to validate "
            f"({sum(self.backgrounds.values())} of them clean)"
        ]
        lines += [
            f"  {name}: " + ", ".join(f"{count[part]} {part}" for part in PARTS)
            for name, count in self.defects.items()
        ]
        return "\n".join([*lines, *(f"  note: {text}" for text in self.warnings)])
