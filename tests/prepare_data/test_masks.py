"""Masks as annotations: boxes of components, classes from folders, images that a mask belongs to."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.prepare_data.builders import HEIGHT, WIDTH, error_of, read_boxes, write_image
from utils.prepare_data.survey import survey_source


def write_mask(path: Path, *boxes: tuple[int, int, int, int]) -> Path:
    """A mask with white boxes (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    Image.fromarray(mask).save(path)
    return path


def test_mvtec_masks_give_a_box_per_component(tmp_path):
    write_image(tmp_path / "train/good/000.png", 1)
    write_image(tmp_path / "test/good/000.png", 2)
    write_image(tmp_path / "test/crack/000.png", 3)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 30:50] = 255
    mask[60:64, 70:90] = 255
    mask[64:70, 90:95] = 255  # touches the one before at a corner
    mask[100, 100] = 255  # a speck
    (tmp_path / "ground_truth/crack").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "ground_truth/crack/000_mask.png")
    survey = survey_source(tmp_path)
    assert survey.format == "mvtec" and len(survey.clean) == 2
    boxes = [(b.class_name, b.left, b.top, b.right, b.bottom) for b in survey.defective[0].boxes]
    assert boxes == [("crack", 30, 10, 50, 20), ("crack", 70, 60, 95, 70)]
    assert len({p.group for p in survey.images}) == 3 and len({p.name for p in survey.images}) == 3
    assert "1 component of" in survey.notes[0]
    # Good and defective images of one number are different parts.
    (tmp_path / "test/good/000.png").unlink()
    survey = survey_source(tmp_path)
    assert survey.defective[0].counterpart is None
    assert {p.group for p in survey.images} == {"train/good/000", "crack/000"}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.png", "a_mask.png"),
        ("part/a.jpg", "part/a_mask.png"),
        ("a.png", "masks/a.png"),
        ("a.png", "masks/a_mask.png"),
        ("images/train/a.png", "masks/train/a.png"),
        ("train/images/a.png", "train/mask/a.png"),
        ("train/a.png", "train/ground_truth/a.png"),
    ],
)
def test_mask_of_one_class_belongs_to_the_image_of_its_name_and_place(tmp_path, image, mask):
    write_image(tmp_path / image, 1)
    write_mask(tmp_path / mask, (10, 20, 30, 25), (50, 60, 70, 90), (5, 5, 6, 6))
    write_image(tmp_path / "elsewhere/other.png", 2)
    survey = survey_source(tmp_path)
    assert survey.format == "masks" and survey.classes == {"defect": 0}
    assert read_boxes(tmp_path) == {image: [("defect", 10, 20, 30, 25), ("defect", 50, 60, 70, 90)]}
    notes = " ".join(survey.notes)
    assert "1 component of" in notes and "1 image has no annotation" in notes and "masks/<class>/" in notes


def test_a_folder_within_masks_names_the_class_and_equal_names_differ_by_their_folders(tmp_path):
    for part, seed in (("train", 1), ("val", 2)):
        write_image(tmp_path / f"images/{part}/a.png", seed)
    write_mask(tmp_path / "masks/train/spur/a.png", (10, 20, 30, 25))
    write_mask(tmp_path / "masks/train/short/a.png", (40, 20, 60, 25))
    write_mask(tmp_path / "masks/val/short/a.png", (70, 20, 90, 25))
    assert read_boxes(tmp_path) == {
        "images/train/a.png": [("short", 40, 20, 60, 25), ("spur", 10, 20, 30, 25)],
        "images/val/a.png": [("short", 70, 20, 90, 25)],
    }


def test_class_table_names_the_folders_or_the_only_class(tmp_path):
    for name, seed in (("spur", 1), ("short", 2)):
        write_image(tmp_path / f"{name}/{seed}.png", seed)
        write_mask(tmp_path / f"{name}/{seed}_mask.png", (10, 20, 30, 25))
    survey = survey_source(tmp_path, classes={"Short": 0, "Spur": 1})
    assert {p.path.stem: p.boxes[0].class_name for p in survey.images} == {"1": "Spur", "2": "Short"}
    assert survey_source(tmp_path, classes={"scratch": 4}).images[0].boxes[0].class_name == "scratch"
    assert "class 'defect'" in error_of(survey_source, tmp_path, classes={"a": 0, "b": 1})


def test_empty_masks_mean_a_clean_image_and_odd_sizes_a_problem(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_image(tmp_path / "b.png", 2)
    write_mask(tmp_path / "masks/a.png", (10, 20, 30, 25))
    write_mask(tmp_path / "masks/b.png")
    assert [p.path.name for p in survey_source(tmp_path).clean] == ["b.png"]
    write_image(tmp_path / "b.png", 2, width=50)
    assert "is for 160x120" in error_of(survey_source, tmp_path)


def test_images_may_lie_in_a_folder_called_mask(tmp_path):
    write_image(tmp_path / "mask/a.png", 1)
    write_image(tmp_path / "mask/b.png", 2)
    write_mask(tmp_path / "mask/a_mask.png", (10, 20, 30, 25))
    assert read_boxes(tmp_path, "masks") == {"mask/a.png": [("defect", 10, 20, 30, 25)]}
