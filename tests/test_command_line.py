"""Command lines: help of every entry point, what it imports, and what is said to common mistakes."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from utils.command_line import below, describe_confs, make_parser, parse_with_conf
from utils.errors import UserError
from utils.manifest import VERSION
from utils.schema.downstream import DownstreamConfig
from utils.schema.generation import GenerationConfig
from utils.schema.training import TrainingConfig

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("utils", "guided_diffusion", "generation", "training", "evaluation", "benchmarks")
SLOW = {"torch", "matplotlib", "tensorboard", "scipy"}
# Python code that runs an entry point and then writes which of the slow modules it imported
REPORT = f"""
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sorted(set(sys.modules) & {SLOW}), file=sys.stderr))
name, sys.argv = sys.argv[1], sys.argv[1:]
sys.path.insert(0, {str(ROOT)!r})
if name.endswith(".py"):
    runpy.run_path({str(ROOT)!r} + "/" + name, run_name="__main__")
else:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def entry_points() -> list[str]:
    """Script or module name of every file that does something when it is run."""
    files = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
    main = re.compile(r"^if __name__ == ", re.MULTILINE)
    found = [path.relative_to(ROOT) for path in files if main.search(path.read_text(encoding="utf-8"))]
    return sorted(
        path.name if len(path.parts) == 1 else ".".join(path.with_suffix("").parts).removesuffix(".__main__")
        for path in found
    )


def run(name: str, *words: str, cwd: Path = ROOT) -> tuple[int, str, str, set[str]]:
    """Exit code, stdout and stderr of an entry point, and which of the slow modules it imported."""
    environment = os.environ | {"COLUMNS": "120"}
    command = [sys.executable, "-c", REPORT, name, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    errors, _, imported = done.stderr.rpartition("imported:")
    return done.returncode, done.stdout, errors, set(imported.split())


def test_all_entry_points_are_found():
    found = entry_points()
    assert {"sample_generation.py", "train.py", "utils.prepare_data", "utils.report"} <= set(found)
    assert {"evaluation.hits", "benchmarks.run", "utils.schema.reference"} <= set(found)
    assert not [name for name in found if name.startswith(("generation.", "training.", "guided_diffusion."))]


@pytest.mark.parametrize("name", entry_points())
def test_help_says_what_it_does_with_an_example_and_where_the_keys_are(name: str):
    code, out, _, imported = run(name, "--help")
    command = f"python {name}" if name.endswith(".py") else f"python -m {name}"
    assert code == 0
    usage, purpose = re.split(r"\n\n+", out)[:2]
    assert usage.startswith(f"usage: {command.removeprefix('python ') if name.endswith('.py') else command}")
    assert purpose.endswith(".") or purpose.endswith("?")
    assert f"\n    {command} " in out
    if "key=value" in usage:
        assert "docs/configuration.md lists every key" in out
    assert not imported & {"matplotlib", "tensorboard"}
    if name.endswith(".py") or name.startswith("utils."):
        assert "torch" not in imported
    if name.endswith(".py"):
        assert imported == set()


def test_defaults_are_shown():
    out = " ".join(run("utils.export_dataset", "--help")[1].split())
    assert "(default: 0.2)" in out and "(default: boxes)" in out and "(default: 0)" in out
    assert "(default: False)" not in out and "(default: None)" not in out


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        make_parser("program", "What it does.").parse_args(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"CRG-Diffusion {VERSION}\n"


def test_mistakes_in_the_settings_need_no_pytorch(tmp_path: Path):
    (tmp_path / "conf.yml").write_text("seeed: 1")
    code, _, errors, imported = run("sample_generation.py", "conf.yml", cwd=tmp_path)
    assert (code, imported) == (2, set())
    assert errors == "error: conf.yml: seeed: unknown key; did you mean seed?\n"


def test_dry_run_from_anywhere_imports_neither_matplotlib_nor_tensorboard(tmp_path: Path):
    code, out, errors, imported = run("sample_generation.py", "confs/demo.yml", "dry_run=true", cwd=tmp_path)
    assert code == 0, errors
    assert "6 of 6 samples to paint" in out
    assert not imported & {"matplotlib", "tensorboard"}
    assert list(tmp_path.iterdir()) == []


# CONF key=value ...


def words(*argv: str, schema: type = GenerationConfig, default: str | None = None) -> tuple[str, list[str]]:
    args = parse_with_conf(make_parser("program", "What it does."), argv, schema, default)
    return args.conf_path, args.overrides


def refusal(*argv: str, schema: type = GenerationConfig) -> str:
    with pytest.raises(UserError) as caught:
        words(*argv, schema=schema)
    return str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ("a.yml", "seed=1", "debug=true"),
        ("--conf_path", "a.yml", "seed=1", "debug=true"),
        ("seed=1", "--conf_path=a.yml", "debug=true"),
        ("seed=1", "debug=true", "--conf_path", "a.yml"),
    ],
)
def test_conf_comes_first_or_as_an_option(argv: tuple[str, ...]):
    assert words(*argv) == ("a.yml", ["seed=1", "debug=true"])


def test_a_default_conf_and_the_parsers_own_options():
    assert words("seed=1", default="b.yml") == ("b.yml", ["seed=1"])
    assert words("a.yml", default="b.yml") == ("a.yml", [])
    parser = make_parser("program", "What it does.")
    parser.add_argument("--out")
    args = parse_with_conf(parser, ["a.yml", "--out", "x", "seed=1"])
    assert (args.conf_path, args.out, args.overrides) == ("a.yml", "x", ["seed=1"])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("a.yml", "--seed", "3"), "write seed=3"),
        (("--seed=3", "a.yml"), "write seed=3"),
        (("a.yml", "--seed", "-1"), "write seed=-1"),
        (("a.yml", "--batch-size", "2"), "write batch_size=2"),
        (("a.yml", "--ddim.start_step", "60"), "write ddim.schedule_params.start_step=60"),
        (("a.yml", "--start_step", "60"), "write ddim.schedule_params.start_step=60"),
        (("a.yml", "--overwrite"), "write overwrite=..."),
        (("a.yml", "--sed", "3"), "unknown option --sed; did you mean seed?"),
    ],
)
def test_an_option_that_is_a_key(argv: tuple[str, ...], expected: str):
    message = refusal(*argv)
    assert message.startswith("command line: ") and message.endswith(expected) and "\n" not in message


def test_without_a_conf_those_of_the_program_are_listed():
    message = refusal()
    assert message.startswith("no conf given; expected one of these")
    assert "confs/demo.yml" in message and "confs/pcb_gen.yml" in message and "train" not in message
    training = refusal("batch_size=2", schema=TrainingConfig)
    assert "confs/train-64.yml" in training and "confs/demo.yml" not in training
    listed = "".join(describe_confs(one) for one in (GenerationConfig, TrainingConfig, DownstreamConfig))
    for path in (ROOT / "confs").glob("*.yml"):
        comment = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"confs/{path.name} " in listed and comment in listed and comment.endswith((".", ":"))


def test_numbers_below_the_least_are_named():
    given = Namespace(per_class=0, seed=-2, tiles=None)
    assert below(0, given, "per_class", "seed", "tiles") == ["--seed must be 0 or more, got -2"]
    assert below(1, given, "per_class", "tiles") == ["--per-class must be 1 or more, got 0"]
