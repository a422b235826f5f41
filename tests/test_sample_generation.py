"""The painting command line, end to end with tiny random networks: files, resuming, and clear refusals."""

import _thread
import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from guided_diffusion.create import create_unet
from guided_diffusion.ddim import guided_steps
from sample_generation import main
from tests import defaults
from tests.defaults import sampler_options
from utils.checkpoint import load_state_dict, save_safetensors
from utils.config import load_generation_config
from utils.errors import run_main
from utils.manifest import read_manifest
from utils.processes.exclusive import only_run_in
from utils.schema.network import NetworkConfig

NETWORK = {
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1, 2",
    "attention_resolutions": "",
    "num_head_channels": 32,
    "learn_sigma": False,
    "resblock_updown": False,
}
SCHEDULE = {"num_inference_steps": 20, "ddpm_num_steps": 20, "start_step": 2}
SCHEDULE |= {"jump_length": 1, "jump_n_sample": 2}
CLASSES = {"spur": 0, "mouse bite": 1, "a/b:c": 2}
STEPS = 3  # 1 0, up to 1, 0: two descents, and one refinement before the jump

Paint = Callable[..., int]


@dataclass(frozen=True)
class Place:
    """A folder with images, classes and a configuration; weights lie elsewhere."""

    root: Path

    @property
    def conf(self) -> Path:
        return self.root / "conf.yml"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def run(self, *overrides: str) -> int:
        """The exit code of the command line."""
        return run_main(main, ["--conf_path", str(self.conf), *overrides])

    def board(self, name: str, text: str = "0 0.5 0.5", size: tuple[int, int] = (64, 64)) -> Path:
        """An image of `size` (width, height) and its annotations."""
        path = self.root / "boards" / name
        Image.fromarray(pixels(*size)).save(path)
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
        return path

    def configure(self, **values: object) -> None:
        raw = yaml.safe_load(self.conf.read_text())
        self.conf.write_text(yaml.safe_dump({**raw, **values}))

    def files(self) -> list[str]:
        found = (path for path in self.out.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.out)) for path in found if path.suffix != ".lock")

    def samples(self) -> list[str]:
        return sorted(path.stem for path in self.out.glob("sample/*.png"))

    def sample(self, stem: str) -> np.ndarray:
        return np.array(Image.open(self.out / "sample" / f"{stem}.png"))

    def digests(self) -> dict[str, str]:
        """Of every image in the output folder."""
        return {path: hashlib.sha256((self.out / path).read_bytes()).hexdigest() for path in self.pictures()}

    def pictures(self) -> list[str]:
        """All but the masks, which are empty where random networks change everything a little."""
        return [name for name in self.files() if name.endswith(".png") and not name.startswith("mask")]

    def log(self) -> str:
        return (self.out / "log/generation.log").read_text(encoding="utf-8")


def pixels(width: int, height: int) -> np.ndarray:
    """Green with stripes, (height, width, 3) uint8."""
    picture = np.full((height, width, 3), (20, 110, 60), np.uint8)
    picture[::8] = picture[:, ::16] = (190, 170, 90)
    return picture


def save_weights(folder: Path) -> None:
    """Random weights of the two networks; the zero-initialized layers are filled as well."""
    torch.manual_seed(0)
    for name, values in (("full", {"image_size": 32}), ("prior", {"image_size": 16, "class_cond": True})):
        model = create_unet(**NetworkConfig(**NETWORK, **values).plain(), num_classes=len(CLASSES))
        weights = {key: value + 0.03 * torch.randn_like(value) for key, value in model.state_dict().items()}
        save_safetensors(folder / f"{name}.safetensors", weights)


def build(root: Path, weights: Path) -> Place:
    """An empty folder of boards and the smallest configuration."""
    place = Place(root)
    (root / "boards").mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps(CLASSES))
    values = {
        "model_path": str(weights / "full.safetensors"),
        "crop_model_path": str(weights / "prior.safetensors"),
        "defect_free_dir": str(root / "boards"),
        "crop_class_json_path": str(root / "classes.json"),
        "outdir": str(root / "out"),
        **{"n_samples": 1, "seed": 0, "device": "cpu", "show_progress": False},
        **{"image_size": 32, **NETWORK, "crop": {"image_size": 16, "class_cond": True, **NETWORK}},
        **{"timestep_respacing": "20", "ddim": {"schedule_params": SCHEDULE}},
        "g_scha": {"start": 1, "end": 1, "stop": 0},
        "optimize_xt": {"lr_xt": 0.001},  # random networks reject the larger steps of trained ones
    }
    place.conf.write_text(yaml.safe_dump(values))
    return place


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_weights(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, weights: Path) -> Place:
    return build(tmp_path / "place", weights)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Place:
    """Three annotations of one board, two samples each in batches of two; not to be changed by tests."""
    place = build(tmp_path_factory.mktemp("painted") / "place", weights)
    place.board("board 1.JPG", "0 0.5 0.5\n1 0.9 0.1 0.2 0.2\n2 0.5 0.5", size=(90, 70))
    assert place.run("n_samples=2", "batch_size=2") == 0
    return place


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Removes the handlers that a run puts up: they hold a stderr that pytest takes away."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    logging.captureWarnings(False)
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()


BASES = ["board 1_a-b-c_cx16_cy16", "board 1_mouse-bite_cx28_cy3", "board 1_spur_cx16_cy16"]


# What a run leaves


def test_files_are_where_the_documentation_says(painted: Place):
    expected = ["classes.json", "config.yml", "log/generation.log", "manifest.jsonl"]
    expected += [
        f"{kind}/{base}_{i}.png" for kind in ("crop", "mask", "sample") for base in BASES for i in (0, 1)
    ]
    expected += [f"label/{base}_{i}.txt" for base in BASES for i in (0, 1)]
    expected += [f"grid/{base}_grid.png" for base in BASES]
    assert painted.files() == sorted(expected)
    assert Image.open(painted.out / f"sample/{BASES[0]}_0.png").size == (32, 32)
    assert Image.open(painted.out / f"crop/{BASES[0]}_0.png").size == (16, 16)
    assert Image.open(painted.out / f"grid/{BASES[0]}_grid.png").size == (4 * 34 + 2, 36)


def test_samples_differ_from_each_other_and_from_the_clean_board(painted: Place):
    assert len(set(painted.digests().values())) == len(painted.pictures())


def test_every_sample_has_a_mask_of_its_size_and_a_label_that_agrees(painted: Place):
    for name in painted.samples():
        mask = np.array(Image.open(painted.out / f"mask/{name}.png"))
        lines = (painted.out / f"label/{name}.txt").read_text().splitlines()
        assert mask.shape == (32, 32) and set(np.unique(mask)) <= {0, 255}
        assert len(lines) == int(mask.any())


def test_grid_shows_clean_noised_and_samples_in_order(painted: Place):
    sheet = np.array(Image.open(painted.out / f"grid/{BASES[2]}_grid.png"))
    tiles = [sheet[2:34, 2 + 34 * n : 34 * (n + 1)] for n in range(4)]
    clean = Image.open(painted.root / "boards/board 1.JPG").convert("RGB")
    assert np.array_equal(tiles[0], np.array(clean.resize((32, 32), Image.Resampling.BICUBIC)))
    assert 0 < np.abs(tiles[1].astype(int) - tiles[0]).mean() < 60
    for n in (0, 1):
        assert np.array_equal(tiles[2 + n], painted.sample(f"{BASES[2]}_{n}"))


def test_log_and_resolved_configuration(painted: Place):
    assert "6 of 6 samples to paint, seed 0, cpu, fp32" in painted.log()
    resolved = yaml.safe_load((painted.out / "config.yml").read_text())
    assert (resolved["n_samples"], resolved["seed"], resolved["optimize_xt"]["lr_xt"]) == (2, 0, 0.001)


# Running again


def copy_of(painted: Place, root: Path) -> Place:
    """The painted folder's output and configuration at another outdir."""
    copy = Place(root)
    for path in painted.out.rglob("*"):
        if path.is_file():
            target = copy.out / path.relative_to(painted.out)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    copy.conf.write_text(painted.conf.read_text())
    copy.configure(outdir=str(copy.out), n_samples=2, batch_size=2)
    return copy


def test_running_again_paints_nothing_and_needs_no_weights(painted: Place, tmp_path: Path):
    copy = copy_of(painted, tmp_path)
    stamps = {name: (copy.out / name).stat().st_mtime_ns for name in copy.pictures()}
    assert copy.run() == 0
    assert {name: (copy.out / name).stat().st_mtime_ns for name in copy.pictures()} == stamps
    assert "nothing to paint: the 6 samples are all there; overwrite=true" in copy.log()


def test_deleted_sample_and_grid_come_back_byte_for_byte(painted: Place, tmp_path: Path):
    copy = copy_of(painted, tmp_path)
    (copy.out / f"sample/{BASES[1]}_1.png").unlink()
    (copy.out / f"grid/{BASES[0]}_grid.png").unlink()
    kept = copy.out / f"sample/{BASES[1]}_0.png"  # of the same batch, which is computed whole
    stamp = kept.stat().st_mtime_ns
    assert copy.run() == 0
    assert copy.digests() == painted.digests() and kept.stat().st_mtime_ns == stamp


def test_overwriting_with_other_settings_replaces_all(painted: Place, tmp_path: Path):
    copy = copy_of(painted, tmp_path)
    assert copy.run("seed=1", "overwrite=true", "n_samples=1") == 0
    old, new = painted.digests(), copy.digests()
    assert old.keys() == new.keys()
    assert {name for name in new if new[name] == old[name]} == {
        f"{kind}/{base}_1.png" for kind in ("crop", "sample") for base in BASES
    }
    assert "3 samples in" in copy.log() and "are not of this run" in copy.log()


def test_interrupted_overwriting_goes_on_where_it_was(painted: Place, tmp_path: Path):
    copy = copy_of(painted, tmp_path)
    with PressingCtrlC(lambda: "seed 1," in copy.log() and copy.samples()):
        assert copy.run("seed=1", "overwrite=true") == 130
    assert 0 < len(copy.samples()) < 6
    assert not [name for name in copy.files() if name.endswith(".tmp")]
    assert copy.run("seed=1") == 0
    new, old = copy.digests(), painted.digests()
    assert new.keys() == old.keys() and all(new[name] != old[name] for name in new)


class PressingCtrlC:
    """Interrupts the main thread as soon as `when()` holds."""

    def __init__(self, when: Callable[[], object]):
        self.when, self.over = when, threading.Event()
        self.watcher = threading.Thread(target=self.watch)

    def watch(self) -> None:
        while not self.over.is_set():
            if self.when():
                _thread.interrupt_main()
                return
            time.sleep(0.005)

    def __enter__(self) -> None:
        # A process started in the background ignores the signal, unless told otherwise.
        self.handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.watcher.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.watcher.join()
        signal.signal(signal.SIGINT, self.handler)


def test_ctrl_c_is_said_in_one_line(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", "0 0.1 0.1\n0 0.5 0.5\n0 0.9 0.9")
    with PressingCtrlC(place.samples):
        assert place.run() == 130
    message = capsys.readouterr().err
    assert "interrupted; the same command goes on from what is finished" in message
    assert "Traceback" not in message


# Counts, batches and seeds


def test_rounds_samples_and_batches(place: Place, painted: Place):
    place.board("a.png", "0 0.5 0.5\n1 0.25 0.25")
    assert place.run("n_iter=2", "n_samples=2", "batch_size=3") == 0
    expected = [f"a_{name}_{i}" for name in ("mouse-bite_cx8_cy8", "spur_cx16_cy16") for i in range(4)]
    assert place.samples() == expected
    assert Image.open(place.out / "grid/a_spur_cx16_cy16_grid.png").size == (6 * 34 + 2, 36)


def test_batch_size_moves_a_picture_by_rounding_alone(painted: Place, tmp_path: Path):
    single = Place(tmp_path)
    single.conf.write_text(painted.conf.read_text())
    single.configure(outdir=str(single.out), n_samples=2)
    assert single.run("batch_size=1") == 0
    for name in painted.samples():
        difference = np.abs(single.sample(name).astype(int) - painted.sample(name))
        assert difference.mean() < 0.5, name


def test_class_changes_the_picture_from_equal_noise(place: Place):
    crops = []
    for number in (0, 1):
        (place.root / "classes.json").write_text(json.dumps({"spur": number, "short": 1 - number}))
        place.board("a.png", f"{number} 0.5 0.5")
        assert place.run(f"outdir={place.root}/{number}", "num_classes=3") == 0
        crops.append(np.array(Image.open(place.root / f"{number}/crop/a_spur_cx16_cy16_0.png")).astype(int))
    assert np.abs(crops[0] - crops[1]).max() > 3


def test_no_seed_means_another_one_each_run(place: Place):
    place.board("a.png")
    pictures = set()
    for _ in range(2):
        assert place.run("seed=null", "overwrite=true") == 0
        pictures.add(place.sample("a_spur_cx16_cy16_0").tobytes())
    seeds = [line.split("seed ")[1].split(",")[0] for line in place.log().splitlines() if "seed " in line]
    assert len(pictures) == 2 and len(set(seeds)) == 2
    assert place.run(f"seed={seeds[1]}", "overwrite=true") == 0  # the log says how to have it again
    assert place.sample("a_spur_cx16_cy16_0").tobytes() in pictures


def test_prior_without_classes(place: Place, tmp_path: Path):
    torch.manual_seed(1)
    model = create_unet(**NetworkConfig(**NETWORK, image_size=16).plain())
    save_safetensors(tmp_path / "plain.safetensors", model.state_dict())
    place.board("a.png", "2 0.5 0.5")
    overrides = ["crop.class_cond=false", f"crop_model_path={tmp_path}/plain.safetensors", "num_classes=1"]
    assert place.run(*overrides) == 0
    assert place.samples() == ["a_a-b-c_cx16_cy16_0"]


# Inputs


def test_inputs_of_many_kinds(place: Place):
    color = Image.fromarray(pixels(70, 66))
    gray = np.asarray(color.convert("L"))
    for name, picture in {
        "a.jpg": color, "b.JPEG": color, "c.BMP": color, "d.tiff": color, "e.png": color.convert("L"),
        "f.png": color.convert("RGBA"), "g.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "h.tif": Image.fromarray(gray.astype(np.uint16) * 257), "плата (1).png": color,
    }.items():  # fmt: skip
        picture.save(place.root / "boards" / name)
        (place.root / "boards" / name).with_suffix(".txt").write_text("0 0.5 0.5")
    assert place.run("batch_size=9") == 0
    stems = [*"abcdefgh", "плата (1)"]
    assert place.samples() == [f"{stem}_spur_cx16_cy16_0" for stem in stems]
    grids = [np.array(Image.open(place.out / f"grid/{stem}_spur_cx16_cy16_grid.png")) for stem in stems]
    clean = [sheet[2:34, 2:34] for sheet in grids]
    assert all(np.array_equal(tile, clean[2]) for tile in (clean[3], clean[5], clean[8]))  # lossless color
    assert np.array_equal(clean[4], clean[6]) and np.array_equal(clean[6], clean[7])  # 8 and 16 bits


@pytest.mark.parametrize("background", ["generated", "original"])
def test_native_pictures_keep_their_size_and_the_pixels_around(place: Place, background: str):
    board = place.board("large.png", "0 0.5 0.5\n1 1 0", size=(150, 100))
    assert place.run("resize=native", f"background={background}", "visualize=true") == 0
    clean = np.array(Image.open(board))
    context = {"large_spur_cx75_cy50_0": (59, 34), "large_mouse-bite_cx149_cy0_0": (118, 0)}
    window = {"large_spur_cx75_cy50_0": (67, 42), "large_mouse-bite_cx149_cy0_0": (134, 0)}
    corners, side = (context, 32) if background == "generated" else (window, 16)
    assert place.samples() == sorted(corners)
    for name, (left, top) in corners.items():
        sample, inside = place.sample(name), np.zeros((100, 150), bool)
        inside[top : top + side, left : left + side] = True
        assert np.array_equal(sample[~inside], clean[~inside])
        assert not np.array_equal(sample[inside], clean[inside])


def test_native_scale_from_the_box(place: Place):
    board = place.board("large.png", "0 0.5 0.5 0.12 0.1", size=(200, 150))  # 24 px: scale 2, context 64
    assert place.run("resize=native", "scale=auto") == 0
    clean, sample = np.array(Image.open(board)), place.sample("large_spur_cx100_cy75_0")
    inside = np.zeros((150, 200), bool)
    inside[43:107, 68:132] = True
    assert np.array_equal(sample[~inside], clean[~inside]) and (sample != clean).any()


def test_checkpoint_in_torch_s_format_with_prefixes(painted: Place, place: Place, weights: Path):
    state = load_state_dict(weights / "full.safetensors")[0]
    torch.save({f"module.{key}": value for key, value in state.items()}, place.root / "full.pt")
    board = "boards/board 1"
    for suffix in (".JPG", ".txt"):
        (place.root / f"{board}{suffix}").write_bytes((painted.root / f"{board}{suffix}").read_bytes())
    assert place.run(f"model_path={place.root}/full.pt", "n_samples=2", "batch_size=2") == 0
    assert place.digests() == painted.digests()


# Several defects on one image, and what is good enough


def test_all_defects_of_a_file_on_one_picture(place: Place):
    board = place.board("a.png", "0 0.2 0.5\n1 0.31 0.5\n2 0.8 0.5\n0 0.22 0.55", size=(150, 100))
    overrides = ["paint=all", "resize=native", "background=original", "n_samples=2", "batch_size=3"]
    assert place.run(*overrides, "report=true", "visualize=true") == 0
    assert place.samples() == ["a_all_0", "a_all_1"]
    clean, untouched = np.array(Image.open(board)), np.ones((100, 150), bool)
    for x, y in ((30, 50), (46, 50), (120, 50), (33, 55)):
        untouched[y - 8 : y + 8, x - 8 : x + 8] = False
    for name in place.samples():
        sample = place.sample(name)
        assert np.array_equal(sample[untouched], clean[untouched]) and (sample != clean).any()
    entries = [json.loads(line) for line in (place.out / "manifest.jsonl").read_text().splitlines()]
    assert [len(entry["defects"]) for entry in entries] == [4, 4]
    for entry in entries:
        label = (place.out / entry["files"]["label"]).read_text().splitlines()
        boxed = [defect for defect in entry["defects"] if defect["box"]]
        assert [int(line[0]) for line in label] == [defect["class_id"] for defect in boxed]
        assert len(entry["files"]["crop"]) == len(entry["files"]["attention"]) == 4
        assert all((place.out / path).is_file() for path in entry["files"]["attention"])
    # Three contexts: two near defects, the far one, and in the second turn the one that overlaps
    assert Image.open(place.out / "grid/a_all_grid.png").size == (4 * 34 + 2, 3 * 34 + 2)
    assert (place.out / "attention/a_all_1_4.png").is_file() and (place.out / "report/index.html").is_file()


def test_what_fails_min_score_is_reported_and_not_shipped(place: Place):
    place.board("a.png", "0 0.5 0.5\n1 0.1 0.1")
    assert place.run("min_score=1", "max_rerolls=1") == 3
    assert place.samples() == [] and not list(place.out.glob("label/*"))
    assert "2 of 2 samples fail min_score and were not saved" in place.log()
    assert "fails min_score with" in place.log() and "after 2 attempts" in place.log()
    entries = [json.loads(line) for line in (place.out / "manifest.jsonl").read_text().splitlines()]
    assert [entry["status"] for entry in entries] == ["rejected"] * 2
    assert place.run("min_score=1", "max_rerolls=1") == 3
    assert "nothing to paint" in place.log()


def test_a_data_set_at_the_end_of_a_run(place: Place):
    for name in "abc":
        place.board(f"{name}.png", "0 0.5 0.5\n1 0.2 0.2", size=(90, 70))
    place.board("clean.png").with_suffix(".txt").unlink()
    overrides = ["resize=native", "background=original", "dataset.export=true", "label_box=annotation"]
    assert place.run(*overrides) == 2  # no width and height
    for name in "abc":
        place.board(f"{name}.png", "0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1", size=(90, 70))
    assert place.run(*overrides) == 0
    data = yaml.safe_load((place.out / "dataset/data.yaml").read_text())
    assert data["names"] == {0: "spur", 1: "mouse bite", 2: "a/b:c"}
    assert "1 image without annotations left alone: clean.png" in place.log()


PLAN = (
    "plan.counts={'spur': 2, 'mouse bite': 1}",
    *("resize=native", "plan.size=[6, 10]", "plan.spacing=12", "plan.edge_margin=2", "plan.stride=4"),
)


def test_defects_by_numbers(place: Place, capsys: pytest.CaptureFixture):
    for name in ("a.png", "b.png"):
        place.board(name, size=(72, 64)).with_suffix(".txt").unlink()
    assert place.run(*PLAN, "dry_run=true") == 0
    assert not place.out.exists() and "3" in capsys.readouterr().out
    assert place.run(*PLAN) == 0
    plan = json.loads((place.out / "plan/plan.json").read_text())
    assert [plan["classes"][name]["found"] for name in ("spur", "mouse bite")] == [2, 1]
    assert len({found["score"] for found in plan["places"]}) == 3
    ids = [line.split()[0] for path in place.out.glob("plan/*.txt") for line in path.read_text().splitlines()]
    assert sorted(ids) == ["0", "0", "1"] and len(place.samples()) == 3
    before, written = place.digests(), (place.out / "plan/plan.json").stat().st_mtime_ns
    (place.out / "sample" / f"{place.samples()[0]}.png").unlink()
    assert place.run(*PLAN) == 0
    assert place.digests() == before and (place.out / "plan/plan.json").stat().st_mtime_ns == written


def test_clean_images_without_a_place_are_told(place: Place):
    for name in "ab":
        place.board(f"{name}.png", size=(72, 64)).with_suffix(".txt").unlink()
    assert place.run(*PLAN[1:], "plan.counts={'spur': 1}") == 0
    assert "1 image without planned defects left alone: " in place.log()
    assert "annotations" not in place.log()


def test_requests_beyond_what_the_prior_was_trained_on(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", size=(72, 64)).with_suffix(".txt").unlink()
    assert place.run("resize=native", "num_classes=2", "plan.counts.a/b:c=1") == 2
    message = capsys.readouterr().err
    assert "a/b:c" in message and "spur" in message and "Traceback" not in message


def test_plan_of_another_request_is_refused_or_replaced(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", size=(72, 64)).with_suffix(".txt").unlink()
    assert place.run(*PLAN, "plan.rank=uniform") == 0
    samples = place.samples()
    capsys.readouterr()
    message = refused(capsys, place, *PLAN, "plan.rank=uniform", "plan.spacing=13")
    assert "plan.spacing" in message and place.samples() == samples
    assert place.run(*PLAN, "plan.rank=uniform", "plan.spacing=13", "overwrite=true") == 0
    assert json.loads((place.out / "plan/plan.json").read_text())["fingerprint"]["plan"]["spacing"] == 13
    capsys.readouterr()
    message = refused(capsys, place, "plan.counts={'mouse': 1}", f"outdir={place.root / 'other'}")
    assert "'mouse'" in message and "spur, mouse bite" in message


def test_batch_size_that_fits_is_kept_by_a_resumed_run(place: Place):
    place.board("a.png", "0 0.5 0.5\n1 0.25 0.25")
    assert place.run("batch_size=auto") == 0
    assert yaml.safe_load((place.out / "config.yml").read_text())["batch_size"] == 8  # most on a CPU
    first = place.digests()
    (place.out / "sample/a_spur_cx16_cy16_0.png").unlink()
    place.configure(batch_size="auto")
    assert place.run() == 0 and place.digests() == first


# Images of the attention, plans, settings


def test_attention_files(place: Place):
    place.board("a.png", "0 0.5 0.5\n0 0.1 0.1")
    assert place.run("visualize=true", "generate_gif=true", "batch_size=2") == 0
    files = [name for name in place.files() if name.startswith("attention/")]
    stems = ["a_spur_cx16_cy16_0", "a_spur_cx3_cy3_0"]
    assert files == [f"attention/{stem}{suffix}" for stem in stems for suffix in (".gif", ".png")]
    assert 1 < Image.open(place.out / f"attention/{stems[0]}.gif").n_frames <= STEPS
    figures = [np.array(Image.open(place.out / f"attention/{stem}.png")) for stem in stems]
    assert figures[0].shape == figures[1].shape and not np.array_equal(*figures)


def test_dry_run_prints_the_plan_and_writes_nothing(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", "0 0.5 0.5\n1 0.1 0.1")
    assert place.run("dry_run=true", "n_samples=2", "crop_model_path=checkpoint-64-defect.pt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == [
        f"a_{name}_{i}" for name in ("spur_cx16_cy16", "mouse-bite_cx3_cy3") for i in (0, 1)
    ]
    assert lines[4].startswith(
        f"4 of 4 samples to paint in 4 groups, 4 contexts of {STEPS} steps each from step 2 of 20: about "
    )
    assert "checkpoint-64-defect.pt: no such checkpoint" in lines[5] and "Google Drive" in lines[5]
    assert not place.out.exists()


def test_dry_run_counts_what_is_left(painted: Place, tmp_path: Path, capsys: pytest.CaptureFixture):
    copy = copy_of(painted, tmp_path)
    assert copy.run("dry_run=true") == 0
    assert capsys.readouterr().out == (
        "nothing to paint: the 6 samples are all there; overwrite=true repaints them\n"
    )


def test_overrides_may_stand_on_both_sides_of_the_file(place: Place):
    place.board("a.png")
    argv = [
        "seed=5",
        "--conf_path",
        str(place.conf),
        "ddim.start_step=3",
        "attention_features.temperature=0.2",
    ]
    assert run_main(main, [*argv, f"outdir={place.root}/deep/er"]) == 0
    resolved = yaml.safe_load((place.root / "deep/er/config.yml").read_text())
    assert (resolved["seed"], resolved["ddim"]["schedule_params"]["start_step"]) == (5, 3)
    assert resolved["attention_features"]["temperature"] == 0.2


def test_log_tells_about_ignored_keys_and_steps(place: Place):
    place.board("a.png")
    place.configure(algorithm="o", classifier_scale=4.0)
    assert place.run("debug=true", "generate_gif=true") == 0
    assert "ignored keys: algorithm, classifier_scale" in place.log()
    assert "generate_gif: true does nothing without visualize: true" in place.log()
    assert place.log().count("t = ") == STEPS


def test_other_precision_and_plain_ddim(place: Place):
    place.board("a.png")
    assert place.run("precision=bf16", "optimize_xt.optimize_xt=false", "prior_guidance=1") == 0
    assert place.samples() == ["a_spur_cx16_cy16_0"]


def test_progress_is_counted_in_refinements():
    timesteps = defaults.timesteps(**SCHEDULE | {"start_step": 4, "jump_length": 2})
    assert guided_steps(sampler_options(timesteps, 4, [2] * 20)) == [3, 2, 1, 0, 2, 1]
    without = sampler_options(timesteps, 4, [2] * 20, optimize_before_time_travel=False)
    assert guided_steps(without) == [3, 2, 1, 2, 1]


def refused(capsys: pytest.CaptureFixture, place: Place, *overrides: str) -> str:
    """The message of a run that must be refused and leave nothing behind."""
    before = place.files()
    assert place.run(*overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error and place.files() == before
    return error.removeprefix("error: ").strip()


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["seeed=1"], ["command line: seeed: unknown key; did you mean seed?"]),
        (["n_samples=three"], ["n_samples: got 'three', expected whole number >= 1"]),
        (["n_samples"], ["got 'n_samples', expected key=value"]),
        (["precision=fp16"], ["precision: got fp16", "CPU", "bf16 or fp32"]),
        (["timestep_respacing=25"], ["ddpm_num_steps: got 20", "has 25"]),
        (["timestep_respacing=0"], ["timestep respacing: got '0'"]),
        (["ddim.start_step=1"], ["ddim.start_step: got 1", "no step"]),
        (["ddim.start_step=0"], ["start_step: got 0"]),
        (["attention_features.blur_sigma=30"], ["attention_features: "]),
        (["attention_features.center_region_ratio=0.001"], ["attention_features: "]),
        (["num_classes=2"], ["num_classes: got 2", "class 2 (a/b:c)", "at least 3"]),
        (["crop_class_json_path=nowhere.json"], ["nowhere.json: no such class file"]),
        (["defect_free_dir=nowhere"], ["defect_free_dir nowhere: no such folder"]),
        (["resize=native", "image_size=128"], ["128x128 px", "the image is 64x64 px"]),
    ],
)
def test_settings_that_cannot_work(
    place: Place, capsys: pytest.CaptureFixture, overrides: list[str], expected: list[str]
):
    place.board("a.png", "2 0.5 0.5")
    # The weights are not there either: what is refused is refused before they are looked for
    message = refused(capsys, place, "model_path=nowhere.pt", *overrides)
    assert all(part in message for part in expected) and "\n" not in message, message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_gpu_that_is_not_there(place: Place, capsys: pytest.CaptureFixture, device: str):
    place.board("a.png")
    assert "device=cpu" in refused(capsys, place, f"device={device}")


@pytest.mark.parametrize("text, expected", [(None, "no such configuration file"), ("", "the file is empty")])
def test_configuration_file_missing_or_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str | None, expected: str
):
    place = Place(tmp_path)
    if text is not None:
        place.conf.write_text(text)
    assert expected in refused(capsys, place)


def test_missing_checkpoints_are_named_together(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png")
    names = "checkpoint-256-defect-free.pt", "mine.safetensors"
    message = refused(capsys, place, f"model_path=nowhere/{names[0]}", f"crop_model_path={names[1]}")
    assert "(2 problems)" in message and all(f"{name}: no such checkpoint" in message for name in names)
    assert message.count("confs/demo.yml") == 2 and message.count("Google Drive") == 1


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_networks_that_only_missing_weights_know(place: Place, capsys: pytest.CaptureFixture, dry_run: str):
    """The published defaults, which nobody asked for, would ask for larger photographs."""
    place.board("a.png")
    raw = yaml.safe_load(place.conf.read_text())
    kept = {k: raw[k] for k in raw if k not in NetworkConfig.model_fields and k != "crop"}
    place.conf.write_text(yaml.safe_dump(kept | {"resize": "native"}))
    names = "runs/a.safetensors", "runs/b.safetensors"
    paths = f"model_path={names[0]}", f"crop_model_path={names[1]}"
    message = refused(capsys, place, *paths, f"dry_run={dry_run}")
    assert "(2 problems)" in message and "256" not in message
    assert all(f"{name}: no such checkpoint" in message for name in names)


def test_metadata_that_make_no_sense_are_named(place: Place, weights: Path, capsys: pytest.CaptureFixture):
    place.board("a.png")
    state, _ = load_state_dict(weights / "prior.safetensors")
    path = place.root / "odd.safetensors"
    save_safetensors(path, state, {"network": {"image_size": 64, "attention_resolutions": [0]}})
    assert f"{path}: its metadata describe no network" in refused(capsys, place, f"crop_model_path={path}")


def test_checkpoint_of_another_shape(place: Place, weights: Path, capsys: pytest.CaptureFixture):
    place.board("a.png")
    message = refused(capsys, place, f"crop_model_path={weights}/full.safetensors")
    assert "does not fit the defect prior" in message
    assert "crop.num_channels" in message and "num_classes" in message and "label_emb.weight" in message
    message = refused(capsys, place, "channel_mult=1, 1")
    assert "does not fit the contextual model" in message and " channel_mult" in message


def test_damaged_checkpoint(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png")
    (place.root / "cut.pt").write_bytes(b"PK\x03\x04 and then nothing")
    assert "cut.pt: not a readable checkpoint" in refused(capsys, place, f"model_path={place.root}/cut.pt")


def test_problems_of_the_folder_come_before_those_of_the_weights(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", "spur 0.5 0.5\n0 1.5 0.5\n7 0.5 0.5")
    (place.root / "boards/b.png").write_bytes(b"no image")
    message = refused(capsys, place, "model_path=nowhere.pt")
    lines = message.splitlines()
    assert len(lines) == 5 and "(4 problems)" in lines[0] and "nowhere.pt" not in message
    for expected in (
        "a.txt:1: got 'spur",
        "a.txt:2: got 1.5",
        "a.txt:3: got class 7",
        "b.png: not a readable",
    ):
        assert expected in message


def test_no_annotations(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png", "")
    assert "no annotations" in refused(capsys, place)


def test_folder_that_cannot_be_written(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png")
    outdir = place.conf / "results"  # a file is no folder, not even to root
    message = refused(capsys, place, f"outdir={outdir}", "model_path=nowhere.pt")
    assert message.startswith(f"outdir {outdir} cannot be written ({place.conf} is not a folder)")


def test_a_folder_where_another_run_works(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png")
    with only_run_in(place.out, "outdir"):
        message = refused(capsys, place)
        assert place.run("dry_run=true") == 0
    assert f"outdir {place.out}: process {os.getpid()} on" in message and "works there; wait" in message
    assert place.run() == 0


def test_results_of_other_settings(painted: Place, capsys: pytest.CaptureFixture):
    message = refused(capsys, painted, "seed=1", "optimize_xt.lr_xt=0.2", "model_path=nowhere.pt")
    assert "optimize_xt.lr_xt: 0.001 against 0.2" in message and "seed: 0 against 1" in message
    assert "overwrite=true" in message


def test_settings_beside_the_results_that_cannot_be_read(
    painted: Place, tmp_path: Path, capsys: pytest.CaptureFixture
):
    copy = copy_of(painted, tmp_path)
    (copy.out / "config.yml").write_text("seed: [1")
    assert "config.yml: not valid YAML" in refused(capsys, copy)


def test_weights_that_are_not_numbers(place: Place, weights: Path, capsys: pytest.CaptureFixture):
    place.board("a.png")
    state = load_state_dict(weights / "full.safetensors")[0]
    state["out.2.bias"][1] = torch.nan
    save_safetensors(place.root / "nan.safetensors", state)
    message = refused(capsys, place, f"model_path={place.root}/nan.safetensors")
    assert "nan.safetensors: 1 tensors hold values that are not numbers (the first is out.2.bias)" in message


def test_a_sample_that_overflows_is_recorded_and_the_others_go_on(place: Place, weights: Path):
    state = load_state_dict(weights / "prior.safetensors")[0]
    state["label_emb.weight"][1] = 3e38
    save_safetensors(place.root / "huge.safetensors", state)
    place.board("a.png", "0 0.5 0.5\n1 0.25 0.25")
    overrides = [f"crop_model_path={place.root}/huge.safetensors", "batch_size=2", "precision=bf16"]
    assert place.run(*overrides) == 3
    assert place.samples() == ["a_spur_cx16_cy16_0"]
    assert "numbers overflow; once more in float32" in place.log()
    assert "2 samples: 1 painted, 0 kept from an earlier run, 0 rejected, 1 failed" in place.log()
    entries = {entry["name"]: entry for entry in read_manifest(place.out / "manifest.jsonl")}
    entry = entries["a_mouse-bite_cx8_cy8_0"]
    assert (entry["status"], entry["files"], entry["defects"]) == ("failed", {}, [])
    assert entry["failure"] == {"t": 1, "reason": "the refinement's loss is not a number"}
    first = place.digests()
    assert place.run(*overrides) == 3 and place.digests() == first
    assert "2 samples: 0 painted, 1 kept from an earlier run, 0 rejected, 1 failed" in place.log()


def test_the_report_is_written_even_if_the_export_fails(place: Place, capsys: pytest.CaptureFixture):
    place.board("a.png")
    assert place.run("min_score=1", "dataset.export=true", "report=true") == 2
    assert "no sample to export" in capsys.readouterr().err
    assert (place.out / "report/index.html").is_file() and "1 samples: 0 painted" in place.log()


def test_no_seed_is_kept_by_a_resumed_run(place: Place):
    place.board("a.png", "0 0.5 0.5\n1 0.25 0.25")
    assert place.run("seed=null") == 0
    first = place.digests()
    (place.out / "sample/a_spur_cx16_cy16_0.png").unlink()
    assert place.run("seed=null") == 0
    assert place.digests() == first


def test_samples_without_their_settings_are_not_taken_for_ours(
    painted: Place, tmp_path: Path, capsys: pytest.CaptureFixture
):
    copy = copy_of(painted, tmp_path)
    (copy.out / "config.yml").unlink()
    assert "no config.yml" in refused(capsys, copy)


def test_folders_may_be_spelled_in_several_ways(painted: Place):
    assert painted.run(f"defect_free_dir={painted.root / 'boards'}/") == 0


def test_weights_of_another_training_are_refused(place: Place, weights: Path, capsys: pytest.CaptureFixture):
    place.board("a.png")
    state, _ = load_state_dict(weights / "prior.safetensors")
    network = NetworkConfig(**NETWORK, image_size=16, class_cond=True).plain()
    told = {
        "network": {**network, "num_head_channels": 16},
        "classes": {"spur": 1, "mouse_bite": 0, "a b c": 2},
    }
    save_safetensors(place.root / "other.safetensors", state, told)
    message = refused(capsys, place, f"crop_model_path={place.root / 'other.safetensors'}")
    assert "crop.num_head_channels: got 32" in message and "was trained with 16" in message
    assert "crop_class_json_path" in message and "'mouse_bite': 0" in message
    told = {"network": network, "classes": {"Spur": 0, "MouseBite": 1, "abc": 2}}  # the same but for spelling
    save_safetensors(place.root / "other.safetensors", state, told)
    assert place.run(f"crop_model_path={place.root / 'other.safetensors'}") == 0


def test_the_networks_options_are_read_from_the_weights(painted: Place, tmp_path: Path, weights: Path):
    """Without the network keys, weights that tell them paint the same bytes."""
    for name, part in (("full", "network"), ("prior", "crop")):
        network = getattr(load_generation_config(painted.conf), part).plain()
        state, _ = load_state_dict(weights / f"{name}.safetensors")
        save_safetensors(tmp_path / f"{name}.safetensors", state, {"network": network, "classes": {}})
    place = build(tmp_path / "place", tmp_path)
    raw = yaml.safe_load(place.conf.read_text())
    place.conf.write_text(
        yaml.safe_dump({k: raw[k] for k in raw if k not in NetworkConfig.model_fields and k != "crop"})
    )
    place.board("board 1.JPG", "0 0.5 0.5\n1 0.9 0.1 0.2 0.2\n2 0.5 0.5", size=(90, 70))
    assert place.run("n_samples=2", "batch_size=2") == 0
    assert place.digests() == painted.digests()
    assert yaml.safe_load((place.out / "config.yml").read_text())["crop"]["image_size"] == 16


def test_every_network_key_that_differs_from_the_weights_is_named(
    place: Place, weights: Path, capsys: pytest.CaptureFixture
):
    place.board("a.png")
    for name, part in (("full", "network"), ("prior", "crop")):
        network = getattr(load_generation_config(place.conf), part).plain()
        state, _ = load_state_dict(weights / f"{name}.safetensors")
        save_safetensors(place.root / f"{name}.safetensors", state, {"network": network})
    place.configure(model_path=str(place.root / "full.safetensors"))
    place.configure(crop_model_path=str(place.root / "prior.safetensors"))
    message = refused(capsys, place, "num_channels=64", "attention_resolutions=32", "crop.num_res_blocks=3")
    assert "(3 problems)" in message
    assert "num_channels: got 64" in message and "was trained with 32" in message
    assert "crop.num_res_blocks: got 3" in message
    assert "attention_resolutions: got [32] at image_size 32" in message
