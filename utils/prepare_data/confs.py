"""Confs ready to run, written beside the data: every value that the data decide, with its reason."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from utils.files import LAST
from utils.images import load_rgb
from utils.prepare_data import rules
from utils.prepare_data.grounds import paintable
from utils.prepare_data.report import IndexRow
from utils.prepare_data.sources import Survey, counted
from utils.schema.prepared import PATCHES, PIECES, TILES
from utils.strength.contrast import appearance, class_contrasts

FOUNDATION = "checkpoint/foundation-64.safetensors"  # what the prior starts from
CONTEXT_FOUNDATION = "checkpoint/demo-128-defect-free.safetensors"
LOOKED_AT = 64  # clean pieces that the rules see
PLANNED = 20  # defects of a class in a plan
BATCH, CLEAN_RATIO, CHAIN = 24, 0.3, 50
JUDGE = "judge.safetensors"  # beside the prior's weights
CANDIDATES, MIN_SCORE, REROLLS = 2, 0.5, 2
COLUMN = 38  # of the comments
GENERATE, HELD_OUT = (
    "generate.yml",
    "generate-heldout.yml",
)  # a data set's conf, and the one that judges the painter


@dataclass(frozen=True)
class Decisions:
    """What the rules chose. `sizes`: class -> boxes (w, h) in px of the training defects; `paintable`: the classes for
    which there is room to paint; `warnings`: what the rules found wrong."""

    sizes: dict[str, list[tuple[float, float]]]
    kind: str
    rotate90: rules.Choice
    flip: rules.Choice
    color: rules.Choice
    steps: rules.Choice
    start: rules.Choice
    margin: rules.Choice
    has_pieces: bool
    paintable: tuple[str, ...]
    warnings: tuple[str, ...]
    window: int
    tile: int


def look(
    folder: Path, rows: Sequence[IndexRow], survey: Survey, window: int, tile: int, minutes: float
) -> Decisions:
    """Apply the rules to what was written to `folder`; `rows` is its index."""
    boxed = [row for row in rows if row.file.startswith(PATCHES)]
    sizes = {name: [_size(row) for row in boxed if row.class_name == name] for name in survey.classes}
    pieces = [row.file for row in rows if row.file.startswith(PIECES)]
    seen = pieces or [row.file for row in boxed]
    order = np.linspace(0, len(seen) - 1, min(len(seen), LOOKED_AT)).round().astype(int)
    tiles = [load_rgb(folder / seen[i]) for i in order]
    kind = rules.color_kind(tiles)
    rotate90, flip = rules.turns(rules.texture_of(tiles), rules.elongated_classes(sizes))
    steps = rules.training_steps(len(boxed), minutes, BATCH, CLEAN_RATIO if pieces else 0, bool(pieces))
    shown = [appearance(folder / row.file, survey.classes) for row in boxed]
    margins = [
        one.margin * row.scale for one, row in zip(shown, boxed, strict=True) if one.margin is not None
    ]
    contrasts = class_contrasts(shown)
    start = rules.start(contrasts, CHAIN)
    trained = {row.source for row in boxed}
    known = [image.boxes for image in survey.defective if survey.tree.relative(image.path) in trained]
    outlined = bool(np.mean([box.outlined for boxes in known for box in boxes]) > 0.5)  # most boxes
    margin = rules.label_margin(margins, outlined)
    color = rules.color_jitter(kind)
    fit, told = paintable(rows, sizes, window)
    chosen = sizes, kind, rotate90, flip, color, steps, start, margin, bool(pieces)
    return Decisions(*chosen, tuple(fit), tuple(told), window, tile)


def _size(row: IndexRow) -> tuple[float, float]:
    return row.right - row.left, row.bottom - row.top


def write_confs(folder: Path, out: Path, rows: Sequence[IndexRow], found: Decisions) -> list[str]:
    """Write the confs to `folder`, which will be `out`; returns their names, in the order of use."""
    parts = Counter(row.file.split("/")[0] for row in rows)
    tiles = any(row.file.startswith(TILES) for row in rows)
    texts = {"train-prior.yml": prior_text(out, found)}
    if tiles and found.tile >= 64:
        texts["train-context.yml"] = context_text(out, found)
    if found.paintable:
        texts[GENERATE] = generate_text(out, GENERATE, found, "train_clean", planned=True)
    if parts["test_clean"]:
        texts[HELD_OUT] = generate_text(out, HELD_OUT, found, "test_clean", planned=False)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(texts)


# Texts


def _line(key: str, value: object, reason: str = "", indent: int = 0) -> str:
    """`key: value  # reason`, the value as YAML."""
    text = f"{' ' * indent}{key}: {_plain(value)}"
    return f"{text:{COLUMN - 2}}  # {reason}" if reason else text


def _plain(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _chosen(key: str, choice: rules.Choice, indent: int = 0) -> str:
    return _line(key, choice.value, choice.reason, indent)


def prior_text(out: Path, found: Decisions) -> str:
    """The conf that trains the prior."""
    return "\n".join(
        [
            "# Trains the defect prior that sees its surroundings, from the bundled foundation prior.",
            f"#   python train.py {_path(out, 'train-prior.yml')}",
            "# Written by utils.prepare_data, which chose what the data decide. docs/configuration.md lists every key.",
            "",
            "# Data",
            _line("data_dir", f"{out.as_posix()}/train/boxed", "patches, each with the place of its defect"),
            *_clean_lines(out, found),
            _line("class_json_path", f"{out.as_posix()}/classes.json"),
            _line("checkpoint_dir", run_folder(out), "checkpoints, log and previews"),
            _line(
                "init_from", FOUNDATION, "knows defects of synthetic surfaces and boards; '' = from nothing"
            ),
            "augment:",
            _chosen("rotate90", found.rotate90, 2),
            _chosen("flip", found.flip, 2),
            _chosen("color", found.color, 2),
            _line("zoom", 1.2, "windows of 0.9 to 1.2 times their side", 2),
            *_scale_lines(found),
            "",
            "# Network: 3.0 M parameters, 1.5 GFLOP an image",
            _line("condition", "surroundings", "sees the clean surroundings of the box, and the box"),
            _line("image_size", found.window),
            *_network_lines("1, 1, 2, 4", "8"),
            _line("class_cond", True),
            "",
            "# Loss",
            _line("max_t", None, "painting may start at any t; auto = only from where its defects need it"),
            _line("min_snr_gamma", 5, "noisy steps, where all is decided, count more"),
            _line("outside_weight", 0.3, "what lies outside the box is known when painting"),
            "",
            "# Optimization",
            _line("lr", 5e-4),
            _line("warmup_steps", 50),
            _chosen("lr_anneal_steps", found.steps),
            _line("batch_size", BATCH),
            "",
            *_judge_lines(found),
            *_end_lines(),
        ]
    )


def _judge_lines(found: Decisions) -> list[str]:
    if not found.has_pieces:
        return ["# judge_steps is left out: a judge needs pieces without defects"]
    seconds, steps = rules.JUDGE_SECONDS, rules.JUDGE_STEPS
    return [
        "# Judge: tells each class from the others and from clean windows",
        _line(
            "judge_steps", steps, f"enough on some hundred patches; its {seconds} s count into the minutes"
        ),
    ]


def _clean_lines(out: Path, found: Decisions) -> list[str]:
    if not found.has_pieces:
        return ["# clean_dir is left out: between the defects there is no room for a piece without any"]
    return [
        _line("clean_dir", f"{out.as_posix()}/train/clean", "what a window without a defect looks like"),
        _line("clean_ratio", CLEAN_RATIO, "of the examples are clean"),
    ]


def _scale_lines(found: Decisions) -> list[str]:
    lines = ["# Native px per px of the window, smallest / median / largest, by the boxes:"]
    for name, sizes in found.sizes.items():
        if sizes:
            values = " / ".join(f"{value:.2f}" for value in rules.scales(sizes, found.window))
            lines.append(f"#   {name}: {values} ({counted(len(sizes), 'defect')})")
    return lines


def _network_lines(multipliers: str, attention: object) -> list[str]:
    return [
        _line("num_channels", 32),
        _line("num_res_blocks", 1),
        _line("channel_mult", multipliers),
        _line("attention_resolutions", attention),
        _line("num_head_channels", 32),
        _line("learn_sigma", False),
        _line("resblock_updown", False),
    ]


def _end_lines() -> list[str]:
    return [
        _line("ema_rate", 0.995),
        _line("precision", "auto", "bf16 where the device is faster with it"),
        _line("channels_last", "auto"),
        "",
        "# Output",
        _line("log_interval", 50),
        _line("save_interval", 250),
        _line("sample_num", 4),
        _line("export_dtype", "float16"),
        "",
    ]


def context_text(out: Path, found: Decisions) -> str:
    """The conf that trains the contextual model, which the prior can do without."""
    side = min(128, found.tile // 8 * 8)
    return "\n".join(
        [
            "# Optional: trains the contextual model, for painting with refinement (model_path in generate.yml).",
            f"#   python train.py {_path(out, 'train-context.yml')}",
            "",
            "# Data",
            _line("data_dir", f"{out.as_posix()}/train/defect_free", "tiles without defects"),
            _line("checkpoint_dir", run_folder(out, "context"), "checkpoints, log and previews"),
            _line("init_from", CONTEXT_FOUNDATION, "knows synthetic boards; '' = from nothing"),
            "augment:",
            _chosen("rotate90", found.rotate90, 2),
            _chosen("flip", found.flip, 2),
            _chosen("color", found.color, 2),
            _line(
                "shrink",
                min(2, found.tile / side),
                f"crops of {side} px and more: tiles are {found.tile} px",
                2,
            ),
            "",
            "# Network: 1.3 M parameters",
            _line("image_size", side),
            *_network_lines("1, 1, 2, 2", []),
            "",
            "# Optimization",
            _line("lr", 5e-4),
            _line("warmup_steps", 30),
            _line("lr_anneal_steps", 1000, "also the length of the run: ten minutes on a core with bf16"),
            _line("batch_size", 6),
            *_end_lines(),
        ]
    )


def generate_text(out: Path, name: str, found: Decisions, images: str, planned: bool) -> str:
    """The conf called `name` that paints, at annotated places or at planned ones."""
    purpose = (
        "at places like those of the training defects, for a data set; train-prior.yml comes first."
        if planned
        else "at the places of held-out ones, to compare with them; nothing may be trained on what comes out."
    )
    return "\n".join(
        [
            f"# Paints defects {purpose}",
            f"#   python sample_generation.py {_path(out, name)}",
            "# Written by utils.prepare_data, which chose what the data decide. docs/configuration.md lists every key.",
            "",
            "# Models and data; the network's options are read from its weights",
            _line("model_path", None, "the prior paints alone"),
            _line("crop_model_path", f"{run_folder(out)}/{LAST}"),
            _line("crop_class_json_path", f"{out.as_posix()}/classes.json"),
            *(
                [_line("judge_path", f"{run_folder(out)}/{JUDGE}", "scores what is painted")]
                if found.has_pieces
                else []
            ),
            _line("defect_free_dir", f"{out.as_posix()}/{images}", "clean images"),
            _line("outdir", f"images/{out.resolve().name}{'' if planned else '-heldout'}"),
            "",
            *(_plan_lines(out, found) if planned else []),
            *_exemplar_lines(out, found),
            "# What is painted",
            _line("paint", "all", "all defects of an image on one sample"),
            _line("resize", "native", "images keep their size"),
            _line("scale", "auto", "by each box, as in training"),
            _line("background", "masked", "the photograph everywhere outside the defect's own soft mask"),
            _line(
                "label_box", "painted", "around what was painted, as far from it as the training boxes are"
            ),
            _chosen("label_margin", found.margin),
            "",
            "# How many, and from which noise",
            _line("n_samples", 1),
            _line("seed", 0),
            _line("batch_size", 6),
            _line("precision", "auto", "bf16 where the device is faster with it"),
            "",
            *(_choice_lines() if found.has_pieces else []),
            "# Steps",
            _line("timestep_respacing", str(CHAIN)),
            _line("prior_guidance", 1.0, "away from what a window without a defect looks like"),
            "ddim:",
            "  schedule_params:",
            _line("num_inference_steps", CHAIN, indent=4),
            _line("ddpm_num_steps", CHAIN, indent=4),
            _line("use_timetravel", False, indent=4),
            _chosen("start_step", found.start, 4),
            "",
            "# What comes out beside images, masks and labels",
            _line("report", True, "report/index.html"),
            _line("dataset", {"export": True, "val_share": 0.2, "background_share": 0.1}),
            "",
        ]
    )


def _choice_lines() -> list[str]:
    return [
        "# What is good enough",
        _line("candidates", CANDIDATES, "of each defect the better one is kept"),
        _line("min_score", MIN_SCORE, "the judge takes it for its class rather than for anything else"),
        _line("max_rerolls", REROLLS, "times two more are tried; what fails still is left out and reported"),
        "",
    ]


def _exemplar_lines(out: Path, found: Decisions) -> list[str]:
    return [
        "# From what: a training defect that fits the place, which the prior makes one with its surroundings",
        "exemplars:",
        _line("folder", out.as_posix(), "null = from the clean place: more varied, less sure", 2),
        _chosen("rotate90", found.rotate90, 2),
        _chosen("flip", found.flip, 2),
        "",
    ]


def _plan_lines(out: Path, found: Decisions) -> list[str]:
    counts = dict.fromkeys(found.paintable, PLANNED)
    widest = max(max(size) for sizes in found.sizes.values() for size in sizes)
    sizes = {
        name: [list(size) for size in rules.box_sizes(boxes)] for name, boxes in found.sizes.items() if boxes
    }
    return [
        "# Where: as many places as requested",
        "plan:",
        _line("counts", counts, indent=2),
        _line("rank", "surroundings", "where it looks as around the training defects, in their sizes", 2),
        _line("queries", out.as_posix(), indent=2),
        _chosen("rotate90", found.rotate90, 2),
        _chosen("flip", found.flip, 2),
        _line("spacing", round(widest), "the longest side of a training box, px", 2),
        _line("edge_margin", 0, "defects at the edge have places at the edge", 2),
        "  sizes:                              # w, h in px from the training boxes, for the other ranks",
        *(_line(_plain(name), boxes, indent=4) for name, boxes in sizes.items()),
        "",
    ]


def run_folder(out: Path, what: str = "prior") -> str:
    """Where the weights of a data set go."""
    return f"runs/{out.resolve().name}-{what}"


def _path(out: Path, name: str) -> str:
    """The path of a conf as a shell takes it."""
    return shlex.quote(f"{out.as_posix()}/{name}")


def next_steps(out: Path, confs: Sequence[str]) -> str:
    """The commands that come next, for the report; what is optional is left out."""
    lines = [
        f"  python {'train.py' if name.startswith('train') else 'sample_generation.py'} {_path(out, name)}"
        for name in confs
        if name not in ("train-context.yml", HELD_OUT)
    ]
    return "\n".join(["", "next", *lines, ""])
