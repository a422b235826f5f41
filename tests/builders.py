"""Networks, chains and samplers from the configurations that the golden numbers carry."""

from collections.abc import Sequence

import torch

from guided_diffusion.create import create_unet
from guided_diffusion.ddim import Sampler, SamplerOptions
from guided_diffusion.gaussian_diffusion import GaussianDiffusion
from guided_diffusion.timesteps import gradient_steps, noising_index, sampling_timesteps
from guided_diffusion.unet import UNetModel
from tests import defaults
from tests.golden import NoiseStream, fill_weights

SIZE_MULT = {256: "1, 1, 2, 2, 4, 4", 64: "1, 2, 3, 4", 32: "1, 2, 3, 4"}
NETWORK_KEYS = [
    "image_size",
    "num_channels",
    "num_res_blocks",
    "num_heads",
    "num_head_channels",
    "num_heads_upsample",
    "class_cond",
    "learn_sigma",
    "use_scale_shift_norm",
    "resblock_updown",
    "use_new_attention_order",
    "dropout",
    "use_checkpoint",
]


def unet(config: dict, num_classes: int = 6) -> UNetModel:
    """The network of a golden configuration, in eval mode."""
    mult = config["channel_mult"] or SIZE_MULT[config["image_size"]]
    return create_unet(
        **{k: config[k] for k in NETWORK_KEYS},
        channel_mult=[float(m) for m in mult.split(",")],
        attention_resolutions=[int(r) for r in config["attention_resolutions"].split(",")],
        num_classes=config.get("num_classes", num_classes),
    ).eval()


def diffusion(config: dict, **other) -> GaussianDiffusion:
    """The chain of a golden configuration."""
    keys = ["diffusion_steps", "noise_schedule", "timestep_respacing"]
    return defaults.diffusion(**{k: config[k] for k in keys}, **other)


def sampler_options(config: dict, **changes) -> SamplerOptions:
    """Sampler options of a golden loop's configuration."""
    schedule, length = config["ddim"]["schedule_params"], int(config["timestep_respacing"])
    optimize = {k: v for k, v in config["optimize_xt"].items() if k != "num_iteration_optimize_xt"}
    values = {
        "timesteps": sampling_timesteps(**schedule),
        "start_index": noising_index(schedule["start_step"], length),
        "gradient_steps": gradient_steps(length, **config["g_scha"]),
        "ddim_sigma": config["ddim"]["ddim_sigma"],
        "clip_denoised": config["clip_denoised"],
        "attention": defaults.attention_options(**config["attention_features"]),
        **optimize,
    }
    return defaults.sampler_options(**(values | changes))


def sampler(case: dict, **changes) -> Sampler:
    """The sampler of a golden loop, with its weights."""
    config = case["config"]
    contextual = fill_weights(unet(config), case["weight_seeds"][0]).requires_grad_(False)
    prior = fill_weights(unet(config["crop"], case["num_classes"]), case["weight_seeds"][1])
    return Sampler(
        contextual, prior.requires_grad_(False), diffusion(config), sampler_options(config, **changes)
    )


class GoldenNoise:
    """The goldens' noise: one stream for everything, in the order of drawing."""

    def __init__(self, seed: int):
        self.stream = NoiseStream(seed)

    def image(self, like: torch.Tensor, images: Sequence[int] | None = None) -> torch.Tensor:
        return self.stream(like.shape)

    def crop(self, like: torch.Tensor) -> torch.Tensor:
        return self.stream(like.shape)


def manifest_defect(**changes: object) -> dict:
    """What a manifest says of one defect of which nothing was painted."""
    entry = {"class_name": "spur", "class_id": 0, "line": 1, "window": [0, 0, 8], "scale": 1.0}
    entry |= {"status": "painted", "attempt": 0, "box": None, "mask": None, "scores": {"score": 0.9}}
    return entry | changes


def manifest_entry(name: str, **changes: object) -> dict:
    """A line of a manifest: a sample without defects."""
    entry = {"name": name, "status": "painted", "source": "a.png", "size": [8, 8], "seed": 0, "defects": []}
    entry |= {"files": {"sample": f"sample/{name}.png", "mask": f"mask/{name}.png"}, "weights": {}}
    return entry | {"config_sha256": "c0ffee", "version": "1"} | changes
