"""Several processes of one run under torchrun, and one run a folder: who decides, who waits, who is refused."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.torchrun import ENVIRONMENT, run_two
from utils.errors import UserError
from utils.processes.exclusive import only_run_in
from utils.processes.group import decided, process_group, wait_for_all


def under_torchrun(folder: Path, program: str) -> subprocess.CompletedProcess:
    """Two processes of `program`, which finds its imports and the names `say` and `out`."""
    prelude = f"""
        import sys, time
        from pathlib import Path
        from utils.errors import UserError, run_main
        from utils.processes.exclusive import *
        from utils.processes.group import *
        out = Path({str(folder)!r})
        def say(*words): (out / str(rank())).write_text(" ".join(map(str, words)))
        """
    script = folder / "program.py"
    script.write_text(textwrap.dedent(prelude) + textwrap.dedent(program))
    return run_two(script)


def said(folder: Path) -> list[str]:
    return [(folder / number).read_text() for number in "01"]


def test_the_first_process_decides_and_all_wait_for_the_last(tmp_path: Path):
    done = under_torchrun(
        tmp_path,
        """
        with process_group(), only_run_in(out / "run", "outdir"):
            first, held = decided(lambda: (rank(), "abc")), (out / "run/.run.json").exists()
            if rank() == 1:
                time.sleep(0.5)
                (out / "slow").touch()
            wait_for_all()
            say(first, held, (out / "slow").exists())
        """,
    )
    assert done.returncode == 0, done.stderr
    assert said(tmp_path) == ["(0, 'abc') True True"] * 2
    assert not (tmp_path / "run").exists()  # nothing was written to it


def test_what_the_first_process_refuses_is_said_once(tmp_path: Path):
    done = under_torchrun(
        tmp_path,
        """
        def main(argv):
            with process_group():
                def make(): raise UserError("no such thing")
                try:
                    decided(make)
                finally:
                    say(sys.exc_info()[0].__name__)
        sys.exit(run_main(main))
        """,
    )
    assert done.returncode == 1 and done.stderr.count("error: no such thing") == 1
    assert said(tmp_path) == ["UserError", "SystemExit"]


def test_alone_everything_is_decided_at_once(monkeypatch: pytest.MonkeyPatch):
    with process_group():
        wait_for_all()
        assert decided(lambda: 3) == 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE is 2, .* start them with torchrun"), process_group():
        pass


# One run a folder

HOLDER = """
import sys, time
from pathlib import Path
from utils.processes.exclusive import only_run_in
with only_run_in(Path(sys.argv[1]), "outdir"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_gone_even_if_killed(tmp_path: Path):
    folder = tmp_path / "out"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    first.stdout.readline()
    with pytest.raises(UserError) as refused, only_run_in(folder, "outdir"):
        pass
    told = json.loads((folder / ".run.json").read_text())
    assert told["pid"] == first.pid
    assert str(refused.value) == (
        f"outdir {folder}: process {first.pid} on {told['host']} (since {told['since']}) works there; wait until "
        "it has ended, or set another outdir"
    )
    first.send_signal(signal.SIGKILL)
    first.wait()
    with only_run_in(folder, "outdir"):
        assert json.loads((folder / ".run.json").read_text())["pid"] == os.getpid()
    assert not (folder / ".run.json").exists()


def test_the_folder_stays_if_it_was_there_or_is_used(tmp_path: Path):
    with only_run_in(tmp_path / "a" / "b", "outdir"):
        pass
    assert not (tmp_path / "a").exists()
    (tmp_path / "c").mkdir()
    with only_run_in(tmp_path / "c", "outdir"):
        pass
    assert (tmp_path / "c").is_dir()
    with only_run_in(tmp_path / "a" / "b", "outdir"):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").exists()


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "file").touch()
    expected = f"checkpoint_dir {tmp_path}/file/run cannot be written \\({tmp_path}/file is not a folder\\)"
    with pytest.raises(UserError, match=expected), only_run_in(tmp_path / "file" / "run", "checkpoint_dir"):
        pass


def test_a_run_that_has_only_just_begun_has_no_name_yet(tmp_path: Path):
    with only_run_in(tmp_path, "outdir"):
        (tmp_path / ".run.json").write_text("{")
        with pytest.raises(UserError, match="another process works there"), only_run_in(tmp_path, "outdir"):
            pass
