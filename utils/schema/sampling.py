"""The keys of the sampler: attention, timesteps, refinement.

DDIM sampling is that of Song et al. 2021, time travel that of Lugmayr et al. 2022, the refinement that of Luo et
al. 2025.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from utils.schema.fields import (
    Float,
    Int,
    JumpFilter,
    Section,
)


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
