"""Previews of a training: what the averaged network makes of noised training images."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from guided_diffusion.surroundings import Surroundings
from training.boxed_patches import BoxedPatchDataset
from training.curves import preview_warning
from training.setup import TrainingRun
from utils import images

PAD = 2  # px between the images of a sheet
LINE = 12  # px, height of a line of a class name
QUIET = 20  # no warning in this fraction of the run: its beginning is noise in any case


def header(titles: Sequence[str], width: int) -> np.ndarray:
    """The class names above the columns of a sheet `width` px wide, one for adjacent columns of a class.

    Returns (h, width, 3) uint8, black on white; a name that is wider than its columns is broken.
    """
    font, column = ImageFont.load_default(), (width - PAD) // len(titles)
    texts, first = [], 0
    for name, group in groupby(titles):
        count = len(list(group))
        texts.append((first * column + PAD, broken(name, count * column - PAD, font.getlength)))
        first += count
    sheet = Image.new("RGB", (width, LINE * max(len(lines) for _, lines in texts)), "white")
    draw = ImageDraw.Draw(sheet)
    for left, lines in texts:
        for row, line in enumerate(lines):
            draw.text((left, LINE * row), line, fill="black", font=font)
    return np.asarray(sheet)


def broken(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    """`text` in lines of at most `width` px by `length`, and at least a character."""
    lines = [""]
    for character in text:
        if lines[-1] and length(lines[-1] + character) > width:
            lines.append("")
        lines[-1] += character
    return lines


class Preview:
    """Saves and shows a sheet: training images, the same noised as far as training goes, and denoised.

    With classes, their names stand above.

    Called with the averaged network (eval mode) and the step; warns when the denoised images are still noise.
    """

    STEPS = 25

    def __init__(self, run: TrainingRun, board: SummaryWriter | None = None):
        config, dataset, self.device = run.config, run.dataset, run.process.device
        self.diffusion, self.start = run.diffusion, run.span[1] - 1
        self.log, self.board = run.log, board
        self.folder = Path(config.checkpoint_dir) / "previews"
        self.quiet_until = (config.total_steps or config.lr_anneal_steps) / QUIET
        chosen = self._choose(len(dataset), dataset.labels, config.sample_num)
        items = [dataset[i, 0] for i in chosen]
        self.clean = torch.stack([item[0] for item in items]) if items else None
        self.labels = (
            torch.tensor([item[1] for item in items], device=self.device) if dataset.labels else None
        )
        self.known: Surroundings | None = None
        if self.clean is not None and isinstance(dataset, BoxedPatchDataset):
            boxes = torch.stack([dataset[i, 0][2] for i in chosen])
            self.known = Surroundings(self.clean.to(self.device), boxes.to(self.device))
        names = {class_id: name for name, class_id in run.names.items()}
        self.titles = [names.get(item[1], "clean") for item in items] if dataset.labels else []

    @staticmethod
    def _choose(count: int, classes: Sequence[int] | None, number: int) -> list[int]:
        """`number` images, or as many of every class."""
        if classes is None:
            return list(range(min(number, count)))
        return [
            i for c in sorted(set(classes)) for i in [j for j, k in enumerate(classes) if k == c][:number]
        ]

    def __call__(self, model: nn.Module, step: int) -> None:
        if self.clean is None:
            return
        noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))
        noised = self.diffusion.q_sample(self.clean, self.start, noise)
        denoised = self._denoised(model, noised.to(self.device)).cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = torch.cat([self.clean, noised, denoised])
        sheet = images.grid(list(images.to_uint8(rows)), columns=len(self.clean), pad=PAD)
        if self.titles:
            sheet = np.concatenate([header(self.titles, sheet.shape[1]), sheet])
        images.save_png(self.folder / f"preview_{step:07d}.png", sheet)
        if self.board is not None:
            self.board.add_image("previews", sheet, step, dataformats="HWC")
        if step > self.quiet_until and (problem := preview_warning(denoised, self.clean)):
            self.log.warning("step %d: %s", step, problem)

    def _denoised(self, model: nn.Module, x: Tensor) -> Tensor:
        """Images (N, 3, S, S), noised to the first step, denoised by DDIM; with their surroundings where the prior sees
        them."""
        network = model if self.known is None else self.known.seen_by(model)
        count = min(self.STEPS, self.start + 1)
        timesteps = torch.linspace(self.start, 0, count).round().long().tolist()
        for t, s in zip(timesteps, [*timesteps[1:], 0], strict=True):
            times = self.diffusion.network_times(t, self.device).expand(len(x))
            prediction = self.diffusion.predict(network(x, times, self.labels), x, t, clip=True)
            if self.known is not None:
                prediction = self.known.restore(prediction, x, t, self.diffusion)
            x = self.diffusion.ddim_step(prediction, s)
        return prediction.x0
