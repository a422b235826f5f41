"""The keys of `train.py`."""

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
    RateList,
    Section,
    Seed,
    Steps,
)
from utils.schema.network import DiffusionConfig, NetworkConfig, precision_of_old_key


class AugmentConfig(Section):
    """Random changes of the training images that preserve their class."""

    flip: bool = Field(True, description="mirror left-right and top-bottom")
    rotate90: bool = Field(True, description="rotate by multiples of 90 degrees")
    jitter: Int = Field(4, ge=0, le=4096, description="shift of the crop, at most this many px")
    color: Float = Field(0.0, ge=0, le=1, description="strength of brightness and contrast changes")
    shrink: Float = Field(
        1.0,
        ge=1,
        le=8,
        description="defect-free crops cover up to so many times the side, shrunk to size, as `scale` does",
    )
    zoom: Float = Field(
        1.0,
        ge=1,
        le=4,
        description="windows around a box (condition: surroundings) cover from zoom^-0.5 to zoom times their side",
    )


class TrainingConfig(Section):
    """Everything `train.py` needs. The defaults are the published 256x256 defect-free run's."""

    network: NetworkConfig = Field(default_factory=lambda: NetworkConfig(use_fp16=True))
    diffusion: DiffusionConfig = Field(default_factory=lambda: DiffusionConfig(timestep_respacing=""))

    data_dir: InputPath = Field(
        "./data/train/", description="training images, `<class>_<number>.<suffix>` with class_cond"
    )
    class_json_path: OptionalPath = Field(
        "./data/pcb.json", description="JSON file: class name -> id; null or '' without class_cond"
    )
    num_classes: Int | None = Field(None, ge=1, description="classes; null = counted in the class file")
    checkpoint_dir: OutputPath = Field("./runs/train/", description="where checkpoints, logs and previews go")
    resume_checkpoint: OptionalPath = Field("", description="training state to go on from")
    init_from: OptionalPath = Field(
        "", description="weights to start from, with fresh optimizer and averages"
    )

    lr: Float = Field(1e-4, gt=0, description="learning rate (AdamW)")
    weight_decay: Float = Field(0.0, ge=0, description="weight decay (AdamW)")
    warmup_steps: Steps = Field(0, ge=0, description="steps over which the learning rate rises from 0")
    lr_anneal_steps: Steps = Field(
        0, ge=0, description="steps over which the learning rate falls to 0; 0 = constant"
    )
    batch_size: Int = Field(8, ge=1, description="images per step and process")
    microbatch: Int = Field(-1, ge=-1, description="images per forward pass; -1 = the whole batch")
    ema_rate: RateList = Field(
        (0.9999,), min_length=1, description="decay of the averaged weights; several: a comma list"
    )
    grad_clip: Float = Field(1.0, ge=0, description="largest norm of the gradient; 0 = not clipped")
    total_steps: Steps = Field(
        0, ge=0, description="training steps; 0 = until lr_anneal_steps, or until stopped"
    )
    max_minutes: Float = Field(0.0, ge=0, description="stop after this many minutes; 0 = no limit")
    seed: Seed = Field(0, description="seed of weights, data order and noise")

    schedule_sampler: Literal["uniform", "loss-second-moment"] = Field(
        "uniform", description="how t is drawn"
    )
    min_t: Int = Field(0, ge=0, description="smallest t trained on, in steps of the original chain")
    max_t: Annotated[Int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="train on t < max_t of the original chain; null = on all; auto = as far as painting needs it at "
        "the defects' contrast (condition: surroundings)",
    )
    shuffle: bool = Field(True, description="draw the images in random order")
    class_balanced: bool = Field(True, description="draw every class equally often (class_cond)")
    clean_dir: OptionalPath = Field(
        "", description="defect-free images (condition: surroundings): what the class `clean` is learned from"
    )
    clean_ratio: Float = Field(
        0.3, ge=0, lt=1, description="fraction of the examples that are clean (with clean_dir)"
    )
    outside_weight: Float = Field(
        1.0, ge=0, le=1, description="weight of the loss outside the defect's box (condition: surroundings)"
    )
    min_snr_gamma: Float = Field(
        0.0, ge=0, description="min-SNR weighting of the loss (Hang et al. 2023); 5 is usual, 0 = none"
    )
    cache: bool = Field(True, description="keep decoded images in memory")
    num_workers: Int = Field(2, ge=0, le=256, description="processes that load images")
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    device: Device | None = Field(None, description="null or auto = the GPU if there is one, else the CPU")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default_factory=precision_of_old_key,
        description="arithmetic of the network; auto = bf16 where the device is faster with it, else fp32",
        json_schema_extra=PRECISION_DEFAULT,
    )
    channels_last: bool | Literal["auto"] = Field(
        True,
        description="memory layout that convolutions prefer; auto = except for narrow networks in bf16 on a CPU",
    )
    compile: bool = Field(False, description="compile the network with torch.compile")

    judge_steps: Steps = Field(
        0,
        ge=0,
        description="at the end, train a judge of the defects on the same patches, judge.safetensors, so many steps; "
        "0 = none, 400 = a good one in minutes",
    )

    log_interval: Steps = Field(100, ge=1, description="steps between two lines of the log")
    save_interval: Steps = Field(10000, ge=1, description="steps between two checkpoints")
    keep_checkpoints: Int = Field(3, ge=1, description="checkpoints kept, the newest")
    export_dtype: Literal["float32", "float16"] = Field(
        "float32", description="number format of exported weights"
    )
    sample_num: Int = Field(4, ge=0, le=1000, description="preview samples; 0 = none")
    sample_interval: Steps = Field(0, ge=0, description="steps between previews; 0 = with each checkpoint")
    tensorboard: bool = Field(True, description="write TensorBoard logs")
    ignored_keys: tuple[str, ...] = Field((), description="keys of the file that are accepted and ignored")

    @property
    def resolved_max_t(self) -> int:
        """The first t not trained on, once a run has measured the one that auto leaves open."""
        assert self.max_t != "auto"
        return self.diffusion.diffusion_steps if self.max_t is None else self.max_t

    @field_validator("network", mode="before")
    @classmethod
    def _start_from_training_network(cls, value: Any) -> Any:
        return {"use_fp16": True, **value} if isinstance(value, dict) else value

    @field_validator("diffusion", mode="before")
    @classmethod
    def _start_from_whole_chain(cls, value: Any) -> Any:
        return {"timestep_respacing": "", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> "TrainingConfig":
        problems = []
        steps = self.diffusion.diffusion_steps
        highest = self.max_t if isinstance(self.max_t, int) else steps
        if highest > steps:
            problems.append(f"max_t: got {highest}, expected at most diffusion_steps ({steps})")
        if self.min_t >= highest:
            problems.append(f"min_t: got {self.min_t}, expected less than max_t ({highest})")
        if self.max_t == "auto" and self.network.condition == "none":
            problems.append(
                "max_t: got auto, expected a number or null (condition is none: the patches have no boxes to measure)"
            )
        if self.network.class_cond and not self.class_json_path:
            problems.append("class_json_path: got null, expected a class file (class_cond is true)")
        if self.judge_steps and self.network.condition == "none":
            problems.append(
                f"judge_steps: got {self.judge_steps}, expected 0 (condition is none: the patches have no boxes)"
            )
        if self.clean_dir and self.network.condition == "none":
            problems.append("clean_dir: got a folder, expected none (condition is none)")
        if self.microbatch == 0:
            problems.append("microbatch: got 0, expected -1 or a positive number")
        if problems:
            raise ValueError("\n".join(problems))
        return self
