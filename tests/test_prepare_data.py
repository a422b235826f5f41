"""From annotated pictures to training folders: every format, exact cuts, splits that do not leak, bad data."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.annotation_formats import READERS, recognise
from utils.dataset_pictures import Box, FileTree, Picture
from utils.dataset_survey import choose_groups, survey_source
from utils.errors import UserError, run_main
from utils.images import load_rgb
from utils.labels import class_from_filename, load_class_names, match_class, read_annotations
from utils.prepare_data import clean_places, cut_patch, is_crowded, main, places_between
from utils.synthetic_pcb import __main__ as synthetic_pcb
from utils.synthetic_pcb.board import CLASSES

WIDTH, HEIGHT = 160, 120
SMALL = ["--tile", "64", "--window", "32", "--margin", "8"]


def pixels(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(path: Path, seed: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def voc_xml(path: Path, boxes: list[tuple], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in boxes
    )
    size_text = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    text(path, f"<annotation><filename>{path.stem}.png</filename>{size_text}{objects}</annotation>")


def boards(root: Path, count: int = 4, clean: bool = True) -> Path:
    """`count` boards, named as those of PKU-Market-PCB, each with a spur at (40..52, 50..60) and a short."""
    for board in range(1, count + 1):
        for number, (name, box) in enumerate(
            [("spur", (40, 50, 52, 60)), ("short", (100, 30, 110, 50))], start=1
        ):
            stem = f"{board:02}_{name}_{number:02}"
            picture(root / f"images/{stem}.png", board * 10 + number)
            voc_xml(root / f"annotations/{stem}.xml", [(name, *box)])
        if clean:
            picture(root / f"clean/{board:02}.png", board * 10)
    return root


def index_of(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read(root: Path, format_name: str = "auto") -> dict[str, list[tuple]]:
    """{picture: [(class, left, top, right, bottom), ...]} of a folder whose format is recognised."""
    survey = survey_source(root, format_name)
    return {
        survey.tree.relative(p.path): [(b.class_name, b.left, b.top, b.right, b.bottom) for b in p.boxes]
        for p in survey.pictures
    }


def error_of(function, *arguments, **named) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **named)
    return str(caught.value)


# Patches


def test_patch_of_a_small_defect_copies_native_pixels_around_the_centre_of_its_box():
    image = pixels(0)
    patch, scale, padded = cut_patch(image, Box("spur", 70, 50, 80, 61), window=32, margin=8)
    assert (scale, padded, patch.shape) == (1, False, (48, 48, 3))
    assert np.array_equal(patch, image[55 - 24 : 55 + 24, 75 - 24 : 75 + 24])


def test_patch_at_the_edge_keeps_the_centre_and_is_reflected():
    image = pixels(0)
    patch, _, padded = cut_patch(image, Box("spur", 0, 0, 10, 10), window=32, margin=8)
    assert padded and np.array_equal(patch[24, 24], image[5, 5])
    mirrored = np.pad(image, ((19, 0), (19, 0), (0, 0)), mode="reflect")
    assert np.array_equal(patch, mirrored[:48, :48])


def test_patch_of_a_large_defect_is_shrunk_about_its_centre():
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:246, 101:197] = 255  # a white square of 96 px; centre (149, 198)
    patch, scale, padded = cut_patch(image, Box("spur", 101, 150, 197, 246), window=64, margin=16)
    assert (scale, padded, patch.shape) == (2, False, (96, 96, 3))
    expected = np.zeros((96, 96), np.uint8)
    expected[24:72, 24:72] = 255  # 48 px in the middle
    inner = np.abs(patch[:, :, 0].astype(int) - expected)
    assert inner.mean() < 2 and np.array_equal(patch, patch[::-1, ::-1])


def test_shrunk_patch_is_antialiased():
    image = np.indices((400, 400)).sum(axis=0)[:, :, None] % 2 * np.full((1, 1, 3), 255)
    patch, scale, _ = cut_patch(image.astype(np.uint8), Box("spur", 104, 104, 296, 296), window=64, margin=16)
    assert scale == 4 and np.abs(patch.astype(int) - 127).max() <= 2


def test_crowded_means_another_class_within_the_window():
    box = Box("spur", 40, 40, 50, 50)
    near, far = Box("short", 62, 40, 70, 50), Box("short", 90, 40, 95, 50)
    assert is_crowded(Picture(Path("a"), [box, near]), box, 64)
    assert not is_crowded(Picture(Path("a"), [box, far, Box("spur", 52, 40, 60, 50)]), box, 64)


# Tiles


def test_tiles_of_a_clean_picture_cover_all_of_it():
    covered = np.zeros((100, 170), bool)
    for left, top in clean_places((170, 100), 64, None, np.random.default_rng(0)):
        assert 0 <= left <= 170 - 64 and 0 <= top <= 100 - 64
        covered[top : top + 64, left : left + 64] = True
    assert covered.all()
    assert clean_places((64, 64), 64, None, np.random.default_rng(0)) == [(0, 0)]
    assert clean_places((200, 63), 64, None, np.random.default_rng(0)) == []


@pytest.mark.parametrize("limit", [2, 30])
def test_number_of_tiles_can_be_set(limit):
    places = clean_places((170, 100), 64, limit, np.random.default_rng(0))
    assert len(places) == limit and len(set(places)) == limit


def test_tiles_between_defects_keep_their_distance_from_every_box():
    boxes = [Box("spur", 100, 100, 120, 130), Box("short", 300, 20, 300, 20, is_point=True)]
    place = places_between(
        Picture(Path("a"), boxes, size=(400, 300)), 64, 16, 64, None, np.random.default_rng(0)
    )
    assert len(place) >= 6
    for left, top in place:
        for l, t, r, b in [(84, 84, 136, 146), (300 - 48, 20 - 48, 300 + 48, 20 + 48)]:  # noqa: E741
            assert left >= r or left + 64 <= l or top >= b or top + 64 <= t
    for number, (left, top) in enumerate(place):
        assert all(abs(left - x) >= 64 or abs(top - y) >= 64 for x, y in place[:number])


# Formats


def test_voc_flat_folders_have_boards_as_groups_and_clean_counterparts(tmp_path):
    survey = survey_source(boards(tmp_path))
    assert survey.format == "voc" and survey.classes == {"short": 0, "spur": 1}
    assert {p.group for p in survey.pictures} == {"01", "02", "03", "04"}
    assert len(survey.defective) == 8 and len(survey.clean) == 4
    assert all(p.counterpart.path.name == f"{p.group}.png" for p in survey.defective)


def test_voc_as_hripcb_is_distributed(tmp_path):
    for name in ("Missing_hole", "Spur"):
        stem = f"01_{name.lower()}_01"
        picture(tmp_path / f"images/{name}/{stem}.jpg", len(name))
        picture(tmp_path / f"rotation/{name}_rotation/{stem}.jpg", len(name) + 50)
        voc_xml(tmp_path / f"Annotations/{name}/{stem}.xml", [(name.lower(), 5, 6, 20, 22)])
    picture(tmp_path / "PCB_USED/01.JPG", 99)
    survey = survey_source(tmp_path)
    assert [survey.tree.relative(p.path) for p in survey.defective] == [
        "images/Missing_hole/01_missing_hole_01.jpg",
        "images/Spur/01_spur_01.jpg",
    ]
    assert [p.path.name for p in survey.clean] == ["01.JPG"] and survey.group_pattern == r"^(\d+)"
    assert survey.defective[0].counterpart is survey.clean[0]
    assert any("2 pictures have no annotation" in note for note in survey.notes)


def test_yolo_with_data_yaml_boxes_polygons_and_background(tmp_path):
    text(
        tmp_path / "data.yaml",
        "path: .\ntrain: train/images\nval: valid/images\nnames: {0: spur, 1: short}\n",
    )
    picture(tmp_path / "train/images/a.png", 1)
    text(tmp_path / "train/labels/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.2\n")
    picture(tmp_path / "valid/images/b.png", 2)
    survey = survey_source(tmp_path)
    assert survey.format == "yolo" and survey.classes == {"spur": 0, "short": 1}
    assert [b.class_name for b in survey.defective[0].boxes] == ["short", "spur"]
    sides = [(b.left, b.top, b.right, b.bottom) for b in survey.defective[0].boxes]
    assert np.allclose(sides, [(60, 30, 100, 90), (16, 12, 48, 24)])
    assert [p.path.name for p in survey.clean] == ["b.png"] and "taken as free" in survey.notes[0]


def test_yolo_background_may_be_a_link(tmp_path):
    picture(tmp_path / "elsewhere/b.png", 2)
    text(tmp_path / "set/data.yaml", "train: train/images\nnames: [spur]\n")
    picture(tmp_path / "set/train/images/a.png", 1)
    text(tmp_path / "set/train/labels/a.txt", "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "set/train/images/b.png").symlink_to(tmp_path / "elsewhere/b.png")
    assert [p.path.name for p in survey_source(tmp_path / "set").clean] == ["b.png"]


def test_names_of_pku_market_pcb_have_boards_as_groups_in_every_format(tmp_path):
    text(tmp_path / "data.yaml", "names: [spur]\n")
    for number, stem in enumerate(("02_Spur_02", "02_spur_01", "12_spur_01")):
        picture(tmp_path / f"images/{stem}.png", number)
        text(tmp_path / f"labels/{stem}.txt", "0 0.5 0.5 0.25 0.5\n")
    assert [p.group for p in survey_source(tmp_path).pictures] == ["02", "02", "12"]
    (tmp_path / "images/12_spur_01.png").rename(tmp_path / "images/x.png")
    (tmp_path / "labels/12_spur_01.txt").rename(tmp_path / "labels/x.txt")
    assert [p.group for p in survey_source(tmp_path).pictures] == ["02_Spur_02", "02_spur_01", "x"]


def test_coco_boxes_and_polygons(tmp_path):
    picture(tmp_path / "train/a.png", 1)
    picture(tmp_path / "train/b.png", 2)
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
    text(tmp_path / "train/_annotations.coco.json", json.dumps(data))
    assert read(tmp_path) == {
        "train/a.png": [("short", 10, 20, 40, 60), ("spur", 50, 60, 70, 90)],
        "train/b.png": [],
    }
    survey = survey_source(tmp_path)
    assert survey.classes == {"spur": 0, "short": 1} and [p.path.name for p in survey.clean] == ["b.png"]


def test_labelme_points_rectangles_polygons_and_circles(tmp_path):
    picture(tmp_path / "a.png", 1)
    shapes = [
        {"label": "spur", "shape_type": "point", "points": [[30, 40]]},
        {"label": "short", "shape_type": "rectangle", "points": [[60, 50], [20, 10]]},
        {"label": "short", "shape_type": "polygon", "points": [[70, 20], [90, 25], [80, 44]]},
        {"label": "short", "shape_type": "circle", "points": [[100, 60], [103, 64]]},
    ]
    data = {"shapes": shapes, "imagePath": "a.png", "imageWidth": WIDTH, "imageHeight": HEIGHT}
    text(tmp_path / "a.json", json.dumps(data))
    assert read(tmp_path)["a.png"] == [
        ("spur", 30, 40, 30, 40),
        ("short", 20, 10, 60, 50),
        ("short", 70, 20, 90, 44),
        ("short", 95, 55, 105, 65),
    ]
    assert [b.is_point for b in survey_source(tmp_path).pictures[0].boxes] == [True, False, False, False]


def test_deeppcb_pairs_with_commas_or_blanks(tmp_path):
    for number, line in enumerate(["10 20 30 44 1\n5 5 25 30 6\n", "10,20,30,44,3\n"]):
        picture(tmp_path / f"group7/00007/0{number}_test.png", number)
        picture(tmp_path / f"group7/00007/0{number}_temp.png", number + 10)
        text(tmp_path / f"group7/00007_not/0{number}.txt", line)
    survey = survey_source(tmp_path)
    assert survey.format == "deeppcb" and {p.group for p in survey.pictures} == {"group7"}
    found = {p.path.name: [(b.class_name, b.left, b.bottom) for b in p.boxes] for p in survey.defective}
    assert found == {
        "00_test.png": [("open", 10, 44), ("pin-hole", 5, 30)],
        "01_test.png": [("mousebite", 10, 44)],
    }
    assert [p.counterpart.path.name for p in survey.defective] == ["00_temp.png", "01_temp.png"]
    assert list(survey.classes) == ["open", "short", "mousebite", "spur", "copper", "pin-hole"]


def test_mvtec_masks_give_a_box_per_component(tmp_path):
    picture(tmp_path / "train/good/000.png", 1)
    picture(tmp_path / "test/good/000.png", 2)
    picture(tmp_path / "test/crack/000.png", 3)
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
    assert len({p.group for p in survey.pictures}) == 3 and len({p.name for p in survey.pictures}) == 3
    assert "1 components" in survey.notes[0]
    # Good and defective pictures of one number are different parts.
    (tmp_path / "test/good/000.png").unlink()
    survey = survey_source(tmp_path)
    assert survey.defective[0].counterpart is None
    assert {p.group for p in survey.pictures} == {"train/good/000", "crack/000"}


# Recognition


def test_two_formats_are_not_guessed_between(tmp_path):
    boards(tmp_path, count=1)
    text(tmp_path / "data.yaml", "names: [spur, short]\n")
    message = error_of(recognise, FileTree(tmp_path))
    assert "--format voc or --format yolo" in message and "XML annotations such as annotations/" in message
    assert len(read(tmp_path, "voc")) == 3


def test_unknown_format_is_told_with_what_was_found(tmp_path):
    picture(tmp_path / "a.png", 1)
    text(tmp_path / "notes.md", "nothing")
    message = error_of(recognise, FileTree(tmp_path))
    assert "1 .md, 1 .png" in message and "|".join(READERS) in message


def test_forced_format_without_annotations(tmp_path):
    picture(tmp_path / "a.png", 1)
    assert "no voc annotations" in error_of(survey_source, tmp_path, "voc")
    assert "no such folder" in error_of(survey_source, tmp_path / "none")


# Bad data


def test_all_problems_are_listed_at_once_and_nothing_is_written(tmp_path, capsys):
    root = boards(tmp_path / "source", count=2)
    good = (root / "images/01_short_02.png").read_bytes()
    (root / "images/01_short_02.png").write_bytes(good[: len(good) // 2])
    (root / "clean/02.png").write_bytes(b"")
    text(root / "annotations/01_spur_01.xml", "<annotation><object>")
    voc_xml(root / "annotations/02_spur_01.xml", [("spur", 1, 2, "three", 4)])
    voc_xml(root / "annotations/02_short_02.xml", [("short", 1, 2, 30, 40)], size=(999, HEIGHT))
    voc_xml(root / "annotations/02_spur_09.xml", [("spur", 1, 2, 30, 40)])
    assert run_main(main, [str(root), "--out", str(tmp_path / "out"), *SMALL]) == 2
    message = capsys.readouterr().err
    for part in (
        "6 problems", "01_short_02.png: not a readable", "02.png: not a readable", "broken XML",
        "02_spur_01.xml, object 1", "made for 999x120", "02_spur_09.xml: its picture",
    ):  # fmt: skip
        assert part in message
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1


def test_unknown_classes_and_broken_json_are_problems(tmp_path):
    picture(tmp_path / "a.png", 1)
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "spur"}],
        "annotations": [{"id": 3, "image_id": 1, "category_id": 9, "bbox": [1, 1, 5, 5]}],
    }
    text(tmp_path / "a.json", json.dumps(data))
    text(tmp_path / "b.json", "{")
    message = error_of(survey_source, tmp_path)
    assert "got category_id 9, expected one of 1 (spur)" in message and "b.json: broken JSON" in message


def test_json_of_a_wrong_layout_is_told_by_its_place(tmp_path):
    picture(tmp_path / "a.png", 1)
    text(tmp_path / "a.json", json.dumps({"shapes": [{"label": "spur", "points": [[1, "x"]]}, 5]}))
    message = error_of(survey_source, tmp_path)
    assert "a.json: shapes.0.points.0.1: got 'x'" in message and "a.json: shapes.1: got '5'" in message


def test_deeppcb_bad_lines_and_missing_partners(tmp_path):
    for number in range(3):
        picture(tmp_path / f"g/1/{number}_test.png", number)
    for number in range(2):
        picture(tmp_path / f"g/1/{number}_temp.png", number + 10)
    text(tmp_path / "g/1_not/0.txt", "1 2 30 40 9\n1 2 3\n")
    message = error_of(survey_source, tmp_path)
    assert "0.txt:1: got type 9" in message and "0.txt:2: got '1 2 3'" in message
    assert "1_test.png: no" in message and "2_test.png: no" in message


def test_class_table_of_the_user_binds_names_and_ids(tmp_path):
    boards(tmp_path, count=1)
    assert survey_source(tmp_path, classes={"Spur": 4, "SHORT": 2}).classes == {"Spur": 4, "SHORT": 2}
    assert "class 'short' of 1 boxes" in error_of(survey_source, tmp_path, classes={"spur": 0})


def test_boxes_are_clipped_dropped_and_counted(tmp_path):
    picture(tmp_path / "a.png", 1)
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
        "1 boxes reached over",
        "1 boxes lie outside",
        "1 boxes are thinner",
        "1 boxes are given twice",
    ):
        assert any(part in warning for warning in survey.warnings), part


def test_class_names_that_differ_in_case_alone_are_one_class(tmp_path):
    for name, label in (("a", "Missing hole"), ("b", "missing_hole")):
        picture(tmp_path / f"{name}.png", ord(name))
        voc_xml(tmp_path / f"{name}.xml", [(label, 10, 10, 20, 20)])
    assert survey_source(tmp_path).classes == {"Missing hole": 0}


# Groups


def test_equal_pictures_are_merged_and_their_groups_stay_together(tmp_path):
    for name, seed, box in (("a", 1, 10), ("b", 1, 40), ("c", 3, 10)):
        picture(tmp_path / f"{name}.png", seed)
        voc_xml(tmp_path / f"{name}.xml", [("spur", box, 10, box + 9, 20)])
    survey = survey_source(tmp_path)
    assert [(p.path.name, p.group, len(p.boxes)) for p in survey.pictures] == [
        ("a.png", "a", 2),
        ("c.png", "c", 1),
    ]
    assert choose_groups(survey, ["b"], 0, 0) == {"a"}
    assert any("b with a" in note for note in survey.notes)


def test_a_shared_clean_picture_joins_groups(tmp_path):
    for number in range(3):
        picture(tmp_path / f"group{number}/1/{number}_test.png", number)
        picture(tmp_path / f"group{number}/1/{number}_temp.png", 10 + min(number, 1))  # 1 and 2 share theirs
        text(tmp_path / f"group{number}/1_not/{number}.txt", "10 20 30 44 1\n")
    survey = survey_source(tmp_path)
    assert [p.group for p in survey.defective] == ["group0", "group1", "group1"]


def test_group_pattern_on_name_or_path_and_its_misfits(tmp_path):
    boards(tmp_path, count=2)
    assert {p.group for p in survey_source(tmp_path, group_pattern=r"_(\d+)\.").defective} == {"01", "02"}
    with_path = survey_source(tmp_path, group_pattern=r"(images|clean)/")
    assert {p.group for p in with_path.defective} == {"images"} and {p.group for p in with_path.clean} == {
        "clean"
    }
    message = error_of(survey_source, tmp_path, group_pattern=r"(spur)")
    assert "01_short_02.png: the group pattern" in message and "2 problems" in message


def test_drawn_holdout_has_every_class_in_both_parts_where_possible(tmp_path):
    for number in range(8):
        name = "short" if number in (2, 5) else "spur"
        picture(tmp_path / f"{number}.png", number)
        voc_xml(tmp_path / f"{number}.xml", [(name, 10, 10, 30, 30)])
    survey = survey_source(tmp_path)
    for seed in range(5):
        held = choose_groups(survey, None, 0.25, seed)
        assert len(held) == 2 and len(held & {"2", "5"}) == 1
    assert choose_groups(survey, None, 0.25, 1) == choose_groups(survey, None, 0.25, 1)
    assert choose_groups(survey, None, 0, 0) == set()


def test_a_class_of_one_group_is_trained_rather_than_tested(tmp_path):
    for number in range(6):
        picture(tmp_path / f"{number}.png", number)
        voc_xml(tmp_path / f"{number}.xml", [("short" if number == 3 else "spur", 10, 10, 30, 30)])
    survey = survey_source(tmp_path)
    assert all("3" not in choose_groups(survey, None, 0.2, seed) for seed in range(20))


def test_wrong_holdouts(tmp_path):
    survey = survey_source(boards(tmp_path, count=2))
    assert "no such group; the groups are 01 02" in error_of(choose_groups, survey, ["1"], 0, 0)
    assert "left to train on" in error_of(choose_groups, survey, ["01", "02"], 0, 0)


# The whole


def test_output_of_a_run(tmp_path, capsys):
    root, out = boards(tmp_path / "source"), tmp_path / "out"
    main([str(root), "--out", str(out), "--holdout", "03", *SMALL])
    classes = load_class_names(out / "classes.json")
    rows = index_of(out)
    assert {row["group"] for row in rows if row["split"] == "test"} == {"03"}
    assert {row["group"] for row in rows if row["split"] == "train"} == {"01", "02", "04"}
    assert {row["file"] for row in rows} == {
        p.relative_to(out).as_posix() for p in out.rglob("*.png") if p.name != "contact_sheet.png"
    }
    row = next(row for row in rows if row["file"] == "train/defect/spur_0000.png")
    assert [float(row[side]) for side in ("left", "top", "right", "bottom", "scale")] == [40, 50, 52, 60, 1]
    source = load_rgb(root / row["source"])
    assert match_class(class_from_filename(row["file"].rsplit("/")[-1]), classes) == classes["spur"]
    assert np.array_equal(load_rgb(out / row["file"]), source[55 - 24 : 55 + 24, 46 - 24 : 46 + 24])
    tile = next(row for row in rows if row["file"].startswith("train/defect_free/"))
    left, top = int(tile["left"]), int(tile["top"])
    cropped = load_rgb(root / tile["source"])[top : top + 64, left : left + 64]
    assert tile["class"] == "" and np.array_equal(load_rgb(out / tile["file"]), cropped)
    for part, origin in (("test", "images/03_spur_01.png"), ("test_clean", "clean/03.png")):
        assert (out / part / "03_spur_01.png").read_bytes() == (root / origin).read_bytes()
        (label,) = read_annotations(out / part / "03_spur_01.txt", classes)
        assert label.class_name == "spur" and (label.cx, label.cy) == (round(46 / 160, 6), round(55 / 120, 6))
    report = capsys.readouterr().out
    assert report == (out / "report.txt").read_text() and "6 patches of 48x48 px; 0 shrunk" in report
    assert load_rgb(out / "contact_sheet.png").shape[0] == 3 * 52  # two classes and the tiles


def test_equal_runs_give_equal_files(tmp_path):
    root = boards(tmp_path / "source")
    for name in ("a", "b"):
        main([str(root), "--out", str(tmp_path / name), "--tiles-per-image", "3", *SMALL])
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 20
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_without_clean_pictures_tiles_come_from_between_the_defects(tmp_path, capsys):
    root, out = boards(tmp_path / "source", clean=False), tmp_path / "out"
    main([str(root), "--out", str(out), "--holdout", "01", "--tile", "48", "--window", "32", "--margin", "8"])
    tiles = [row for row in index_of(out) if not row["class"]]
    assert tiles and all("images/" in row["source"] for row in tiles)
    assert "no clean pictures in train" in capsys.readouterr().out
    assert not (out / "test_clean").exists()


def test_tiles_that_fit_nowhere_stop_the_run_before_it_writes(tmp_path):
    root = boards(tmp_path / "source")
    message = error_of(main, [str(root), "--out", str(tmp_path / "out"), "--tile", "128"])
    assert "no tile fits on any of" in message and "smallest side 120 px" in message
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_overwrite_replaces_an_earlier_data_set_and_nothing_else(tmp_path):
    root, out = boards(tmp_path / "source"), tmp_path / "out"
    command = [str(root), "--out", str(out), *SMALL]
    main(command)
    text(out / "own.txt", "mine")
    text(out / "train/defect/stale_0000.png", "old")
    assert "not empty" in error_of(main, command)
    main([*command, "--overwrite"])
    assert (out / "own.txt").read_text() == "mine" and not (out / "train/defect/stale_0000.png").exists()
    foreign = text(tmp_path / "foreign/thing.txt", "x").parent
    assert "no earlier data set" in error_of(main, [str(root), "--out", str(foreign), "--overwrite"])
    assert "within the source" in error_of(main, [str(root), "--out", str(root / "out")])


def test_bad_options_are_listed_together(tmp_path):
    options = [
        "--tile",
        "8",
        "--window",
        "33",
        "--margin",
        "-1",
        "--holdout-share",
        "1",
        "--group-pattern",
        "a",
    ]
    message = error_of(main, [str(tmp_path), "--out", str(tmp_path / "out"), *options])
    assert "5 problems" in message and "one (group)" in message


def test_drawn_boards_with_yolo_labels_go_all_the_way(tmp_path):
    source, out = tmp_path / "drawn", tmp_path / "out"
    synthetic_pcb.main(
        ["--out", str(source), "--clean", "2", "--per-class", "0", "--boards", "3", "--size", "256"]
    )
    main([str(source), "--out", str(out), "--tile", "128", "--holdout", "board_0"])
    classes = load_class_names(out / "classes.json")
    assert list(classes) == list(CLASSES)
    patches = [row for row in index_of(out) if row["file"].startswith("train/defect/")]
    labels = [read_annotations(source / f"test/board_{n}.txt", classes) for n in (1, 2)]
    assert len(patches) == sum(map(len, labels)) > 0
    assert all(load_rgb(out / row["file"]).shape == (96, 96, 3) for row in patches)


def test_points_have_patches_and_labels_without_size(tmp_path):
    root, out = tmp_path / "source", tmp_path / "out"
    for name in ("a", "b"):
        picture(root / f"{name}.png", ord(name))
        shape = {"label": "spur", "shape_type": "point", "points": [[30, 90]]}
        text(root / f"{name}.json", json.dumps({"shapes": [shape], "imagePath": f"{name}.png"}))
    main([str(root), "--out", str(out), "--holdout", "b", "--clean-distance", "0", *SMALL])
    assert (out / "test/b.txt").read_text() == "0 0.187500 0.750000\n"
    assert np.array_equal(load_rgb(out / "train/defect/spur_0000.png")[24, 24], pixels(ord("a"))[90, 30])
