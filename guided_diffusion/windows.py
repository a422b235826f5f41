"""Defect windows: where they are on a batch of images, and what the clean estimates should equal there.

N full images hold M >= N windows; `owner[m]` is the image of window m.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from guided_diffusion.rows import select_rows
from guided_diffusion.surroundings import Surroundings
from guided_diffusion.transfer import to_device


@dataclass(frozen=True)
class Windows:
    """The M windows of N images: corners (left, top) in px, side in px, and the image of each.

    `boxes` (M, 1, size, size) are masks of the defects' boxes, for a prior that sees its surroundings, `support`
    (M, 1, size, size) of where in them the defects may be; None: anywhere. `known` (M, 3, size, size) in [-1, 1] are
    the windows whose surroundings it sees; None: the clean ones.
    """

    corners: Sequence[tuple[int, int]]
    size: int
    owner: Tensor  # (M,) int64, ascending
    boxes: Tensor | None = None
    support: Tensor | None = None
    known: Tensor | None = None

    @cached_property
    def owners(self) -> list[int]:
        """`owner` as numbers: read from its device once, not at every use."""
        return self.owner.tolist()

    def cut(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (M, C, size, size)."""
        parts = zip(self.owners, self.corners, strict=True)
        s = self.size
        return torch.stack([x[i, :, top : top + s, left : left + s] for i, (left, top) in parts])

    def pasted(self, x: Tensor, crops: Tensor) -> Tensor:
        """A copy of x (N, C, H, W) with `crops` (M, C, size, size) in the windows, the last on top."""
        x, s = x.clone(), self.size
        for i, (left, top), crop in zip(self.owners, self.corners, crops, strict=True):
            x[i, :, top : top + s, left : left + s] = crop
        return x

    def outside(self, x: Tensor) -> Tensor:
        """1 off every window of an image, 0 inside one: (N, 1, H, W) for x (N, C, H, W)."""
        mask, s = torch.ones_like(x[:, :1]), self.size
        for i, (left, top) in zip(self.owners, self.corners, strict=True):
            mask[i, :, top : top + s, left : left + s] = 0
        return mask

    def select(self, images: Sequence[int]) -> tuple["Windows", list[int]]:
        """The windows of some images only, renumbered in that order, and their indices among all."""
        if list(images) == list(range(len(images))) and len(images) > max(self.owners, default=-1):
            return self, list(range(len(self.owners)))
        index = [m for i in images for m, o in enumerate(self.owners) if o == i]
        place = {i: n for n, i in enumerate(images)}
        renumbered = to_device(torch.tensor([place[self.owners[m]] for m in index]), self.owner.device)
        masks = self.boxes, self.support, self.known
        own = [None if one is None else one[index] for one in masks]
        return Windows([self.corners[m] for m in index], self.size, renumbered, *own), index


@dataclass(frozen=True)
class Target:
    """What the clean estimates should equal.

    `clean` (N, 3, H, W) in [-1, 1]; `outside` (N, 1, H, W); `clean_windows` (M, 3, h, w); `defect` and
    `background` (M, 1, h, w) in [0, 1], both None without attention.
    """

    clean: Tensor
    windows: Windows
    clean_windows: Tensor
    outside: Tensor
    defect: Tensor | None = None
    background: Tensor | None = None

    @classmethod
    def of_clean(cls, clean: Tensor, windows: Windows) -> "Target":
        """A target without attention masks."""
        return cls(clean, windows, windows.cut(clean), windows.outside(clean))

    @property
    def known(self) -> Surroundings | None:
        """What a prior that sees its surroundings is shown; None without boxes."""
        one = self.windows
        if one.boxes is None:
            return None
        return Surroundings(self.clean_windows if one.known is None else one.known, one.boxes, one.support)

    def select(self, images: Sequence[int]) -> "Target":
        """The target of some images only, in that order."""
        windows, index = self.windows.select(images)
        return Target(
            select_rows(self.clean, images),
            windows,
            select_rows(self.clean_windows, index),
            select_rows(self.outside, images),
            None if self.defect is None else select_rows(self.defect, index),
            None if self.background is None else select_rows(self.background, index),
        )
