"""The keys of `sample_generation.py`: models, data, what is painted and what comes out."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from utils.schema.fields import (
    PRECISION_DEFAULT,
    Device,
    Float,
    InputPath,
    Int,
    OptionalPath,
    OutputPath,
    Section,
    Seed,
)
from utils.schema.network import CROP_VALUES, DiffusionConfig, NetworkConfig, precision_of_old_key
from utils.schema.places import ExemplarsConfig, PlanConfig
from utils.schema.sampling import AttentionConfig, DdimConfig, GradientStepsConfig, OptimizeConfig


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
        description="box of the labels: as far from what was painted as that of its training defect is from that, or "
        "(without exemplars) label_margin around it; or the annotation's own",
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
