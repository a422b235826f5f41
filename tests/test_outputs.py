"""The output folder: what is done, what may be overwritten, and files that appear whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generation.geometry import Context
from generation.jobs import Defect, Job
from generation.outputs import Outputs
from generation.passes import Pass
from generation.records import LabelRule, Provenance
from generation.scoring import PaintedDefect, PaintedSample, Region
from utils.checkpoint import save_safetensors
from utils.config import load_generation_config
from utils.errors import UserError
from utils.files import file_sha256
from utils.labels import Annotation
from utils.manifest import VERSION, mask_of, read_manifest
from utils.schema.generation import GenerationConfig

GRAY = np.full((8, 8, 3), 90, np.uint8)
WHITE = np.full((4, 4, 3), 255, np.uint8)
REGION = Region(np.eye(4, dtype=bool), (0, 0, 4, 4), 10.0)
CLASSES = {"class0": 0, "class1": 1}
SCORES = {"score": 0.51234, "area": 4, "contrast": 10.0, "outside": 0.0, "agreement": 0.9}
PROVENANCE = Provenance(7, "c0ffee", {"model_path": "1", "crop_model_path": "2"})


def job(index: int, stem: str = "a", defects: int = 1, source: Path | None = None) -> Job:
    wanted = [
        Defect(Annotation(k, f"class{k}", 0.5, 0.5, 0.5, 0.5, line=k + 1), (4, 4), (0, 0, 4))
        for k in range(defects)
    ]
    context = Context(None, None, None, ((0, 0),) * defects, 1.0)
    one = Pass(context, tuple(range(defects)))
    return Job(source or Path(f"{stem}.png"), tuple(wanted), ((one,),), f"{stem}_spur_cx4_cy4", index)


def painted(
    wanted: Job,
    windows: tuple[tuple[int, int, int], ...] = ((2, 1, 4),),
    good: tuple[bool, ...] = (True,),
    strip: bool = False,
) -> PaintedSample:
    """A gray sample with a diagonal stroke in each window."""
    maps = np.zeros((4, 8), np.uint8) if strip else None
    defects = [
        PaintedDefect(window, 1.0, REGION, SCORES, accepted, 0, WHITE, maps)
        for window, accepted in zip(windows, good, strict=True)
    ]
    return PaintedSample(wanted, GRAY, tuple(defects))


def config(**values: object) -> GenerationConfig:
    return GenerationConfig(**values)


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' jobs name their sources relative to here."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for stem in "ab":
        Image.fromarray(GRAY).save(folder / f"{stem}.png")
    monkeypatch.chdir(folder)


def filled(folder: Path, **values: object) -> Outputs:
    """A folder with one sample, made with these settings."""
    outputs = Outputs(folder, overwrite=False)
    outputs.prepare(config(**values), CLASSES)
    outputs.save(painted(job(0)), PROVENANCE, 1.5)
    return outputs


def refusal(outputs: Outputs, **values: object) -> str:
    with pytest.raises(UserError) as caught:
        outputs.check(config(**values))
    return str(caught.value)


# Files


def test_files_have_their_places(tmp_path: Path):
    outputs = filled(tmp_path / "new/folder")
    outputs.save_grid(job(0), [[GRAY, GRAY, GRAY]])
    found = (path for path in outputs.root.rglob("*") if path.is_file() and path.suffix != ".lock")
    assert sorted(str(path.relative_to(outputs.root)) for path in found) == [
        "classes.json",
        "config.yml",
        "crop/a_spur_cx4_cy4_0.png",
        "grid/a_spur_cx4_cy4_grid.png",
        "label/a_spur_cx4_cy4_0.txt",
        "log/generation.log",
        "manifest.jsonl",
        "mask/a_spur_cx4_cy4_0.png",
        "sample/a_spur_cx4_cy4_0.png",
    ]
    stroke = np.zeros((8, 8))
    stroke[1:5, 2:6] = np.eye(4) * 255
    assert np.array_equal(np.array(Image.open(outputs.paths.sample(job(0)))), GRAY)
    assert np.array_equal(np.array(Image.open(outputs.paths.crop(job(0), 0))), WHITE)
    assert np.array_equal(np.array(Image.open(outputs.paths.mask(job(0)))), stroke)
    assert outputs.paths.label(job(0)).read_text() == "0 0.500000 0.375000 0.500000 0.500000\n"
    assert Image.open(outputs.paths.grid(job(0))).size == (3 * 10 + 2, 12)
    assert load_generation_config(outputs.config_file) == config()


def test_line_of_the_manifest(tmp_path: Path):
    outputs = filled(tmp_path / "out")
    (entry,) = read_manifest(outputs.manifest_file)
    (defect,) = entry.pop("defects")
    name = "a_spur_cx4_cy4_0"
    assert entry == {
        "name": name, "status": "painted", "source": "a.png", "source_sha256": file_sha256("a.png"),
        "size": [8, 8], "index": 0, "seed": 7, "config_sha256": "c0ffee", "weights": PROVENANCE.weights,
        "version": VERSION, "seconds": 1.5,
        "files": {
            "sample": f"sample/{name}.png", "mask": f"mask/{name}.png", "label": f"label/{name}.txt",
            "crop": [f"crop/{name}.png"], "attention": [],
        },
    }  # fmt: skip
    mask = mask_of(defect.pop("mask"))
    assert np.array_equal(mask * 255, np.array(Image.open(outputs.paths.mask(job(0)))))
    assert defect == {
        "class_name": "class0", "class_id": 0, "line": 1, "centre": [4, 4], "window": [2, 1, 4], "scale": 1.0,
            "annotation": [0.5, 0.5, 0.5, 0.5],
        "status": "painted", "attempt": 0, "box": [2, 1, 6, 5], "painted_box": [2, 1, 6, 5],
        "scores": {**SCORES, "score": 0.5123},
    }  # fmt: skip


def test_several_defects_and_rejected_ones(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False)
    outputs.prepare(config(), CLASSES)
    windows = ((0, 0, 4), (4, 4, 4), (4, 0, 4))
    outputs.save(painted(job(0, defects=3), windows, (True, True, False), strip=True), PROVENANCE, 1)
    name = "a_spur_cx4_cy4_0"
    assert sorted(path.name for path in (outputs.root / "crop").iterdir()) == [
        f"{name}_{k}.png" for k in (1, 2, 3)
    ]
    assert (outputs.root / f"attention/{name}_3_strip.png").is_file()
    assert np.array_equal(np.array(Image.open(outputs.paths.mask(job(0)))), np.eye(8) * 255)
    lines = outputs.paths.label(job(0)).read_text().splitlines()
    assert lines == ["0 0.250000 0.250000 0.500000 0.500000", "1 0.750000 0.750000 0.500000 0.500000"]
    (entry,) = read_manifest(outputs.manifest_file)
    assert [defect["status"] for defect in entry["defects"]] == ["painted", "painted", "rejected"]
    outputs.save(painted(job(1), good=(False,)), PROVENANCE, 1)
    entry = read_manifest(outputs.manifest_file)[1]
    assert (entry["status"], entry["files"]) == ("rejected", {})
    assert not outputs.paths.sample(job(1)).exists()
    assert not outputs.missing(job(1)) and not outputs.shipped(job(1)) and outputs.shipped(job(0))


def test_labels_may_hold_the_annotation_s_box(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False, rule=LabelRule("annotation"))
    outputs.prepare(config(), CLASSES)
    outputs.save(painted(job(0)), PROVENANCE, 1)
    assert outputs.paths.label(job(0)).read_text() == "0 0.500000 0.500000 0.500000 0.500000\n"
    (defect,) = read_manifest(outputs.manifest_file)[0]["defects"]
    assert (defect["box"], defect["painted_box"]) == ([2, 2, 6, 6], [2, 1, 6, 5])


def test_labels_keep_a_margin_inside_the_image(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False, rule=LabelRule("painted", 2))
    outputs.prepare(config(), CLASSES)
    outputs.save(painted(job(0)), PROVENANCE, 1)
    (defect,) = read_manifest(outputs.manifest_file)[0]["defects"]
    assert (defect["box"], defect["painted_box"]) == ([0, 0, 8, 7], [2, 1, 6, 5])
    assert outputs.paths.label(job(0)).read_text() == "0 0.500000 0.437500 1.000000 0.875000\n"


def test_labels_hold_the_box_that_an_annotator_would_draw(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False, rule=LabelRule("painted", 2))
    outputs.prepare(config(), CLASSES)
    sample = painted(job(0))
    left, top, _ = sample.defects[0].window
    drawn = (3 - left, 1 - top, 7 - left, 9 - top)  # it goes 1 px beyond the image
    outputs.save(replace(sample, defects=(replace(sample.defects[0], drawn=drawn),)), PROVENANCE, 1)
    (defect,) = read_manifest(outputs.manifest_file)[0]["defects"]
    assert (defect["box"], defect["painted_box"]) == ([3, 1, 7, 8], [2, 1, 6, 5])


def test_a_sample_that_is_there_stays(tmp_path: Path):
    outputs = filled(tmp_path / "out")
    other = painted(job(0))
    outputs.save(PaintedSample(other.job, 255 - GRAY, other.defects), PROVENANCE, 1)
    assert np.array_equal(np.array(Image.open(outputs.paths.sample(job(0)))), GRAY)
    assert len(read_manifest(outputs.manifest_file)) == 1


def test_a_sample_without_its_line_is_made_again(tmp_path: Path):
    outputs = filled(tmp_path / "out")
    outputs.manifest_file.write_text("")
    outputs.reread()
    assert outputs.missing(job(0))
    outputs.paths.sample(job(0)).write_bytes(b"half")
    outputs.save(painted(job(0)), PROVENANCE, 1)
    assert np.array_equal(np.array(Image.open(outputs.paths.sample(job(0)))), GRAY)
    assert not outputs.missing(job(0))
    outputs.paths.sample(job(0)).unlink()
    assert outputs.missing(job(0))


def test_replaced_jobs_are_missing_again(tmp_path: Path):
    outputs = filled(tmp_path / "out")
    outputs.save(painted(job(0, "b")), PROVENANCE, 1)
    outputs.save_grid(job(0), [[GRAY]])
    outputs.prepare(config(seed=1), CLASSES, replaced=[job(0), job(1)])
    left = sorted(path.name for path in outputs.root.rglob("*.png"))
    assert outputs.missing(job(0)) and left == ["b_spur_cx4_cy4_0.png"] * 3
    assert [entry["name"] for entry in read_manifest(outputs.manifest_file)] == ["b_spur_cx4_cy4_0"]
    assert outputs.unrelated_samples([job(0)]) == ["b_spur_cx4_cy4_0.png"]
    assert outputs.unrelated_samples([job(0, "b")]) == []


def test_a_finished_manifest_is_in_the_order_of_jobs(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False)
    outputs.prepare(config(), CLASSES)
    for index in (2, 0, 9, 1):
        outputs.save(painted(job(index)), PROVENANCE, 1)
    outputs.finish_manifest([job(0), job(1), job(2)])
    assert [entry["index"] for entry in read_manifest(outputs.manifest_file)] == [9, 0, 1, 2]


def test_failed_saving_leaves_neither_sample_nor_temporary_file(tmp_path: Path):
    outputs = filled(tmp_path / "out")
    outputs.paths.crop(job(1), 0).mkdir()  # in the way
    with pytest.raises(UserError, match="cannot be written"):
        outputs.save(painted(job(1)), PROVENANCE, 1)
    assert outputs.missing(job(1))
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


# Settings


def test_other_settings_are_refused_by_name(tmp_path: Path):
    outputs = filled(tmp_path / "out", seed=1)
    outputs.check(config(seed=1))
    message = refusal(outputs, seed=2, background="original")
    assert "seed: 1 against 2" in message and "background: 'generated' against 'original'" in message
    assert "overwrite=true" in message
    Outputs(tmp_path / "out", overwrite=True).check(config(seed=2))


def test_settings_that_do_not_change_a_picture_may_differ(tmp_path: Path):
    more = {"n_samples": 9, "n_iter": 2, "batch_size": 3, "visualize": True, "debug": True}
    filled(tmp_path / "out", seed=1).check(config(seed=1, **more))


def test_settings_do_not_matter_before_the_first_sample(tmp_path: Path):
    outputs = Outputs(tmp_path / "out", overwrite=False)
    outputs.prepare(config(seed=1), CLASSES)
    outputs.check(config(seed=2))


@pytest.mark.parametrize("name", ["config.yml", "classes.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_the_user_s_are_not_replaced(tmp_path: Path, name: str, overwrite: bool):
    (tmp_path / name).write_text("{}")
    message = refusal(Outputs(tmp_path, overwrite), seed=1)
    assert message.startswith(f"outdir {tmp_path}: {name} is there, which no run wrote")


@pytest.mark.parametrize("text", ["", "seed: [1", "seed: maybe\nfoo: 1\n", "\x00\x01"])
def test_unreadable_settings_beside_samples_are_explained(tmp_path: Path, text: str):
    outputs = filled(tmp_path / "out")
    outputs.config_file.write_text(text)
    message = refusal(outputs)
    assert message.startswith(f"outdir {tmp_path / 'out'} holds samples, but the settings")
    assert "overwrite=true" in message and "config.yml" in message
    Outputs(tmp_path / "out", overwrite=True).check(config())


def test_weights_that_changed_under_the_same_path_are_refused(tmp_path: Path):
    paths = {key: str(tmp_path / f"{key}.safetensors") for key in ("model_path", "crop_model_path")}
    for path in paths.values():
        save_safetensors(Path(path), {"w": torch.zeros(1)})
    outputs = Outputs(tmp_path / "out", overwrite=False)
    outputs.prepare(config(seed=1, **paths), CLASSES)
    outputs.save(painted(job(0)), Provenance.of(config(seed=1, **paths)), 1)
    outputs.check(config(seed=1, **paths))
    save_safetensors(Path(paths["crop_model_path"]), {"w": torch.ones(1)})
    message = refusal(outputs, seed=1, **paths)
    assert "other weights (crop_model_path: the file has changed since)" in message
    assert "overwrite=true" in message


def test_what_is_left_open_is_taken_from_the_folder(tmp_path: Path):
    left_open = config(precision="auto", batch_size="auto")
    outputs = Outputs(tmp_path / "out", overwrite=False)
    first = outputs.with_earlier_choices(left_open)
    assert (first.seed, first.precision, first.batch_size) == (None, "auto", "auto")
    filled(tmp_path / "out", seed=5, precision="bf16", batch_size=3)
    again = outputs.with_earlier_choices(left_open)
    assert (again.seed, again.precision, again.batch_size) == (5, "bf16", 3)
    given = config(seed=6, precision="fp32", batch_size=2)
    assert outputs.with_earlier_choices(given) == given
    assert Outputs(tmp_path / "out", overwrite=True).with_earlier_choices(left_open).precision == "auto"


# Folders that cannot be written (a file is in the way, which stops even root)


def test_file_in_place_of_a_folder_is_found_before_anything_is_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file/below/results"):
        message = refusal(Outputs(root, overwrite=True))
        assert message.startswith(f"outdir {root} cannot be written ({tmp_path / 'file'} is not a folder)")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/sample").write_text("x")
    assert "sample is not a folder" in refusal(Outputs(tmp_path / "results", overwrite=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "results", "sources"]


def test_preparing_says_what_stands_in_the_way(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file/results cannot be written .*file"):
        Outputs(tmp_path / "file/results", overwrite=False).prepare(config(), CLASSES)


def test_checking_makes_nothing(tmp_path: Path):
    Outputs(tmp_path / "a/b", overwrite=False).check(config())
    assert not (tmp_path / "a").exists()
