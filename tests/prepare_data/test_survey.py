"""Everything is checked: all problems listed at once, boxes clipped, classes unified."""

import json

from tests.prepare_data.builders import (
    HEIGHT,
    SMALL,
    error_of,
    voc_xml,
    write_boards,
    write_image,
    write_text,
)
from utils.errors import run_main
from utils.prepare_data.__main__ import main
from utils.prepare_data.survey import survey_source


def test_all_problems_are_listed_at_once_and_nothing_is_written(tmp_path, capsys):
    root = write_boards(tmp_path / "source", count=2)
    good = (root / "images/01_short_02.png").read_bytes()
    (root / "images/01_short_02.png").write_bytes(good[: len(good) // 2])
    (root / "clean/02.png").write_bytes(b"")
    write_text(root / "annotations/01_spur_01.xml", "<annotation><object>")
    voc_xml(root / "annotations/02_spur_01.xml", [("spur", 1, 2, "three", 4)])
    voc_xml(root / "annotations/02_short_02.xml", [("short", 1, 2, 30, 40)], size=(999, HEIGHT))
    voc_xml(root / "annotations/02_spur_09.xml", [("spur", 1, 2, 30, 40)])
    assert run_main(main, [str(root), "--out", str(tmp_path / "out"), *SMALL]) == 2
    message = capsys.readouterr().err
    for part in (
        "6 problems", "01_short_02.png: not a readable", "02.png: not a readable", "broken XML",
        "02_spur_01.xml, object 1", "is for 999x120", "02_spur_09.xml: its image",
    ):  # fmt: skip
        assert part in message
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1


def test_unknown_classes_and_broken_json_are_problems(tmp_path):
    write_image(tmp_path / "a.png", 1)
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "spur"}],
        "annotations": [{"id": 3, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5]}],
    }
    write_text(tmp_path / "a.json", json.dumps(data))
    write_text(tmp_path / "b.json", "{")
    message = error_of(survey_source, tmp_path)
    assert "got category_id 9, expected one of 1 (spur)" in message and "b.json: broken JSON" in message


def test_class_table_of_the_user_binds_names_and_ids(tmp_path):
    write_boards(tmp_path, count=1)
    assert survey_source(tmp_path, classes={"Spur": 4, "SHORT": 2}).classes == {"Spur": 4, "SHORT": 2}
    assert "class 'short' of 1 box:" in error_of(survey_source, tmp_path, classes={"spur": 0})


def test_boxes_are_clipped_dropped_and_counted(tmp_path):
    write_image(tmp_path / "a.png", 1)
    boxes = [
        ("spur", -5, 10, 20, 30),
        ("spur", 300, 10, 320, 30),
        ("spur", 50, 50, 50, 60),
        ("spur", 60, 60, 70, 70),
        ("spur", 60, 60, 70, 70),
    ]
    voc_xml(tmp_path / "a.xml", boxes)
    survey = survey_source(tmp_path)
    found = [(b.left, b.top, b.right, b.bottom) for b in survey.defective[0].boxes]
    assert found == [(0, 10, 20, 30), (60, 60, 70, 70)]
    for part in (
        "1 box extends beyond",
        "1 box lies outside",
        "1 box is thinner",
        "1 box is a duplicate",
    ):
        assert any(part in warning for warning in survey.warnings), part


def test_rounded_boxes_at_the_edge_are_clipped_in_silence(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_text(tmp_path / "a.txt", "0 0.968750 0.954167 0.062502 0.091668\n")  # 160.0002 x 120.0001
    write_text(tmp_path / "classes.txt", "spur\n")
    survey = survey_source(tmp_path)
    assert [(b.right, b.bottom) for b in survey.defective[0].boxes] == [(160, 120)]
    assert not survey.warnings


def test_class_names_that_differ_only_in_case_are_one_class(tmp_path):
    for name, label in (("a", "Missing hole"), ("b", "missing_hole")):
        write_image(tmp_path / f"{name}.png", ord(name))
        voc_xml(tmp_path / f"{name}.xml", [(label, 10, 10, 20, 20)])
    assert survey_source(tmp_path).classes == {"Missing hole": 0}
