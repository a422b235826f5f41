"""Which groups are held out."""

from tests.prepare_data.builders import error_of, voc_xml, write_boards, write_image
from utils.prepare_data.groups.holdout import choose_groups
from utils.prepare_data.survey import survey_source


def test_random_holdout_has_every_class_in_both_parts_where_possible(tmp_path):
    for number in range(8):
        name = "short" if number in (2, 5) else "spur"
        write_image(tmp_path / f"{number}.png", number)
        voc_xml(tmp_path / f"{number}.xml", [(name, 10, 10, 30, 30)])
    survey = survey_source(tmp_path)
    for seed in range(5):
        held = choose_groups(survey, None, 0.25, seed)
        assert len(held) == 2 and len(held & {"2", "5"}) == 1
    assert choose_groups(survey, None, 0.25, 1) == choose_groups(survey, None, 0.25, 1)
    assert choose_groups(survey, None, 0, 0) == set()


def test_a_class_of_one_group_is_trained_rather_than_tested(tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number}.png", number)
        voc_xml(tmp_path / f"{number}.xml", [("short" if number == 3 else "spur", 10, 10, 30, 30)])
    survey = survey_source(tmp_path)
    assert all("3" not in choose_groups(survey, None, 0.2, seed) for seed in range(20))


def test_wrong_holdouts(tmp_path):
    survey = survey_source(write_boards(tmp_path, count=2))
    assert "no such group; the groups are 01 02" in error_of(choose_groups, survey, ["1"], 0, 0)
    assert "left to train on" in error_of(choose_groups, survey, ["01", "02"], 0, 0)
