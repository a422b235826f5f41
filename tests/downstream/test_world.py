"""The synthetic world as a source, and synthetic boards as training data."""

from collections import Counter
from pathlib import Path

import numpy as np

from evaluation.downstream.world import GROUP_PATTERN, procedural_scenes, write_world
from utils.prepare_data.survey import survey_source
from utils.schema.downstream import WorldConfig


def test_the_world_is_a_source_whose_groups_are_the_parts(tmp_path: Path):
    write_world(tmp_path, WorldConfig(train_boards=2, validation_boards=1, test_boards=1, size=192))
    survey = survey_source(tmp_path, group_pattern=GROUP_PATTERN)
    groups = Counter(image.group for image in survey.images if image.boxes)
    assert groups == {"train": 2, "validation": 1, "test": 1}
    assert all(image.counterpart is not None for image in survey.defective)


def test_boards_that_are_there_are_not_drawn_again(tmp_path: Path):
    world = WorldConfig(train_boards=2, validation_boards=1, test_boards=1, size=128)
    write_world(tmp_path, world)
    first = sorted(tmp_path.rglob("*.png"))[0]
    first.write_bytes(b"kept")
    write_world(tmp_path, world)
    assert first.read_bytes() == b"kept"


def test_procedural_boards_hold_the_wanted_defects_and_hide_the_others():
    wanted = {"Missing_hole": 2, "spur": 1, "scratch": 4}
    scenes = list(procedural_scenes(wanted, {"scratch": 0, "Missing_hole": 1, "spur": 2}))
    assert Counter(np.concatenate([one.classes for one in scenes]).tolist()) == {1: 2, 2: 1}
    for one in scenes:
        for left, top, right, bottom in one.hidden.astype(int):
            part = (slice(top, bottom), slice(left, right))
            assert (one.image[part] != one.clean[part]).any()


def test_another_world_has_other_boards_in_every_part(tmp_path: Path):
    drawn = []
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_world(
            folder, WorldConfig(train_boards=2, validation_boards=1, test_boards=1, size=128, number=number)
        )
        drawn.append([path.read_bytes() for path in sorted(folder.glob("images/*.png"))])
    assert len(drawn[0]) == 4
    assert not set(drawn[0]) & set(drawn[1])
