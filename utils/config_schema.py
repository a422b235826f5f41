"""The keys of the configuration files: types, defaults, ranges and meanings, as frozen pydantic models.

`utils.config` reads YAML into these models; nothing else in the project knows about YAML. The networks are
those of Dhariwal & Nichol 2021 (ADM), the chains those of Ho et al. 2020, Nichol & Dhariwal 2021 and Song et
al. 2021, the time travel that of Lugmayr et al. 2022, the refinement that of Luo et al. 2025.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from utils.config_base import (
    PRECISION_DEFAULT,
    Device,
    FilePath,
    Float,
    FloatList,
    Int,
    IntList,
    JumpFilter,
    OptionalPath,
    RateList,
    Respacing,
    Section,
)
from utils.plan_schema import PlanConfig

# Channel multipliers of ADM by image size, for an empty `channel_mult`.
SIZE_CHANNEL_MULT: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    192: (1, 1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
    32: (1, 2, 3, 4),
}
GROUPS = 32  # of every GroupNorm


# Groups shared by generation and training


class NetworkConfig(Section):
    """One ADM U-Net (Dhariwal & Nichol 2021). The defaults are the published 256x256 network's."""

    image_size: Int = Field(256, ge=1, description="side of the square pictures the network works on, px")
    num_channels: Int = Field(128, ge=1, description="base width of the network")
    num_res_blocks: Int = Field(2, ge=1, description="residual blocks per level")
    channel_mult: FloatList = Field(
        (1, 1, 2, 3, 4, 4), description="width of each level in units of num_channels; '' = by image size"
    )
    attention_resolutions: IntList = Field(
        (16, 8), description="feature-map sizes, in px, that get self-attention"
    )
    num_heads: Int = Field(4, ge=1, description="attention heads, where num_head_channels is -1")
    num_head_channels: Int = Field(32, ge=-1, description="channels of one head; -1 = use num_heads")
    num_heads_upsample: Int = Field(-1, ge=-1, description="heads in the decoder; -1 = as num_heads")
    resblock_updown: bool = Field(True, description="resample inside residual blocks, not by convolutions")
    use_scale_shift_norm: bool = Field(True, description="the embedding scales and shifts the normalised map")
    use_new_attention_order: bool = Field(False, description="order of the qkv channels: q, k, v first")
    dropout: Float = Field(0.0, ge=0, lt=1, description="dropout inside residual blocks")
    class_cond: bool = Field(False, description="the network is told the defect class")
    learn_sigma: bool = Field(True, description="the network also predicts the variance (6 output channels)")
    use_fp16: bool = Field(False, description="older spelling of `precision: fp16`")
    use_checkpoint: bool = Field(
        False, description="recompute activations in the backward pass to save memory"
    )

    def resolved_channel_mult(self) -> tuple[float, ...]:
        """`channel_mult`, or the default for this image size when it is empty.

        Raises ValueError for an empty `channel_mult` and a size without a default.
        """
        if self.channel_mult:
            return self.channel_mult
        if self.image_size not in SIZE_CHANNEL_MULT:
            sizes = ", ".join(str(size) for size in sorted(SIZE_CHANNEL_MULT))
            raise ValueError(
                f"channel_mult: got nothing with image_size {self.image_size}, expected a list "
                f"(only the sizes {sizes} have a default)"
            )
        return SIZE_CHANNEL_MULT[self.image_size]

    def attention_factors(self) -> tuple[int, ...]:
        """Downsampling factors with self-attention: image_size // r for each attention resolution r."""
        return tuple(self.image_size // r for r in self.attention_resolutions)

    def plain(self) -> dict[str, Any]:
        """The values that decide the network, by key, `channel_mult` resolved; arithmetic is not among them."""
        values = self.model_dump(exclude={"use_fp16"})
        return values | {"channel_mult": self.resolved_channel_mult()}

    @model_validator(mode="after")
    def _can_be_built(self) -> "NetworkConfig":
        multipliers = self.resolved_channel_mult()
        problems = [*self._size_problems(len(multipliers)), *self._head_problems(multipliers)]
        widths = [self.num_channels * multiplier for multiplier in multipliers]
        odd = [f"{width:g}" for width in widths if width % GROUPS]
        if odd:
            problems.append(
                f"num_channels: got {self.num_channels}, which with channel_mult gives levels of "
                f"{', '.join(odd)} channels, expected multiples of {GROUPS}"
            )
        if problems:
            raise ValueError("\n".join(dict.fromkeys(problems)))
        return self

    def _size_problems(self, levels: int) -> list[str]:
        divisor = 2 ** (levels - 1)
        if self.image_size % divisor == 0:
            return []
        return [
            f"image_size: got {self.image_size}, expected a multiple of {divisor} "
            f"(channel_mult has {levels} levels, each half the size of the one before)"
        ]

    def _head_problems(self, multipliers: tuple[float, ...]) -> list[str]:
        """Heads must divide the channels at the levels with attention and in the middle block."""
        factors = self.attention_factors()
        widths = [m for level, m in enumerate(multipliers) if 2**level in factors] + [multipliers[-1]]
        if self.num_head_channels == 0 or self.num_heads_upsample == 0:
            return ["num_head_channels, num_heads_upsample: got 0, expected -1 or a positive number"]
        if self.num_head_channels > 0:
            heads = {"num_head_channels": self.num_head_channels}
        else:
            heads = {"num_heads": self.num_heads}
            if self.num_heads_upsample > 0:
                heads["num_heads_upsample"] = self.num_heads_upsample
        return [
            f"{key}: got {count}, expected a divisor of {int(self.num_channels * width)} "
            "(the channels of a level with attention)"
            for width in widths
            for key, count in heads.items()
            if int(self.num_channels * width) % count
        ]


# What differs from the 256x256 defaults: the published 64x64 defect network
CROP_VALUES: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 64,
    "channel_mult": (1, 2, 3, 4),
    "num_head_channels": 16,
    "class_cond": True,
}


class DiffusionConfig(Section):
    """The noise schedule and what the network predicts. The defaults are the published generation values."""

    diffusion_steps: Int = Field(1000, ge=1, description="steps of the original chain")
    noise_schedule: Literal["linear", "cosine"] = Field("linear", description="how the betas grow")
    timestep_respacing: Respacing = Field(
        "250", description="steps kept of the original chain: a count, counts per section, or ddimN; '' = all"
    )
    use_kl: bool = Field(False, description="train on the variational bound alone")
    predict_xstart: bool = Field(False, description="the network predicts the clean picture, not the noise")
    rescale_timesteps: bool = Field(False, description="the network sees t * 1000 / diffusion_steps")
    rescale_learned_sigmas: bool = Field(False, description="weight of the bound: diffusion_steps / 1000")
    clip_denoised: bool = Field(True, description="clip clean estimates to [-1, 1]")

    def plain(self) -> dict[str, Any]:
        """The values that decide the chain and the losses, by key; clipping is the sampler's affair."""
        return self.model_dump(exclude={"clip_denoised"})


# Groups of generation alone


class AttentionConfig(Section):
    """Where the defect is: a mask from the prior's difference to the clean window (Luo et al. 2025)."""

    enabled: bool = Field(True, description="use the attention mask; false: the whole window counts alike")
    temperature: Float = Field(0.3, gt=0, description="softness of the sigmoid over the difference")
    blur_sigma: Float = Field(1.0, ge=0, description="Gaussian blur of the mask, px; 0 = none")
    center_weight: Float = Field(1.0, ge=0, description="extra weight of the window's centre; 0 = none")
    radial_decay: Float = Field(0.15, gt=0, description="width of that centre weight")
    connected_components: bool = Field(True, description="keep only components that touch the centre")
    min_area_ratio: Float = Field(
        0.01, ge=0, le=1, description="smallest component, as a share of the window"
    )
    center_region_ratio: Float = Field(0.2, gt=0, le=1, description="size of the centre, share of the window")
    adaptive_threshold: bool = Field(True, description="threshold from the mean over the centre, else 0.2")
    threshold_factor: Float = Field(0.6, ge=0, description="threshold in units of that mean")
    accumulation_enabled: bool = Field(True, description="blend the mask with those of earlier steps")
    accumulation_beta: Float = Field(0.9, ge=0, le=1, description="weight of the earlier masks")
    adaptive_beta: bool = Field(True, description="let that weight fall with t, down to beta_min at t = 0")
    beta_min: Float = Field(0.5, ge=0, le=1, description="its lowest value")


class ScheduleConfig(Section):
    """The list of timesteps, with time travel (Lugmayr et al. 2022)."""

    num_inference_steps: Int = Field(250, ge=1, description="steps over the whole respaced chain")
    ddpm_num_steps: Int = Field(
        250, ge=1, description="length of the respaced chain (see timestep_respacing)"
    )
    schedule_type: Literal["linear", "quad"] = Field(
        "linear", description="spacing of the steps without time travel"
    )
    jump_length: Int = Field(10, ge=1, description="undo steps of one jump back in time")
    jump_n_sample: Int = Field(3, ge=1, description="times each stretch is denoised; 1 = no jumps")
    use_timetravel: bool = Field(True, description="jump back in time and denoise again (RePaint)")
    time_travel_filter_type: JumpFilter = Field("none", description="which jumps are left out")
    start_step: Int | None = Field(
        30, ge=0, description="strength of the edit: index at which the picture is noised; null = the last"
    )

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
    lr_xt: Float = Field(0.1, gt=0, description="step size on the full picture")
    lr_crop: bool = Field(False, description="also refine the crop's state, with the same step size")
    lr_xt_decay: Float = Field(1.012, gt=0, description="factor on lr_xt after every denoising step")
    use_smart_lr_xt_decay: bool = Field(True, description="scale the step with the signal left at t")
    use_adaptive_lr_xt: bool = Field(
        True, description="line search: shrink the step until the loss does not rise"
    )
    carry_lr_xt: bool = Field(
        False, description="begin with the step that the line search ended with at the last t: fewer trials"
    )
    coef_xt_reg: Float = Field(
        0.0001, ge=0, description="pull towards the state at the beginning of the step"
    )
    coef_xt_reg_decay: Float = Field(
        1.01, gt=0, description="factor on coef_xt_reg after every denoising step"
    )
    mid_interval_num: Int = Field(
        1, ge=1, description="DDIM sub-steps of the clean estimate; 1 = one-step estimate"
    )
    optimize_before_time_travel: bool = Field(True, description="refine once more before each climb")


class GradientStepsConfig(Section):
    """How many gradient steps each t gets: none for the first `stop` indices, then a ramp."""

    start: Float = Field(2.0, ge=0, description="gradient steps at the low end of the ramp")
    end: Float = Field(2.0, ge=0, description="gradient steps at the highest t")
    stop: Int = Field(0, ge=0, description="number of lowest t without gradient steps")


class DatasetConfig(Section):
    """The data set for a detector, in YOLO's and COCO's form, written at the end of a run."""

    export: bool = Field(
        False, description="write dataset/: images, labels, masks, data.yaml, COCO's annotations, README.md"
    )
    val_share: Float = Field(
        0.2, ge=0, lt=1, description="share of the source pictures in the validation part"
    )
    background_share: Float = Field(
        0.1, ge=0, lt=1, description="share of clean pictures, without labels, in the set"
    )
    labels: Literal["boxes", "segments"] = Field(
        "boxes", description="what labels/ holds: boxes, or polygons for segmentation; the other is beside it"
    )
    first_category_id: Int = Field(1, ge=0, le=1, description="COCO's id of class 0")


# Groups of training alone


class AugmentConfig(Section):
    """Random changes of the training pictures that keep their meaning."""

    flip: bool = Field(True, description="mirror left-right and top-bottom")
    rotate90: bool = Field(True, description="turn by multiples of 90 degrees")
    jitter: Int = Field(4, ge=0, description="shift of the crop, at most this many px")
    color: Float = Field(0.0, ge=0, le=1, description="strength of brightness and contrast changes")
    shrink: Float = Field(
        1.0,
        ge=1,
        le=8,
        description="defect-free crops cover up to so many times the side, shrunk to size, as `scale` does",
    )


# The two files


def _precision_of_old_key(data: dict[str, Any]) -> str:
    networks = [data[name] for name in ("network", "crop") if name in data]
    return "fp16" if any(network.use_fp16 for network in networks) else "fp32"


class GenerationConfig(Section):
    """Everything `sample_generation.py` needs: `network` is the defect-free model, `crop` the prior."""

    network: NetworkConfig = Field(default_factory=NetworkConfig)
    crop: NetworkConfig = Field(default_factory=lambda: NetworkConfig(**CROP_VALUES))
    diffusion: DiffusionConfig = Field(default_factory=DiffusionConfig)

    model_path: FilePath = Field(
        "checkpoint/checkpoint-256-defect-free.pt", description="weights of the defect-free model"
    )
    crop_model_path: FilePath = Field(
        "checkpoint/checkpoint-64-defect.pt", description="weights of the defect prior"
    )
    defect_free_dir: FilePath = Field("data/sample/", description="clean pictures with their annotations")
    outdir: FilePath = Field("./images/", description="where the results go")
    crop_class_json_path: FilePath = Field("./data/pcb.json", description="JSON file: class name -> id")
    num_classes: Int | None = Field(
        None, ge=1, description="classes of the prior; null = counted in the class file"
    )

    paint: Literal["each", "all"] = Field(
        "each", description="each = a picture per annotation; all = all annotations of a file on one picture"
    )
    n_samples: Int = Field(4, ge=1, description="samples per annotation (paint: all: per picture) and round")
    n_iter: Int = Field(1, ge=1, description="rounds")
    seed: Int | None = Field(None, ge=0, description="seed of all noise; null = another one each run")
    batch_size: Annotated[Int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="contexts painted together; auto = as many as the free memory holds"
    )
    cuda: Int = Field(0, ge=0, description="number of the GPU to use when there is one and `device` is null")
    device: Device | None = Field(None, description="null or auto = the GPU if there is one, else the CPU")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default_factory=_precision_of_old_key,
        description="arithmetic of the networks; auto = bf16 where the device is faster with it, else fp32",
        json_schema_extra=PRECISION_DEFAULT,
    )

    resize: Literal["squash", "native"] = Field(
        "squash", description="squash = the whole picture to image_size; native = work on a cut-out of it"
    )
    scale: Annotated[Float, Field(ge=1)] | Literal["auto"] = Field(
        1.0, description="native px per model px (native mode); auto = from each box"
    )
    background: Literal["generated", "original"] = Field(
        "generated", description="what surrounds the window: the model's picture or the untouched photograph"
    )
    feather: Int = Field(8, ge=0, description="soft edge of the pasted window, px (original background)")
    prior_guidance: Float = Field(
        0.0, ge=0, description="push of the prior away from the defect-free model; 0 = none"
    )

    label_box: Literal["painted", "annotation"] = Field(
        "painted", description="box of the labels: tight around what was painted, or the annotation's own"
    )
    min_score: Float = Field(
        0.0,
        ge=0,
        le=1,
        description="a defect with a lower score is painted again with other noise; 0 = take all",
    )
    max_rerolls: Int = Field(
        2, ge=0, description="times it is painted again; what still fails is reported, not shipped"
    )
    plan: PlanConfig = Field(default_factory=PlanConfig)
    report: bool = Field(False, description="write report/index.html, a page to look through the results")
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
    ignored_keys: tuple[str, ...] = Field((), description="keys of the file that nothing reads")

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
        if self.network.class_cond:
            problems.append("class_cond: got true, expected false (the defect-free model knows no classes)")
        if self.resize == "squash" and self.scale != 1.0:
            problems.append(
                f"scale: got {self.scale}, expected 1.0 (other values need `resize: native`, got squash)"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self


class TrainingConfig(Section):
    """Everything `train.py` needs. The defaults are the published 256x256 defect-free run's."""

    network: NetworkConfig = Field(default_factory=lambda: NetworkConfig(use_fp16=True))
    diffusion: DiffusionConfig = Field(default_factory=lambda: DiffusionConfig(timestep_respacing=""))

    data_dir: FilePath = Field(
        "./data/train/", description="training pictures, `<class>_<number>.<suffix>` with class_cond"
    )
    class_json_path: FilePath = Field("./data/pcb.json", description="JSON file: class name -> id")
    num_classes: Int | None = Field(None, ge=1, description="classes; null = counted in the class file")
    checkpoint_dir: FilePath = Field("./runs/train/", description="where checkpoints, logs and previews go")
    resume_checkpoint: OptionalPath = Field("", description="training state to go on from")
    init_from: OptionalPath = Field(
        "", description="weights to start from, with fresh optimiser and averages"
    )

    lr: Float = Field(1e-4, gt=0, description="learning rate (AdamW)")
    weight_decay: Float = Field(0.0, ge=0, description="weight decay (AdamW)")
    warmup_steps: Int = Field(0, ge=0, description="steps over which the learning rate rises from 0")
    lr_anneal_steps: Int = Field(
        0, ge=0, description="steps over which the learning rate falls to 0; 0 = constant"
    )
    batch_size: Int = Field(8, ge=1, description="pictures per step and process")
    microbatch: Int = Field(-1, ge=-1, description="pictures per forward pass; -1 = the whole batch")
    ema_rate: RateList = Field(
        (0.9999,), min_length=1, description="decay of the averaged weights; several: a comma list"
    )
    grad_clip: Float = Field(1.0, ge=0, description="largest norm of the gradient; 0 = not clipped")
    total_steps: Int = Field(
        0, ge=0, description="training steps; 0 = until lr_anneal_steps, or until stopped"
    )
    max_minutes: Float = Field(0.0, ge=0, description="stop after this many minutes; 0 = no limit")
    seed: Int = Field(0, ge=0, description="seed of weights, data order and noise")

    schedule_sampler: Literal["uniform", "loss-second-moment"] = Field(
        "uniform", description="how t is drawn"
    )
    min_t: Int = Field(0, ge=0, description="smallest t trained on, in steps of the original chain")
    max_t: Int | None = Field(
        None, ge=1, description="train on t < max_t of the original chain; null = on all"
    )
    shuffle: bool = Field(True, description="draw the pictures in random order")
    class_balanced: bool = Field(True, description="draw every class equally often (class_cond)")
    cache: bool = Field(True, description="keep decoded pictures in memory")
    num_workers: Int = Field(2, ge=0, description="processes that load pictures")
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    device: Device | None = Field(None, description="null or auto = the GPU if there is one, else the CPU")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default_factory=_precision_of_old_key,
        description="arithmetic of the network; auto = bf16 where the device is faster with it, else fp32",
        json_schema_extra=PRECISION_DEFAULT,
    )
    channels_last: bool | Literal["auto"] = Field(
        True,
        description="memory layout that convolutions prefer; auto = but for narrow networks in bf16 on a CPU",
    )
    compile: bool = Field(False, description="compile the network with torch.compile")

    log_interval: Int = Field(100, ge=1, description="steps between two lines of the log")
    save_interval: Int = Field(10000, ge=1, description="steps between two checkpoints")
    keep_checkpoints: Int = Field(3, ge=1, description="checkpoints kept, the newest")
    export_dtype: Literal["float32", "float16"] = Field(
        "float32", description="number format of exported weights"
    )
    sample_num: Int = Field(4, ge=0, description="preview samples; 0 = none")
    sample_interval: Int = Field(0, ge=0, description="steps between previews; 0 = with each checkpoint")
    tensorboard: bool = Field(True, description="write TensorBoard logs")
    ignored_keys: tuple[str, ...] = Field((), description="keys of the file that nothing reads")

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
        highest = steps if self.max_t is None else self.max_t
        if highest > steps:
            problems.append(f"max_t: got {highest}, expected at most diffusion_steps ({steps})")
        if self.min_t >= highest:
            problems.append(f"min_t: got {self.min_t}, expected less than max_t ({highest})")
        if self.microbatch == 0:
            problems.append("microbatch: got 0, expected -1 or a positive number")
        if problems:
            raise ValueError("\n".join(problems))
        return self
