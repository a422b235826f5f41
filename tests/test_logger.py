"""Log lines reach the console once and the file with time and level."""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from utils.logger import setup_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    logging.captureWarnings(False)


def test_a_line_for_the_file_only(tmp_path: Path, capsys: pytest.CaptureFixture):
    log = setup_logging(tmp_path / "a.log")
    log.info("loss 0.5", extra={"file_only": True})
    log.info("done")
    assert capsys.readouterr().err == "done\n"
    assert [line.split()[-1] for line in (tmp_path / "a.log").read_text().splitlines()] == ["0.5", "done"]


def test_lines_reach_console_and_file_once(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "log/generation.log"
    setup_logging(path)
    log = setup_logging(path)
    log.info("painting %d", 3)
    logging.getLogger("guided_diffusion.refinement").warning("no step accepted")
    log.debug("detail")
    logging.getLogger("other.package").info("chatter")
    warnings.warn("old key", stacklevel=1)
    console = capsys.readouterr().err
    assert console.startswith("painting 3\nwarning: no step accepted\nwarning: ")
    assert console.count("painting") == 1 and "old key" in console
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    painting 3", lines[0])
    assert lines[1].endswith("WARNING no step accepted")
    assert "detail" not in path.read_text() and "chatter" not in path.read_text()


def test_debug_shows_the_projects_details_alone(capsys: pytest.CaptureFixture):
    setup_logging(debug=True)
    logging.getLogger("utils.seeding").debug("detail")
    logging.getLogger("other.package").debug("chatter")
    assert capsys.readouterr().err == "detail\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_once_without_a_traceback(capsys: pytest.CaptureFixture):
    log = setup_logging("/dev/full")
    log.info("one")
    log.info("two")
    said = capsys.readouterr().err
    assert said.count("log lines are lost") == 1 and "Traceback" not in said and "Logging error" not in said


def test_names_that_are_no_text_are_logged(tmp_path: Path):
    setup_logging(tmp_path / "a.log").info("\udcff.png")
    assert "\\udcff.png" in (tmp_path / "a.log").read_text()
