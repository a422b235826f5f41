"""Synthetic surfaces: ground, brushed, grained, striped and stepped textures under uneven light."""

from dataclasses import dataclass

import numpy as np

SIDE = 112  # of a surface in px


@dataclass(frozen=True)
class Surface:
    """A surface without defects: `image` (H, W, 3) float64, about 0 to 1; `angle` of its texture in radians; `gray`
    or colored; `fine`, pixel noise that comes last, so that a defect has it too."""

    image: np.ndarray
    angle: float
    gray: bool
    fine: np.ndarray


def directed_noise(rng: np.random.Generator, angle: float, along: float, across: float) -> np.ndarray:
    """White noise blurred by `along` px in the direction `angle` and `across` px at right angles to it: (H, W), mean
    0, standard deviation 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = -fx * np.sin(angle) + fy * np.cos(angle)
    kernel = np.exp(-2 * np.pi**2 * ((u * along) ** 2 + (v * across) ** 2))
    return _standardized(np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * kernel).real)


def fractal_noise(rng: np.random.Generator, exponent: float, side: int = SIDE) -> np.ndarray:
    """Noise with a spectrum of 1 / f^exponent: (side, side), mean 0, standard deviation 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    f = np.hypot(fx, fy)
    f[0, 0] = 1
    return _standardized(np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / f**exponent).real)


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-8)


def draw_surface(rng: np.random.Generator) -> Surface:
    """A random surface of SIDE px."""
    angle = rng.uniform(0, np.pi)
    kind = (_brushed, _grained, _striped, _stepped)[rng.integers(0, 4)]
    shade = rng.uniform(0.25, 0.75) * np.ones((SIDE, SIDE))
    shade = shade + kind(rng, angle)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    light = (x - SIDE / 2) * np.cos(3 * angle) + (y - SIDE / 2) * np.sin(3 * angle)
    shade += rng.uniform(0, 0.25) * light / SIDE + rng.uniform(0, 0.08) * fractal_noise(rng, 2.2)
    gray = bool(rng.random() < 0.5)
    tint = np.ones(3) if gray else rng.uniform(0.75, 1.15, 3)
    strength = rng.uniform(0, 0.025)
    fine = rng.standard_normal((SIDE, SIDE, 1 if gray else 3)) * strength
    return Surface(shade[..., None] * tint, angle, gray, fine)


def _brushed(rng: np.random.Generator, angle: float) -> np.ndarray:
    fine = rng.uniform(0.01, 0.07) * directed_noise(rng, angle, rng.uniform(8, 40), rng.uniform(0.4, 1.2))
    return fine + rng.uniform(0, 0.05) * directed_noise(rng, angle, rng.uniform(20, 60), rng.uniform(1.5, 5))


def _grained(rng: np.random.Generator, angle: float) -> np.ndarray:
    return rng.uniform(0.01, 0.08) * fractal_noise(rng, rng.uniform(0.3, 1.4))


def _striped(rng: np.random.Generator, angle: float) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    across = x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 2) * fractal_noise(rng, 1.5)
    stripes = rng.uniform(0.02, 0.12) * np.sin(2 * np.pi * across / rng.uniform(4, 24) + rng.uniform(0, 6))
    return stripes + rng.uniform(0.01, 0.04) * fractal_noise(rng, 0.5)


def _stepped(rng: np.random.Generator, angle: float) -> np.ndarray:
    """Areas of other brightness, with straight or round edges: parts, shadows, backgrounds."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    shade = rng.uniform(0.01, 0.04) * fractal_noise(rng, 0.6)
    for _ in range(rng.integers(1, 4)):
        normal = rng.uniform(0, np.pi)
        distance = (x - rng.uniform(0, SIDE)) * np.cos(normal) + (y - rng.uniform(0, SIDE)) * np.sin(normal)
        if rng.random() < 0.4:
            far = x - rng.uniform(-40, SIDE + 40), y - rng.uniform(-40, SIDE + 40)
            distance = np.hypot(*far) - rng.uniform(20, 90)
        shade += rng.uniform(-0.3, 0.3) / (1 + np.exp(-distance / rng.uniform(0.4, 3)))
    return shade + rng.uniform(0, 0.03) * directed_noise(
        rng, angle, rng.uniform(8, 40), rng.uniform(0.4, 1.2)
    )
