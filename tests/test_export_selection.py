# ruff: noqa: F401, F811 (the fixture of another module)
"""Data sets of several runs, with real images, and without what was rejected by eye."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.test_export_dataset import add, defect, export, names, run
from utils.errors import UserError, run_main
from utils.export_dataset import ExportOptions, export_dataset
from utils.export_dataset.__main__ import main
from utils.export_dataset.runs import prefixes

# Verdicts by eye


def test_samples_rejected_by_eye_are_left_out_and_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    add(run, "b4", 0, [defect(0, [1, 1, 9, 9], "rejected"), defect(2, [20, 20, 30, 30])])
    lines = [
        "name,number,good",
        "b0_all_0,1,0",
        "b1_all_0,0,1",
        "b2_all_0,0,0",
        "b2_all_0,0,1",
        "b4_all_0,0,0",
        "gone,0,0",
    ]
    (run / "verdicts.csv").write_text("\n".join(lines))
    report = export(run, background_share=0)
    kept = sum(names(run / "dataset").values(), [])
    # The last verdict counts, and one on a defect that no image holds says nothing
    assert len(kept) == 8 and "b0_all_0" not in kept
    assert "b4_all_0) left out" not in str(report) and "(b0_all_0) left out: rejected by eye in" in str(
        report
    )
    assert "judges 1 sample (gone) not of this run" in str(report)
    assert run_main(main, [str(run), "--overwrite", "--all", "--background-share", "0"]) == 0
    assert (
        len(sum(names(run / "dataset").values(), [])) == 9
        and "rejected by eye" not in capsys.readouterr().out
    )
    (tmp_path / "mine.csv").write_text("name,number,good\nb3_all_0,0,0\nb3_all_1,0,0\n")
    arguments = [str(run), "--overwrite", "--verdicts", str(tmp_path / "mine.csv"), "--background-share", "0"]
    assert run_main(main, arguments) == 0 and "2 samples (b3_all_0, b3_all_1)" in capsys.readouterr().out
    assert len(sum(names(run / "dataset").values(), [])) == 7


@pytest.fixture
def masked(run: Path) -> Path:
    """The run with a background of clean images, and its defects with the windows that they were painted in."""
    config = yaml.safe_load((run / "config.yml").read_text()) | {"background": "masked"}
    (run / "config.yml").write_text(yaml.safe_dump(config))
    lines = [json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        for one in line["defects"]:
            left, top, right, bottom = one["box"]
            one["window"] = [left - 2, top - 2, max(right - left, bottom - top) + 4]
    (run / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.mark.parametrize("how", ["by eye", "by score"])
def test_a_rejected_defect_is_the_clean_image_again_and_the_others_stay(masked: Path, how: str):
    options = {}
    if how == "by eye":
        (masked / "verdicts.csv").write_text("name,number,good\nb1_all_0,0,0\nb2_all_0,0,0\nb2_all_0,1,0\n")
    else:
        lines = [json.loads(line) for line in (masked / "manifest.jsonl").read_text().splitlines()]
        for line in lines:
            for k, one in enumerate(line["defects"]):
                if (line["name"], k) in {("b1_all_0", 0), ("b2_all_0", 0), ("b2_all_0", 1)}:
                    one["scores"]["score"] = 0.1
        (masked / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        options = {"min_score": 0.5}
    report = export(masked, background_share=0, **options)
    kept = sum(names(masked / "dataset").values(), [])
    assert len(kept) == 7 and "b1_all_0" in kept and "b2_all_0" not in kept
    if how == "by eye":
        assert "(b2_all_0) left out: rejected by eye in" in str(report)
        assert "; where 1 more were rejected, the clean image came back" in str(report)
    image, clean, painted = (
        np.array(Image.open(path))
        for path in (
            next((masked / "dataset/images").rglob("b1_all_0.png")),
            masked.parent / "boards/b1.png",
            masked / "sample/b1_all_0.png",
        )
    )
    assert np.array_equal(image[:24], clean[:24]) and (painted[8:16, 4:20] == 250).all()
    assert np.array_equal(image[24:], painted[24:]) and (image[30:44, 31:50] == 250).all()
    (label,) = (masked / "dataset/labels").rglob("b1_all_0.txt")
    assert [line.split()[0] for line in label.read_text().splitlines()] == ["2"]
    mask = np.array(Image.open(next((masked / "dataset/masks").rglob("b1_all_0.png"))))
    assert mask.sum() == 255 * 14 * 19 and not mask[:24].any()


def test_a_sample_is_left_out_where_a_rejected_defect_touches_another(masked: Path):
    add(masked, "b4", 0, [defect(0, [10, 10, 20, 20]), defect(2, [24, 10, 40, 20])])
    (masked / "verdicts.csv").write_text("name,number,good\nb4_all_0,0,0\n")
    assert "(b4_all_0) left out: rejected by eye" in str(export(masked, background_share=0))


def test_verdicts_that_cannot_be_used(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        export(run, verdicts=tmp_path / "none.csv")
    (run / "verdicts.csv").write_text(
        "name,number,good\n" + "".join(f"b{n}_all_{k},0,0\n" for n in range(4) for k in range(2))
    )
    with pytest.raises(UserError, match="no sample to export; .*not all rejected by eye"):
        export(run)


# Several runs


@pytest.fixture
def second(run: Path) -> Path:
    """Another run, two samples on the first run's boards b0 and b4, named by another path."""
    folder = run.parent / "second"
    for name in ("sample", "mask", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "config.yml").write_text((run / "config.yml").read_text())
    for stem in ("b0", "b4"):
        add(folder, stem, 0, [defect(0, [10, 20, 30, 40])])
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("/boards/", "/boards/../boards/"))
    return folder


def test_runs_are_exported_together(run: Path, second: Path, tmp_path: Path):
    for seed in range(4):
        options = ExportOptions(val_share=0.4, background_share=0.3, seed=seed)
        report = export_dataset([run, second], tmp_path / "both", options, overwrite=True)
        parts = names(tmp_path / "both")
        assert sum(report.images.values()) == 10 and {"run_b0_all_0", "second_b0_all_0"} <= {
            *parts["train"],
            *parts["val"],
        }
        sources = {part: {name.split("_all")[0][-2:] for name in found} for part, found in parts.items()}
        assert not sources["train"] & sources["val"]  # a board has one part in both runs, and as background
    for name in ("run_generation.yml", "second_generation.yml"):
        assert (tmp_path / "both" / name).is_file()
    text = (tmp_path / "both/README.md").read_text()
    assert f"`{run}`" in text and f"`{second}`" in text and "all settings of the runs" in text


def test_names_of_runs():
    assert prefixes([Path("a/x")]) == [""]
    assert prefixes([Path("a/x"), Path("a/y")]) == ["x_", "y_"]
    assert prefixes([Path("a/x"), Path("b/X"), Path("y")]) == ["x-1_", "X-2_", "y_"]


def test_runs_that_do_not_go_together(run: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "both"
    assert run_main(main, [str(run), str(second)]) == 2 and "expected a folder" in capsys.readouterr().err
    assert run_main(main, [str(run), f"{run}/", "--out", str(out)]) == 2
    assert "given twice" in capsys.readouterr().err
    arguments = [str(run), str(second), "--out", str(out), "--verdicts", "v.csv"]
    assert run_main(main, arguments) == 2 and "got 2 runs, expected one" in capsys.readouterr().err
    (second / "classes.json").write_text(json.dumps({"spur": 0, "mouse bite": 1}))
    assert run_main(main, [str(run), str(second), "--out", str(out)]) == 2
    assert "got the classes spur: 0, mouse bite: 1, expected those of" in capsys.readouterr().err
    assert not out.exists()


# Real images


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Six real images in YOLO's layout, its ids other than the runs', one image without defects."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "data.yaml").write_text("names: [Mouse_Bite, spur]\n")
    for n in range(6):
        Image.fromarray(np.random.default_rng(50 + n).integers(0, 255, (40, 80, 3), np.uint8)).save(
            folder / f"p{n}.png"
        )
        (folder / f"p{n}.txt").write_text("" if n == 5 else f"{n % 2} 0.5 0.5 0.25 0.25\n")
    return folder


def test_real_images_validate(run: Path, real: Path):
    report = export(run, real=real, val_share=0.25)
    parts, folder = names(run / "dataset"), run / "dataset"
    assert parts["val"] == [f"real_p{n}" for n in range(5)] and report.real == {"train": 0, "val": 5}
    assert report.images == {"train": 8, "val": 0} and "5 to validate (1 of them clean, 5 real)" in str(
        report
    )
    assert yaml.safe_load((folder / "data.yaml").read_text())["val"] == "images/val"
    assert (
        folder / "labels/val/real_p0.txt"
    ).read_text() == "2 0.500000 0.500000 0.250000 0.250000\n"  # the runs' id
    assert (folder / "segments/val/real_p1.txt").read_text().split()[0] == "0"
    mask = np.array(Image.open(folder / "masks/val/real_p1.png"))
    assert mask.shape == (40, 80) and (mask[15:25, 30:50] == 255).all() and (mask > 0).sum() == 200
    assert np.array_equal(
        np.array(Image.open(folder / "images/val/real_p1.png")), np.array(Image.open(real / "p1.png"))
    )
    found = json.loads((folder / "annotations_val.json").read_text())["annotations"]
    assert found[1]["bbox"] == [30, 15, 20, 10] and found[1]["area"] == 200 and "score" not in found[1]
    assert "real ones among them | | 0 | 5 |" in (folder / "README.md").read_text()


def test_a_part_of_the_real_images_trains_when_asked(run: Path, real: Path):
    report = export(run, real=real, real_train_share=0.4)
    assert report.real == {"train": 2, "val": 3}
    parts = names(run / "dataset")
    assert sorted(n for part in parts.values() for n in part if n.startswith("real")) == [
        f"real_p{n}" for n in range(5)
    ]


def test_the_held_out_images_of_a_prepared_folder_validate(run: Path, real: Path, tmp_path: Path):
    from utils.prepare_data.__main__ import main as prepare

    options = ["--holdout", "p3", "p4", "--tile", "32", "--window", "16", "--margin", "4"]
    for n in range(6):  # larger, so that tiles fit beside the defects
        Image.new("RGB", (160, 160), (n, 0, 0)).save(real / f"p{n}.png")
    assert run_main(prepare, [str(real), "--out", str(tmp_path / "board"), *options]) == 0
    report = export(run, real=tmp_path / "board")
    assert report.real == {"train": 0, "val": 2} and names(run / "dataset")["val"] == ["real_p3", "real_p4"]
    with pytest.raises(UserError, match="expected --real-train, for those that it did not hold out"):
        export(run, real=tmp_path / "board", real_train_share=0.5)
    report = export(run, real=tmp_path / "board", real_train=True)
    parts = names(run / "dataset")
    assert report.real == {"train": 3, "val": 2} and parts["val"] == ["real_p3", "real_p4"]
    assert {name for name in parts["train"] if name.startswith("real")} == {"real_p0", "real_p1", "real_p2"}
    real.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="prepared from are not in .*real any more"):
        export(run, real=tmp_path / "board", real_train=True)
    assert export(run, real=tmp_path / "board").real == {"train": 0, "val": 2}


def test_whole_groups_train_by_the_pattern_of_the_preparation(run: Path, real: Path, tmp_path: Path):
    from utils.prepare_data.__main__ import main as prepare

    for n in range(6):  # p0 and p3, p1 and p4, p2 and p5 are of one part
        for suffix in (".png", ".txt"):
            (real / f"p{n}{suffix}").rename(real / f"x{n}_part{n % 3}{suffix}")
        Image.new("RGB", (160, 160), (n, 0, 0)).save(real / f"x{n}_part{n % 3}.png")
    options = [
        "--holdout",
        "1",
        "--group-pattern",
        "part(\\d)",
        "--tile",
        "32",
        "--window",
        "16",
        "--margin",
        "4",
    ]
    assert run_main(prepare, [str(real), "--out", str(tmp_path / "board"), *options]) == 0
    report = export(run, real=tmp_path / "board", real_train=True)
    parts = names(run / "dataset")
    assert report.real == {"train": 3, "val": 2} and parts["val"] == ["real_x1_part1", "real_x4_part1"]
    assert {name for name in parts["train"] if name.startswith("real")} == {
        "real_x0_part0",
        "real_x2_part2",
        "real_x3_part0",
    }


def test_a_run_on_held_out_photographs_does_not_train_beside_them(run: Path, tmp_path: Path):
    board = tmp_path / "board"
    (board / "test").mkdir(parents=True)
    (board / "classes.json").write_text('{"spur": 0}')
    config = yaml.safe_load((run / "config.yml").read_text())
    shutil.copytree(config["defect_free_dir"], board / "test_clean")
    config["defect_free_dir"] = str(board / "test_clean")
    (run / "config.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="photographs that --real .* holds out"):
        export(run, real=board)


def test_real_images_that_cannot_be_used(
    run: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    with pytest.raises(UserError, match="no such folder"):
        export(run, real=tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected a folder that utils.prepare_data wrote"):
        export(run, real=real, real_train=True)
    (real / "data.yaml").write_text("names: [scratch, spur]\n")
    with pytest.raises(
        UserError, match="got the classes scratch, expected only those of the runs: spur, mouse bite"
    ):
        export(run, real=real)
    (real / "data.yaml").write_text("names: [mouse bite, spur]\n")
    (real / "p0.txt").write_text("0 0.5 0.5\n")
    assert "p0.png is left out: one of its defects has no box" in str(export(run, real=real))
