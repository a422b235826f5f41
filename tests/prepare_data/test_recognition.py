"""The format of a folder is recognized, or the error says what was found."""

import json

from tests.prepare_data.builders import error_of, read_boxes, write_boards, write_image, write_text
from utils.prepare_data.formats.recognition import FORMATS, recognize
from utils.prepare_data.survey import survey_source
from utils.prepare_data.tree import FileTree


def test_two_formats_are_not_guessed_between(tmp_path):
    write_boards(tmp_path, count=1)
    write_text(tmp_path / "data.yaml", "names: [spur, short]\n")
    message = error_of(recognize, FileTree(tmp_path))
    assert "--format voc or --format yolo" in message and "XML annotations such as annotations/" in message
    assert len(read_boxes(tmp_path, "voc")) == 3


def test_masks_count_only_where_no_other_format_fits(tmp_path):
    write_boards(tmp_path, count=1)
    write_image(tmp_path / "images/01_spur_01_mask.png", 9)
    assert recognize(FileTree(tmp_path)) == "voc"


def test_coco_and_yolo_of_the_same_images_are_read_as_coco(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_text(tmp_path / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": []}
    write_text(tmp_path / "all.json", json.dumps(coco))
    assert recognize(FileTree(tmp_path)) == "coco"
    write_image(tmp_path / "b.png", 2)
    write_text(tmp_path / "b.txt", "0 0.5 0.5 0.1 0.1\n")
    assert "more than one format fits" in error_of(recognize, FileTree(tmp_path))


def test_unknown_format_is_reported_with_what_was_found(tmp_path):
    assert "got no files; expected" in error_of(recognize, FileTree(tmp_path))
    write_image(tmp_path / "a.png", 1)
    write_text(tmp_path / "notes.md", "nothing")
    message = error_of(recognize, FileTree(tmp_path))
    assert "got files 1 .md, 1 .png;" in message and "|".join(FORMATS) in message


def test_forced_format_without_annotations(tmp_path):
    write_image(tmp_path / "a.png", 1)
    assert "no voc annotations" in error_of(survey_source, tmp_path, "voc")
    assert "no such folder" in error_of(survey_source, tmp_path / "none")
