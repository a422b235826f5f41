"""YOLO lines and class names, in and out."""

import json
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.labels import (
    Annotation,
    auto_scale,
    class_from_filename,
    format_annotation,
    load_class_names,
    match_class,
    normalize_class_name,
    read_annotations,
    read_annotations_and_problems,
    same_classes,
)

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"missinghole": 0, "mousebite": 1, "open_circuit": 2}


def write(tmp_path: Path, text: str, name: str = "a.txt") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


# Lines


@pytest.mark.parametrize(
    "line, expected",
    [
        ("1 0.5 0.25", (1, "mousebite", 0.5, 0.25, None, None)),
        ("1 0.5 0.25 0.1 0.2", (1, "mousebite", 0.5, 0.25, 0.1, 0.2)),
        ("2.0 0 1 1 1e-1 0.87", (2, "open_circuit", 0.0, 1.0, 1.0, 0.1)),
        ("0 0.5 0.25 0.1 0.2 17", (0, "missinghole", 0.5, 0.25, 0.1, 0.2)),  # confidence of any scale
        ("0 0.5 0.25 0 0", (0, "missinghole", 0.5, 0.25, None, None)),
        ("0 0.25 0.5 0.75 0.5 0.5 1.0", (0, "missinghole", 0.5, 0.75, 0.5, 0.5)),
        ("0 0.125 0.5 0.375 0.5 0.375 0.75 0.125 0.75", (0, "missinghole", 0.25, 0.625, 0.25, 0.25)),
    ],
)
def test_line(tmp_path: Path, line: str, expected: tuple):
    values = [float(text) for text in line.split()[1:]]
    corners = tuple(zip(values[::2], values[1::2], strict=True)) if len(values) >= 6 else ()
    assert read_annotations(write(tmp_path, line), CLASSES) == [Annotation(*expected, 1, corners)]


def test_blank_lines_count_but_are_skipped(tmp_path: Path):
    path = write(tmp_path, "\n0 0.5 0.5\n   \n\t1\t0.5\t0.5\r\n")
    assert [(a.class_id, a.line) for a in read_annotations(path, CLASSES)] == [(0, 2), (1, 4)]
    assert read_annotations(write(tmp_path, ""), CLASSES) == []
    assert read_annotations(write(tmp_path, "\ufeff0 0.5 0.5"), CLASSES)[0].class_id == 0


@pytest.mark.parametrize(
    "line, expected",
    [
        ("0 0.5", "got 2 columns, expected 3 (class cx cy)"),
        ("0 0.5 0.5 0.5", "got 4 columns"),
        ("0 .1 .1 .2 .2 .3 .3 .4", "got 8 columns"),
        ("0 0.5 half", "got '0 0.5 half', expected numbers"),
        ("7 0.5 0.5", "got class 7, expected one of 0 (missinghole), 1 (mousebite), 2 (open_circuit)"),
        ("0.5 0.5 0.5", "got class 0.5"),
        ("nan 0.5 0.5", "got class nan"),
        ("0 1.5 0.5", "got 1.5, expected coordinates in [0, 1]"),
        ("0 0.5 -0.1 0.1 nan", "got -0.1, nan, expected coordinates"),
        ("0 0.5 0.5 0.1 0", "got a box of 0.1 x 0"),
        ("0 .5 .1 .5 .2 .5 .3", "got a box of 0 x 0.2"),
    ],
)
def test_bad_line(tmp_path: Path, line: str, expected: str):
    path = write(tmp_path, f"0 0.5 0.5\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_annotations(path, CLASSES)
    assert str(caught.value).startswith(f"{path}:2: ") and expected in str(caught.value)


def test_all_bad_lines_in_one_error_and_good_ones_kept(tmp_path: Path):
    path = write(tmp_path, "9 0.5 0.5\n1 0.5 0.5\n0 2 0.5\n")
    annotations, problems = read_annotations_and_problems(path, CLASSES)
    assert [a.line for a in annotations] == [2]
    assert [problem.split(" ")[0] for problem in problems] == [f"{path}:1:", f"{path}:3:"]
    with pytest.raises(UserError) as caught:
        read_annotations(path, CLASSES)
    assert all(problem in str(caught.value) for problem in problems)


def test_unreadable_annotation_files(tmp_path: Path):
    missing = tmp_path / "none.txt"
    assert read_annotations_and_problems(missing, CLASSES)[1][0].startswith(
        f"{missing}: no such annotation file"
    )
    binary = tmp_path / "b.txt"
    binary.write_bytes(b"\xff\xfe\x00\x9f")
    assert "cannot be read as text" in read_annotations_and_problems(binary, CLASSES)[1][0]


def test_format_reads_back(tmp_path: Path):
    line = format_annotation(1, 0.5, 1 / 3, 0.1, 0.25)
    assert line == "1 0.500000 0.333333 0.100000 0.250000"
    assert format_annotation(2, 0, 1) == "2 0.000000 1.000000"
    annotation = read_annotations(write(tmp_path, line), CLASSES)[0]
    assert (annotation.class_id, annotation.cy, annotation.w) == (1, 0.333333, 0.1)


@pytest.mark.parametrize("values", [(0.5, 0.5, 0.1, None), (1.5, 0.5), (0.5, float("nan"))])
def test_format_refuses(values: tuple):
    with pytest.raises(ValueError):
        format_annotation(0, *values)


# Class names


def test_the_bundled_class_file_has_the_published_names_and_fits_older_weights():
    names = load_class_names(ROOT / "data/pcb.json")
    assert list(names) == ["missinghole", "mousebite", "opencircuit", "short", "spur", "spuriouscopper"]
    older = ["missing_hole", "mouse_bite", "open_circuit", "short", "spur", "spurious_copper"]
    assert same_classes({name: i for i, name in enumerate(older)}, names)
    assert not same_classes({name: i for i, name in enumerate(reversed(older))}, names)
    assert not same_classes({"short": 3}, names)


def test_names_match_without_case_and_signs():
    assert normalize_class_name("Missing_hole 2") == "missinghole2"
    assert match_class("Missing_hole", CLASSES) == 0
    assert match_class("OPEN-CIRCUIT", CLASSES) == 2
    with pytest.raises(UserError, match="class 'spur' is unknown; expected one of missinghole, mousebite"):
        match_class("spur", CLASSES)


@pytest.mark.parametrize(
    "name, expected",
    [("mousebite_017.png", "mousebite"), ("d/open_circuit_1.jpg", "open_circuit"), ("a_1_2.tiff", "a_1")],
)
def test_class_from_filename(name: str, expected: str):
    assert class_from_filename(name) == expected


@pytest.mark.parametrize("name", ["mousebite.png", "_1.png", "spur_1a.png", "spur1.png"])
def test_filename_without_class(name: str):
    with pytest.raises(UserError, match="got no class in the file name"):
        class_from_filename(name)


def test_class_file(tmp_path: Path):
    assert load_class_names(write(tmp_path, json.dumps(CLASSES), "c.json")) == CLASSES


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{", "not valid JSON"),
        ("[1]", "got '[1]', expected {class name: id"),
        ("{}", "expected {class name: id"),
        ('{"a": "0"}', "class 'a': got id '0', expected a whole number"),
        ('{"a": true}', "class 'a': got id True"),
        ('{"a": 0, "b": 0}', "classes 'a' and 'b' have the same id 0"),
        ('{"a_b": 0, "AB": 1}', "class 'AB': expected a name"),
    ],
)
def test_bad_class_file(tmp_path: Path, text: str, expected: str):
    with pytest.raises(UserError) as caught:
        load_class_names(write(tmp_path, text, "c.json"))
    assert expected in str(caught.value) and "c.json" in str(caught.value)


def test_missing_class_file(tmp_path: Path):
    with pytest.raises(UserError, match="no such class file"):
        load_class_names(tmp_path / "none.json")


# Size of a defect


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(0, 0, 1), (10, 48, 1), (48.0, 48.0, 1), (96, 20, 2), (20, 60, 1.25), (49, 1, 49 / 48)],
)
def test_auto_scale_is_the_smallest_that_fits_three_quarters_of_the_window(width, height, scale):
    assert auto_scale(width, height) == pytest.approx(scale, abs=1e-12)
    assert max(width, height) <= 0.75 * 64 * auto_scale(width, height) + 1e-9


def test_auto_scale_follows_the_window():
    assert auto_scale(96, 96, window=128) == 1 and auto_scale(96, 96, window=32) == 4


@pytest.mark.parametrize("size", [(-1, 5), (5, float("nan")), (float("inf"), 5)])
def test_auto_scale_refuses_what_is_no_size(size):
    with pytest.raises(ValueError, match="expected sizes"):
        auto_scale(*size)
