"""What weights files say of themselves, and what a configuration may not contradict."""

from pathlib import Path

import pytest
import torch

from utils.checkpoint import save_safetensors
from utils.errors import UserError
from utils.network_metadata import UnreadableCheckpoint, load_metadata, network_differences


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
        ({"num_channels": 10**400, "channel_mult": [1.0]}, "too large"),
        ({"channel_mult": {"0": 1}}, "channel_mult: "),
    ],
)
def test_metadata_that_no_network_can_have(network: dict, reason: str):
    now = {"image_size": 64, "attention_resolutions": (16, 8), "num_heads": 4, "channel_mult": (1, 2)}
    with pytest.raises(UserError, match=r"^a\.safetensors: its metadata describe no network") as caught:
        network_differences({"network": network}, now, "a.safetensors")
    assert reason in str(caught.value) and "\n" not in str(caught.value)
