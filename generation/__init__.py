"""Clean image to painted image: jobs, contexts, the sampler in batches, files.

The package itself is for use from Python: arrays in, arrays out, with the networks of a configuration loaded once.
sample_generation.py paints folders by generation/run.py; both work through generation/painting/painter.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from generation.geometry import Size
from generation.jobs import Job, plan_image
from generation.models import check_class_ids
from generation.painting.painter import SilentCallback
from generation.scoring import PaintedSample
from generation.setup import Run, job_options, make_geometry, make_painter, make_run
from utils.config import load_generation_config
from utils.errors import UserError
from utils.images import resize_squash
from utils.labels import Annotation, match_class


@dataclass(frozen=True)
class Request:
    """A defect to paint: its class, the pixel (x, y) of its center, and its size (width, height) in px of the image.

    The size matters where `scale: auto` chooses the scale by it, and to priors that are told the box.
    """

    class_name: str
    center: tuple[int, int]
    size: tuple[int, int] | None = None

    def annotation(self, number: int, size: Size, classes: dict[str, int]) -> Annotation:
        """As an annotation of an image of `size` (width, height). Raises UserError."""
        class_id = match_class(self.class_name, classes)
        name = next(name for name, i in classes.items() if i == class_id)
        if not all(0 <= at < side for at, side in zip(self.center, size, strict=True)):
            raise UserError(
                f"center: got {self.center}, expected a pixel of the image of {size[0]}x{size[1]} px"
            )
        if self.size and not all(0 < own <= side for own, side in zip(self.size, size, strict=True)):
            raise UserError(
                f"size: got {self.size}, expected sides of 1 px up to the image's {size[0]}x{size[1]}"
            )
        cx, cy = ((int(at) + 0.5) / side for at, side in zip(self.center, size, strict=True))
        w, h = (own / side for own, side in zip(self.size, size, strict=True)) if self.size else (None, None)
        return Annotation(class_id, name, cx, cy, w, h, number)


class ArrayPainter:
    """Paints arrays with the networks and settings of a run; it neither reads nor writes a folder."""

    def __init__(self, run: Run):
        self.run = run
        self.painter = make_painter(run, SilentCallback())

    def paint(
        self, image: np.ndarray, requests: Sequence[Request], name: str = "image.png", index: int = 0
    ) -> PaintedSample:
        """Paint all requested defects on an image (H, W, 3) uint8 in RGB, which is not changed.

        The noise depends on the seed, on `name` and `index` and, with one defect, on its class and pixel. With the
        name of a file and the index of a sample it is the noise with which `sample_generation.py` paints them; the
        images are equal to the byte where the batches are too, as at `batch_size: 1`. Raises UserError.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"image: got {image.dtype} of shape {image.shape}, expected uint8 (height, width, 3)"
            )
        job = self.job(image.shape[1::-1], requests, name, index)
        options = self.painter.options
        shown = resize_squash(image, options.image_size) if options.squash else image
        (sample,) = self.painter.paint([job], lambda path: shown)
        if sample.failure is not None:
            raise UserError(
                f"{name}: not painted: {sample.failure.reason} (t={sample.failure.t}); check the image"
            )
        return sample

    def job(self, size: Size, requests: Sequence[Request], name: str, index: int) -> Job:
        """The requests on an image of `size` (width, height) as one job; UserError with what is wrong with them."""
        config, classes, geometry = self.run.config, self.run.classes, make_geometry(self.run.config)
        together = config.paint == "all" or len(requests) > 1
        options = replace(job_options(config), n_samples=1, n_iter=1, together=together)
        annotations, problems = [], [] if requests else ["requests: got none, expected one or more"]
        for number, request in enumerate(requests, start=1):
            try:
                annotations.append(request.annotation(number, size, classes))
            except UserError as error:
                problems.append(f"request {number}: {error}")
        output = (geometry.image_size,) * 2 if geometry.resize == "squash" else size
        jobs, misplaced = plan_image(Path(name), output, annotations, geometry, options)
        problems += [f"request {number}: {sentence}" for number, sentence in misplaced]
        if problems:
            raise UserError.from_problems(f"{name} cannot be painted", problems)
        check_class_ids(config, jobs, classes)
        return replace(jobs[0], index=index)


def load_painter(conf_path: str | Path, **settings: Any) -> ArrayPainter:
    """A painter for arrays with the networks of a configuration file; `settings` replace keys of the file.

    Keys of groups have dots: `load_painter("confs/demo.yml", seed=1, **{"ddim.start_step": 9})`. Raises UserError.
    """
    return ArrayPainter(make_run(load_generation_config(conf_path, settings)))
