"""Where centers of defects may lie: mask images, white = allowed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from generation.placement.candidates import Picture
from utils import images, labels
from utils.errors import UserError


class Regions:
    """Where centers may lie: images, white = allowed, for all classes or for some; without one, everywhere.

    `roi` is null, a file for every image, a folder with a file of each image's name, or class -> either.
    Raises UserError for a path that is not there, an image without its mask and an unknown class.
    """

    def __init__(
        self, roi: str | Mapping[str, str] | None, pictures: Sequence[Path], classes: Mapping[str, int]
    ):
        by_class = roi if isinstance(roi, Mapping) else {name: roi for name in classes if roi is not None}
        self.paths: dict[tuple[int, Path], Path] = {}  # (class id, image) -> mask
        problems = []
        for name, path in by_class.items():
            try:
                class_id = labels.match_class(name, classes)
                self.paths |= {(class_id, p): m for p, m in _mask_files(Path(path), pictures).items()}
            except UserError as error:
                problems.append(f"plan.roi: {error}")
        if problems:
            raise UserError.from_problems("the plan's regions cannot be used", list(dict.fromkeys(problems)))

    @property
    def files(self) -> list[Path]:
        """All mask files, each once."""
        return list(dict.fromkeys(self.paths.values()))

    def mask(self, class_id: int, picture: Picture) -> np.ndarray | None:
        """(H, W) bool in px of the output image, None: everywhere. Raises UserError for a mask of another size."""
        path = self.paths.get((class_id, picture.path))
        if path is None:
            return None
        mask = images.load_rgb(path).max(axis=2) > 127
        height, width = mask.shape
        if (width, height) not in (picture.native, picture.size):
            raise UserError(
                f"plan.roi: {path} is {width}x{height} px, but {picture.path.name} is {picture.native[0]}x"
                f"{picture.native[1]}; expected a mask of the image's size"
            )
        columns, rows = (np.arange(n) * m // n for n, m in zip(picture.size, (width, height), strict=True))
        return mask[np.ix_(rows, columns)]


def _mask_files(path: Path, pictures: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its mask file."""
    if path.is_file():
        return dict.fromkeys(pictures, path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    masks = {mask.stem: mask for mask in images.list_images(path)}
    missing = [picture.stem for picture in pictures if picture.stem not in masks]
    if missing:
        raise UserError(
            f"{path}: no mask for {len(missing)} of {len(pictures)} images ({missing[0]}, ...); expected "
            f"{missing[0]}.png and so on, all black where an image may not be used"
        )
    return {picture: masks[picture.stem] for picture in pictures}
