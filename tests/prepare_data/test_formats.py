"""Every annotation format: what its reader finds, and what it reports as broken."""

import json

import numpy as np
import pytest

from tests.prepare_data.builders import (
    HEIGHT,
    WIDTH,
    error_of,
    read_boxes,
    voc_xml,
    write_boards,
    write_image,
    write_text,
)
from utils.prepare_data.survey import survey_source


def test_voc_flat_folders_have_boards_as_groups_and_clean_counterparts(tmp_path):
    survey = survey_source(write_boards(tmp_path))
    assert survey.format == "voc" and survey.classes == {"short": 0, "spur": 1}
    assert {p.group for p in survey.images} == {"01", "02", "03", "04"}
    assert len(survey.defective) == 8 and len(survey.clean) == 4
    assert all(p.counterpart.path.name == f"{p.group}.png" for p in survey.defective)


def test_voc_as_hripcb_is_distributed(tmp_path):
    for name in ("Missing_hole", "Spur"):
        stem = f"01_{name.lower()}_01"
        write_image(tmp_path / f"images/{name}/{stem}.jpg", len(name))
        write_image(tmp_path / f"rotation/{name}_rotation/{stem}.jpg", len(name) + 50)
        voc_xml(tmp_path / f"Annotations/{name}/{stem}.xml", [(name.lower(), 5, 6, 20, 22)])
    write_image(tmp_path / "PCB_USED/01.JPG", 99)
    survey = survey_source(tmp_path)
    assert [survey.tree.relative(p.path) for p in survey.defective] == [
        "images/Missing_hole/01_missing_hole_01.jpg",
        "images/Spur/01_spur_01.jpg",
    ]
    assert [p.path.name for p in survey.clean] == ["01.JPG"] and survey.group_pattern == r"^(\d+)"
    assert survey.defective[0].counterpart is survey.clean[0]
    assert any("2 images have no annotation" in note for note in survey.notes)


def test_yolo_with_data_yaml_boxes_polygons_and_background(tmp_path):
    write_text(
        tmp_path / "data.yaml",
        "path: .\ntrain: train/images\nval: valid/images\nnames: {0: spur, 1: short}\n",
    )
    write_image(tmp_path / "train/images/a.png", 1)
    write_text(tmp_path / "train/labels/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.2\n")
    write_image(tmp_path / "valid/images/b.png", 2)
    survey = survey_source(tmp_path)
    assert survey.format == "yolo" and survey.classes == {"spur": 0, "short": 1}
    assert [b.class_name for b in survey.defective[0].boxes] == ["short", "spur"]
    sides = [(b.left, b.top, b.right, b.bottom) for b in survey.defective[0].boxes]
    assert np.allclose(sides, [(60, 30, 100, 90), (16, 12, 48, 24)])
    assert [p.path.name for p in survey.clean] == ["b.png"] and "taken as free" in survey.notes[0]
    box, triangle = survey.defective[0].boxes
    assert box.outline is None and triangle.outline is not None
    shape = triangle.outline.drawn(WIDTH, HEIGHT)  # corners (16, 12), (48, 12), (48, 24)
    assert abs(shape.sum() - 32 * 12 / 2) < 30 and shape[14, 44] and not shape[22, 20]


def test_a_polygon_that_is_a_box_tells_no_shape(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_text(tmp_path / "classes.txt", "spur\n")
    write_text(tmp_path / "a.txt", "0 0.1 0.1 0.3 0.1 0.3 0.2 0.1 0.2\n0 0.5 0.5 0.7 0.5 0.7 0.6 0.5 0.7\n")
    box, other = survey_source(tmp_path).defective[0].boxes
    assert box.outline is None and (box.left, box.right) == pytest.approx((16, 48))
    assert other.outline is not None


def test_yolo_background_may_be_a_link(tmp_path):
    write_image(tmp_path / "elsewhere/b.png", 2)
    write_text(tmp_path / "set/data.yaml", "train: train/images\nnames: [spur]\n")
    write_image(tmp_path / "set/train/images/a.png", 1)
    write_text(tmp_path / "set/train/labels/a.txt", "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "set/train/images/b.png").symlink_to(tmp_path / "elsewhere/b.png")
    assert [p.path.name for p in survey_source(tmp_path / "set").clean] == ["b.png"]


def test_labelme_points_rectangles_polygons_and_circles(tmp_path):
    write_image(tmp_path / "a.png", 1)
    shapes = [
        {"label": "spur", "shape_type": "point", "points": [[30, 40]]},
        {"label": "short", "shape_type": "rectangle", "points": [[60, 50], [20, 10]]},
        {"label": "short", "shape_type": "polygon", "points": [[70, 20], [90, 25], [80, 44]]},
        {"label": "short", "shape_type": "circle", "points": [[100, 60], [103, 64]]},
    ]
    data = {"shapes": shapes, "imagePath": "a.png", "imageWidth": WIDTH, "imageHeight": HEIGHT}
    write_text(tmp_path / "a.json", json.dumps(data))
    assert read_boxes(tmp_path)["a.png"] == [
        ("spur", 30, 40, 30, 40),
        ("short", 20, 10, 60, 50),
        ("short", 70, 20, 90, 44),
        ("short", 95, 55, 105, 65),
    ]
    found = survey_source(tmp_path).images[0].boxes
    assert [b.is_point for b in found] == [True, False, False, False]
    assert [b.outlined for b in found] == [False, False, True, False]
    triangle = found[2].outline
    assert (triangle.left, triangle.top, triangle.mask.shape) == (70, 20, (24, 20))
    assert triangle.mask.sum() == pytest.approx(215, abs=35)  # half of 20 x 24, less the slope, and its edge


def test_deeppcb_pairs_with_commas_or_blanks(tmp_path):
    for number, line in enumerate(["10 20 30 44 1\n5 5 25 30 6\n", "10,20,30,44,3\n"]):
        write_image(tmp_path / f"group7/00007/0{number}_test.png", number)
        write_image(tmp_path / f"group7/00007/0{number}_temp.png", number + 10)
        write_text(tmp_path / f"group7/00007_not/0{number}.txt", line)
    survey = survey_source(tmp_path)
    assert survey.format == "deeppcb" and {p.group for p in survey.images} == {"group7"}
    found = {p.path.name: [(b.class_name, b.left, b.bottom) for b in p.boxes] for p in survey.defective}
    assert found == {
        "00_test.png": [("open", 10, 44), ("pin-hole", 5, 30)],
        "01_test.png": [("mousebite", 10, 44)],
    }
    assert [p.counterpart.path.name for p in survey.defective] == ["00_temp.png", "01_temp.png"]
    assert list(survey.classes) == ["open", "short", "mousebite", "spur", "copper", "pin-hole"]


def test_json_of_a_wrong_layout_is_reported_with_its_place(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_text(tmp_path / "a.json", json.dumps({"shapes": [{"label": "spur", "points": [[1, "x"]]}, 5]}))
    message = error_of(survey_source, tmp_path)
    assert "a.json: shapes.0.points.0.1: got 'x'" in message and "a.json: shapes.1: got '5'" in message


def test_deeppcb_bad_lines_and_missing_partners(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"g/1/{number}_test.png", number)
    for number in range(2):
        write_image(tmp_path / f"g/1/{number}_temp.png", number + 10)
    write_text(tmp_path / "g/1_not/0.txt", "1 2 30 40 9\n1 2 3\n")
    message = error_of(survey_source, tmp_path)
    assert "0.txt:1: got type 9" in message and "0.txt:2: got '1 2 3'" in message
    assert "1_test.png: no" in message and "2_test.png: no" in message
