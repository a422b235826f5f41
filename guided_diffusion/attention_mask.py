"""Where the defect is: a mask made from the difference between the prior's estimate and the clean image.

Follows Luo et al. 2025 ("Collaborative Refinement Guidance for High-Fidelity Defect Image Synthesis"). All
statistics are taken per image, so a batch gives what its images give one by one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from guided_diffusion.transfer import to_device, to_host

BACKGROUND_BELOW = 0.01  # attention under this is background
FIXED_THRESHOLD = 0.2  # component threshold when it is not adaptive, and the cap of the fallback
ADAPTIVE_RANGE = (0.05, 0.8)  # limits of the adaptive component threshold
EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class AttentionOptions:
    """The configuration's `attention_features`; defaults and ranges stand in utils/schema/generation.py.

    `radial_decay` and `center_region_ratio` are fractions of the distance from center to corner, `blur_sigma` is in
    pixels, `min_area_ratio` a fraction of the window's pixels.
    """

    enabled: bool
    temperature: float
    blur_sigma: float
    center_weight: float
    radial_decay: float
    connected_components: bool
    min_area_ratio: float
    center_region_ratio: float
    adaptive_threshold: bool
    threshold_factor: float
    accumulation_enabled: bool
    accumulation_beta: float
    adaptive_beta: bool
    beta_min: float


def defect_attention(pred: torch.Tensor, clean: torch.Tensor, config: AttentionOptions) -> torch.Tensor:
    """The instant attention of one step, (N, 1, h, w) float32 in [0, 1], without gradient.

    `pred` is the prior's clean estimate and `clean` the defect-free window, both (N, C, h, w) in [-1, 1].
    Raises ValueError when their shapes differ or the window is too small for the blur or the central region.
    """
    return begin_attention(pred, clean, config)()


@torch.no_grad()
def begin_attention(
    pred: torch.Tensor, clean: torch.Tensor, config: AttentionOptions
) -> Callable[[], torch.Tensor]:
    """`defect_attention` in two parts: all but the connected components, and a call that finishes it.

    Components are labeled on the host. What a caller queues on a GPU between the two parts is computed meanwhile.
    """
    if pred.shape != clean.shape or pred.ndim != 4:
        raise ValueError(f"got {tuple(pred.shape)} and {tuple(clean.shape)}, expected one (N, C, h, w)")
    difference = (clean.float() - pred.float()).abs().mean(dim=1, keepdim=True)  # (N, 1, h, w)
    mask = torch.sigmoid((normalize_per_image(difference) - 0.5) / config.temperature)
    height, width = mask.shape[-2:]
    if config.center_weight > 0:
        weight = _center_weight(height, width, config.center_weight, config.radial_decay, mask.device)
        mask = (mask * weight).clamp(0, 1)
    if config.blur_sigma > 0:
        mask = _blur(mask, config.blur_sigma)
    copied = to_host(mask[:, 0]) if config.connected_components else None

    @torch.no_grad()
    def finish() -> torch.Tensor:
        if copied is None:
            return mask.clamp(0, 1)
        return (mask * to_device(_component_factor(copied(), config), mask.device)).clamp(0, 1)

    return finish


@torch.no_grad()
def accumulate(instant: torch.Tensor, previous: torch.Tensor, beta: float) -> torch.Tensor:
    """Blend (N, 1, h, w) attention with that of the steps before: beta * previous + (1 - beta) * instant.

    The blend is min-max normalized per image.
    """
    return normalize_per_image(beta * previous + (1 - beta) * instant)


def background_mask(attention: torch.Tensor) -> torch.Tensor:
    """1 where there is practically no attention, else 0; shape and dtype of `attention`."""
    return (attention < BACKGROUND_BELOW).to(attention.dtype)


def beta_at(t: int, config: AttentionOptions, ddpm_num_steps: int) -> float:
    """Weight of the past at index t of a chain of `ddpm_num_steps`: if adaptive, it shrinks with t."""
    if not config.adaptive_beta:
        return config.accumulation_beta
    return config.beta_min + (config.accumulation_beta - config.beta_min) * t / ddpm_num_steps


def normalize_per_image(values: torch.Tensor) -> torch.Tensor:
    """(N, ...) shifted and scaled so that every image spans [0, 1]; a constant image becomes 0."""
    dims = tuple(range(1, values.ndim))
    low = values.amin(dim=dims, keepdim=True)
    high = values.amax(dim=dims, keepdim=True)
    return (values - low) / (high - low + 1e-8)


@lru_cache(maxsize=16)
def _center_weight(
    height: int, width: int, center_weight: float, radial_decay: float, device: torch.device
) -> torch.Tensor:
    """1 + center_weight * exp(-r^2 / (2 radial_decay^2)), r from 0 (center) to 1 (corners): (h, w)."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    radius = torch.sqrt(x**2 + y**2)
    radius = (radius / radius.max()).clamp(0, 1)
    return (1 + center_weight * torch.exp(-(radius**2) / (2 * radial_decay**2))).to(device)


@lru_cache(maxsize=16)
def _gaussian_kernel(sigma: float, device: torch.device) -> torch.Tensor:
    """Normalized 1-D Gaussian that reaches three sigma, at least three taps: (k,)."""
    radius = max(1, int(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return (kernel / kernel.sum()).to(device)


def _blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian blur of (N, 1, h, w) with reflected borders."""
    kernel = _gaussian_kernel(sigma, mask.device)
    pad = len(kernel) // 2
    if pad >= min(mask.shape[-2:]):
        raise ValueError(
            f"blur_sigma: got {sigma}, which reaches {pad} pixels; "
            f"expected less than the window's side ({min(mask.shape[-2:])})"
        )
    # Weighted sums instead of convolutions: those may run in TF32, whose error moves pixels over thresholds.
    padded = F.pad(mask, (pad, pad, pad, pad), mode="reflect")
    rows = (padded.unfold(3, len(kernel), 1) * kernel).sum(dim=-1)  # (N, 1, h + 2 pad, w)
    return (rows.unfold(2, len(kernel), 1) * kernel).sum(dim=-1)


def _component_factor(images: np.ndarray, config: AttentionOptions) -> torch.Tensor:
    """What to multiply masks (N, h, w) with to keep their central components alone: (N, 1, h, w)."""
    gaussian, center = _center_region(*images.shape[1:], config.center_region_ratio)
    factors = np.stack([_central_components(image, gaussian, center, config) for image in images])
    return torch.from_numpy(factors)[:, None]


def _central_components(
    image: np.ndarray, gaussian: np.ndarray, center: np.ndarray, config: AttentionOptions
) -> np.ndarray:
    """(h, w): 1 on the components that are large and touch the center, else 0; if none does, the Gaussian."""
    threshold = FIXED_THRESHOLD
    if config.adaptive_threshold:
        threshold = min(
            max(config.threshold_factor * float(image[center].mean()), ADAPTIVE_RANGE[0]), ADAPTIVE_RANGE[1]
        )
    above = image > threshold
    if not above.any():
        rank = max(int(0.95 * image.size) - 1, 0)
        above = image > min(float(np.partition(image, rank, axis=None)[rank]), FIXED_THRESHOLD)
    labels, _ = ndimage.label(above, structure=EIGHT_NEIGHBORS)
    areas = np.bincount(labels.ravel())
    kept = areas >= config.min_area_ratio * image.size
    kept &= np.bincount(labels[center], minlength=len(areas)) > 0
    kept[0] = False  # label 0 is what lies below the threshold
    if not kept.any():
        return gaussian
    return kept[labels].astype(np.float32)


@lru_cache(maxsize=16)
def _center_region(height: int, width: int, center_region_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian around the center, (h, w) float32, and where it exceeds one half, (h, w) bool; read-only."""
    sigma = center_region_ratio * math.sqrt(2) / 2.5
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    gaussian = np.exp(-(x**2 + y**2) / (2 * sigma**2)).astype(np.float32)
    center = gaussian > 0.5
    if not center.any():
        raise ValueError(
            f"center_region_ratio: got {center_region_ratio}, which holds no pixel of {height} x {width}; "
            "expected a larger number"
        )
    gaussian.setflags(write=False)
    center.setflags(write=False)
    return gaussian, center
