"""Written confs are read by the programs they are for, and follow the data."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from guided_diffusion.create import noise_to_signal
from tests.prepare_data.builders import SMALL, pixels, write_boards, write_image, write_text
from training.data import measure_contrasts
from utils.checkpoint import load_state_dict
from utils.config import load_generation_config, load_training_config
from utils.foundation_data.writing import CLASSES
from utils.labels import load_class_names
from utils.network_metadata import described
from utils.prepare_data import confs
from utils.prepare_data.__main__ import main
from utils.strength.rule import strength_for

ROOT = Path(__file__).resolve().parents[2]

CROP = [  # what the weights will say once they are trained
    "crop.image_size=64",
    "crop.num_channels=32",
    "crop.num_res_blocks=1",
    "crop.channel_mult='1, 1, 2, 4'",
    "crop.attention_resolutions=8",
    "crop.num_head_channels=32",
    "crop.class_cond=true",
    "crop.condition=surroundings",
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_boards(tmp_path / "source")
    main([str(tmp_path / "source"), "--out", str(tmp_path / "boards"), "--holdout", "03", "--minutes", "10"])
    return tmp_path / "boards"


def test_the_prior_is_trained_on_what_was_written(out):
    config = load_training_config(out / "train-prior.yml")
    assert Path(config.data_dir) == out / "train/boxed" and Path(config.clean_dir) == out / "train/clean"
    assert config.network.condition == "surroundings" and config.network.class_cond
    assert (config.max_t, config.min_snr_gamma, config.outside_weight, config.batch_size) == (
        None,
        5,
        0.3,
        24,
    )
    assert config.lr_anneal_steps == 300  # 0.75 * 600 s, and 150 s for the judge
    assert config.judge_steps == 400
    assert not config.augment.rotate90 and config.augment.flip  # all shorts are 10 x 20 px
    assert Path(config.checkpoint_dir).name == "boards-prior"
    context = load_training_config(out / "train-context.yml")
    assert (context.network.image_size, context.augment.shrink) == (96, 1)  # photographs of 160 x 120 px


def test_painting_uses_annotated_places_and_planned_ones(out):
    annotated = load_generation_config(out / "generate-heldout.yml", CROP)
    planned = load_generation_config(out / "generate.yml", CROP)
    assert Path(annotated.defect_free_dir) == out / "test_clean" and not annotated.plan.counts
    assert Path(planned.defect_free_dir) == out / "train_clean"
    assert planned.plan.counts == {"short": 20, "spur": 20} and planned.plan.rank == "surroundings"
    assert planned.plan.sizes["spur"] == ((12, 10),) * 3 and planned.plan.spacing == 20
    for config in (annotated, planned):
        assert (config.model_path, config.background, config.label_box) == ("", "masked", "painted")
        assert Path(config.judge_path).as_posix().endswith("runs/boards-prior/judge.safetensors")
        assert (config.candidates, config.min_score, config.max_rerolls) == (2, 0.5, 2)
        assert config.ddim.schedule_params.start_step == "auto"
        assert config.label_margin == 0


def test_the_weights_will_give_the_start_that_is_told(out):
    training = load_training_config(out / "train-prior.yml")
    contrasts = measure_contrasts(training, load_class_names(training.class_json_path))
    found = strength_for(contrasts, noise_to_signal("linear", 1000))
    assert found.start_step(confs.CHAIN, exemplars=True) == 12  # noise: 0.4 times 0.61 of the chain
    for name in ("generate.yml", "generate-heldout.yml"):
        (line,) = [x for x in (out / name).read_text().splitlines() if "start_step:" in x]
        assert line.split() == f"start_step: auto # 12 of 50: {found.reason}".split()


def test_without_clean_counterparts_painting_is_planned(tmp_path):
    write_boards(tmp_path / "source", clean=False)
    out = tmp_path / "boards"
    main([str(tmp_path / "source"), "--out", str(out), "--holdout", "03", "--window", "32"])
    config = load_generation_config(out / "generate.yml", CROP)
    assert Path(config.defect_free_dir) == out / "train_clean" and config.plan.counts
    assert not (out / "generate-heldout.yml").exists()


def test_every_choice_has_its_reason(out):
    for name in ("rotate90", "flip", "color", "lr_anneal_steps"):
        (line,) = [
            x for x in (out / "train-prior.yml").read_text().splitlines() if x.strip().startswith(f"{name}:")
        ]
        assert "  # " in line


def test_the_foundation_prior_is_bundled_and_sees_its_surroundings():
    weights, metadata = load_state_dict(str(ROOT / confs.FOUNDATION))
    network = described(metadata, "network")
    conf = yaml.safe_load((ROOT / "confs/foundation-train-64.yml").read_text())
    assert network["condition"] == "surroundings" == conf["condition"] and network["num_channels"] == 32
    assert weights["input_blocks.0.0.weight"].shape[1] == 7
    assert len(weights["label_emb.weight"]) == len(CLASSES) + 1
    assert described(metadata, "classes") == {name: row for row, name in enumerate(CLASSES)}


def test_class_names_that_yaml_takes_for_something_else(tmp_path):
    source = tmp_path / "source"
    names = ["1", "no", "null", "a: b", "[x]", "#rust", "Fleck groß"]
    for n in range(3):
        write_image(source / f"part{n}.png", n)
        boxes = [f"{k} {0.1 + 0.13 * k} 0.5 0.06 0.08\n" for k in range(len(names))]
        write_text(source / f"part{n}.txt", "".join(boxes))
        write_image(source / f"clean/free{n}.png", 10 + n)
    write_text(source / "classes.txt", "".join(f"{name}\n" for name in names))
    assert not main([str(source), "--out", str(tmp_path / "out"), *SMALL])
    config = load_generation_config(tmp_path / "out/generate.yml", CROP)
    assert list(config.plan.counts) == list(config.plan.sizes) == names
    assert "Fleck groß" in (tmp_path / "out/generate.yml").read_text(encoding="utf-8")
    assert load_class_names(tmp_path / "out/classes.json") == {name: k for k, name in enumerate(names)}


def test_a_single_outline_among_boxes_tells_no_margin(tmp_path):
    source, white = tmp_path / "source", {"label": "hole", "shape_type": "rectangle"}
    for n in range(10):
        write_image(source / f"clean/free{n}.png", n)
        image = pixels(n)
        image[50:62, 60:76] = 255
        Image.fromarray(image).save(write_text(source / f"part{n}.json", "").with_suffix(".png"))
        shapes = [white | {"points": [[56, 46], [80, 66]]}]  # 4 px around it
        if n == 0:
            corners = [[20, 20], [30, 20], [30, 30]]
            shapes.append(white | {"shape_type": "polygon", "points": corners})
        labels = {"imagePath": f"part{n}.png", "imageWidth": 160, "imageHeight": 120, "shapes": shapes}
        write_text(source / f"part{n}.json", json.dumps(labels))
    assert not main([str(source), "--out", str(tmp_path / "out"), "--holdout-share", "0", *SMALL])
    assert "  # boxes are those of outlines" not in (tmp_path / "out/generate.yml").read_text()
