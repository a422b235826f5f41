"""Text files that may be anything: bounds on size, depth and count, and one sentence for what is wrong."""

from pathlib import Path

import pytest

from evaluation.attack.mutation import ALIAS_BOMB
from utils.errors import UserError
from utils.reading import (
    DEEPEST,
    is_file,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    read_xml,
    read_yaml,
    text_problem,
)


@pytest.mark.parametrize(
    "text", ["0x_", "!!int ''", "2001-13-01", "[" * 5000, "&a [*a]", "!!python/object:os.x", "a: ["]
)
def test_what_is_no_yaml(text: str):
    with pytest.raises(ValueError):
        parse_yaml(text)


def test_an_alias_bomb_is_refused_before_it_is_unfolded(tmp_path: Path):
    (tmp_path / "bomb.yml").write_text(ALIAS_BOMB)
    with pytest.raises(UserError, match=r"bomb\.yml: not valid YAML: more than 100000 values"):
        read_yaml(tmp_path / "bomb.yml")


def test_depth_is_bounded_alike_in_json_and_yaml():
    for parse in (parse_json, parse_yaml):
        assert parse("[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1))
        for depth in (DEEPEST, 100_000):
            with pytest.raises(ValueError, match="levels deep|recursion"):
                parse("[" * depth + "1" + "]" * depth)


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', r'["a\u0000"]', "9" * 30])
def test_what_cannot_be_written_down_again_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "/".join(["y" * 200] * 40)])
def test_paths_that_no_file_system_takes(name: str):
    assert not is_file(name)
    with pytest.raises(UserError, match="cannot be read"):
        read_text(name)


def test_size_and_encoding(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]
    path.write_bytes(b" " * 2000)
    with pytest.raises(UserError, match="expected at most"):
        read_json(path, limit=1000)
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match="save it in UTF-8"):
        read_json(path)


@pytest.mark.parametrize("text", ["<a", "<?xml version='1.0' encoding='no-such'?><a/>", "\0", "<a>" * 3])
def test_what_is_no_xml(tmp_path: Path, text: str):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=r"a\.xml: broken XML"):
        read_xml(tmp_path / "a.xml")


def test_names_that_are_no_text():
    assert text_problem("ä.png") is None
    assert "lone surrogate" in text_problem("\udcff.png")
