"""A small convolutional network that names what a 64 px window shows, and its training; judges are made of it."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

WIDTHS = (16, 32, 64, 96, 128)


class WindowClassifier(nn.Module):
    """(N, channels, 64, 64) -> (N, classes) logits. 0.2 million parameters."""

    def __init__(self, classes: int, channels: int = 3, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        blocks, before = [], channels
        for index, width in enumerate(widths):
            blocks += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)] if index < len(widths) - 1 else []
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * before, classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 2 * widths[-1]): mean and maximum over the window of the last layer; what the head sees."""
        last = self.blocks(x)  # (N, C, 4, 4)
        return torch.cat([last.mean(dim=(2, 3)), last.amax(dim=(2, 3))], dim=1)

    def statistics(self, x: Tensor) -> Tensor:
        """(N, 2 * sum(widths)): mean and standard deviation over the window of every layer's channels."""
        found = []
        for block in self.blocks:
            x = block(x)
            if isinstance(block, nn.ReLU):
                found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(found, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 64, 64) -> (N, classes) logits."""
        return self.head(self.features(x))


def fit(
    model: nn.Module, batch: Callable[[], tuple[Tensor, Tensor]], steps: int, lr: float, hidden: bool = True
) -> list[float]:
    """Train `model` in place on `batch()` -> inputs and class indices, one call a step; returns the losses.

    AdamW with a one-cycle learning rate that peaks at `lr`, on the CPU in bfloat16; the model ends in eval mode.
    `hidden`: no progress bar.
    """
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.15)
    losses: list[float] = []
    with tqdm(range(steps), desc="training", disable=hidden, leave=False) as bar:
        for _ in bar:
            inputs, targets = batch()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
    model.to(memory_format=torch.contiguous_format).eval()
    return losses


def index_batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of `size` indices; every index of 0..count - 1 once before any comes again."""
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


# Variation of the windows


def relight(batch: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) in 0..255 -> float32 in [-1, 1]: softened, brightened, tinted and grained at random."""
    count, batch = len(batch), batch.float()
    soft = torch.rand(count, generator=generator) < 0.7
    batch = blur(batch, torch.rand(count, generator=generator) * soft)
    gain = 1 + 0.12 * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    offset = 8 * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    grain = 5 * torch.rand(count, 1, 1, 1, generator=generator)
    batch = batch * gain + offset + grain * torch.randn(batch.shape, generator=generator)
    return batch.clamp(0, 255) / 127.5 - 1


def blur(batch: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur of an (N, 3, H, W) batch, each image with its own sigma in pixels (0: untouched)."""
    taps = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (taps / sigmas.clamp(min=1e-2)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None, None]  # (N, 1, 1, 7)
    planes = F.pad(batch.transpose(0, 1), (3, 3, 3, 3), mode="reflect")  # (3, N, H+6, W+6)
    planes = F.conv2d(planes, kernel, groups=len(sigmas))
    return F.conv2d(planes, kernel.transpose(2, 3), groups=len(sigmas)).transpose(0, 1)
