"""One attack at a time: a file of the small world is broken, a program run on it, and the world looked over."""

import contextlib
import io
import os
import random
import resource
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sample_generation
import train
from evaluation.attack.mutation import hostile, hostile_name, mutated
from evaluation.attack.stage import PLANNED, Program, Stage, run_inside
from utils.export_dataset.__main__ import main as export
from utils.prepare_data.__main__ import main as prepare
from utils.processes.interrupts import Stopped
from utils.report.__main__ import main as report

LONGEST = 20  # seconds of processor time
SCREEN = 50_000  # characters that a run may print
DRY = "dry_run=true"
STRIP = "attention/b0_all_0_1_strip.png"
DEFECTS = ("train/boxed/spur_0000.png", "train/boxed/spur_0000.txt", "train/outlines/spur_0000.png")
CALM = ("total_steps=3", "save_interval=1", "num_workers=0", "batch_size=2", "compile=false", "device=cpu")


@dataclass(frozen=True)
class Attack:
    """A kind of input: the files of which one is broken, or gets a hostile name (`renamed`), and the commands that then
    read them.

    `places` are relative to the world's root; {work} and {out} in the words stand for its folders.
    """

    places: tuple[str, ...]
    commands: tuple[tuple[Program, tuple[str, ...]], ...]
    override: bool = False  # break a word of the command line instead of a file
    renamed: bool = False
    results: tuple[str, ...] = ()  # of earlier runs that it needs


@dataclass
class AttackCounts:
    """What attacks of one kind came to; `found` are descriptions of what must not happen."""

    inputs: int = 0
    refused: int = 0
    tracebacks: int = 0
    hangs: int = 0
    outside: int = 0
    losses: int = 0
    found: list[str] = field(default_factory=list)


PAINT = ("--conf_path", "{work}/conf.yml")
RUN = (sample_generation.main, (*PAINT, "outdir={out}/new"))
DRY_RUN = (sample_generation.main, (*PAINT, DRY, "outdir={out}/new"))
RESUMED = (sample_generation.main, PAINT)
TRAIN = (train.main, ("--conf_path", "{work}/train.yml", *CALM, "checkpoint_dir={out}/new"))
TRAIN_ON = (train.main, ("--conf_path", "{work}/train.yml", *CALM))
EXPORT = (export, ("{out}/run", "--out", "{out}/dataset"))
REPORT = (report, ("{out}/run", "--out", "{out}/page.html"))
PLANNED_ON = (sample_generation.main, (*PAINT, "outdir={out}/planned", *PLANNED))
# From training defects, whose places a plan chooses, since they need boxes
LAID = ("exemplars.folder={out}/prepared", *PLANNED)
PAINT_LAID = (sample_generation.main, (*PAINT, "outdir={out}/new", *LAID))
BOXED = (
    "data_dir={out}/prepared/train/boxed",
    "clean_dir={out}/prepared/train/clean",
    "condition=surroundings",
)
TRAIN_BOXED = (train.main, (*TRAIN[1], *BOXED))


def _prepare(name: str) -> tuple[Program, tuple[str, ...]]:
    return prepare, (f"{{work}}/sets/{name}", "--out", f"{{out}}/{name}")


def _data_set(name: str, *files: str) -> Attack:
    return Attack(tuple(f"work/sets/{name}/{file}" for file in files), (_prepare(name),))


ATTACKS = {
    "configuration": Attack(("work/conf.yml",), (DRY_RUN,)),
    "training file": Attack(("work/train.yml",), (TRAIN,)),
    "override": Attack(("work/conf.yml",), (DRY_RUN,), override=True),
    "class file": Attack(("work/classes.json",), (DRY_RUN, TRAIN)),
    "annotations": Attack(("work/boards/b0.txt", "work/boards/b2.txt"), (DRY_RUN,)),
    "image": Attack(
        ("work/boards/b0.png", "work/boards/b1.jpg", "work/boards/b2.tiff"),
        (DRY_RUN, RESUMED),
        results=("run",),
    ),
    "training image": Attack(("work/patches/spur_0.png",), (TRAIN,)),
    "weights": Attack(("work/full.safetensors", "work/prior.pt"), (RUN,)),
    "manifest": Attack(("out/run/manifest.jsonl",), (EXPORT, REPORT, RESUMED), results=("run",)),
    "run's images": Attack(
        tuple(f"out/run/{name}" for name in ("sample/b0_all_0.png", "mask/b1_all_0.png", STRIP)),
        (EXPORT, REPORT),
        results=("run",),
    ),
    "plan": Attack(
        ("out/planned/plan/plan.json", "out/planned/plan/b0.txt"), (PLANNED_ON,), results=("planned",)
    ),
    "training defects": Attack(
        tuple(f"out/prepared/{name}" for name in ("index.csv", *DEFECTS)),
        (PAINT_LAID, TRAIN_BOXED),
        results=("prepared",),
    ),
    "file name": Attack(
        (
            *("work/boards/b0.png", "work/boards/b0.txt", "work/patches/spur_0.png"),
            *("work/sets/mvtec/test/spur/000.png", "work/sets/mvtec/test/spur", "work/sets/masks/b.png"),
        ),
        (DRY_RUN, TRAIN, _prepare("mvtec"), _prepare("masks")),
        renamed=True,
    ),
    "verdicts": Attack(("out/run/verdicts.csv",), (EXPORT, REPORT), results=("run",)),
    "run's files": Attack(
        ("out/run/config.yml", "out/run/classes.json"), (EXPORT, REPORT, RESUMED), results=("run",)
    ),
    "training state": Attack(("out/training/state_0000002.pt",), (TRAIN_ON,), results=("training",)),
    "VOC": _data_set("voc", "b.xml", "b.png"),
    "COCO": _data_set("coco", "annotations.json"),
    "LabelMe": _data_set("labelme", "b.json"),
    "YOLO": _data_set("yolo", "b.txt", "data.yaml"),
    "masks": _data_set("masks", "b_mask.png"),
    "DeepPCB": _data_set("deeppcb", "b.txt", "b_temp.png"),
    "MVTec": _data_set("mvtec", "ground_truth/spur/000_mask.png", "train/good/000.png"),
}


def attack(stage: Stage, kind: str, chance: random.Random, tally: AttackCounts) -> None:
    """Break one input of a kind, run its commands, and enter what came of it."""
    one, extra = ATTACKS[kind], []
    stage.reset(one.results)
    path = stage.root / chance.choice(one.places)
    if one.renamed:
        path.rename(path.with_name(hostile_name(path.name, chance)))
        attempt = f"{one.places} renamed: {sorted(os.listdir(path.parent))}"
    elif one.override:
        extra = [_broken_override(path.read_text(), chance)]
        attempt = repr(extra[0][:200])
    else:
        content = mutated(path.read_bytes(), chance)
        path.write_bytes(content)
        attempt = f"{path.name}: {content[:200]!r}"
    tally.inputs += 1
    for program, words in one.commands:
        before, beside = stage.fingerprint(), stage.beside()
        code, output = run_command(stage, program, words, extra)
        tally.refused += code == 2
        _judge(stage, code, output, attempt, tally)
        if stage.fingerprint() != before:
            tally.losses += 1
            tally.found.append(f"{kind}: a file of the user's was changed, {attempt}")
        if stage.beside() != beside:
            tally.outside += 1
            tally.found.append(f"{kind}: written outside ({stage.beside() - beside}), {attempt}")


def run_command(
    stage: Stage, program: Program, words: Sequence[str], extra: Sequence[str] = ()
) -> tuple[int | None, str]:
    """Exit code (None after an exception or a hang) and all output. Raises Stopped as `run_inside` does."""
    argv = [word.format(work=stage.work, out=stage.out) for word in words]
    return _attempt(program, [*argv[:2], *extra, *argv[2:]])


def _judge(stage: Stage, code: int | None, output: str, attempt: str, tally: AttackCounts) -> None:
    if code is None and "HANG" in output:
        tally.hangs += 1
        tally.found.append(f"hang, {attempt}")
    elif code is None or "Traceback" in output or "Logging error" in output:
        tally.tracebacks += 1
        tally.found.append(f"traceback, {attempt}\n{output[-3000:]}")
    elif len(output) > SCREEN:
        tally.found.append(f"{len(output)} characters of output, {attempt}")


def _broken_override(conf: str, chance: random.Random) -> str:
    """A key of the conf with a hostile value, or a hostile word."""
    keys = [line.partition(":")[0].strip() for line in conf.splitlines()]
    value = hostile(chance).decode("utf-8", "surrogateescape").replace("\0", "")
    return chance.choice(
        (f"{chance.choice(keys)}={value}", f"{value}={value}", f"plan.keep={value}", f"paint={value}")
    )


class Hang(BaseException):
    """A command that takes more processor time than it may."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raise Hang in the block after LONGEST seconds of processor time."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _attempt(program: Program, argv: list[str]) -> tuple[int | None, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            with _limited():
                return run_inside(program, argv), output.getvalue()
        except SystemExit as stop:  # of the command line's own parser
            return int(stop.code or 0), output.getvalue()
        except Hang:
            return None, f"HANG\n{output.getvalue()}"
        except Stopped:
            raise
        except BaseException:
            return None, f"{output.getvalue()}\n{traceback.format_exc()}"


def limit_memory(gigabytes: float = 16) -> None:
    """Let an allocation that no run needs fail instead of ending the machine's other work."""
    resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 2**30),) * 2)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
