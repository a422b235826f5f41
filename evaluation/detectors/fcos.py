"""A small detector of torchvision's parts, for those who cannot take Ultralytics' license."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.detectors.draws import batches, pool
from evaluation.detectors.interface import Detections, Example, TrainingTask
from evaluation.detectors.scoring import score
from utils.device import has_fast_bf16
from utils.files import append_csv
from utils.judging.classifier import relight

WIDTHS = (16, 32, 64, 128)  # channels at strides of 2, 4, 8, 16 px
LEVELS = (8, 16)  # strides of the feature pyramid in px: those of the last WIDTHS
MEASURES = 4  # times that the validation images are measured
WARMUP = 50  # steps
LOGGED = 10  # steps between two losses in the curves
LEAST_SCORE = 0.01
CHUNK = 32  # images detected in at once


@dataclass(frozen=True)
class FcosOptions:
    """`lr`: peak of the learning rate, which rises over WARMUP steps and falls as a cosine. `channels`: of the pyramid
    and heads, a multiple of 32. `turns`: images are turned and mirrored in training."""

    lr: float = 2e-3
    channels: int = 64
    turns: bool = True
    device: str = "cpu"


class FcosDetector:
    """FCOS (Tian et al. 2019) with a small residual network as its backbone, trained from scratch."""

    name = "torchvision"

    def __init__(self, options: FcosOptions):
        self.options = options

    def train_and_detect(self, task: TrainingTask, test: Sequence[Example]) -> list[Detections]:
        """See `Detector`."""
        with torch.random.fork_rng():
            torch.manual_seed(task.seed)
            model = make_network(len(task.class_names), task.image_size, self.options).to(self.options.device)
            self._train(model, task)
        return self.detect(model, test)

    def _train(self, model: nn.Module, task: TrainingTask) -> None:
        """Fit `model` in place; AdamW with clipped gradients."""
        lr, curves = self.options.lr, task.folder / "curves.csv"
        task.folder.mkdir(parents=True, exist_ok=True)
        curves.unlink(missing_ok=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, task.steps))
        measured = {round(task.steps * k / MEASURES) for k in range(1, MEASURES + 1)}
        inputs, losses = self._batches(task), []
        for step in range(1, task.steps + 1):
            images, targets = next(inputs)
            loss = sum(model(list(images), targets).values(), torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if step % LOGGED == 0 or step in measured:
                row: dict[str, Any] = {"step": step, "loss": float(np.mean(losses)), "val_map50_95": ""}
                if step in measured and task.validation:
                    row["val_map50_95"] = score(
                        task.validation, self.detect(model, task.validation), task.class_names
                    ).map50_95
                    model.train()
                append_csv(curves, row)
                losses = []

    def _batches(self, task: TrainingTask) -> Iterator[tuple[Tensor, list[dict[str, Tensor]]]]:
        """Images (N, 3, S, S) in [-1, 1], relit and turned at random, and what FCOS is to find in each."""
        examples, rng = pool(task), random.Random(task.seed)
        generator = torch.Generator().manual_seed(task.seed)
        for chosen in batches(task):
            shown = [examples[k] for k in chosen]
            turned = [turn(one, rng.randrange(8) if self.options.turns else 0) for one in shown]
            pixels = torch.from_numpy(np.stack([one.image for one in turned])).permute(0, 3, 1, 2)
            targets = [
                {"boxes": torch.from_numpy(one.boxes.copy()), "labels": torch.from_numpy(one.classes)}
                for one in turned
            ]
            device = self.options.device
            yield (
                relight(pixels, generator).to(device),
                [{key: value.to(device) for key, value in one.items()} for one in targets],
            )

    @torch.no_grad()
    def detect(self, model: nn.Module, test: Sequence[Example]) -> list[Detections]:
        """What `model`, put in eval mode, finds in each image."""
        model.eval()
        found: list[Detections] = []
        for start in range(0, len(test), CHUNK):
            images = [
                (torch.from_numpy(one.image).permute(2, 0, 1).float() / 127.5 - 1).to(self.options.device)
                for one in test[start : start + CHUNK]
            ]
            for one in model(images):
                boxes, scores, classes = (one[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
                found.append(Detections(boxes, scores, classes))
        return found


def _rate(step: int, steps: int) -> float:
    """The learning rate as a share of its peak."""
    return min((step + 1) / WARMUP, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def turn(example: Example, how: int) -> Example:
    """A square image with its boxes turned by `how` % 4 quarters counterclockwise, mirrored first if `how` >= 4."""
    image, boxes, side = example.image, example.boxes, example.image.shape[0]
    if how >= 4:
        image = image[:, ::-1]
        boxes = np.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)
    for _ in range(how % 4):  # (x, y) -> (y, side - x)
        image = np.rot90(image)
        boxes = np.stack([boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], axis=1)
    return Example(np.ascontiguousarray(image), boxes.astype(np.float32), example.classes)


# Network


def make_network(classes: int, side: int, options: FcosOptions) -> nn.Module:
    """FCOS for images of `side` px in [-1, 1]; labels count from 0."""
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead

    class Head(FCOSHead):
        """Boxes and scores are float32, whatever the features were."""

        def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
            with fast_arithmetic(x[0].device):
                found = super().forward(x)
            return {name: value.float() for name, value in found.items()}

    return FCOS(
        _Backbone(options.channels),
        num_classes=classes,
        min_size=side,
        max_size=side,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=AnchorGenerator(tuple((k,) for k in LEVELS), ((1.0,),) * len(LEVELS)),
        head=Head(options.channels, 1, classes, num_convs=2),
        score_thresh=LEAST_SCORE,
        topk_candidates=300,
    )


def fast_arithmetic(device: torch.device) -> torch.autocast:
    """Convolutions in bfloat16 where it pays."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device))


class _Backbone(nn.Module):
    """(N, 3, H, W) -> features of every level, `out_channels` each: residual blocks, then a pyramid (Lin et al.
    2017)."""

    def __init__(self, channels: int):
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        stem, *widths = WIDTHS
        self.out_channels = channels
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 5, 2, 2, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(_Block(before, width, 2), _Block(width, width, 1))
            for before, width in zip(WIDTHS, widths, strict=False)
        )
        self.pyramid = FeaturePyramidNetwork(widths[-len(LEVELS) :], channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        with fast_arithmetic(x.device):
            features, x = [], self.stem(x)
            for stage in self.stages:
                x = stage(x)
                features.append(x)
            return self.pyramid({str(k): level for k, level in enumerate(features[-len(LEVELS) :])})


class _Block(nn.Module):
    """A residual block (He et al. 2016)."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = stride == 1 and before == width
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.skip(x))
