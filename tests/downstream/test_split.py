"""Parts by group, a validation part from the training groups, the random control; and the painter's data."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.downstream.scenes import cut
from evaluation.downstream.split import TEST, VALIDATION, Split, count_classes, make_split, write_prepared
from evaluation.downstream.world import write_world
from tests.prepare_data.builders import voc_xml, write_image
from utils.errors import UserError
from utils.images import save_png
from utils.prepare_data.sources import DefectBox, SourceImage, Survey
from utils.prepare_data.tree import FileTree
from utils.schema.downstream import DownstreamConfig


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Boards a to d, six images each with two defects, and a clean image of each board."""
    root = tmp_path / "source"
    for b, board in enumerate("abcd"):
        write_image(root / f"clean/{board}.png", 100 + b)
        for n in range(6):
            name = ("spur", "short")[n % 2]
            write_image(root / f"images/{board}_{n}.png", 10 * b + n)
            voc_xml(root / f"annotations/{board}_{n}.xml", [(name, 20, 20, 40, 44), (name, 90, 60, 110, 80)])
    return root


def config(source: Path, **keys) -> DownstreamConfig:
    keys = {"group_pattern": "^([a-d])", "holdout": ["d"], **keys}
    return DownstreamConfig(source=str(source), **keys)


def groups(images) -> set[str]:
    return {image.path.name[0] for image in images}


def test_whole_groups_are_held_out(source: Path):
    split = make_split(config(source, validation=["c"]), source, 1)
    parts = [groups(split.images(part)) for part in ("train", VALIDATION, TEST)]
    assert parts == [{"a", "b"}, {"c"}, {"d"}]
    assert sum(len(one.boxes) for one in split.scenes(TEST)) == 12


def test_without_validation_groups_images_of_the_others_are_taken(source: Path):
    split = make_split(config(source, validation_share=0.25), source, 1)
    taken = split.images(VALIDATION)
    assert len(taken) == round(0.25 * 18) and "d" not in groups(taken)
    assert {box.class_name for image in taken for box in image.boxes} == {"spur", "short"}


def test_the_seed_draws_the_validation_part(source: Path):
    first, again, other = (
        {
            image.name
            for image in make_split(config(source, validation_share=0.25), source, seed).images(VALIDATION)
        }
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_random_control_mixes_the_groups(source: Path):
    split = make_split(config(source, holdout=[], split="random", holdout_share=0.5), source, 1)
    assert len(groups(split.images("train")) & groups(split.images(TEST))) >= 2


def test_the_random_control_mixes_the_parts_of_the_synthetic_world(tmp_path: Path):
    world = {"train_boards": 6, "validation_boards": 2, "test_boards": 2, "size": 192}
    control = DownstreamConfig(split="random", holdout_share=0.4, validation_share=0.2, world=world)
    write_world(tmp_path, control.world)
    split = make_split(control, tmp_path, 1)
    names = {
        part: [i.path.name for i in split.images(part) if i.boxes] for part in ("train", VALIDATION, TEST)
    }
    assert sum(map(len, names.values())) == 10
    assert len(names[VALIDATION]) == round(0.2 * (10 - len(names[TEST])))
    assert any(name.startswith("train") for name in names[TEST])


def test_the_scarce_set_is_what_the_painter_trains_on(source: Path, tmp_path: Path):
    split = make_split(config(source, validation=["c"]), source, 1)
    chosen = split.chosen(3, 1)
    assert count_classes(chosen, split.names) == {"short": 3, "spur": 3}
    scenes = list(split.training_scenes(chosen))
    assert sum(len(one.boxes) for one in scenes) == 6
    assert sum(len(one.all_boxes) for one in scenes) == 2 * len(scenes)
    write_prepared(split, tmp_path / "data", 3, 1, 5)
    patches = sorted((tmp_path / "data/train/boxed").glob("*.png"))
    assert len(patches) == 6
    rows = (tmp_path / "data/index.csv").read_text().splitlines()
    used = {row.split(",")[1] for row in rows if row.startswith("train/boxed/")}
    assert used == {f"images/{image.path.name}" for image in split.images("train") if image.name in chosen}
    assert not any(
        row.split(",")[1].startswith(("images/d", "images/c")) for row in rows if row.startswith("train")
    )


def board(seed: int) -> np.ndarray:
    """(100, 140, 3) uint8 of 4 px blocks."""
    return np.kron(np.random.default_rng(seed).integers(0, 256, (25, 35, 3)), np.ones((4, 4, 1))).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    ("moved", "size", "is_shown"), [(0, 140, True), (6, 140, False), (0, 136, False)], ids=str
)
def test_hidden_defects_show_the_clean_image_where_it_is_aligned(tmp_path: Path, moved, size, is_shown):
    clean = board(1)
    image = clean.copy()
    for left in (20, 90):
        image[30:40, left : left + 12] = 255
    save_png(tmp_path / "image.png", image)
    save_png(tmp_path / "clean.png", np.roll(clean, moved, axis=1)[:, :size])
    boxes = [DefectBox("spur", left, 30, left + 12, 40) for left in (20, 90)]
    twin = SourceImage(tmp_path / "clean.png", is_clean=True)
    source = SourceImage(tmp_path / "image.png", boxes, counterpart=twin)
    split = Split(Survey(FileTree(tmp_path), "voc", None, [source, twin], {"spur": 0}), ("spur",))
    found = split.scene(source, boxes[:1])
    tile = cut(found, 80, 0, 60)
    assert (found.clean is not None) is is_shown
    assert np.array_equal(tile.image[30:40, 10:22], clean[30:40, 90:102]) is is_shown
    assert split.scene(SourceImage(source.path, boxes[:1], counterpart=twin), boxes[:1]).clean is None


def test_points_are_squares_of_half_a_window(source: Path):
    split = make_split(config(source, validation=["c"]), source, 1)
    image = split.images("train")[0]
    image.boxes = [DefectBox("spur", 60, 50, 60, 50, is_point=True)]
    assert np.array_equal(split.scene(image, image.boxes).boxes, [[44, 34, 76, 66]])


def test_a_part_without_defects_is_an_error(source: Path):
    with pytest.raises(UserError, match="^evaluate: validation: no defect in the validation part"):
        make_split(config(source, validation_share=0), source, 1)
    make_split(config(source, validation_share=0, evaluate="test"), source, 1)
