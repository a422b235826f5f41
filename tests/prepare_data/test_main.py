"""The command line, from a source folder to training folders."""

import json
import re
from pathlib import Path

import numpy as np

from tests.prepare_data.builders import (
    SMALL,
    error_of,
    index_of,
    pixels,
    write_boards,
    write_image,
    write_text,
)
from utils.files import MARK
from utils.images import load_rgb
from utils.labels import class_from_filename, load_class_names, match_class, read_annotations
from utils.prepare_data.__main__ import main
from utils.synthetic_pcb import __main__ as synthetic_pcb
from utils.synthetic_pcb.board import CLASSES


def test_output_of_a_run(tmp_path, capsys):
    root, out = write_boards(tmp_path / "source"), tmp_path / "out"
    main([str(root), "--out", str(out), "--holdout", "03", *SMALL])
    classes = load_class_names(out / "classes.json")
    rows = index_of(out)
    assert {row["group"] for row in rows if row["split"] == "test"} == {"03"}
    assert {row["group"] for row in rows if row["split"] == "train"} == {"01", "02", "04"}
    assert {row["file"] for row in rows} == {
        p.relative_to(out).as_posix() for p in out.rglob("*.png") if p.name != "contact_sheet.png"
    }
    row = next(row for row in rows if row["file"] == "train/defect/spur_0000.png")
    assert [float(row[side]) for side in ("left", "top", "right", "bottom", "scale")] == [40, 50, 52, 60, 1]
    source = load_rgb(root / row["source"])
    assert match_class(class_from_filename(row["file"].rsplit("/")[-1]), classes) == classes["spur"]
    assert np.array_equal(load_rgb(out / row["file"]), source[55 - 24 : 55 + 24, 46 - 24 : 46 + 24])
    tile = next(row for row in rows if row["file"].startswith("train/defect_free/"))
    left, top = int(tile["left"]), int(tile["top"])
    cropped = load_rgb(root / tile["source"])[top : top + 64, left : left + 64]
    assert tile["class"] == "" and np.array_equal(load_rgb(out / tile["file"]), cropped)
    for part, origin in (("test", "images/03_spur_01.png"), ("test_clean", "clean/03.png")):
        assert (out / part / "03_spur_01.png").read_bytes() == (root / origin).read_bytes()
        (label,) = read_annotations(out / part / "03_spur_01.txt", classes)
        assert label.class_name == "spur" and (label.cx, label.cy) == (round(46 / 160, 6), round(55 / 120, 6))
    report = capsys.readouterr().out
    assert report == (out / "report.txt").read_text() and "6 patches of 48x48 px; 0 shrunk" in report
    assert load_rgb(out / "contact_sheet.png").shape[0] == 3 * 52  # two classes and the tiles


def test_equal_runs_give_equal_files(tmp_path):
    root = write_boards(tmp_path / "source")
    for name in ("a", "b"):
        main([str(root), "--out", str(tmp_path / name), "--tiles-per-image", "3", *SMALL])
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    files.remove(Path(MARK))  # holds the hashes of the others
    assert len(files) > 20
    for file in files:
        first, second = ((tmp_path / name / file).read_bytes() for name in ("a", "b"))
        if file.suffix in (".yml", ".txt") and len(file.parts) == 1:  # they name the folder that they are in
            first, second = (
                re.sub(rb"(/|runs/|images/)[ab](?=[-/\s])", rb"\1x", text) for text in (first, second)
            )
        assert first == second, file


def test_without_clean_images_tiles_come_from_between_the_defects(tmp_path, capsys):
    root, out = write_boards(tmp_path / "source", clean=False), tmp_path / "out"
    main([str(root), "--out", str(out), "--holdout", "01", "--tile", "48", "--window", "32", "--margin", "8"])
    tiles = [row for row in index_of(out) if not row["class"]]
    assert tiles and all("images/" in row["source"] for row in tiles)
    assert "train has no clean images" in capsys.readouterr().out
    assert not (out / "test_clean").exists()


def test_tiles_that_fit_nowhere_stop_the_run_before_it_writes(tmp_path):
    root = write_boards(tmp_path / "source")
    message = error_of(main, [str(root), "--out", str(tmp_path / "out"), "--tile", "128"])
    assert "no tile fits on any of" in message and "smallest side 120 px" in message
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_one_of_a_kind_is_told_in_the_singular(tmp_path, capsys):
    write_image(tmp_path / "source/a.png", 1)
    write_image(tmp_path / "source/clean/b.png", 2)
    write_text(tmp_path / "source/classes.txt", "spur\n")
    write_text(tmp_path / "source/a.txt", "0 0.5 0.5 0.1 0.1\n")
    out = tmp_path / "out"
    main([str(tmp_path / "source"), "--out", str(out), "--holdout-share", "0", *SMALL])
    report = capsys.readouterr().out
    for part in ("found      1 image with 1 defect, 1 clean\n", " 1 patch of 48x48 px", " 1 clean image to"):
        assert part in report
    text = (out / "train-prior.yml").read_text()
    assert "(1 defect)" in text and "the only defect is seen" in text
    assert not re.search(r"\b1 (images|defects|patches|groups|tiles|minutes)\b", report + text)


def test_overwrite_replaces_an_earlier_data_set_and_nothing_else(tmp_path):
    root, out = write_boards(tmp_path / "source"), tmp_path / "out"
    command = [str(root), "--out", str(out), *SMALL]
    main(command)
    assert "give --overwrite" in error_of(main, command)
    added = write_text(out / "train/defect/mine_0000.png", "mine")
    assert "train/defect/mine_0000.png changed since" in error_of(main, [*command, "--overwrite"])
    added.unlink()
    (out / "index.csv").rename(tmp_path / "index.csv")
    main([*command, "--overwrite"])
    assert (out / "index.csv").exists()
    write_text(out / "own.txt", "mine")
    assert "own.txt beside" in error_of(main, [*command, "--overwrite"])
    foreign = write_text(tmp_path / "foreign/index.csv", "file,source,class,").parent
    message = error_of(main, [str(root), "--out", str(foreign), "--overwrite"])
    assert "not an earlier prepared data set" in message and (foreign / "index.csv").exists()
    assert "within the folder" in error_of(main, [str(root), "--out", str(root / "out")])
    clean = ["--clean-dir", str(out / "train/defect_free"), "--overwrite"]
    assert "around it" in error_of(main, [*command, *clean])


def test_bad_options_are_listed_together(tmp_path):
    options = [
        "--tile",
        "8",
        "--window",
        "33",
        "--margin",
        "-1",
        "--holdout-share",
        "1",
        "--group-pattern",
        "a",
    ]
    message = error_of(main, [str(tmp_path), "--out", str(tmp_path / "out"), *options])
    assert "5 problems" in message and "one (group)" in message


def test_synthetic_boards_with_yolo_labels_go_all_the_way(tmp_path):
    source, out = tmp_path / "synthetic", tmp_path / "out"
    synthetic_pcb.main(
        ["--out", str(source), "--clean", "2", "--per-class", "0", "--boards", "3", "--size", "256"]
    )
    main([str(source), "--out", str(out), "--tile", "128", "--holdout", "board_0"])
    classes = load_class_names(out / "classes.json")
    assert list(classes) == list(CLASSES)
    patches = [row for row in index_of(out) if row["file"].startswith("train/defect/")]
    labels = [read_annotations(source / f"test/board_{n}.txt", classes) for n in (1, 2)]
    assert len(patches) == sum(map(len, labels)) > 0
    assert all(load_rgb(out / row["file"]).shape == (96, 96, 3) for row in patches)


def test_points_have_patches_and_labels_without_size(tmp_path):
    root, out = tmp_path / "source", tmp_path / "out"
    for name in ("a", "b"):
        write_image(root / f"{name}.png", ord(name))
        shape = {"label": "spur", "shape_type": "point", "points": [[30, 90]]}
        write_text(root / f"{name}.json", json.dumps({"shapes": [shape], "imagePath": f"{name}.png"}))
    main([str(root), "--out", str(out), "--holdout", "b", "--clean-distance", "0", *SMALL])
    assert (out / "test/b.txt").read_text() == "0 0.187500 0.750000\n"
    assert np.array_equal(load_rgb(out / "train/defect/spur_0000.png")[24, 24], pixels(ord("a"))[90, 30])
