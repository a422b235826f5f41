"""The data set for a detector: what is in it, how it is split, and that the packages people use read it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.builders import manifest_defect, manifest_entry
from utils.config import resolved_yaml
from utils.errors import UserError, run_main
from utils.export_dataset import ExportOptions, export_dataset
from utils.export_dataset.__main__ import main
from utils.export_dataset.contents import Report
from utils.export_dataset.selection import split_sources
from utils.export_dataset.writing import class_mask
from utils.files import MARK
from utils.manifest import append_entry, mask_rle
from utils.schema.generation import GenerationConfig

CLASSES = {"spur": 0, "mouse bite": 2}
SIDE = 64


def box_mask(box: list[int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def defect(class_id: int, box: list[int] | None, status: str = "painted", score: float = 0.9) -> dict:
    mask = None if box is None else mask_rle(box_mask(box), (0, 0), (SIDE, SIDE))
    name = {v: k for k, v in CLASSES.items()}[class_id]
    return manifest_defect(
        class_id=class_id, class_name=name, box=box, mask=mask, status=status, scores={"score": score}
    )


def add(run: Path, stem: str, index: int, defects: list[dict]) -> None:
    """A sample of a source in a run's folder: a noisy image with bright boxes."""
    name, source = f"{stem}_all_{index}", run.parent / "boards" / f"{stem}.png"
    clean = np.array(Image.open(source))
    boxes = [d["box"] for d in defects if d["box"] and d["status"] == "painted"]
    mask = np.any([box_mask(box) for box in boxes], axis=0) if boxes else np.zeros((SIDE, SIDE), bool)
    painted = np.where(mask[:, :, None], 250, clean).astype(np.uint8)
    status = "painted" if boxes else "rejected"
    files = {"sample": f"sample/{name}.png", "mask": f"mask/{name}.png"} if boxes else {}
    if boxes:
        Image.fromarray(painted).save(run / files["sample"])
        Image.fromarray(mask.astype(np.uint8) * 255).save(run / files["mask"])
    values = {"status": status, "source": str(source), "size": [SIDE, SIDE], "files": files}
    append_entry(run / "manifest.jsonl", manifest_entry(name, defects=defects, **values))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Five boards, two samples of four of them; the fifth was not painted on."""
    (tmp_path / "boards").mkdir()
    for n in range(5):
        noise = np.random.default_rng(n).integers(0, 120, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"boards/b{n}.png")
        (tmp_path / f"boards/b{n}.txt").write_text("0 0.5 0.5\n2 0.5 0.5\n")
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    folder = tmp_path / "run"
    for name in ("sample", "mask", "log"):
        (folder / name).mkdir(parents=True)
    values = {
        "crop_class_json_path": str(tmp_path / "classes.json"),
        "defect_free_dir": str(tmp_path / "boards"),
    }
    (folder / "config.yml").write_text(resolved_yaml(GenerationConfig(resize="native", **values)))
    for n in range(4):
        for index in range(2):
            add(folder, f"b{n}", index, [defect(0, [4, 8, 20, 16]), defect(2, [30 + n, 30, 50, 44 + index])])
    return folder


def export(run: Path, **options: object) -> Report:
    return export_dataset(run, options=ExportOptions(**options), overwrite=True)


def names(folder: Path, kind: str = "images") -> dict[str, list[str]]:
    return {part: sorted(p.stem for p in (folder / kind / part).iterdir()) for part in ("train", "val")}


# What is in it


def test_layout_labels_and_masks(run: Path):
    report = export(run, val_share=0.25, background_share=0.2)
    folder = run / "dataset"
    assert report.images == {"train": 6, "val": 2} and sum(report.backgrounds.values()) == 2
    assert names(folder) == names(folder, "labels") == names(folder, "masks")
    assert yaml.safe_load((folder / "data.yaml").read_text()) == {
        "train": "images/train", "val": "images/val", "names": {0: "spur", 1: "unused_1", 2: "mouse bite"}
    }  # fmt: skip
    (label,) = (folder / "labels").rglob("b3_all_1.txt")
    assert label.read_text().splitlines() == [
        "0 0.187500 0.187500 0.250000 0.125000",
        "2 0.648438 0.585938 0.265625 0.234375",
    ]
    (picture,) = (folder / "images").rglob("b3_all_1.png")
    assert picture.read_bytes() == (run / "sample/b3_all_1.png").read_bytes()
    clean = next((folder / "labels").rglob("clean_*.txt"))
    assert clean.read_text() == ""
    board = Image.open(run.parent / "boards" / f"{clean.stem.removeprefix('clean_')}.png")
    (background,) = (folder / "images").rglob(f"{clean.stem}.png")
    assert np.array_equal(np.array(Image.open(background)), np.array(board))


def test_all_samples_of_a_source_are_in_one_part_and_backgrounds_stay_in_it(run: Path):
    for seed in range(6):
        export(run, val_share=0.5, background_share=0.4, seed=seed)
        parts = names(run / "dataset")
        sources = {part: {name.removeprefix("clean_")[:2] for name in found} for part, found in parts.items()}
        assert not sources["train"] & sources["val"] and len(sources["val"]) == 2
        assert sum(len(found) for found in parts.values()) == 13  # 8 samples and 5 of 5 clean images


def entry_of(source: str, *classes: int) -> dict:
    return {"source": source, "defects": [{"class_id": c} for c in classes]}


def test_the_training_part_keeps_every_class():
    entries = [entry_of("a", 0, 0), entry_of("b", 0), entry_of("c", 1), entry_of("d", 0)]
    for seed in range(10):
        parts, warnings = split_sources(entries, 0.5, seed)
        assert parts["c"] == "train" and list(parts.values()).count("val") == 2 and not warnings
    assert set(split_sources(entries[:2], 0.9, 0)[0].values()) == {"train", "val"}
    assert split_sources(entries, 0.0, 0) == (dict.fromkeys("abcd", "train"), [])


def test_the_validation_part_takes_as_many_classes_as_it_can():
    entries = [
        entry_of("a", 0, 1),
        entry_of("b", 1, 2),
        entry_of("c", 0),
        entry_of("d", 2),
        entry_of("e", 0, 1, 2),
    ]
    for seed in range(10):
        parts, _ = split_sources(entries, 0.2, seed)
        assert [source for source, part in parts.items() if part == "val"] == ["e"]


def test_what_cannot_be_split_trains_and_is_told():
    parts, (warning,) = split_sources([entry_of("a", 0)], 0.5, 0)
    assert parts == {"a": "train"} and "only one source image" in warning
    parts, (warning,) = split_sources([entry_of("a", 0), entry_of("b", 1)], 0.5, 0)
    assert set(parts.values()) == {"train"} and "on two source images" in warning
    parts, (warning,) = split_sources([entry_of("a", 0), entry_of("b", 0), entry_of("c", 1)], 0.9, 0)
    assert list(parts.values()).count("val") == 1 and "1 of 2 source images" in warning


def test_rejected_and_weak_ones_stay_out(run: Path):
    add(run, "b4", 0, [defect(0, [1, 1, 9, 9], "rejected"), defect(2, [20, 20, 30, 30])])
    add(run, "b4", 1, [defect(0, [1, 1, 9, 9], "rejected")])
    add(run, "b4", 2, [defect(0, [1, 1, 9, 9], score=0.3), defect(2, [20, 20, 30, 30])])
    report = export(run, min_score=0.5, background_share=0)
    found = sum(names(run / "dataset").values(), [])
    assert "b4_all_0" in found and "b4_all_1" not in found and "b4_all_2" not in found
    (label,) = (run / "dataset/labels").rglob("b4_all_0.txt")
    assert [line[0] for line in label.read_text().splitlines()] == ["2"]
    assert sum(report.defects["mouse bite"].values()) == 9


def test_one_source_and_squashed_backgrounds(run: Path, tmp_path: Path):
    config = (run / "config.yml").read_text().replace("resize: native", "resize: squash")
    (run / "config.yml").write_text(config.replace("image_size: 256", f"image_size: {SIDE}", 1))
    (run / "manifest.jsonl").unlink()
    Image.fromarray(np.full((90, 130, 3), 7, np.uint8)).save(tmp_path / "boards/b0.png")
    for n in range(1, 5):
        (tmp_path / f"boards/b{n}.png").unlink()
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(tmp_path / "other.png")
    name = {"sample": "sample/b0_all_0.png", "mask": "mask/b0_all_0.png"}
    values = {"source": str(tmp_path / "boards/b0.png"), "files": name, "size": [SIDE, SIDE]}
    entry = manifest_entry("b0_all_0", defects=[defect(0, [4, 8, 20, 16])], **values)
    append_entry(run / "manifest.jsonl", entry)
    report = export(run, background_share=0.5)
    assert "only one source image" in str(report) and "no mouse bite in train" in str(report)
    assert Image.open(run / "dataset/images/train/clean_b0.png").size == (SIDE, SIDE)
    assert yaml.safe_load((run / "dataset/data.yaml").read_text())["val"] == "images/train"


# What the run was made from


def test_classes_are_those_that_the_run_recorded(run: Path, tmp_path: Path):
    (run / "classes.json").write_text(json.dumps(CLASSES))
    (tmp_path / "classes.json").write_text('{"spur": 2, "mouse bite": 0}')
    assert export(run).classes == CLASSES
    (run / "classes.json").unlink()
    with pytest.raises(
        UserError, match=r"its samples have the classes .*which .*classes\.json does not have"
    ):
        export(run)


def test_a_source_image_that_has_changed(run: Path, tmp_path: Path):
    entry = manifest_entry("b1_all_9", source=str(tmp_path / "boards/b1.png"), size=[SIDE, SIDE])
    files = {kind: f"{kind}/b1_all_0.png" for kind in ("sample", "mask")}
    append_entry(
        run / "manifest.jsonl",
        entry | {"files": files, "defects": [defect(0, [4, 8, 20, 16])], "source_sha256": "c0ffee"},
    )
    with pytest.raises(UserError, match=r"b1\.png: has changed since"):
        export(run)


def test_samples_of_annotations_that_are_gone_are_named_and_left_out(run: Path, tmp_path: Path):
    whole = sum(export(run).images.values())
    (tmp_path / "boards/b1.txt").write_text("0 0.5 0.5\n")  # without the line of class 2
    report = export(run)
    assert "2 samples (b1_all_0, b1_all_1) left out: their annotations no longer exist" in str(report)
    assert sum(report.images.values()) == whole - 2
    for n in range(4):
        (tmp_path / f"boards/b{n}.txt").unlink()
    with pytest.raises(UserError, match=r"no sample to export.*; 8 samples \(b0_all_0.*no longer exist"):
        export(run)


def test_a_plan_asks_for_its_samples(run: Path):
    text = (run / "config.yml").read_text()
    (run / "config.yml").write_text(text.replace("counts: {}", "counts: {spur: 4}", 1))
    (run / "plan").mkdir()
    for name in ("b0", "b1", "b3"):
        (run / f"plan/{name}.txt").write_text("0 0.5 0.5\n2 0.5 0.5\n")
    report = export(run)
    assert sum(report.images.values()) == 6 and "2 samples (b2_all_0, b2_all_1) left out" in str(report)


def test_files_outside_the_run_or_of_another_size(run: Path, tmp_path: Path):
    path = run / "sample/b1_all_0.png"
    image = path.read_bytes()
    path.unlink()
    path.symlink_to(tmp_path / "boards/b1.png")
    with pytest.raises(UserError, match="a link to a file outside"):
        export(run)
    path.unlink()
    Image.new("RGB", (5, 5)).save(path)
    with pytest.raises(UserError, match=r"got 5x5 px, expected 64x64"):
        export(run)
    path.write_bytes(b"not an image")
    with pytest.raises(UserError, match="not a readable image"):
        export(run)
    path.write_bytes(image)
    export(run)


# Files


def test_only_an_earlier_set_is_replaced_and_only_when_asked(run: Path, tmp_path: Path):
    export_dataset(run)
    with pytest.raises(UserError, match="give --overwrite"):
        export_dataset(run)
    export(run, link=True)
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "data.yaml").write_text("names: {0: spur}")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="not an earlier exported data set"):
            export_dataset(run, mine, overwrite=overwrite)
    assert sorted(path.name for path in mine.iterdir()) == ["data.yaml", "images"]
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_sources_inside_the_target_are_kept(run: Path, tmp_path: Path):
    (tmp_path / "boards" / MARK).write_text('{"kind": "exported data set", "contents": []}')
    contents = [path.name for path in (tmp_path / "boards").iterdir()]
    (tmp_path / "boards" / MARK).write_text(json.dumps({"kind": "exported data set", "contents": contents}))
    with pytest.raises(UserError, match="which the data set is made from"):
        export_dataset(run, tmp_path / "boards", overwrite=True)
    assert (tmp_path / "boards/b0.png").exists()


def test_missing_files_are_listed_and_nothing_is_lost(run: Path, capsys: pytest.CaptureFixture):
    export_dataset(run)
    (run / "sample/b1_all_0.png").unlink()
    (run / "mask/b2_all_1.png").unlink()
    assert run_main(main, [str(run), "--overwrite"]) == 2
    message = capsys.readouterr().err
    assert "(2 problems)" in message and "b1_all_0.png: missing" in message and "b2_all_1.png" in message
    assert (run / "dataset/data.yaml").is_file()


def test_runs_that_cannot_be_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run_main(main, [str(tmp_path / "nowhere")]) == 2
    assert "no such manifest" in capsys.readouterr().err
    assert run_main(main, [str(run), "--min-score", "0.95"]) == 2
    assert "no sample to export" in capsys.readouterr().err
    (tmp_path / "classes.json").unlink()
    assert run_main(main, [str(run)]) == 2
    assert "no such class file" in capsys.readouterr().err


# Label sets, masks and the folder's README


def test_both_label_sets_are_there_and_the_key_names_the_one_trained_on(run: Path):
    export(run, val_share=0.25)
    boxes = (run / "dataset/labels").rglob("b3_all_1.txt")
    segments = (run / "dataset/segments").rglob("b3_all_1.txt")
    box_lines, segment_lines = next(boxes).read_text(), next(segments).read_text()
    first = np.array(segment_lines.splitlines()[0].split(), float)
    corners = first[1:].reshape(-1, 2) * SIDE
    assert first[0] == 0 and corners.min(0).tolist() == [4, 8] and corners.max(0).tolist() == [20, 16]
    export(run, val_share=0.25, labels="segments")
    assert next((run / "dataset/labels").rglob("b3_all_1.txt")).read_text() == segment_lines
    assert next((run / "dataset/boxes").rglob("b3_all_1.txt")).read_text() == box_lines
    assert not (run / "dataset/segments").exists()


def test_class_masks(run: Path):
    export(run)
    mask = np.array(Image.open(next((run / "dataset/class_masks").rglob("b0_all_0.png"))))
    expected = 1 * box_mask([4, 8, 20, 16]) + 3 * box_mask([30, 30, 50, 44])
    assert mask.dtype == np.uint8 and np.array_equal(mask, expected)
    clean = next((run / "dataset/class_masks").rglob("clean_*.png"))
    assert not np.array(Image.open(clean)).any()


def test_class_masks_of_many_classes_and_of_overlaps():
    size = (SIDE, SIDE)
    low, high = defect(0, [0, 0, 10, 10]), {**defect(0, [5, 0, 10, 10]), "class_id": 400}
    mask = class_mask([low, high], size)
    assert mask.dtype == np.uint16 and mask[0, 4] == 1 and mask[0, 5] == 401 and mask[0, 10] == 0
    assert class_mask([{**low, "class_id": 254}], size)[0, 0] == 255
    with pytest.raises(UserError, match="class id 65535"):
        class_mask([{**low, "class_id": 65535}], size)


def test_the_readme_tells_how_it_was_made(run: Path):
    export(run, val_share=0.25, seed=3, labels="segments", first_category_id=0)
    text = (run / "dataset/README.md").read_text()
    for part in (str(run), "3 of the split", "| spur | 0 | 6 | 2 |", "| mouse bite | 2 | 6 | 2 |", "yolo segment train",
                 "class id + 0", "license", "0.25 of the source images"):  # fmt: skip
        assert part in text, part
    assert (run / "dataset/generation.yml").read_bytes() == (run / "config.yml").read_bytes()


# The packages that people use


def test_coco_reads_boxes_and_masks(run: Path):
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools (requirements-eval.txt)")
    from pycocotools.cocoeval import COCOeval

    export(run, val_share=0.25)
    truth = coco.COCO(str(run / "dataset/annotations.json"))
    assert {c["id"]: c["name"] for c in truth.loadCats(truth.getCatIds())} == {1: "spur", 3: "mouse bite"}
    for picture in truth.loadImgs(truth.getImgIds()):
        found = truth.loadAnns(truth.getAnnIds(picture["id"]))
        union = np.zeros((SIDE, SIDE), np.uint8)
        for annotation in found:
            mask = truth.annToMask(annotation)
            assert annotation["area"] == mask.sum()
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert annotation["bbox"] == box
            union |= mask
        path = run / "dataset" / picture["file_name"]
        assert np.array_equal(union * 255, np.array(Image.open(str(path).replace("/images/", "/masks/"))))
    own = coco.COCO(str(run / "dataset/annotations/instances_train.json"))
    assert len(own.getAnnIds(catIds=[3])) == 6 and all(
        (run / "dataset/images/train" / image["file_name"]).is_file()
        for image in own.loadImgs(own.getImgIds())
    )
    export(run, val_share=0.25, first_category_id=0)
    assert coco.COCO(str(run / "dataset/annotations.json")).getCatIds() == [0, 2]
    validation = coco.COCO(str(run / "dataset/annotations_val.json"))
    evaluation = COCOeval(validation, validation.loadRes(validation.loadAnns(validation.getAnnIds())), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == 1.0


@pytest.mark.parametrize("chosen, model", [("boxes", "yolo11n.yaml"), ("segments", "yolo11n-seg.yaml")])
def test_ultralytics_trains_on_it(run: Path, tmp_path: Path, chosen: str, model: str):
    if (
        find_spec("ultralytics") is None
    ):  # imported here, it would replace PIL's Image.open for all tests after
        pytest.skip("needs Ultralytics (requirements-eval.txt)")
    export(run, val_share=0.25, labels=chosen)
    moved = tmp_path / "elsewhere"
    (run / "dataset").rename(moved)  # no path of this machine is in it
    program = (
        "from ultralytics import YOLO, settings; settings.update({'sync': False});"
        f"YOLO({model!r}).train(data={str(moved / 'data.yaml')!r}, epochs=1, imgsz=64, batch=4, workers=0,"
        f"device='cpu', amp=False, plots=False, save=False, pretrained=False, project={str(tmp_path)!r}, name='yolo')"
    )
    offline = {"YOLO_OFFLINE": "1", "YOLO_CONFIG_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | offline,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = (tmp_path / "yolo/results.csv").read_text().splitlines()
    assert len(results) == 2 and "corrupt" not in done.stdout.replace("0 corrupt", "")
