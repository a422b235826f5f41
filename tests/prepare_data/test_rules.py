"""Rules for confs: known answers."""

import numpy as np
import pytest

from guided_diffusion.create import noise_to_signal
from utils.prepare_data import rules
from utils.strength.rule import strength_for


def stripes(degrees: float, size: int = 96) -> np.ndarray:
    """Stripes that run at an angle, counterclockwise from the x axis, as an image (size, size, 3)."""
    y, x = np.mgrid[:size, :size]
    angle = np.deg2rad(degrees)
    wave = np.sin((x * np.sin(angle) + y * np.cos(angle)) / 2)
    return np.repeat(np.uint8(127 + 100 * wave)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("degrees", [0, 16, 45, 90, 160])
def test_stripes_have_their_direction(degrees):
    texture = rules.texture_of([stripes(degrees)])
    assert texture.coherence > 0.95
    assert abs((texture.degrees - degrees + 90) % 180 - 90) < 2


def test_stripes_at_right_angles_and_noise_have_no_direction():
    assert rules.texture_of([stripes(0), stripes(90)]).coherence < 0.05
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert rules.texture_of([noise]).coherence < 0.1
    assert rules.texture_of([np.full((64, 64, 3), 90, np.uint8)]) == rules.Texture(0.0, 0.0, smooth=True)


def test_tiles_that_show_nothing_do_not_count():
    plain = np.full((96, 96, 3), 90, np.uint8)
    found = rules.texture_of([stripes(30), *[plain] * 9])
    assert found.coherence > 0.95 and not found.smooth


def test_smooth_surfaces_are_measured_where_there_is_nothing_else():
    faint = 100 + (stripes(0).astype(float) - 127) / 40 + np.random.default_rng(0).normal(0, 0.5, (96, 96, 1))
    found = rules.texture_of([faint, faint])
    assert found.smooth and found.coherence > rules.DIRECTED and abs((found.degrees + 90) % 180 - 90) < 5
    assert not rules.turns(found, [])[0].value
    reason = rules.turns(rules.Texture(0.1, 20, smooth=True), [])[0].reason
    assert "too smooth to tell" in reason and "no direction" not in reason


def test_half_a_turn_is_none():
    assert "at 0 degrees" in rules.turns(rules.Texture(0.8, 179.9), [])[0].reason


@pytest.mark.parametrize(
    "texture, elongated, expected",
    [
        (rules.Texture(0.1, 20), [], (True, True)),
        (rules.Texture(0.8, 20), [], (False, False)),
        (rules.Texture(0.8, 3), [], (False, True)),
        (rules.Texture(0.8, 93), [], (False, True)),
        (rules.Texture(0.1, 20), ["scratch"], (False, True)),
        (rules.Texture(0.1, 20, smooth=True), [], (False, False)),
        (rules.Texture(0.0, 0, smooth=True), [], (False, True)),
    ],
)
def test_turns_follow_texture_and_boxes(texture, elongated, expected):
    quarters, mirrored = rules.turns(texture, elongated)
    assert (quarters.value, mirrored.value) == expected
    assert ("scratch" in quarters.reason) == bool(elongated)


def test_classes_that_lie_in_one_direction():
    long = [(80 + k, 20) for k in range(8)]
    sizes = {
        "scratch": long,
        "crack": [(h, w) for w, h in long],
        "trace": [*long, *[(h, w) for w, h in long]],
    }
    assert rules.elongated_classes(sizes | {"few": [(90, 9)], "pit": [(20, 21)] * 9}) == ["scratch", "crack"]


def test_kinds_of_color():
    rng = np.random.default_rng(0)
    gray = np.repeat(rng.integers(60, 200, (40, 40, 1), dtype=np.uint8), 3, axis=2)
    compressed = gray + rng.integers(0, 4, gray.shape, dtype=np.uint8)  # as JPEG does
    tinted = gray.copy()
    tinted[..., 1] += 30
    binary = np.where(gray > 130, 250, 6).astype(np.uint8)
    kinds = [rules.color_kind([image]) for image in (gray, compressed, tinted, binary)]
    assert kinds == ["gray", "gray", "color", "binary"]
    assert [rules.color_jitter(kind).value for kind in kinds] == [0.1, 0.1, 0.1, 0.0]


def test_the_start_is_left_to_the_weights_and_told_as_they_will_resolve_it():
    for contrasts in ({"hole": 90.0, "spur": 30.0}, {"pit": 12.0}, {"pit": 400.0}):
        found = strength_for(contrasts, noise_to_signal("linear", 1000))
        told = f"{found.start_step(50, exemplars=True)} of 50: {found.reason}"
        assert rules.start(contrasts, 50) == rules.Choice("auto", told)


def test_the_margin_of_boxes_is_that_of_most_defects():
    assert rules.label_margin([8, 8.4, 7.6, 8, 8, 20], outlined=False).value == 8
    assert rules.label_margin([8] * 9, outlined=True).value == 0
    assert rules.label_margin([8] * 4, outlined=False).value == 0
    apart = rules.label_margin([0, 1, 2, 10, 11, 12], outlined=False)
    assert apart.value == 0 and "no common margin" in apart.reason


def test_steps_follow_the_time_and_the_data():
    assert rules.training_steps(120, 60, 24, 0.3).value == 2700  # 0.75 * 3600 s
    assert rules.training_steps(120, 20, 24, 0.3).value == 900
    judged = rules.training_steps(120, 20, 24, 0.3, judged=True)
    assert judged.value == 750 and "less the judge" in judged.reason
    assert rules.training_steps(120, 2, 24, 0.3, judged=True).value == 300
    few = rules.training_steps(10, 60, 24, 0.3)
    assert few.value == 890 and "by heart" in few.reason  # 1500 * 10 / 16.8
    assert rules.training_steps(1, 60, 24, 0.3).value == 300


def test_the_least_number_of_steps_tells_what_it_takes():
    short = rules.training_steps(120, 1, 24, 0.3, judged=True).reason
    told = "the least there is, which takes 7.5 minutes with the judge at 1 s a step on two CPU cores"
    assert short.startswith(f"{told}, more than 75% of 1 minute; each of 120 defects")
    one = rules.training_steps(1, 60, 24, 0.3).reason
    assert one.startswith(
        "the least there is, which takes 5 minutes at 1 s a step on two CPU cores; the only"
    )
    assert rules.training_steps(120, 10, 24, 0.3, judged=True).reason.startswith("75% of 10 minutes, less")


def test_sizes_and_scales_are_quantiles():
    boxes = [(k, 2 * k) for k in range(1, 102)]
    sizes = rules.box_sizes(boxes, 5)
    assert sizes == [(1, 2), (26, 52), (51, 102), (76, 152), (101, 202)]
    assert rules.box_sizes([(9.6, 0.2)]) == [(10, 1)]
    assert rules.scales([(48, 10), (96, 10), (20, 20)], 64) == (1, 1, 2)
