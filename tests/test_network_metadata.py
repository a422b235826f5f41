"""What weights files say of themselves, and what a configuration may not contradict."""

from pathlib import Path

import pytest
import torch

from utils.checkpoint import save_safetensors
from utils.config import load_training_config
from utils.errors import UserError
from utils.network_metadata import (
    UnreadableCheckpoint,
    class_names,
    diffusion_differences,
    load_metadata,
    network_differences,
    trained_contrasts,
    trained_diffusion,
)
from utils.schema.network import DiffusionConfig

ROOT = Path(__file__).parent.parent


def test_metadata_are_read_without_the_weights(tmp_path: Path):
    save_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)}, {"network": {"image_size": 8}})
    assert load_metadata(tmp_path / "a.safetensors") == {"network": {"image_size": 8}}
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    assert load_metadata(tmp_path / "a.pt") == {} and load_metadata(tmp_path / "none.safetensors") == {}
    (tmp_path / "a.safetensors").write_bytes(b"cut short")
    with pytest.raises(UnreadableCheckpoint, match=r"a\.safetensors: not a readable safetensors file"):
        load_metadata(tmp_path / "a.safetensors")


def test_differences_to_the_trained_network():
    trained = {"image_size": 64, "attention_resolutions": [16, 8], "num_heads": 4, "dropout": 0.1}
    metadata = {"network": trained | {"channel_mult": [1.0, 2.0], "of_a_later_version": 1}}
    now = {"image_size": 64, "attention_resolutions": (16, 8), "num_heads": 4, "channel_mult": (1, 2)}
    assert network_differences(metadata, now, "a") == []
    # Twice the size with attention at the same factors is the same network.
    assert (
        network_differences(metadata, now | {"image_size": 128, "attention_resolutions": (16, 32)}, "a") == []
    )
    assert network_differences(metadata, now | {"image_size": 128, "num_heads": 2}, "a", "crop.") == [
        "crop.num_heads: got 2, but a was trained with 4",
        "crop.attention_resolutions: got [16, 8] at image_size 128, but a was trained with [16, 8] at image_size 64",
    ]
    assert len(network_differences(metadata, now | {"attention_resolutions": ()}, "a")) == 1
    assert network_differences({"network": "of another program"}, now, "a") == []
    # Written in another way, the same
    texts = {"network": {"image_size": "64", "attention_resolutions": "16,8", "channel_mult": "1, 2"}}
    assert network_differences(texts, now, "a") == []


@pytest.mark.parametrize(
    "network, reason",
    [
        ({"image_size": 64, "attention_resolutions": [0]}, "attention_resolutions.0: "),
        ({"image_size": 64, "attention_resolutions": "16;8"}, "attention_resolutions.0: "),
        ({"image_size": 0}, "image_size: "),
        ({"image_size": [64]}, "image_size: "),
        ({"image_size": 100}, "image_size: got 100, expected a multiple of 32"),
        ({"num_channels": 10**400, "channel_mult": [1.0]}, "less than or equal to 4096"),
        ({"channel_mult": {"0": 1}}, "channel_mult: "),
    ],
)
def test_metadata_that_no_network_can_have(network: dict, reason: str):
    now = {"image_size": 64, "attention_resolutions": (16, 8), "num_heads": 4, "channel_mult": (1, 2)}
    with pytest.raises(UserError, match=r"^a\.safetensors: its metadata describe no network") as caught:
        network_differences({"network": network}, now, "a.safetensors")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


DIFFUSION = {
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "min_t": 0,
    "max_t": 500,
}


def test_differences_to_the_trained_diffusion_process():
    metadata = {"diffusion": DIFFUSION | {"of_a_later_version": 1}}
    assert trained_diffusion(metadata, "a") == DIFFUSION
    now = DiffusionConfig().agreed()
    assert sorted(now) == ["diffusion_steps", "noise_schedule", "predict_xstart", "rescale_timesteps"]
    assert diffusion_differences(metadata, now, "a") == []
    other = now | {"noise_schedule": "cosine", "predict_xstart": True, "rescale_timesteps": True}
    assert diffusion_differences(metadata, other, "a") == [
        "noise_schedule: got cosine, but a was trained with linear",
        "predict_xstart: got True, but a was trained with False",
    ]
    for foreign in ({}, {"diffusion": "of another program"}):
        assert trained_diffusion(foreign, "a") == {} and diffusion_differences(foreign, other, "a") == []
    with pytest.raises(UserError, match=r"^a: its metadata describe no diffusion process \(noise_schedule: "):
        trained_diffusion({"diffusion": {"noise_schedule": "sqrt"}}, "a")
    with pytest.raises(UserError, match="max_t: "):
        trained_diffusion({"diffusion": {"max_t": 0}}, "a")


def test_contrasts_of_the_training_defects():
    told = {"pit": 41.5, "scratch": 0}
    assert trained_contrasts({"contrasts": told}, "a") == told
    assert trained_contrasts({}, "a") == trained_contrasts({"contrasts": "of another program"}, "a") == {}
    for wrong in ({"pit": "dark"}, {"pit": -1}, {"pit": 300}, {"pit": float("nan")}):
        with pytest.raises(UserError, match=r"^a: its metadata hold no contrasts that can be used \(pit: "):
            trained_contrasts({"contrasts": wrong}, "a")


def test_classes_of_the_file_or_of_the_weights(tmp_path: Path):
    weights, classes = tmp_path / "a.safetensors", {"short": 0, "spur": 1}
    save_safetensors(weights, {"a": torch.zeros(1)}, {"classes": classes})
    assert class_names("", str(weights)) == classes
    (tmp_path / "c.json").write_text('{"scratch": 3}')
    assert class_names(str(tmp_path / "c.json"), str(weights)) == {"scratch": 3}
    for wrong, problem in (
        ({}, "there are none"),
        ({"short": -1}, r"got the ids \[-1\]"),
        ({"short": True}, r"got the ids \[True\]"),
        ({"short": 0, "spur": 0}, "each id once"),
        ({"a b": 0, "a_b": 1}, "each name"),
    ):
        save_safetensors(weights, {"a": torch.zeros(1)}, {"classes": wrong})
        with pytest.raises(UserError, match=f"{problem}.*set crop_class_json_path to a class file"):
            class_names("", str(weights))
    with pytest.raises(UserError, match="there are none"):
        class_names("", str(tmp_path / "published.pt"))


def test_the_bundled_weights_say_how_they_were_trained():
    for name, size in (("demo-128-defect-free", 128), ("demo-64-defect", 64)):
        path = ROOT / "checkpoint" / f"{name}.safetensors"
        training = load_training_config(ROOT / f"confs/demo-train-{size}.yml")
        metadata = load_metadata(path)
        told = trained_diffusion(metadata, path)
        assert told == training.diffusion.agreed() | {"min_t": 0, "max_t": 500} and training.max_t == 500
        assert network_differences(metadata, training.network.plain(), path) == []
