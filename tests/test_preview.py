"""Preview sheets carry class names, and warn of noise only once a run is past its beginning."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from tests.defaults import augmentation
from training.image_datasets import PatchDataset
from training.preview import LINE, PAD, Preview, broken, header
from training.setup import ProcessInfo, TrainingRun, make_diffusion
from utils.schema.training import TrainingConfig


def drawn(text: str) -> np.ndarray:
    """A line of text as Pillow draws it, cut to its ink: (h, w) uint8."""
    picture = Image.new("L", (200, LINE), 255)
    ImageDraw.Draw(picture).text((PAD, 0), text, fill=0, font=ImageFont.load_default())
    return ink(np.asarray(picture))


def ink(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero((picture < 255).any(axis)) for axis in (1, 0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_names_are_broken_at_the_width():
    assert broken("abcdef", 3, len) == ["abc", "def"]
    assert broken("abcd", 3, len) == ["abc", "d"]
    assert broken("abc", 0.5, len) == ["a", "b", "c"]
    assert broken("abc", 100, len) == ["abc"]


def test_a_name_stands_once_above_the_columns_of_its_class():
    width = 4 * (40 + PAD) + PAD
    strip = header(["short", "short", "spur", "spur"], width)
    assert strip.shape == (LINE, width, 3) and strip.dtype == np.uint8
    half = 2 * (40 + PAD)
    for name, part in (("short", strip[:, :half]), ("spur", strip[:, half:])):
        assert np.array_equal(ink(part.min(2)), drawn(name))


@pytest.mark.parametrize("step, warns", [(1, False), (5, False), (6, True)])
def test_noise_is_no_news_in_the_first_twentieth(tmp_path: Path, caplog, step: int, warns: bool):
    keys = {"image_size": 16, "num_channels": 32, "channel_mult": (1,), "attention_resolutions": ()}
    config = TrainingConfig(
        network=keys, total_steps=100, sample_num=2, checkpoint_dir=str(tmp_path), class_json_path=""
    )
    smooth = [np.full((16, 16, 3), 90, np.uint8)] * 2
    dataset = PatchDataset(smooth, None, 16, augmentation())
    log = logging.getLogger("crg")
    process = ProcessInfo(torch.device("cpu"))
    preview = Preview(TrainingRun(config, process, log, {}, dataset, *make_diffusion(config)))
    noise = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(1))
    with caplog.at_level(logging.WARNING, "crg"):
        preview(lambda x, t, y: noise, step)
    assert ("the previews are still noise" in caplog.text) == warns
    assert Image.open(tmp_path / "previews" / f"preview_{step:07d}.png").size == (2 * 18 + 2, 3 * 18 + 2)
