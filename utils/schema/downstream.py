"""The keys of `evaluation.downstream`: does a detector that also trains on painted defects get better?

docs/protocol.md says what is compared with what, and what counts as a gain.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from utils.schema.fields import (
    LONGEST_LIST,
    Device,
    Float,
    Int,
    IntList,
    OptionalPath,
    OutputPath,
    Section,
    SeedList,
    Steps,
)

ArmName = Literal[
    "real",
    "copy_paste",
    "copy_paste_poisson",
    "procedural",
    "ours",
    "ours_filtered",
    "synthetic_only",
    "all_real",
]
AblationName = Literal[
    "window_composite",
    "uniform_places",
    "no_guidance",
    "no_exemplars",
    "one_candidate",
    "no_attention_mask",
    "no_accumulation",
    "no_time_travel",
    "no_refinement",
]
DetectorName = Literal["classifier", "torchvision", "yolo"]
OF_CONTEXTUAL_MODEL = ("no_attention_mask", "no_accumulation", "no_time_travel", "no_refinement")


def _words(value: Any) -> Any:
    """'a, b' -> ['a', 'b']; null or '' -> an empty list."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _names(*choices: str) -> dict[str, str]:
    return {"expected": f"list of {' or '.join(choices)}" if choices else "list of texts, numbers in quotes"}


Words = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_words),
    Field(max_length=64, json_schema_extra=_names()),
]
Arms = Annotated[
    tuple[ArmName, ...],
    BeforeValidator(_words),
    Field(min_length=1, max_length=LONGEST_LIST, json_schema_extra=_names(*get_args(ArmName))),
]
Ablations = Annotated[
    tuple[AblationName, ...],
    BeforeValidator(_words),
    Field(max_length=LONGEST_LIST, json_schema_extra=_names(*get_args(AblationName))),
]
DetectorNames = Annotated[
    tuple[DetectorName, ...],
    BeforeValidator(_words),
    Field(min_length=1, max_length=LONGEST_LIST, json_schema_extra=_names(*get_args(DetectorName))),
]
Shares = Annotated[
    tuple[Annotated[Float, Field(gt=0, lt=1)], ...],
    BeforeValidator(lambda value: [value] if isinstance(value, float) else _words(value)),
    Field(max_length=LONGEST_LIST, json_schema_extra={"expected": "list of numbers > 0 and < 1"}),
]


class WorldConfig(Section):
    """The bundled synthetic world: boards of every part, each with up to six defects and a clean twin."""

    train_boards: Int = Field(
        60, ge=2, le=10_000, description="boards to train on (the defects used are per_class)"
    )
    validation_boards: Int = Field(20, ge=1, le=10_000, description="boards of the validation part")
    test_boards: Int = Field(60, ge=1, le=10_000, description="boards of the test part")
    size: Int = Field(320, ge=128, le=4096, description="side of a board, px")
    number: Int = Field(0, ge=0, le=9, description="which world; each has boards of its own in all parts")


class PainterConfig(Section):
    """The painter, trained on the scarce training part alone."""

    minutes: Float = Field(
        60.0, ge=1, le=10_000, description="time for training and painting, on two CPU cores"
    )
    judge_steps: Steps | None = Field(
        None,
        ge=0,
        description="training steps of the judge that scores defects; null = as prepare_data writes",
    )
    context: bool = Field(False, description="also train the contextual model, and paint with refinement")
    train: Words = Field((), description="keys of the prior's training to change, as key=value")
    train_context: Words = Field((), description="keys of the contextual model's training, as key=value")
    generate: Words = Field((), description="keys of the painting to change, as key=value")


# What the sections of the detectors share; an image is a window to the classifier, a tile to the others
Turns = Annotated[bool, Field(description="turn and mirror images in training")]
PeakRate = Annotated[Float, Field(gt=0, description="peak of the learning rate")]
RunSteps = Annotated[Steps, Field(ge=1, description="optimizer steps of every run")]
BatchSize = Annotated[Int, Field(ge=1, description="images per step")]
RunCount = Annotated[Int, Field(ge=1, le=100, description="runs of every arm")]


class ClassifierConfig(Section):
    """The patch classifier: the cheap first answer."""

    turns: Turns = True
    lr: PeakRate = 3e-3
    steps: RunSteps = 300
    batch_size: BatchSize = 32
    seeds: RunCount = 6


class TorchvisionConfig(Section):
    """FCOS of torchvision's parts, from scratch."""

    turns: Turns = True
    lr: PeakRate = 2e-3
    steps: RunSteps = 2000
    batch_size: BatchSize = 8
    seeds: RunCount = 3


class YoloConfig(Section):
    """Ultralytics' detector."""

    model: str = Field(
        "yolo11n.yaml",
        min_length=1,
        description="an architecture, trained from scratch, or weights (.pt) of yours",
    )
    lr: Float = Field(1e-3, gt=0, description="initial learning rate")
    steps: RunSteps = 800
    batch_size: BatchSize = 16
    seeds: RunCount = 3


class DownstreamConfig(Section):
    """Everything `evaluation.downstream` needs."""

    source: OptionalPath = Field(
        "", description="folder with annotated images; '' = the bundled synthetic world, drawn here"
    )
    format: str = Field("auto", min_length=1, description="annotation format, as in utils.prepare_data")
    clean_dir: OptionalPath = Field(
        "", description="images without defects; '' = folders named clean, good, ..."
    )
    group_pattern: str | None = Field(
        None, description="regular expression whose one (group) is an image's group; null = as prepare_data"
    )
    outdir: OutputPath = Field("runs/downstream", description="output folder")

    split: Literal["groups", "random"] = Field(
        "groups",
        description="groups = whole groups are held out; random = single images, a control that leaks",
    )
    holdout: Words = Field((), description="groups of the test part; none = drawn, by holdout_share")
    holdout_share: Float = Field(
        0.3, gt=0, lt=1, description="fraction of the defects in the test part, where it is drawn"
    )
    validation: Words = Field(
        (),
        description="groups of the validation part; none = images of the other groups, by validation_share",
    )
    validation_share: Float = Field(
        0.2, ge=0, lt=1, description="fraction of the training groups' images in the validation part"
    )
    allow_leaks: bool = Field(
        False, description="go on when the leakage check finds images of one place in two parts"
    )
    split_seeds: SeedList = Field(
        (0,),
        min_length=1,
        description="seeds of the parts and of the scarce training set; each runs everything",
    )
    evaluate: Literal["validation", "test"] = Field(
        "validation",
        description="part that detectors are measured on; test = once, when nothing changes any more",
    )

    per_class: Int = Field(20, ge=1, description="real training defects of a class")
    curve: IntList = Field((), description="other numbers of a class to run the arm `real` with")
    arms: Arms = Field(get_args(ArmName), description="what is compared")
    volumes: IntList = Field(
        (1, 2, 3),
        min_length=1,
        description="synthetic defects per real training defect, for the arms ours* and copy_paste",
    )
    min_score: Float = Field(
        0.5, ge=0, le=1, description="least score of a painted defect, in the filtered arm"
    )
    ablations: Ablations = Field(
        (), description="paintings with one thing changed, each compared at the first volume"
    )
    real_share: Float = Field(0.5, gt=0, lt=1, description="share of real examples in a batch")
    real_shares: Shares = Field(
        (), description="other shares to run the arm `ours` with, at the first volume"
    )
    tile: Int = Field(240, ge=64, le=2048, description="side of the square tiles that detectors see, px")
    one_per_tile: bool = Field(
        True,
        description="a training tile shows one defect, others that are there are hidden: where an arm has more defects "
        "an image, its detector would otherwise see more labels a step",
    )
    device: Device | None = Field(
        None, description="null or auto = the GPU if there is one, else the CPU (detectors: the CPU)"
    )

    detectors: DetectorNames = Field(("classifier",), description="what is trained")
    extras: DetectorNames = Field(
        ("classifier",), description="detectors that curve, real_shares and ablations are run with, too"
    )
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig)
    torchvision: TorchvisionConfig = Field(default_factory=TorchvisionConfig)
    yolo: YoloConfig = Field(default_factory=YoloConfig)
    painter: PainterConfig = Field(default_factory=PainterConfig)
    world: WorldConfig = Field(default_factory=WorldConfig)

    dry_run: bool = Field(False, description="list the stages and how long they take, then stop")
    ignored_keys: tuple[str, ...] = Field((), description="keys of the file that are accepted and ignored")

    @model_validator(mode="after")
    def _parts_fit(self) -> "DownstreamConfig":
        problems = []
        if both := set(self.holdout) & set(self.validation):
            problems.append(
                f"validation: got {', '.join(sorted(both))}, which is in holdout; expected others"
            )
        needing = [name for name in self.ablations if name in OF_CONTEXTUAL_MODEL]
        if needing and not self.painter.context:
            problems.append(
                f"ablations: got {', '.join(needing)}, which need a contextual model; expected painter.context true"
            )
        if self.split == "random" and (self.holdout or self.validation):
            problems.append("split: got random with groups in holdout or validation, expected none there")
        if not self.source and (self.holdout or self.validation):
            problems.append("holdout: got groups without a source, expected none (the world has its own)")
        if problems:
            raise ValueError("\n".join(problems))
        return self
