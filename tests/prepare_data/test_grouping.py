"""Groups, so that a split does not leak."""

from tests.prepare_data.builders import error_of, voc_xml, write_boards, write_image, write_text
from utils.prepare_data.groups.holdout import choose_groups
from utils.prepare_data.survey import survey_source


def test_names_of_pku_market_pcb_have_boards_as_groups_in_every_format(tmp_path):
    write_text(tmp_path / "data.yaml", "names: [spur]\n")
    for number, stem in enumerate(("02_Spur_02", "02_spur_01", "12_spur_01")):
        write_image(tmp_path / f"images/{stem}.png", number)
        write_text(tmp_path / f"labels/{stem}.txt", "0 0.5 0.5 0.25 0.5\n")
    assert [p.group for p in survey_source(tmp_path).images] == ["02", "02", "12"]
    (tmp_path / "images/12_spur_01.png").rename(tmp_path / "images/x.png")
    (tmp_path / "labels/12_spur_01.txt").rename(tmp_path / "labels/x.txt")
    assert [p.group for p in survey_source(tmp_path).images] == ["02_Spur_02", "02_spur_01", "x"]


def test_equal_images_are_merged_and_their_groups_stay_together(tmp_path):
    for name, seed, box in (("a", 1, 10), ("b", 1, 40), ("c", 3, 10)):
        write_image(tmp_path / f"{name}.png", seed)
        voc_xml(tmp_path / f"{name}.xml", [("spur", box, 10, box + 9, 20)])
    survey = survey_source(tmp_path)
    assert [(p.path.name, p.group, len(p.boxes)) for p in survey.images] == [
        ("a.png", "a", 2),
        ("c.png", "c", 1),
    ]
    assert choose_groups(survey, ["b"], 0, 0) == {"a"}
    assert any("b with a" in note for note in survey.notes)


def test_a_shared_clean_image_joins_groups(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"group{number}/1/{number}_test.png", number)
        write_image(
            tmp_path / f"group{number}/1/{number}_temp.png", 10 + min(number, 1)
        )  # 1 and 2 share theirs
        write_text(tmp_path / f"group{number}/1_not/{number}.txt", "10 20 30 44 1\n")
    survey = survey_source(tmp_path)
    assert [p.group for p in survey.defective] == ["group0", "group1", "group1"]


def test_group_pattern_on_name_or_path_and_its_misfits(tmp_path):
    write_boards(tmp_path, count=2)
    assert {p.group for p in survey_source(tmp_path, group_pattern=r"_(\d+)\.").defective} == {"01", "02"}
    with_path = survey_source(tmp_path, group_pattern=r"(images|clean)/")
    assert {p.group for p in with_path.defective} == {"images"} and {p.group for p in with_path.clean} == {
        "clean"
    }
    message = error_of(survey_source, tmp_path, group_pattern=r"(spur)")
    assert "01_short_02.png: the group pattern" in message and "2 problems" in message
