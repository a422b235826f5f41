"""Which arms a configuration compares."""

import pytest

from evaluation.downstream.arms import Arm, list_arms, main_arms, paints
from evaluation.downstream.results.tables import ORDER, TITLES
from utils.schema.downstream import DownstreamConfig


def test_arms_volumes_sizes_shares_and_ablations():
    config = DownstreamConfig(
        arms=["ours", "real", "copy_paste", "all_real"],
        volumes=[1, 3],
        curve=[10],
        real_shares=[0.25],
        ablations=["no_guidance"],
    )
    found = [(arm.name, arm.volume, arm.per_class, arm.real_share) for arm in list_arms(config)]
    assert found == [
        ("real", 0, 20, 0.5),
        ("ours", 1, 20, 0.5),
        ("ours", 3, 20, 0.5),
        ("copy_paste", 1, 20, 0.5),
        ("copy_paste", 3, 20, 0.5),
        ("all_real", 0, 20, 0.5),
        ("real", 0, 10, 0.5),
        ("ours", 1, 20, 0.25),
        ("ours, no_guidance", 1, 20, 0.5),
    ]
    assert list_arms(config)[:6] == main_arms(config)


def test_an_arm_asked_for_twice_runs_once():
    config = DownstreamConfig(arms=["real", "ours"], volumes=[1], curve=[20], real_shares=[0.5])
    assert len(list_arms(config)) == 2


@pytest.mark.parametrize(
    ("name", "painted"),
    [
        ("real", False),
        ("copy_paste", False),
        ("procedural", False),
        ("ours_filtered", True),
        ("ours, x", True),
    ],
)
def test_who_needs_the_painter(name: str, painted: bool):
    assert paints(Arm(name, 1, 20, 0.5)) is painted


def test_every_arm_has_a_title():
    assert {arm.name for arm in list_arms(DownstreamConfig())} == set(ORDER) == set(TITLES)
