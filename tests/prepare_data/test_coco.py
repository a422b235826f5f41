"""COCO: boxes and polygons, files of parts, groups of synthetic images."""

import json
from pathlib import Path

from tests.prepare_data.builders import HEIGHT, WIDTH, read_boxes, write_image, write_text
from utils.prepare_data.survey import survey_source


def test_coco_boxes_and_polygons(tmp_path):
    write_image(tmp_path / "train/a.png", 1)
    write_image(tmp_path / "train/b.png", 2)
    data = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 8, "file_name": "b.png"},
        ],
        "categories": [{"id": 5, "name": "short"}, {"id": 2, "name": "spur"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 20, 30, 40]},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": [[50, 60, 70, 60, 70, 90]]},
        ],
    }
    write_text(tmp_path / "train/_annotations.coco.json", json.dumps(data))
    assert read_boxes(tmp_path) == {
        "train/a.png": [("short", 10, 20, 40, 60), ("spur", 50, 60, 70, 90)],
        "train/b.png": [],
    }
    survey = survey_source(tmp_path)
    assert survey.classes == {"spur": 0, "short": 1} and [p.path.name for p in survey.clean] == ["b.png"]


def write_part(path: Path, images: dict[str, str | None]) -> None:
    """A COCO file with one spur of 10 x 10 px on each image; name -> source."""
    data = {
        "images": [
            {"id": n, "file_name": name, "source": source} for n, (name, source) in enumerate(images.items())
        ],
        "categories": [{"id": 1, "name": "spur"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [10 * n, 20, 10, 10]}
            for n in range(len(images))
        ],
    }
    write_text(path, json.dumps(data))


def test_names_of_a_part_are_looked_up_in_the_folder_that_the_file_is_named_after(tmp_path):
    for part, seed in (("train2017", 1), ("val2017", 2)):
        write_image(tmp_path / f"{part}/a.png", seed)
        write_part(tmp_path / f"annotations/instances_{part}.json", {"a.png": None})
    assert list(read_boxes(tmp_path)) == ["train2017/a.png", "val2017/a.png"]


def test_an_annotation_of_several_files_is_read_once(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write_image(tmp_path / f"{name}.png", seed)
    for file in ("all.json", "again.json"):
        write_part(tmp_path / file, {"a.png": None, "b.png": None})
    survey = survey_source(tmp_path)
    assert [len(image.boxes) for image in survey.images] == [1, 1] and not survey.warnings


def test_images_made_from_one_source_are_a_group(tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        write_image(tmp_path / f"{name}.png", seed)
    write_part(tmp_path / "all.json", {"a.png": "boards/01.png", "b.png": "boards/01.png", "c.png": None})
    assert [image.group for image in survey_source(tmp_path).images] == ["01", "01", "c"]
