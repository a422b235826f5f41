"""Stages: made once, again when something they depend on changes, resumed after a kill."""

from pathlib import Path

import pytest

from evaluation.downstream.stages import CachedStage, Stages, folder_digest


def test_a_stage_is_made_once_and_again_for_other_values(tmp_path: Path):
    stages, made = Stages(tmp_path), []

    def build(folder: Path) -> None:
        made.append(folder.name)

    first = stages.make(CachedStage("a", {"x": 1, "y": [2]}), build)
    assert stages.make(CachedStage("a", {"y": [2], "x": 1}), build) == first
    assert stages.make(CachedStage("a", {"x": 2, "y": [2]}), build) != first
    assert stages.make(CachedStage("b", {"x": 1, "y": [2]}), build) != first
    assert len(made) == 3
    assert stages.seconds(CachedStage("a", {"x": 1, "y": [2]})) >= 0


def test_a_stopped_build_goes_on_with_what_it_left(tmp_path: Path):
    stages, stage = Stages(tmp_path), CachedStage("a", {})

    def stopped(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.make(stage, stopped)
    assert not stages.is_done(stage)
    seen = []
    stages.make(stage, lambda folder: seen.append((folder / "half").exists()))
    assert seen == [True] and stages.is_done(stage)


def test_a_folders_digest_follows_names_and_contents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("1")
    first = folder_digest(tmp_path)
    assert folder_digest(tmp_path) == first
    (tmp_path / "a.txt").write_text("2")
    second = folder_digest(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert len({first, second, folder_digest(tmp_path)}) == 3


def test_a_stage_that_took_longer_has_the_same_digest(tmp_path: Path):
    (tmp_path / "a.txt").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "done.json").write_text('{"seconds": 1.5}')
    assert folder_digest(tmp_path) == first
    (tmp_path / "b").mkdir()
    (tmp_path / "b/done.json").write_text("{}")  # not that of this folder
    assert folder_digest(tmp_path) != first
