"""Inputs broken at random: a sentence comes out, never a traceback; `evaluation.attack` is the long form."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.attack.__main__ import DISKS, Limit, attack_parser, limits_of, live_attacks, run, table
from evaluation.attack.inputs import ATTACKS, Attack, AttackCounts, attack, run_command
from evaluation.attack.mutation import HOSTILE, hostile_name, mutated
from evaluation.attack.processes import small_disk, two_at_once
from evaluation.attack.stage import Stage
from utils.checkpoint import load_state_dict, load_training_state
from utils.config import key_names, load_generation_config, load_training_config, resolved_yaml
from utils.errors import UserError
from utils.images import load_rgb, verify_image
from utils.labels import load_class_names, read_annotations_and_problems
from utils.manifest import read_manifest
from utils.network_metadata import load_metadata
from utils.processes.interrupts import Stopped
from utils.reading import read_json, read_xml, read_yaml
from utils.schema.generation import GenerationConfig
from utils.schema.training import TrainingConfig

BUDGET = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
RANDOM = st.randoms(use_true_random=False)

# A reader of a file, and a valid one (below the stage's folder of valid files) to break
READERS: list[tuple[Callable, str]] = [
    (read_yaml, "conf.yml"),
    (load_generation_config, "conf.yml"),
    (load_training_config, "train.yml"),
    (read_json, "classes.json"),
    (load_class_names, "classes.json"),
    (lambda path: read_annotations_and_problems(path, {"spur": 0}), "boards/b0.txt"),
    (read_xml, "sets/voc/b.xml"),
    (read_manifest, "../made-run/manifest.jsonl"),
    (load_metadata, "full.safetensors"),
    (load_state_dict, "full.safetensors"),
    (load_state_dict, "prior.pt"),
    (load_training_state, "../made-training/state_0000002.pt"),
    *((read, f"boards/b{n}") for n in ("0.png", "1.jpg", "2.tiff") for read in (load_rgb, verify_image)),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    world = Stage(tmp_path_factory.mktemp("around") / "world")
    world.build()
    return world


@pytest.mark.parametrize(("read", "name"), READERS)
@BUDGET
@given(chance=RANDOM)
def test_a_reader_raises_nothing_but_user_errors(
    stage: Stage, read: Callable, name: str, chance: random.Random
):
    path = stage.root / f"broken{Path(name).suffix}"
    path.write_bytes(mutated((stage.valid / name).read_bytes(), chance))
    try:
        read(path)
    except UserError as error:
        assert "\0" not in str(error) or name.endswith("txt")
    finally:
        path.unlink()


@BUDGET
@given(content=st.binary(max_size=300))
def test_readers_of_random_bytes(stage: Stage, content: bytes):
    for read, name in READERS:
        path = stage.root / f"random{Path(name).suffix}"
        path.write_bytes(content)
        try:
            read(path)
        except UserError:
            pass
        finally:
            path.unlink()


VALUES = st.one_of(
    st.sampled_from([text for text in HOSTILE if len(text) < 1000]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=30),
    st.lists(st.integers(-10, 10**12), max_size=20).map(str),
)


@pytest.mark.parametrize(
    ("load", "schema", "conf"),
    [
        (load_generation_config, GenerationConfig, "conf.yml"),
        (load_training_config, TrainingConfig, "train.yml"),
    ],
)
@BUDGET
@given(data=st.data())
def test_any_value_of_any_key(stage: Stage, load: Callable, schema: type, conf: str, data: st.DataObject):
    key, value = data.draw(st.sampled_from(sorted(key_names(schema)))), data.draw(VALUES)
    try:
        config = load(stage.valid / conf, [f"{key}={value}"])
    except UserError:
        return
    resolved_yaml(config).encode()


@pytest.mark.parametrize("kind", ATTACKS)
def test_programs_run_on_the_valid_world_and_survive_a_broken_one(stage: Stage, kind: str):
    one: Attack = ATTACKS[kind]
    stage.reset(one.results)
    for program, words in one.commands:
        code, said = run_command(stage, program, words)
        assert code == 0, said
    tally = AttackCounts()
    for seed in range(2):
        attack(stage, kind, random.Random(f"{kind} {seed}"), tally)
    assert not tally.found and tally.inputs == 2


@pytest.mark.parametrize(
    ("name", "size"), [("paint", 256), ("train", 64), ("train", 256), ("prepare", 32), ("export", 32)]
)
def test_a_full_disk_is_a_sentence(stage: Stage, name: str, size: int):
    tally = AttackCounts()
    if reason := small_disk(stage, name, tally, size):
        pytest.skip(reason)
    assert not tally.found and tally.refused == 1


@pytest.mark.parametrize("name", ["paint", "train"])
def test_the_second_of_two_processes_on_one_folder_is_refused(stage: Stage, name: str):
    tally = AttackCounts()
    two_at_once(stage, name, tally)
    assert not tally.found and not tally.losses


def test_every_turn_draws_the_sizes_of_the_disks_anew(stage: Stage):
    chance, expected = random.Random(4), random.Random(4)
    for _ in range(5):
        sizes = [step.keywords["size"] for name, step in live_attacks(stage, chance) if "disk" in name]
        assert sizes == [expected.choice(DISKS) for _ in range(4)]


def test_as_many_inputs_and_kills_as_asked_for(stage: Stage):
    tallies: dict[str, AttackCounts] = {}
    limits = (Limit(count=3), Limit(count=1))
    run(stage, limits, random.Random(1), ["class file", "override", "processes"], tallies)
    assert [tallies.pop(kind).inputs for kind in ("class file", "override")] == [2, 1]
    assert list(tallies) == ["paint killed"] and 1 <= tallies["paint killed"].inputs <= 3
    assert not tallies["paint killed"].found


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ([], (Limit(1080), Limit(720))),
        (["--minutes", "10"], (Limit(360), Limit(240))),
        (["--minutes", "10", "--kinds", "VOC"], (Limit(600), Limit(0))),
        (["--minutes", "10", "--kinds", "processes"], (Limit(0), Limit(600))),
        (["--inputs", "7"], (Limit(count=7), Limit(count=0))),
        (["--inputs", "7", "--kills", "2"], (Limit(count=7), Limit(count=2))),
    ],
)
def test_time_or_numbers_end_the_attacks(words: list[str], limits: tuple[Limit, Limit]):
    assert limits_of(attack_parser().parse_args(words)) == limits


@pytest.mark.parametrize(
    "words", [["--inputs", "-1"], ["--minutes", "-1"], ["--minutes", "3", "--kills", "2"]]
)
def test_limits_that_cannot_be_used(words: list[str]):
    with pytest.raises(UserError, match=words[0]):
        limits_of(attack_parser().parse_args(words))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_attacked_program_ends_the_attacks(stage: Stage, number: signal.Signals):
    usual = signal.signal(number, signal.default_int_handler)  # Ctrl-C is ignored in background jobs
    try:
        with pytest.raises(Stopped) as stopped:
            run_command(stage, lambda argv: signal.raise_signal(number), ("a", "b"))
    finally:
        signal.signal(number, usual)
    assert stopped.value.number == number


def test_the_table_so_far_is_printed_on_ctrl_c(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation.attack", "--inputs", "1000000", "--kinds", "class file"],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list(tmp_path.glob("*/around/world/made-training")):
        time.sleep(0.05)  # the world is being built
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate()
    assert process.returncode == 130 and "Traceback" not in told, told
    header, *rows = [line.split() for line in printed.splitlines()]
    assert header[0] == "kind" and rows[-1][0] == "all" and len(rows[-1]) == 7
    assert "this is the table so far" in told
    assert not list(tmp_path.glob("crg-attack-*"))


def test_the_same_seed_breaks_a_file_the_same_way():
    content = b"seed: 1\nnames: [a, b]\n" * 5
    first, again = (
        [mutated(content, chance) for _ in range(50)] for chance in (random.Random(3), random.Random(3))
    )
    assert first == again and len(set(first)) > 25


def test_hostile_names_are_names():
    for seed in range(300):
        for name in ("b0.png", "spur"):
            made = os.fsencode(hostile_name(name, random.Random(seed)))
            assert made not in (b"", b".", b"..") and not set(made) & set(b"/\0") and len(made) <= 255
            assert made.endswith(b".png") == name.endswith(".png")


def test_the_table_has_sums():
    lines = table({"image": AttackCounts(inputs=3, losses=1), "VOC": AttackCounts(inputs=4)}).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["image", *"300001"],
        ["VOC", *"400000"],
        ["all", *"700001"],
    ]
