"""How alike the surroundings of two places are: weighted template matching, coarse and fine, batched.

Pixels are float32 in [-1, 1]. A template is what surrounds a defect's box, and what is inside it where that is known
without the defect. Its likeness to a place is 1 - D / (V + V' + NOISE): D is the weighted mean square difference, V
and V' are the weighted variances of the two. That is the normalized cross-correlation where both have one contrast and
one mean; two plain surfaces are alike, and a difference in brightness counts (compare Wang et al. 2004, equations 6 to
13).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from utils.shapes.boxes import Sides, turned

NOISE = 2 * 0.08**2  # variance of two plain surfaces, [-1, 1]: about 10 gray levels each
MARGIN = 16  # px of surroundings on every side of a box, at the scale where it fits the window
BATCH = 16  # templates compared at once

NEAR = 4.0  # px of a patch or a window from an edge within which a box lies at it

Edges = tuple[bool, bool, bool, bool]  # left, top, right, bottom


def sides_at_edge(box: Sequence[float], width: int, height: int) -> Edges:
    """Which sides of a box lie at the edge of its patch or window, and so of the image: both are cut around boxes with
    room to spare elsewhere."""
    left, top, right, bottom = box
    return left < NEAR, top < NEAR, right > width - NEAR, bottom > height - NEAR


@dataclass(frozen=True)
class Surround:
    """A patch (h, w, 3) uint8, the box of its defect in px of it, and how many native px of an image one of them is.

    `is_clean`: the patch is that of the clean image, so that what is inside the box counts, too; `ground` (h, w) bool
    is then what the defect changes of it, by `contrast` gray levels, and what is just beside that, where it is known.
    """

    pixels: np.ndarray
    box: Sides
    scale: float
    is_clean: bool = False
    ground: np.ndarray | None = None
    contrast: float = 0.0

    @property
    def edges(self) -> Edges:
        """Which sides of the box lie at the image's edge."""
        height, width = self.pixels.shape[:2]
        return sides_at_edge(self.box, width, height)

    def turned(self, quarters: int, mirrored: bool) -> "Surround":
        """Turned by quarters counterclockwise, then mirrored left to right."""
        known = [self.pixels] if self.ground is None else [self.pixels, self.ground]
        box, (pixels, *ground) = turned(self.box, known, quarters, mirrored)
        return replace(self, pixels=pixels, box=box, ground=ground[0] if ground else None)


@dataclass(frozen=True)
class Template:
    """Pixels (3, h, w) and weights (h, w), 0 inside the box unless that is clean.

    `center`: the box's, in px of the template. `at_edge`: whether the left, top, right, bottom side was the edge of the
    image.
    """

    pixels: Tensor
    weights: Tensor
    center: tuple[float, float]
    at_edge: tuple[bool, bool, bool, bool]


def make_template(surround: Surround, step: float) -> Template:
    """The surroundings within MARGIN of the box at `step` native px per px; cut off where the image ended."""
    height, width = surround.pixels.shape[:2]
    left, top, right, bottom = surround.box
    reach = [left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN]
    at_edge = reach[0] < -0.5, reach[1] < -0.5, reach[2] > width + 0.5, reach[3] > height + 0.5
    x0, y0, x1, y1 = (min(max(v, 0), limit) for v, limit in zip(reach, (width, height) * 2, strict=True))
    factor = surround.scale / step
    size = max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor))
    image = Image.fromarray(np.ascontiguousarray(surround.pixels))
    part = image.resize(size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
    fx, fy = size[0] / (x1 - x0), size[1] / (y1 - y0)
    hidden = 0 if surround.is_clean else 1
    inside = hidden * np.outer(
        _covered(size[1], (top - y0) * fy, (bottom - y0) * fy),
        _covered(size[0], (left - x0) * fx, (right - x0) * fx),
    )
    center = ((left + right) / 2 - x0) * fx, ((top + bottom) / 2 - y0) * fy
    return Template(to_planes(np.asarray(part)), torch.from_numpy(1 - inside).float(), center, at_edge)


def same_surroundings(patch: Surround, other: np.ndarray) -> float:
    """The likeness of what surrounds the box of a patch to another image (h, w, 3) uint8 of the same place."""
    own = make_template(patch, patch.scale)
    there = make_template(replace(patch, pixels=other), patch.scale)
    return float(likeness(there.pixels, [own])[0])


def _covered(count: int, start: float, end: float) -> np.ndarray:
    """The share of each of `count` px that lies between start and end."""
    edges = np.arange(count + 1)
    return np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, 1)


def to_planes(pixels: np.ndarray) -> Tensor:
    """(h, w, 3) uint8 -> (3, h, w) float32 in [-1, 1]."""
    return torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1)


def reduced(pixels: np.ndarray, step: float) -> np.ndarray:
    """An image (H, W, 3) uint8 with `step` native px per px, antialiased."""
    height, width = pixels.shape[:2]
    size = max(1, round(width / step)), max(1, round(height / step))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


@torch.no_grad()
def likeness(planes: Tensor, templates: Sequence[Template]) -> list[Tensor]:
    """For each template its likeness, up to 1, to every place of an image (3, H, W) where it lies inside as a whole:
    (H - h + 1, W - w + 1), by the template's top left corner; empty where it does not fit."""
    maps: list[Tensor] = []
    for start in range(0, len(templates), BATCH):
        maps += _likeness(planes, templates[start : start + BATCH])
    return maps


def _likeness(planes: Tensor, templates: Sequence[Template]) -> list[Tensor]:
    side = max(max(one.weights.shape) for one in templates)
    pixels = torch.stack([_padded(one.pixels, side) for one in templates])  # (Q, 3, side, side)
    weights = torch.stack([_padded(one.weights, side) for one in templates])[:, None]
    count = 3 * weights.sum(dim=(1, 2, 3))  # (Q,)
    mean = (pixels * weights).sum(dim=(1, 2, 3)) / count
    variance = (pixels.square() * weights).sum(dim=(1, 2, 3)) / count - mean**2
    field = F.pad(planes, (0, side - 1, 0, side - 1))[None]  # a smaller template may reach to the edge
    product = F.conv2d(field, pixels * weights)[0] / count[:, None, None]  # (Q, H, W)
    mean_there = F.conv2d(field.sum(dim=1, keepdim=True), weights)[0] / count[:, None, None]
    square_there = F.conv2d(field.square().sum(dim=1, keepdim=True), weights)[0] / count[:, None, None]
    mean, variance = mean[:, None, None], variance[:, None, None]
    alike = likeness_of_moments(product, (mean, variance), (mean_there, square_there))
    height, width = planes.shape[1:]
    return [
        one[: max(0, height - t.weights.shape[0] + 1), : max(0, width - t.weights.shape[1] + 1)]
        for one, t in zip(alike, templates, strict=True)
    ]


def likeness_of_moments(product: Tensor, own: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> Tensor:
    """The likeness from weighted means: of the `product` of both, mean and variance of one's `own` pixels, and mean and
    mean square of those `there`."""
    (mean, variance), (mean_there, square_there) = own, there
    variance_there = (square_there - mean_there**2).clamp(min=0)
    difference = variance + variance_there - 2 * (product - mean * mean_there) + (mean - mean_there) ** 2
    return 1 - difference / (variance + variance_there + NOISE)


def _padded(values: Tensor, side: int) -> Tensor:
    """Zeros to the right and below up to `side`."""
    return F.pad(values, (0, side - values.shape[-1], 0, side - values.shape[-2]))


def peaks(alike: Tensor, apart: int, count: int) -> list[tuple[int, int]]:
    """(x, y) of the `count` highest places of a map (H, W), at least `apart` px from each other, best first."""
    rest = alike.clone()
    found: list[tuple[int, int]] = []
    while rest.numel() and len(found) < count:
        index = int(rest.argmax())
        x, y = index % rest.shape[1], index // rest.shape[1]
        if rest[y, x] == -torch.inf:
            break
        found.append((x, y))
        rest[max(y - apart + 1, 0) : y + apart, max(x - apart + 1, 0) : x + apart] = -torch.inf
    return found


def at_edges(alike: Tensor, at_edge: Sequence[bool], slack: int = 1) -> Tensor:
    """The map with -inf where a side that was the image's edge is more than `slack` px off it."""
    rows, columns = (torch.arange(side) for side in alike.shape)
    left, top, right, bottom = at_edge
    allowed = torch.ones_like(alike, dtype=torch.bool)
    if left:
        allowed &= (columns <= slack)[None]
    if right:
        allowed &= (columns >= alike.shape[1] - 1 - slack)[None]
    if top:
        allowed &= (rows <= slack)[:, None]
    if bottom:
        allowed &= (rows >= alike.shape[0] - 1 - slack)[:, None]
    return torch.where(allowed, alike, -torch.inf)
