"""Previews of a training: what the averaged network makes of noised training images."""

from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training.curves import preview_warning
from training.setup import TrainingRun
from utils import images


class Preview:
    """Saves and shows a sheet: training images, the same noised as far as training goes, and denoised.

    Called with the averaged network (eval mode) and the step; warns when the denoised images are still noise.
    """

    STEPS = 25

    def __init__(self, run: TrainingRun, board: SummaryWriter | None = None):
        config, dataset, self.device = run.config, run.dataset, run.process.device
        self.diffusion, self.start = run.diffusion, run.span[1] - 1
        self.log, self.board = run.log, board
        self.folder = Path(config.checkpoint_dir) / "previews"
        items = [dataset[i, 0] for i in self._choose(len(dataset), dataset.labels, config.sample_num)]
        self.clean = torch.stack([x for x, _ in items]) if items else None
        self.labels = torch.tensor([y for _, y in items], device=self.device) if dataset.labels else None

    @staticmethod
    def _choose(count: int, classes: list[int] | None, number: int) -> list[int]:
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
        x = noised.to(self.device)
        count = min(self.STEPS, self.start + 1)
        walk = torch.linspace(self.start, 0, count).round().long().tolist()
        for t, s in zip(walk, [*walk[1:], 0], strict=True):
            times = self.diffusion.network_times(t, self.device).expand(len(x))
            prediction = self.diffusion.predict(model(x, times, self.labels), x, t, clip=True)
            x = self.diffusion.ddim_step(prediction, s)
        denoised = prediction.x0.cpu()
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = torch.cat([self.clean, noised, denoised])
        sheet = images.grid(list(images.to_uint8(rows)), columns=len(self.clean), pad=2)
        images.save_png(self.folder / f"preview_{step:07d}.png", sheet)
        if self.board is not None:
            self.board.add_image("previews", sheet, step, dataformats="HWC")
        if problem := preview_warning(denoised, self.clean):
            self.log.warning("step %d: %s", step, problem)
