"""What the data decide about training and painting: rules that give a value and its reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.labels import auto_scale
from utils.prepare_data.sources import counted
from utils.strength.rule import strength_for

# Texture
DIRECTED = 0.3  # coherence of all tiles together above which a texture has a direction
ALONG = math.radians(10)  # a texture this near to an axis of the image is its own mirror image
PLAIN = 4.0  # mean square gradient, gray levels per px, below which a tile shows little but noise
ELONGATED = 0.5  # mean log2(width / height) above which a class lies in one direction
CERTAIN = 3.0  # standard errors that this mean must be off 0

# Colors
GRAY = 8  # largest difference of channels in a gray image, levels; JPEG adds some
SATURATED = 24  # levels from black or white that count as either
ALMOST_ALL = 0.9  # share of the pixels

# Length of training
SECONDS_PER_STEP = 1.0  # 24 windows through the network of 3.0 M parameters, on two CPU cores
TRAINING_SHARE = 0.75  # of the minutes; the rest is for places and painting
JUDGE_STEPS = 400
JUDGE_SECONDS = 150  # of five members, on one CPU core
MOST_VISITS = 1500  # of each defect; more teaches it by heart
FEWEST_STEPS = 300

# Strength: the noise schedule that the priors are trained with (Ho et al. 2020)
LONG_CHAIN, FIRST_BETA, LAST_BETA = 1000, 1e-4, 0.02

# Boxes
FEWEST_MARGINS = 5
ALIKE = 3.0  # native px, or half the margin: half the middle half of the margins must be that close


@dataclass(frozen=True)
class Choice:
    """A value for a conf, and why."""

    value: object
    reason: str


@dataclass(frozen=True)
class Texture:
    """Direction of the stripes of a texture, 0 to 180 degrees counterclockwise from the x axis, and their coherence.

    `smooth`: all of it shows so little that noise may hide a direction.
    """

    coherence: float
    degrees: float
    smooth: bool = False


def texture_of(tiles: Sequence[np.ndarray]) -> Texture:
    """The common direction of tiles (H, W, 3) uint8, by their structure tensors (Bigun & Granlund 1987).

    Coherence is 1 where all gradients are parallel, and 0 where there is no direction, or two at right angles that are
    equally frequent. Tiles in which nothing is seen do not count, unless that is all of them; every other one counts
    alike.
    """
    vectors: list[complex] = []
    faint: list[complex] = []
    for tile in tiles:
        gray = tile.astype(np.float32).mean(axis=2)
        gray = (gray[:-1, :-1] + gray[1:, :-1] + gray[:-1, 1:] + gray[1:, 1:]) / 4  # less pixel noise
        dy, dx = np.gradient(gray)
        energy = float((dx**2 + dy**2).mean())
        if energy > 0:
            vector = complex(float((dx**2 - dy**2).mean()), float((2 * dx * dy).mean())) / energy
            (vectors if energy > PLAIN else faint).append(vector)
    found = vectors or faint
    if not found:
        return Texture(0.0, 0.0, smooth=True)
    mean = sum(found) / len(found)
    gradient = math.atan2(mean.imag, mean.real) / 2  # y points down in images
    return Texture(abs(mean), math.degrees(math.pi / 2 - gradient) % 180, smooth=not vectors)


def elongated_classes(sizes: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """The classes whose boxes (width, height) lie in one direction: wide throughout, or high."""
    found = []
    for name, boxes in sizes.items():
        ratios = [math.log2(w / h) for w, h in boxes if w > 0 and h > 0]
        if len(ratios) < 3:
            continue
        mean, error = float(np.mean(ratios)), float(np.std(ratios, ddof=1)) / math.sqrt(len(ratios))
        if abs(mean) > ELONGATED and abs(mean) > CERTAIN * error:
            found.append(name)
    return found


def turns(texture: Texture, elongated: Sequence[str]) -> tuple[Choice, Choice]:
    """Whether examples may be turned by quarters, and whether mirrored both ways, half turns included; a texture that
    is too smooth to tell is taken for a directed one."""
    directed = texture.smooth or texture.coherence > DIRECTED
    degrees = round(texture.degrees) % 180
    if texture.coherence > DIRECTED:
        seen = f"the texture runs at {degrees} degrees (coherence {texture.coherence:.2f})"
    elif texture.smooth:
        seen = "the texture is too smooth to tell its direction"
    else:
        seen = f"the texture has no direction (coherence {texture.coherence:.2f})"
    off_axis = abs(math.remainder(math.radians(texture.degrees), math.pi / 2))
    mirrored = not directed or off_axis < ALONG
    if directed or not elongated:
        quarters = Choice(not directed, seen)
    else:
        quarters = Choice(False, f"boxes of {', '.join(elongated)} lie in one direction")
    return quarters, Choice(
        mirrored, f"both ways: {seen}, which a mirror {'keeps' if mirrored else 'changes'}"
    )


def color_kind(tiles: Sequence[np.ndarray]) -> str:
    """'binary', 'gray' or 'color' of tiles (H, W, 3) uint8."""
    pixels = np.concatenate([tile[::2, ::2].reshape(-1, 3) for tile in tiles]).astype(int)
    spread = pixels.max(axis=1) - pixels.min(axis=1)
    value = pixels.mean(axis=1)
    if ((value <= SATURATED) | (value >= 255 - SATURATED)).mean() > ALMOST_ALL:
        return "binary"
    return "gray" if (spread <= GRAY).mean() > 0.99 else "color"


def color_jitter(kind: str) -> Choice:
    """Strength of the changes of brightness, contrast and tint."""
    return {
        "binary": Choice(0.0, "black and white, which other brightness would leave"),
        "gray": Choice(0.1, "gray: brightness and contrast change, a tint does not come in"),
        "color": Choice(0.1, "color: brightness, contrast and tint change a little"),
    }[kind]


def training_steps(
    defects: int, minutes: float, batch: int, clean_ratio: float, judged: bool = False
) -> Choice:
    """Steps of a training run, which leave time for that of a judge if the defects are to be `judged`."""
    left = minutes * 60 * TRAINING_SHARE - (JUDGE_SECONDS if judged else 0)
    by_time = max(0.0, left) / SECONDS_PER_STEP
    by_data = MOST_VISITS * defects / (batch * (1 - clean_ratio))
    wanted = 10 * round(min(by_time, by_data) / 10)
    steps = max(FEWEST_STEPS, wanted)
    pace, given = f"at {SECONDS_PER_STEP:g} s a step on two CPU cores", counted(minutes, "minute")
    if wanted < FEWEST_STEPS:
        needed = FEWEST_STEPS * SECONDS_PER_STEP + (JUDGE_SECONDS if judged else 0)
        why = f"the least there is, which takes {needed / 60:g} minutes{' with the judge' if judged else ''} {pace}"
        why += f", more than {TRAINING_SHARE:.0%} of {given}" if by_time < FEWEST_STEPS else ""
    elif by_time <= by_data:
        why = f"{TRAINING_SHARE:.0%} of {given}{', less the judge,' if judged else ''} {pace}"
    else:
        why = f"more than {MOST_VISITS} visits would teach the {defects} defects by heart"
    visits = steps * batch * (1 - clean_ratio) / defects
    whose = f"each of {defects} defects" if defects > 1 else "the only defect"
    return Choice(steps, f"{why}; {whose} is seen {visits:.0f} times")


def start(contrasts: Mapping[str, float], steps: int) -> Choice:
    """Where painting starts, which weights know once they are trained; the reason tells the step of a chain of `steps`
    that they will give from training defects."""
    beta = np.linspace(FIRST_BETA, LAST_BETA, LONG_CHAIN)
    abar = np.cumprod(1 - beta)
    found = strength_for(contrasts, np.sqrt((1 - abar) / abar))
    return Choice("auto", f"{found.start_step(steps, exemplars=True)} of {steps}: {found.reason}")


def label_margin(margins: Sequence[float], outlined: bool) -> Choice:
    """Px between a box and what is visible of its defect, from those of single defects; 0 where it is not known."""
    if outlined:
        return Choice(0, "boxes are those of outlines")
    if len(margins) < FEWEST_MARGINS:
        return Choice(0, "not measured: too few defects have clean twins or stand out")
    low, middle, high = np.percentile(margins, [25, 50, 75])
    if (high - low) / 2 > max(ALIKE, middle / 2):
        return Choice(0, f"boxes keep {low:.0f} to {high:.0f} px from their defects, no common margin")
    return Choice(round(float(middle)), f"px that {len(margins)} boxes keep from what is visible in them")


def box_sizes(boxes: Sequence[tuple[float, float]], count: int = 9) -> list[tuple[int, int]]:
    """At most `count` of the sizes (w, h), from the smallest to the largest by area, at equal steps of rank."""
    ranked = sorted(boxes, key=lambda size: size[0] * size[1])
    if len(ranked) > count:
        ranked = [ranked[round(k * (len(ranked) - 1) / (count - 1))] for k in range(count)]
    return [(max(1, round(w)), max(1, round(h))) for w, h in ranked]


def scales(boxes: Sequence[tuple[float, float]], window: int) -> tuple[float, float, float]:
    """Smallest, median and largest scale of a class: native px per px of the window."""
    found = sorted(auto_scale(*size, window) for size in boxes)
    return found[0], found[len(found) // 2], found[-1]
