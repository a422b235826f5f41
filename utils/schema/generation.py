"""The keys of `sample_generation.py`.

DDIM sampling is that of Song et al. 2021, time travel that of Lugmayr et al. 2022, the refinement that of Luo et
al. 2025.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from utils.schema.fields import (
    PRECISION_DEFAULT,
    Device,
    Float,
    InputPath,
    Int,
    JumpFilter,
    OptionalPath,
    OutputPath,
    PathInUnion,
    Section,
    Seed,
)
from utils.schema.network import CROP_VALUES, DiffusionConfig, NetworkConfig, precision_of_old_key


class AttentionConfig(Section):
    """Where the defect is: a mask from the prior's difference to the clean window (Luo et al. 2025)."""

    enabled: bool = Field(True, description="use the attention mask; false: the whole window counts alike")
    temperature: Float = Field(0.3, gt=0, description="softness of the sigmoid over the difference")
    blur_sigma: Float = Field(1.0, ge=0, description="Gaussian blur of the mask, px; 0 = none")
    center_weight: Float = Field(1.0, ge=0, description="extra weight of the window's center; 0 = none")
    radial_decay: Float = Field(0.15, gt=0, description="width of that center weight")
    connected_components: bool = Field(True, description="keep only components that touch the center")
    min_area_ratio: Float = Field(
        0.01, ge=0, le=1, description="smallest component, as a fraction of the window"
    )
    center_region_ratio: Float = Field(
        0.2, gt=0, le=1, description="size of the center, fraction of the window"
    )
    adaptive_threshold: bool = Field(True, description="threshold from the mean over the center, else 0.2")
    threshold_factor: Float = Field(0.6, ge=0, description="threshold in units of that mean")
    accumulation_enabled: bool = Field(True, description="blend the mask with those of earlier steps")
    accumulation_beta: Float = Field(0.9, ge=0, le=1, description="weight of the earlier masks")
    adaptive_beta: bool = Field(True, description="let that weight fall with t, down to beta_min at t = 0")
    beta_min: Float = Field(0.5, ge=0, le=1, description="the lowest value of that weight")


class ScheduleConfig(Section):
    """The list of timesteps, with time travel (Lugmayr et al. 2022)."""

    num_inference_steps: Int = Field(250, ge=1, le=100_000, description="steps over the whole respaced chain")
    ddpm_num_steps: Int = Field(
        250, ge=1, le=100_000, description="length of the respaced chain (see timestep_respacing)"
    )
    schedule_type: Literal["linear", "quad"] = Field(
        "linear", description="spacing of the steps without time travel"
    )
    jump_length: Int = Field(10, ge=1, description="undo steps of one jump back in time")
    jump_n_sample: Int = Field(3, ge=1, le=1000, description="times each stretch is denoised; 1 = no jumps")
    use_timetravel: bool = Field(True, description="jump back in time and denoise again (RePaint)")
    time_travel_filter_type: JumpFilter = Field("none", description="which jumps are left out")
    start_step: Annotated[Int, Field(ge=0)] | Literal["auto"] | None = Field(
        30,
        description="strength of the edit: index at which the image is noised; null = the last; auto = by the contrast "
        "of the defects that the prior was trained on",
    )

    @property
    def resolved_start_step(self) -> int | None:
        """The start step, once a run has read the one that auto leaves open."""
        assert self.start_step != "auto"
        return self.start_step

    @model_validator(mode="after")
    def _fits_chain(self) -> "ScheduleConfig":
        if self.num_inference_steps > self.ddpm_num_steps and not self.use_timetravel:
            raise ValueError(
                f"num_inference_steps: got {self.num_inference_steps}, expected at most ddpm_num_steps "
                f"({self.ddpm_num_steps}) without time travel"
            )
        return self


class DdimConfig(Section):
    """DDIM sampling (Song et al. 2021)."""

    ddim_sigma: Float = Field(0.0, ge=0, description="eta: 0 = deterministic, 1 = as noisy as DDPM")
    schedule_params: ScheduleConfig = Field(
        default_factory=ScheduleConfig,
        description="each of these keys is also accepted directly under `ddim`",
    )


class OptimizeConfig(Section):
    """Refinement of x_t by gradient steps (Zhang et al. 2023; Luo et al. 2025)."""

    optimize_xt: bool = Field(True, description="refine x_t; false: plain DDIM with both models")
    lr_xt: Float = Field(0.1, gt=0, description="step size on the full image")
    lr_crop: bool = Field(False, description="also refine the crop's state, with the same step size")
    lr_xt_decay: Float = Field(1.012, gt=0, description="factor on lr_xt after every denoising step")
    use_smart_lr_xt_decay: bool = Field(True, description="scale the step with the signal left at t")
    use_adaptive_lr_xt: bool = Field(
        True, description="line search: shrink the step until the loss does not rise"
    )
    carry_lr_xt: bool = Field(
        False, description="begin with the step that the line search ended with at the last t: fewer trials"
    )
    coef_xt_reg: Float = Field(0.0001, ge=0, description="pull toward the state at the beginning of the step")
    coef_xt_reg_decay: Float = Field(
        1.01, gt=0, description="factor on coef_xt_reg after every denoising step"
    )
    mid_interval_num: Int = Field(
        1, ge=1, le=1000, description="DDIM sub-steps of the clean estimate; 1 = one-step estimate"
    )
    optimize_before_time_travel: bool = Field(
        True, description="refine once more before each jump back in time"
    )


class GradientStepsConfig(Section):
    """Number of gradient steps at each t: none for the first `stop` indices, then a ramp."""

    start: Float = Field(2.0, ge=0, le=1000, description="gradient steps at the low end of the ramp")
    end: Float = Field(2.0, ge=0, le=1000, description="gradient steps at the highest t")
    stop: Int = Field(0, ge=0, description="number of lowest t without gradient steps")


class DatasetConfig(Section):
    """The data set for a detector, in YOLO's and COCO's form, written at the end of a run."""

    export: bool = Field(
        False, description="write dataset/: images, labels, masks, data.yaml, COCO's annotations, README.md"
    )
    val_share: Float = Field(
        0.2, ge=0, lt=1, description="fraction of the source images in the validation part"
    )
    background_share: Float = Field(
        0.1, ge=0, lt=1, description="fraction of clean images, without labels, in the set"
    )
    labels: Literal["boxes", "segments"] = Field(
        "boxes",
        description="format of labels/: boxes, or polygons for segmentation; the other is written beside it",
    )
    first_category_id: Int = Field(1, ge=0, le=1, description="COCO's id of class 0")


Counts = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[Int, Field(ge=0)]],
    Field(json_schema_extra={"expected": "class: whole number >= 0, ...", "default_text": "none"}),
]


BoxSides = Annotated[
    tuple[Annotated[Int, Field(ge=1)], Annotated[Int, Field(ge=1)]],
    Field(json_schema_extra={"expected": "smallest and largest side, whole numbers >= 1"}),
]


Roi = Annotated[
    PathInUnion | dict[str, PathInUnion] | None,
    Field(json_schema_extra={"expected": "null, a path, or class: path, ..."}),
]


def _score_of_old_name(rank: Any) -> Any:
    return "score" if rank == "appeal" else rank


Sizes = Annotated[
    dict[
        Annotated[str, Field(min_length=1)],
        Annotated[
            tuple[tuple[Annotated[Int, Field(ge=1)], Annotated[Int, Field(ge=1)]], ...],
            Field(min_length=1, max_length=64),
        ],
    ],
    Field(json_schema_extra={"expected": "class: [[width, height], ...]", "default_text": "none"}),
]


class PlanConfig(Section):
    """Defects requested by numbers instead of by annotation files; px are those of the output images."""

    counts: Counts = Field(
        default_factory=dict, description="defects requested of each class; none = no plan"
    )
    spacing: Int = Field(96, ge=0, description="least distance between two centers on an image, px")
    size: BoxSides = Field(
        (24, 48), description="sides of a defect's box, px; drawn between them, small and large alike often"
    )
    sizes: Sizes = Field(
        default_factory=dict, description="classes whose boxes are drawn from a list of [width, height], px"
    )
    edge_margin: Int = Field(16, ge=0, description="least distance of a box from the image's edge, px")
    per_image: Int | None = Field(None, ge=1, description="most defects on one image; null = no limit")
    roi: Roi = Field(
        None,
        description="where centers may lie: an image, white = allowed, or a folder with one of each image's "
        "name; one for all classes or one per class",
    )
    rank: Annotated[Literal["score", "surroundings", "uniform"], BeforeValidator(_score_of_old_name)] = Field(
        "score",
        description="score = where the networks expect the class; surroundings = where it looks as around the "
        "defects of `queries`, whose boxes are taken; uniform = anywhere",
    )
    queries: PathInUnion | None = Field(
        None, description="folder that utils.prepare_data wrote, for rank: surroundings"
    )
    rotate90: bool = Field(
        True, description="rank: surroundings looks for the defects turned by quarters, too"
    )
    flip: bool = Field(True, description="rank: surroundings looks for the defects mirrored, too")
    stride: Int = Field(16, ge=1, description="grid of candidate places, px")
    keep: Annotated[float, Field(ge=1e-4, le=1)] = Field(
        0.1,
        description="best fraction of the candidates, from which places are drawn; less = surer, less varied",
    )

    @field_validator("size")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the smallest side comes first")
        return value

    @model_validator(mode="after")
    def _queries_are_there(self) -> "PlanConfig":
        if self.rank == "surroundings" and not self.queries:
            raise ValueError("queries: got null, which rank: surroundings needs; expected a folder")
        return self

    def plain(self) -> dict[str, Any]:
        """All values in the shape of the file, for a fingerprint."""
        return self.model_dump(mode="json")


class ExemplarsConfig(Section):
    """Training defects that painting starts from, laid over the clean image and noised (Meng et al. 2022, SDEdit)."""

    folder: PathInUnion | None = Field(
        None,
        description="folder that utils.prepare_data wrote, for its training defects; null = painting starts from "
        "the clean image",
    )
    rotate90: bool = Field(True, description="defects may be turned by quarters")
    flip: bool = Field(True, description="defects may be mirrored")
    min_likeness: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="where the surroundings of none are so alike, painting starts from the clean image; 0 = nowhere",
    )


class GenerationConfig(Section):
    """Everything `sample_generation.py` needs: `network` is the contextual model, `crop` the prior."""

    network: NetworkConfig = Field(default_factory=NetworkConfig)
    crop: NetworkConfig = Field(default_factory=lambda: NetworkConfig(**CROP_VALUES))
    diffusion: DiffusionConfig = Field(default_factory=DiffusionConfig)

    model_path: OptionalPath = Field(
        "checkpoint/checkpoint-256-defect-free.pt",
        description="weights of the contextual model; null or '' = only the prior paints",
    )
    crop_model_path: InputPath = Field(
        "checkpoint/checkpoint-64-defect.pt", description="weights of the defect prior"
    )
    judge_path: OptionalPath = Field(
        "",
        description="weights of a judge (judge.safetensors) that scores defects; '' = the prior's own agreement",
    )
    defect_free_dir: InputPath = Field("data/sample/", description="clean images with their annotations")
    outdir: OutputPath = Field("./images/", description="output folder")
    crop_class_json_path: OptionalPath = Field(
        "./data/pcb.json",
        description="JSON file: class name -> id; null or '' = the classes in the prior's weights",
    )
    num_classes: Int | None = Field(
        None, ge=1, description="classes of the prior; null = counted in the class file"
    )

    paint: Literal["each", "all"] = Field(
        "each", description="each = an image per annotation; all = all annotations of a file on one image"
    )
    n_samples: Int = Field(4, ge=1, description="samples per annotation (paint: all: per image) and round")
    n_iter: Int = Field(1, ge=1, description="rounds")
    seed: Seed | None = Field(None, description="seed of all noise; null = a new one each run")
    batch_size: Annotated[Int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="contexts painted together; auto = as many as the free memory holds"
    )
    cuda: Int = Field(0, ge=0, description="number of the GPU to use when there is one and `device` is null")
    device: Device | None = Field(None, description="null or auto = the GPU if there is one, else the CPU")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default_factory=precision_of_old_key,
        description="arithmetic of the networks; auto = bf16 where the device is faster with it, else fp32",
        json_schema_extra=PRECISION_DEFAULT,
    )

    resize: Literal["squash", "native"] = Field(
        "squash", description="squash = the whole image to image_size; native = work on a cut-out of it"
    )
    scale: Annotated[Float, Field(ge=1)] | Literal["auto"] = Field(
        1.0, description="native px per model px (native mode); auto = from each box"
    )
    background: Literal["generated", "original", "masked"] = Field(
        "generated",
        description="what surrounds a defect: generated = the model's image; original = the photograph outside its "
        "window; masked = the photograph outside its own soft mask",
    )
    feather: Int = Field(8, ge=0, description="soft edge of the pasted window, px (original background)")
    prior_guidance: Float = Field(
        0.0,
        ge=0,
        description="push of the prior away from no defect, as the contextual model sees it, or, with condition: "
        "surroundings, the prior's own class clean; 0 = none",
    )

    label_box: Literal["painted", "annotation"] = Field(
        "painted",
        description="box of the labels: around what was painted, with label_margin, or the annotation's own",
    )
    label_margin: Float = Field(
        0.0,
        ge=0,
        description="px that boxes, annotated ones and those of the labels, keep from what is visible of their defects",
    )
    candidates: Int = Field(
        1, ge=1, le=1000, description="times a defect is painted, with other noise; the best score is kept"
    )
    min_score: Float = Field(
        0.0,
        ge=0,
        le=1,
        description="a defect with a lower score is painted again with other noise; 0 = take all",
    )
    max_rerolls: Int = Field(
        2,
        ge=0,
        le=1000,
        description="times it is painted again, each time with all its `candidates`; what still fails is reported, not "
        "exported",
    )
    plan: PlanConfig = Field(default_factory=PlanConfig)
    exemplars: ExemplarsConfig = Field(default_factory=ExemplarsConfig)
    report: bool = Field(False, description="write report/index.html, a page to review the results")
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)

    overwrite: bool = Field(False, description="repaint samples that are already in outdir")
    dry_run: bool = Field(False, description="list what would be painted, then stop")
    debug: bool = Field(False, description="log every step")
    visualize: bool = Field(False, description="save the attention masks and estimates of every step")
    generate_gif: bool = Field(False, description="with visualize: save an animation of each sample too")
    show_progress: bool = Field(True, description="show a progress bar")

    attention_features: AttentionConfig = Field(default_factory=AttentionConfig)
    ddim: DdimConfig = Field(default_factory=DdimConfig)
    optimize_xt: OptimizeConfig = Field(default_factory=OptimizeConfig)
    g_scha: GradientStepsConfig = Field(default_factory=GradientStepsConfig)
    ignored_keys: tuple[str, ...] = Field((), description="keys of the file that are accepted and ignored")

    @property
    def resolved_seed(self) -> int:
        """The seed, once a run has drawn the one that null leaves open."""
        assert self.seed is not None
        return self.seed

    @property
    def resolved_batch_size(self) -> int:
        """The batch size, once a run has measured the one that auto leaves open."""
        assert self.batch_size != "auto"
        return self.batch_size

    @field_validator("crop", mode="before")
    @classmethod
    def _start_from_crop_values(cls, value: Any) -> Any:
        return {**CROP_VALUES, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> "GenerationConfig":
        problems = []
        if self.crop.image_size > self.network.image_size:
            problems.append(
                f"crop.image_size: got {self.crop.image_size}, expected at most image_size "
                f"({self.network.image_size})"
            )
        if not self.model_path and self.crop.condition == "none" and self.prior_guidance > 0:
            problems.append(
                f"prior_guidance: got {self.prior_guidance:g} without model_path, expected 0 (the prior has nothing "
                "to be pushed from)"
            )
        if self.network.class_cond:
            problems.append("class_cond: got true, expected false (the contextual model knows no classes)")
        if self.resize == "squash" and self.scale != 1.0:
            problems.append(
                f"scale: got {self.scale}, expected 1.0 (other values need `resize: native`, got squash)"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self
