"""Painting with a prior that sees its surroundings, without a contextual model: the command line, random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from guided_diffusion.create import create_unet
from tests.test_exemplars import Folder, square
from tests.test_sample_generation import CLASSES, NETWORK, Place, build, save_weights
from utils.checkpoint import load_state_dict, save_safetensors
from utils.judging.judge import Judge, Reliability, save_judge
from utils.schema.network import NetworkConfig

SEEING = {**NETWORK, "image_size": 16, "class_cond": True, "condition": "surroundings"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two boards; the networks' options are in the prior's weights."""
    save_weights(tmp_path)
    place = build(tmp_path / "place", tmp_path)
    torch.manual_seed(1)
    network = NetworkConfig(**SEEING).plain()
    model = create_unet(**network, num_classes=len(CLASSES))
    weights = {key: value + 0.05 * torch.randn_like(value) for key, value in model.state_dict().items()}
    path = tmp_path / "seeing.safetensors"
    save_safetensors(path, weights, {"network": network, "classes": CLASSES})
    place.configure(
        model_path=None,
        crop_model_path=str(path),
        crop={},
        resize="native",
        scale="auto",
        paint="all",
        background="masked",
        prior_guidance=1.0,
    )
    place.board("a.png", "0 0.5 0.5 0.1 0.1\n1 0.02 0.02 0.04 0.04\n")
    place.board("b.png", "2 0.5 0.5 0.4 0.1\n", size=(80, 48))
    return place


def boxes(width: int, height: int, lines: list[str], margin: int) -> np.ndarray:
    inside = np.zeros((height, width), bool)
    for line in lines:
        cx, cy, w, h = (float(value) for value in line.split()[1:])
        x0, x1 = (cx - w / 2) * width - margin, (cx + w / 2) * width + margin
        y0, y1 = (cy - h / 2) * height - margin, (cy + h / 2) * height + margin
        inside[max(int(y0), 0) : int(np.ceil(y1)), max(int(x0), 0) : int(np.ceil(x1))] = True
    return inside


def test_only_the_boxes_change_and_the_masks_hold_every_visible_change(place: Place):
    assert place.run() == 0
    assert place.samples() == ["a_all_0", "b_all_0"]
    changed = 0
    for stem in ("a", "b"):
        clean = np.array(Image.open(place.root / "boards" / f"{stem}.png")).astype(int)
        lines = (place.root / "boards" / f"{stem}.txt").read_text().splitlines()
        difference = np.abs(place.sample(f"{stem}_all_0").astype(int) - clean).max(axis=2)
        inside = boxes(clean.shape[1], clean.shape[0], lines, margin=8)
        assert (difference[~inside] == 0).all()
        mask = np.array(Image.open(place.out / "mask" / f"{stem}_all_0.png")) > 0
        assert not (difference >= 10)[~mask].any()
        changed += (difference >= 10).sum()
    assert changed > 20


def test_a_run_without_contextual_model_says_so_in_its_records(place: Place, capsys):
    assert place.run("report=true", "dataset.export=true", "n_samples=2") in (0, 3)
    entry = json.loads((place.out / "manifest.jsonl").read_text().splitlines()[0])
    assert set(entry["weights"]) == {"crop_model_path"}
    assert (place.out / "report/index.html").is_file() and (place.out / "dataset/data.yaml").is_file()
    capsys.readouterr()
    assert place.run("n_samples=3", "dry_run=true") == 0
    assert "2 of 6 samples to paint" in capsys.readouterr().out


def test_the_start_is_the_one_that_the_weights_know(place: Place, tmp_path: Path, capsys):
    assert place.run("ddim.start_step=auto") == 2
    assert "seeing.safetensors does not tell the contrast" in capsys.readouterr().err
    weights, metadata = load_state_dict(tmp_path / "seeing.safetensors")
    save_safetensors(tmp_path / "seeing.safetensors", weights, metadata | {"contrasts": {"spur": 60.0}})
    assert place.run("ddim.start_step=auto") == 0
    assert "from step 10 of 20" in place.log()  # 0.48 of the chain: noise-to-signal 6.4 * 60 / 127.5
    config = yaml.safe_load((place.out / "config.yml").read_text())
    assert config["ddim"]["schedule_params"]["start_step"] == 10
    for same in ("auto", "10"):
        assert place.run(f"ddim.start_step={same}") == 0
        assert "nothing to paint: the 2 samples are all there" in capsys.readouterr().err
    assert place.run("ddim.start_step=9") == 2
    assert "ddim.schedule_params.start_step: 10 against 9" in capsys.readouterr().err


def test_a_judge_scores_what_is_painted(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    names = sorted(CLASSES, key=CLASSES.get)
    told = Reliability({name: 0.5 for name in names}, {name: 4 for name in names}, 0.75)
    save_judge(Judge(names, 1, references=2), tmp_path / "judge.safetensors", told)
    assert place.run(f"judge_path={tmp_path}/judge.safetensors") == 0
    entry = json.loads((place.out / "manifest.jsonl").read_text().splitlines()[0])
    assert set(entry["weights"]) == {"crop_model_path", "judge_path"}
    scores = entry["defects"][0]["scores"]
    parts = {"judge", "domain", "coverage", "size_iou", "grain", "tint", "color", "spill"}
    assert parts < set(scores) and scores["coverage"] == 1.0
    assert 0 <= scores["score"] <= scores["judge"] < 1
    assert "AUC of defects against clean windows: 0.750" in place.log()
    before = {path: path.read_bytes() for path in place.out.rglob("*") if path.is_file()}
    assert place.run(f"judge_path={tmp_path}/none.safetensors", "overwrite=true") == 2
    assert "none.safetensors" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in place.out.rglob("*") if path.is_file()} == before
    monkeypatch.setattr("generation.run.place_defects", lambda run: pytest.fail("places were looked for"))
    assert place.run(f"judge_path={tmp_path}/none.safetensors", "plan.counts={'spur': 1}", "outdir=new") == 2
    assert "none.safetensors: no such checkpoint" in capsys.readouterr().err


def test_a_prior_that_needs_boxes_refuses_points(place: Place, capsys):
    place.board("c.png", "0 0.5 0.5")
    assert place.run() == 2
    assert "condition: surroundings and exemplars need" in capsys.readouterr().err


def test_guidance_needs_something_to_be_guided_from(place: Place, tmp_path: Path, capsys):
    place.configure(crop_model_path=str(tmp_path / "prior.safetensors"), crop={"image_size": 16, **NETWORK})
    assert place.run() == 2
    assert "prior_guidance: got 1 without model_path" in capsys.readouterr().err
    assert place.run("prior_guidance=0") == 0  # a prior without surroundings may paint alone too


def test_painting_starts_from_training_defects(place: Place, tmp_path: Path, capsys):
    folder = Folder(tmp_path / "prepared")
    patch = np.full((32, 32, 3), (20, 110, 60), np.uint8)
    folder.add("spur", 0, square(patch, (13, 13, 19, 19), 255), patch, (12, 12, 20, 20))
    assert place.run() == 0
    plain = place.sample("a_all_0")
    wanted = f"exemplars.folder={folder.root}"
    assert place.run(wanted) == 2 and "exemplars.folder: null against" in " ".join(
        capsys.readouterr().err.split()
    )
    assert place.run(wanted, "overwrite=true") == 0
    painted = place.sample("a_all_0")
    difference = np.abs(painted.astype(int) - plain).max(axis=2)
    assert difference[29:35, 29:35].mean() > 30  # the spur in the middle
    assert difference[:20, :20].max() == 0  # a class without training defects
    entry = json.loads((place.out / "manifest.jsonl").read_text().splitlines()[0])
    assert set(entry["weights"]) == {"crop_model_path", "exemplars.folder"}
    assert place.run(wanted) == 0
    folder.add("spur2", 0, square(patch, (13, 13, 19, 19), 0), patch, (12, 12, 20, 20))
    assert place.run(wanted) == 2
    assert "made with other weights (exemplars.folder: the file has changed since)" in capsys.readouterr().err


def test_a_folder_without_training_defects_is_refused_before_anything_is_written(
    place: Place, tmp_path: Path, capsys
):
    assert place.run(f"exemplars.folder={tmp_path}") == 2
    assert f"exemplars.folder {tmp_path}: its index.csv cannot be read" in capsys.readouterr().err
    assert not place.out.exists()
