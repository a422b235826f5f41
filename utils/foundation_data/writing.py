"""Files of the foundation prior's training data: patches with YOLO labels, and images without defects."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from utils.foundation_data import defects
from utils.foundation_data.boards import draw_boards
from utils.foundation_data.variety import varied, widened
from utils.labels import format_annotation, relative_box
from utils.synthetic_pcb.board import CLASSES as BOARD_CLASSES

CLASSES = (*BOARD_CLASSES, *defects.CLASSES)


class Writer:
    """Writes `boxed/<class>_<n>.png` with `.txt`, `clean/<source>_<n>.png` and `classes.json` to a folder."""

    def __init__(self, folder: Path, seed: int):
        self.boxed, self.clean, self.seed = folder / "boxed", folder / "clean", seed
        for each in (self.boxed, self.clean):
            each.mkdir(parents=True, exist_ok=True)
        ids = {name: number for number, name in enumerate(CLASSES)}
        (folder / "classes.json").write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
        self.counts = dict.fromkeys(CLASSES, 0)

    def surfaces(self, count: int) -> None:
        """Patches of synthetic surfaces; the seventh without a defect are clean images."""
        for index in tqdm(range(count), desc="surfaces"):
            patch = defects.draw_patch(self.seed, index)
            if patch.box is None:
                self._write_clean(patch.image, f"surface_{index}", [self.seed, 5, index], binary=False)
            else:
                self._write(patch, [self.seed, 6, index], binary=False)

    def boards(self, per_class: int) -> None:
        """Patches of synthetic boards, and the boards without defects."""
        with tqdm(total=per_class * len(BOARD_CLASSES), desc="boards") as bar:
            for index, (clean, patches) in enumerate(draw_boards(self.seed, per_class)):
                self._write_clean(clean, f"board_{index}", [self.seed, 7, index], binary=True)
                for patch in patches:
                    self._write(patch, [self.seed, 8, sum(self.counts.values())], binary=True)
                bar.update(len(patches))

    def _write(self, patch: defects.DefectPatch, seeds: list[int], binary: bool) -> None:
        name, box = patch.class_name, patch.box
        assert name is not None and box is not None
        rng = np.random.default_rng(seeds)
        image = varied(patch.image, binary, rng)
        height, width = image.shape[:2]
        line = format_annotation(
            CLASSES.index(name), *relative_box(widened(box, (height, width), rng), width, height)
        )
        stem = self.boxed / f"{name}_{self.counts[name]}"
        self.counts[name] += 1
        Image.fromarray(image).save(stem.with_suffix(".png"), compress_level=1)
        stem.with_suffix(".txt").write_text(line + "\n", encoding="utf-8")

    def _write_clean(self, image: np.ndarray, name: str, seeds: list[int], binary: bool) -> None:
        image = varied(image, binary, np.random.default_rng(seeds))
        Image.fromarray(image).save(self.clean / f"{name}.png", compress_level=1)
