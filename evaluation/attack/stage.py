"""A small world to attack: tiny random networks, boards, annotations of every format, a finished run, a training."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import sample_generation
import train
from guided_diffusion.create import create_unet
from utils.checkpoint import save_atomic, save_safetensors
from utils.errors import run_main
from utils.manifest import Entry, mask_rle, read_manifest, rewrite
from utils.prepare_data.__main__ import main as prepare_data
from utils.processes.interrupts import SIGNALS, Stopped
from utils.schema.network import NetworkConfig
from utils.verdicts import VERDICTS_FILE

CLASSES = {"spur": 0, "mouse bite": 1}
NETWORK: dict[str, Any] = {
    "num_channels": 32, "num_res_blocks": 1, "channel_mult": "1, 2", "attention_resolutions": "",
    "num_head_channels": 32, "learn_sigma": False, "resblock_updown": False,
}  # fmt: skip
CROP = {"image_size": 16, "class_cond": True, **NETWORK}
SCHEDULE = {
    "num_inference_steps": 20,
    "ddpm_num_steps": 20,
    "start_step": 2,
    "jump_length": 1,
    "jump_n_sample": 1,
}
SIDE = 48  # px of a board


RESULTS = ("run", "planned", "training", "prepared")  # folders of `out` that the programs make
PREPARED = ("--window", "16", "--tile", "32", "--margin", "4")
PLANNED = ("plan.counts.spur=2", "plan.rank=uniform", "plan.edge_margin=0", "plan.size=[4, 8]")

Program = Callable[[list[str]], int | None]


class Stage:
    """Files below `root`: `valid/` as they should be, `work/` a copy that an attack breaks, `out/` for results.

    `canary/` holds files that nobody may touch.
    """

    def __init__(self, root: Path):
        self.root, self.valid, self.work, self.out = (root, *(root / n for n in ("valid", "work", "out")))
        self.canary = root / "canary"

    def build(self) -> None:
        """Write the valid world, and run both programs once on it."""
        self.valid.mkdir(parents=True)
        self.canary.mkdir()
        (self.canary / "data.yaml").write_text("names: [mine]\n")
        _write_images(self.valid)
        _write_weights(self.valid)
        _write_confs(self.valid)
        _write_data_sets(self.valid / "sets")
        self.reset()
        paint, out = ["--conf_path", str(self.work / "conf.yml")], self.out
        for main, words in (
            (prepare_data, [str(self.work / "sets/mvtec"), "--out", str(out / "prepared"), *PREPARED]),
            (sample_generation.main, [*paint, "report=true"]),
            (sample_generation.main, [*paint, f"outdir={out}/planned", *PLANNED]),
            (train.main, ["--conf_path", str(self.work / "train.yml")]),
        ):
            with contextlib.redirect_stdout(io.StringIO()):  # what is printed is the attack's table
                code = run_inside(main, words)
            if code:
                raise RuntimeError(f"the valid world does not run: {words}")
        rewrite(self.out / "run/manifest.jsonl", lambda entries: list(map(_with_boxes, entries)))
        names = [entry["name"] for entry in read_manifest(self.out / "run/manifest.jsonl")]
        verdicts = "".join(f"{name},0,1\n" for name in names)
        (self.out / "run" / VERDICTS_FILE).write_text(f"name,number,good\n{verdicts}")
        for name in RESULTS:
            shutil.move(self.out / name, self.root / f"made-{name}")
        self.reset()

    def reset(self, results: Collection[str] = RESULTS) -> None:
        """Put back the copy that attacks break, and those of the earlier `results` that they need."""
        for folder in (self.work, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.valid, self.work)
        self.out.mkdir()
        for name in results:
            if (self.root / f"made-{name}").is_dir():
                shutil.copytree(self.root / f"made-{name}", self.out / name)

    def fingerprint(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that no program may write: all but those below `out`."""
        files = (path for part in (self.valid, self.work, self.canary) for path in part.rglob("*"))
        return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}

    def beside(self) -> set[str]:
        """The names in the folder around the world, where nothing may appear."""
        return {path.name for path in self.root.parent.iterdir()} | {
            path.name for path in self.root.iterdir()
        }


def run_inside(program: Program, argv: list[str]) -> int:
    """Exit code of a program in this process; Ctrl-C and SIGTERM, which it takes for its own, raise Stopped."""
    code = run_main(program, argv)
    if code - 128 in SIGNALS:
        raise Stopped(code - 128)
    return code


def _with_boxes(entry: Entry) -> Entry:
    """A line of the manifest as if something had been painted in every window: random networks paint nothing."""
    mask = mask_rle(np.ones((6, 8), bool), (20, 20), (SIDE, SIDE))
    defects = [{**defect, "box": [20, 20, 28, 26], "mask": mask} for defect in entry["defects"]]
    return {**entry, "defects": defects}


def _board(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def _write_images(root: Path) -> None:
    (root / "boards").mkdir()
    (root / "patches").mkdir()
    for n, suffix in enumerate(("png", "jpg", "tiff")):
        _board(n).save(root / f"boards/b{n}.{suffix}")
        (root / f"boards/b{n}.txt").write_text("0 0.5 0.5 0.1 0.1\n1 0.25 0.75\n")
    for n, name in enumerate(("spur_0", "spur_1", "mousebite_0", "mousebite_1")):
        _board(n).save(root / f"patches/{name}.png")
    (root / "classes.json").write_text(json.dumps(CLASSES))


def _write_weights(root: Path) -> None:
    torch.manual_seed(0)
    for name, values in (("full", {"image_size": 32, **NETWORK}), ("prior", CROP)):
        model = create_unet(**NetworkConfig(**values).plain(), num_classes=len(CLASSES))
        weights = {key: value + 0.03 * torch.randn_like(value) for key, value in model.state_dict().items()}
        save_safetensors(root / f"{name}.safetensors", weights, {"note": "attack"})
        save_atomic(root / f"{name}.pt", weights)


def _write_confs(root: Path) -> None:
    work, out = root.parent / "work", root.parent / "out"
    conf = {
        **{"model_path": str(work / "full.safetensors"), "crop_model_path": str(work / "prior.pt")},
        **{"defect_free_dir": str(work / "boards"), "outdir": str(out / "run")},
        **{"crop_class_json_path": str(work / "classes.json"), "n_samples": 1, "seed": 0, "device": "cpu"},
        **{"show_progress": False, "image_size": 32, **NETWORK, "crop": CROP, "timestep_respacing": "20"},
        **{"ddim": {"schedule_params": SCHEDULE}, "g_scha": {"start": 1, "end": 1, "stop": 0}},
        **{"optimize_xt": {"lr_xt": 0.001}, "resize": "native", "paint": "all"},
    }
    training = {
        **{"data_dir": str(work / "patches"), "checkpoint_dir": str(out / "training"), "class_cond": True},
        **{"class_json_path": str(work / "classes.json"), "image_size": 16, **NETWORK, "batch_size": 2},
        **{"total_steps": 2, "log_interval": 1, "save_interval": 1, "sample_num": 0, "tensorboard": False},
        **{"device": "cpu", "precision": "fp32", "num_workers": 0, "show_progress": False},
    }
    (root / "conf.yml").write_text(yaml.safe_dump(conf, sort_keys=False))
    (root / "train.yml").write_text(yaml.safe_dump(training, sort_keys=False))


def _write_data_sets(root: Path) -> None:
    """One folder for each format that `prepare_data` reads."""
    box = {"label": "spur", "points": [[20, 20], [28, 26]], "shape_type": "rectangle"}
    coco = {
        "images": [{"id": 1, "file_name": "b.png", "width": SIDE, "height": SIDE}],
        "categories": [{"id": 1, "name": "spur"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 20, 8, 6], "segmentation": []}
        ],
    }
    sides = "<xmin>20</xmin><ymin>20</ymin><xmax>28</xmax><ymax>26</ymax>"
    defect = f"<object><name>spur</name><bndbox>{sides}</bndbox></object>"
    voc = f"<annotation><filename>b.png</filename>{defect}</annotation>"
    texts = {
        "voc": {"b.xml": voc},
        "coco": {"annotations.json": json.dumps(coco)},
        "labelme": {"b.json": json.dumps({"shapes": [box], "imagePath": "b.png", "imageWidth": SIDE})},
        "yolo": {"b.txt": "0 0.5 0.5 0.2 0.2\n", "data.yaml": "names: [spur]\ntrain: .\n"},
        "masks": {},
        "deeppcb": {"b.txt": "20 20 28 26 4\n"},
        "mvtec": {},
    }
    boards = {
        "deeppcb": ("b_test.png", "b_temp.png"),
        "mvtec": ("test/spur/000.png", "train/good/000.png"),
    }
    for name, files in texts.items():
        for seed, board in enumerate(boards.get(name, ("b.png", "clean.png")), start=7):
            (root / name / board).parent.mkdir(parents=True, exist_ok=True)
            _board(seed).save(root / name / board)
        for file, text in files.items():
            (root / name / file).write_text(text)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:26, 20:28] = 255
    for path in (root / "masks/b_mask.png", root / "mvtec/ground_truth/spur/000_mask.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
