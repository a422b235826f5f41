"""Files and folders appear whole or not at all; only our own folders are replaced, and a kill loses none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from utils.errors import UserError
from utils.files import (
    HOST,
    MARK,
    SETTINGS,
    STARTED,
    append_csv,
    check_begun_by_us,
    check_replaceable,
    drop_rows,
    read_mark,
    replace_folder,
    replacing,
    sweep,
    write_settings,
)

ROOT = Path(__file__).resolve().parent.parent


def write(out: Path, text: str, overwrite: bool = False) -> None:
    with replace_folder(out, "toy set", "1.0", overwrite) as new:
        (new / "sub").mkdir()
        (new / "sub/a.txt").write_text(text)
        (new / "b.txt").write_text(text)


def whole(out: Path) -> str:
    """The text of a folder that `write` made; fails unless it is whole."""
    assert sorted(read_mark(out)["contents"]) == ["b.txt", "sub"]
    first, second = (out / "sub/a.txt").read_text(), (out / "b.txt").read_text()
    assert first == second
    return first


def test_a_failed_file_leaves_the_old_one(tmp_path: Path):
    target = tmp_path / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path):
    out = tmp_path / "deep" / "set"
    write(out, "old")
    with pytest.raises(UserError, match="give --overwrite"):
        write(out, "new")
    assert whole(out) == "old"
    write(out, "new", overwrite=True)
    assert whole(out) == "new"
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_a_failed_block_leaves_the_old_folder(tmp_path: Path):
    write(tmp_path / "set", "old")
    with pytest.raises(RuntimeError), replace_folder(tmp_path / "set", "toy set", "1.0", True) as new:
        (new / "b.txt").write_text("half")
        raise RuntimeError
    assert whole(tmp_path / "set") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "mark",
    [None, "", "[]", '{"kind": "other set", "contents": []}', '{"kind": "toy set"}', "[" * 100_000],
    ids=["none", "empty", "list", "other kind", "no contents", "deep"],
)
def test_a_folder_without_our_mark_is_never_touched(tmp_path: Path, mark: str | None):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/data.yaml").write_text("names: {}")
    if mark is not None:
        (tmp_path / "mine" / MARK).write_text(mark)
    before = sorted(path.name for path in (tmp_path / "mine").iterdir())
    for act in (check_replaceable, lambda *args: write(tmp_path / "mine", "new", overwrite=True)):
        with pytest.raises(UserError, match="not an earlier toy set"):
            act(tmp_path / "mine", "toy set", True)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_foreign_files_beside_the_contents_and_in_the_way_are_kept(tmp_path: Path):
    write(tmp_path / "set", "old")
    (tmp_path / "set/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="notes.txt beside the earlier toy set"):
        write(tmp_path / "set", "new", overwrite=True)
    (tmp_path / "set/notes.txt").unlink()
    (tmp_path / ".set.new").mkdir()
    (tmp_path / ".set.new/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="in the way"):
        write(tmp_path / "set", "new", overwrite=True)
    assert (tmp_path / ".set.new/mine.txt").read_text() == "mine" and whole(tmp_path / "set") == "old"


def test_what_was_corrected_or_added_by_hand_is_never_replaced(tmp_path: Path):
    out = tmp_path / "set"
    with replace_folder(out, "toy set", "1", overwrite=False) as folder:
        (folder / "labels").mkdir()
        (folder / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (out / "labels/train.cache").write_text("of another program, written again when it is missing")
    check_replaceable(out, "toy set", overwrite=True)
    (out / "labels/a.txt").write_text("1 0.5 0.5 0.1 0.1")
    (out / "labels/b.txt").write_text("")
    with pytest.raises(UserError, match=r"labels/a.txt, labels/b.txt changed since this toy set was written"):
        check_replaceable(out, "toy set", overwrite=True)
    with pytest.raises(UserError), replace_folder(out, "toy set", "1", overwrite=True):
        pass
    assert (out / "labels/a.txt").read_text() == "1 0.5 0.5 0.1 0.1"


def test_files_empty_folders_links_and_odd_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="got a file"):
        write(tmp_path / "file", "new", overwrite=True)
    with pytest.raises(UserError, match="not an earlier toy set"):
        check_replaceable("/", "toy set", True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "new")
    (tmp_path / "link").symlink_to("empty")
    write(tmp_path / "link", "newer", overwrite=True)
    assert (tmp_path / "link").is_symlink() and whole(tmp_path / "empty") == "newer"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not an earlier toy set"):
        write(Path("."), "new", overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        write(Path("x" * 255), "new")


def test_two_processes_do_not_write_one_folder(tmp_path: Path):
    with FileLock(tmp_path / ".set.lock"), pytest.raises(UserError, match="another process"):
        write(tmp_path / "set", "new")


def test_files_that_no_run_wrote_are_not_replaced(tmp_path: Path):
    check_begun_by_us(tmp_path / "none", "outdir", "classes.json")
    (tmp_path / "classes.json").write_text("{}")
    check_begun_by_us(tmp_path, "checkpoint_dir")
    with pytest.raises(UserError, match=r"outdir .*: classes\.json is there, which no run wrote"):
        check_begun_by_us(tmp_path, "outdir", "classes.json")
    for text in ("seed: 1\n", "", "\0" * 300):
        (tmp_path / SETTINGS).write_text(text)
        with pytest.raises(UserError, match=r"checkpoint_dir .*: config\.yml is there"):
            check_begun_by_us(tmp_path, "checkpoint_dir")
    write_settings(tmp_path / SETTINGS, "seed: 1\n")
    check_begun_by_us(tmp_path, "outdir", "classes.json")


# Kills and interrupts: an audit hook signals the process right before its n-th change of the file system

STOPPED = """
import os, sys
from pathlib import Path
from tests.test_files import write
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open")
seen = 0
def hook(event, args):
    global seen
    if event in CHANGES and "set" in str(args[0]) and (event != "open" or args[1] != "r"):
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), int(sys.argv[3]))
sys.addaudithook(hook)
write(Path(sys.argv[1]), "new", overwrite=True)
"""


def stopped_at(number: int, out: Path, by: signal.Signals) -> bool:
    """Replace `out` in a process that gets a signal before its change `number`; False when it ended before."""
    command = [sys.executable, "-c", STOPPED, str(out), str(number), str(int(by))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, -by), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_stop_at_any_change_loses_neither_folder(tmp_path: Path, by: signal.Signals):
    found, number = [], 1
    while True:
        out = tmp_path / str(number) / "set"
        write(out, "old")
        if not stopped_at(number, out, by):
            break
        at_its_place = out.exists()
        with pytest.raises(UserError, match="give --overwrite"):
            check_replaceable(out, "toy set", overwrite=False)
        found.append((at_its_place, whole(out)))
        write(out, "newest", overwrite=True)
        assert whole(out) == "newest" and [path.name for path in out.parent.iterdir()] == ["set"]
        number += 1
    # Before the swap, between its two renames (an interrupt undoes the first), and while the old one is deleted
    states = [(True, "old"), (False, "old"), (True, "new")]
    assert found == sorted(found, key=states.index) and {*found} >= {states[0], states[2]}
    assert found.count(states[1]) == (by == signal.SIGKILL)
    assert json.loads((out / MARK).read_text())["program"] == "CRG-Diffusion"


def test_a_csv_grows_by_lines_also_after_a_kill(tmp_path: Path):
    path = tmp_path / "a.csv"
    append_csv(path, {"step": 1, "loss": 0.5})
    with path.open("a") as file:
        file.write("2,0.")
    append_csv(path, {"step": 2, "loss": 0.25})
    assert path.read_text().splitlines() == ["step,loss", "1,0.5", "2,0.", "2,0.25"]


# What killed processes leave


def test_temporary_files_of_processes_that_are_over_are_swept(tmp_path: Path):
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    (tmp_path / "previews").mkdir()
    day_ago = time.time() - 90_000
    for name, written in (
        (f".a.png.{HOST}-{over.pid}.tmp", time.time()),
        (f".b.png.{HOST}-{os.getpid()}.tmp", STARTED - 60),
        (".c.png.000000-1.tmp", day_ago),
        (f".d.png.{HOST}-{os.getppid()}.tmp", day_ago),
        (f".e.png.{HOST}-{os.getpid()}.tmp", time.time() + 60),
        (".f.png.000000-1.tmp", time.time()),
        (".notes.tmp", day_ago),
        (f"previews/.g.png.{HOST}-{over.pid}.tmp", time.time()),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written, written))
    sweep(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert [name[1] for name in left] == ["d", "e", "f", "n"]


def test_rows_of_steps_that_are_taken_again_go(tmp_path: Path):
    path = tmp_path / "log.csv"
    for step in (10, 20, 30):
        append_csv(path, {"step": step, "loss": step / 10})
    with path.open("a") as file:
        file.write("40")
    drop_rows(path, "step", 20)
    append_csv(path, {"step": 30, "loss": 9})
    assert path.read_text().split() == ["step,loss", "10,1.0", "20,2.0", "30,9"]
    drop_rows(tmp_path / "none.csv", "step", 20)
