"""The page of a run: crops, counts, and texts that must not break out."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.quality.checks import RAMPS, PaintedWindow, quality_checks
from utils.errors import UserError, run_main
from utils.manifest import append_entry, mask_rle
from utils.report import write_report
from utils.report.__main__ import main
from utils.report.cards import View, whole_side
from utils.report.explanations import NUMBERS, explained
from utils.report.page import histogram
from utils.verdicts import VERDICTS_FILE

EVIL = '</script><script>alert("x")</script>'


def picture(seed: int) -> np.ndarray:
    """A smooth image, 100 x 80 px, that JPEG keeps well."""
    y, x = np.mgrid[:80, :100]
    return np.stack([x * 2, y * 3, np.full_like(x, 40 * seed)], axis=2).astype(np.uint8)


def defect(
    window: list[int], box: list[int] | None, score: float, name: str, status: str = "painted"
) -> dict:
    mask = None
    if box is not None:
        mask = mask_rle(np.ones((box[3] - box[1], box[2] - box[0]), bool), (box[0], box[1]), (100, 80))
    scores = {"score": score, "area": 12, "contrast": 30.5, "outside": 0.25, "agreement": 0.9}
    return {
        "class_name": name, "class_id": 1, "line": 3, "window": window, "scale": 1.0, "status": status,
        "attempt": int(status == "rejected"), "box": box, "mask": mask, "scores": scores,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a <run>"
    for name in ("sample", "attention", "log"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(picture(1)).save(tmp_path / "board.png")
    Image.fromarray(picture(2)).save(folder / "sample/s0.png")
    Image.fromarray(np.zeros((4, 24), np.uint8)).save(folder / "attention/s0_1_strip.png")
    (folder / "config.yml").write_text("seed: 5\n")
    shared = {
        "source": str(tmp_path / "board.png"),
        "size": [100, 80],
        "seed": 5,
        "config_sha256": "abcdef0123456",
        "version": "9",
        "weights": {},
    }
    files = {
        "sample": "sample/s0.png",
        "mask": "mask/s0.png",
        "crop": [],
        "attention": ["attention/s0_1_strip.png"],
    }
    defects = [defect([0, 0, 32], [4, 8, 14, 28], 0.96, "open"), defect([60, 40, 32], None, 0.0, EVIL)]
    append_entry(
        folder / "manifest.jsonl",
        {"name": "s0", "status": "painted", "files": files, "defects": defects, **shared},
    )
    gone = {"sample": "sample/gone.png", "mask": "mask/gone.png"}
    append_entry(
        folder / "manifest.jsonl",
        {"name": "s1", "status": "painted", "files": gone, "defects": defects[:1], **shared},
    )
    weak = [defect([10, 10, 32], [12, 12, 20, 20], 0.04, "open", "rejected")]
    append_entry(
        folder / "manifest.jsonl",
        {"name": "s2", "status": "rejected", "files": {}, "defects": weak, **shared},
    )
    return folder


def content(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def decoded(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)


def test_crops_show_the_window_with_its_margin():
    assert View.around([30, 20, 32], [100, 80]) == View(22, 12, 48)
    assert View.around([0, 48, 32], [100, 80]) == View(0, 32, 48)  # moved to lie on the image
    assert View.around([0, 0, 60], [100, 80]) == View(0, 0, 80)  # shrunk to its smaller side
    assert View(22, 12, 48).relative([22, 36, 46, 60]) == [0, 0.5, 0.5, 1]


def test_cards_hold_clean_and_painted_crops_mask_and_facts(run: Path):
    cards = content(write_report(run, overwrite=True))["cards"]
    assert [(c["name"], c["number"], c["status"]) for c in cards] == [
        ("s0", 0, "painted"), ("s0", 1, "painted"), ("s1", 0, "painted"), ("s2", 0, "rejected")
    ]  # fmt: skip
    assert np.abs(decoded(cards[0]["before"]) - picture(1)[:48, :48]).mean() < 2
    assert np.abs(decoded(cards[0]["after"]) - picture(2)[:48, :48]).mean() < 2
    mask = np.array(Image.open(io.BytesIO(base64.b64decode(cards[0]["mask"].split(",")[1]))).convert("RGBA"))
    assert mask.shape == (48, 48, 4) and (mask[8:28, 4:14] == (255, 40, 200, 255)).all()
    assert (mask[:, :, 3] > 0).sum() == 200
    assert cards[0]["box"] == [round(v / 48, 4) for v in (4, 8, 14, 28)]
    assert cards[0]["strip"].startswith("data:image/jpeg") and cards[1]["strip"] is None
    assert cards[1]["mask"] is None and cards[1]["box"] is None
    told = [row[:2] for row in cards[3]["facts"]]
    assert ["status", "rejected after 2 attempts"] in told and ["contrast", "30.5 gray levels"] in told
    assert ["source", f"{run.parent / 'board.png'}, line 3"] in [row[:2] for row in cards[0]["facts"]]


def test_each_card_names_its_whole_image_and_its_place_there(run: Path):
    found = content(write_report(run))
    assert len(found["wholes"]) == 1 and [card["whole"] for card in found["cards"]] == [0] * 4
    assert np.abs(decoded(found["wholes"][0]) - picture(1)).mean() < 2
    assert found["cards"][0]["place"] == [0, 0, 0.48, 0.6]  # 48 px of 100 x 80
    assert [whole_side(count) for count in (1, 100, 400, 10**6)] == [640, 640, 320, 160]


def test_numbers_are_explained_with_their_units():
    parts = {"score": 0.5, "judge": 0.9, "tint": 2.0, "odd": 1.0}
    rows = explained(parts)
    assert [row[:2] for row in rows] == [
        ["score", "0.5"], ["judge's probability", "0.9"], ["tint", "2 gray levels"], ["odd", "1"]
    ]  # fmt: skip
    assert "judge" in rows[0][2] and "agreement" in explained({"score": 0.5})[0][2]
    before = np.full((8, 8, 3), 9, np.uint8)
    checks = quality_checks(PaintedWindow(before, before, np.ones((8, 8), bool), None, None))
    assert {*checks, *RAMPS} <= NUMBERS.keys()
    for name, bounds in RAMPS.items():  # what the texts say of the score
        assert all(f"{bound:g}" in NUMBERS[name].meaning for bound in bounds), name


def test_verdicts_of_the_run_are_in_the_page(run: Path):
    assert {card["good"] for card in content(write_report(run))["cards"]} == {None}
    (run / VERDICTS_FILE).write_text("name,number,good\ns0,1,0\ns1,0,1\ns0,1,1\ns1,0,0\n")
    found = content(write_report(run, overwrite=True))["cards"]
    assert [card["good"] for card in found] == [None, True, False, None]


def test_what_is_missing_leaves_a_note(run: Path):
    cards = content(write_report(run, overwrite=True))["cards"]
    assert cards[2]["after"] is None and cards[2]["note"] == "image missing" and cards[2]["before"]
    assert cards[3]["after"] is None and cards[3]["note"] == "not shipped"
    (run.parent / "board.png").unlink()
    assert content(write_report(run, overwrite=True))["cards"][0]["before"] is None


def test_a_damaged_strip_and_files_without_an_image_leave_a_page(run: Path):
    (run / "attention/s0_1_strip.png").write_bytes(b"no image")
    (run / "manifest.jsonl").write_text(
        (run / "manifest.jsonl").read_text().replace('"files":{}', '"files":{"crop":[]}')
    )
    cards = content(write_report(run))["cards"]
    assert [card["strip"] for card in cards] == [None] * len(cards)
    assert cards[-1]["after"] is None and cards[-1]["note"] == "not shipped"


def test_counts_and_histogram(run: Path):
    found = content(write_report(run, overwrite=True))
    assert found["classes"] == [[EVIL, 1, 0], ["open", 2, 1]]
    assert found["bins"] == [2, *[0] * 18, 2] and sum(found["bins"]) == 4
    assert histogram([0.05, 0.0999, 1.0, 0.0]) == [1, 2, *[0] * 17, 1]
    assert found["summary"].startswith("2 images from 1 clean ones, 3 defects, 1 rejected, seed 5")
    assert found["settings"] == "seed: 5\n"


def test_names_cannot_break_out_of_the_page(run: Path):
    text = write_report(run).read_text(encoding="utf-8")
    assert EVIL not in text and "<title>Painted defects: a &lt;run&gt;</title>" in text
    assert text.count("</script>") == 2 and "http" not in text


def test_the_same_run_gives_the_same_page_anywhere(run: Path, tmp_path: Path):
    first = write_report(run).read_bytes()
    assert write_report(run, tmp_path / "deep/page.html").read_bytes() == first


def test_runs_without_samples(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run_main(main, [str(tmp_path)]) == 2
    assert "no such manifest" in capsys.readouterr().err
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(UserError, match="no sample in it"):
        write_report(tmp_path)


def test_page_that_cannot_be_written(run: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, tmp_path / "file/page.html")


def test_only_an_earlier_page_is_replaced_and_only_when_asked(run: Path, capsys: pytest.CaptureFixture):
    manifest = (run / "manifest.jsonl").read_bytes()
    for options in ([], ["--overwrite"]):
        assert run_main(main, [str(run), "--out", str(run / "manifest.jsonl"), *options]) == 2
        assert "is not an earlier report" in capsys.readouterr().err
    assert (run / "manifest.jsonl").read_bytes() == manifest
    assert run_main(main, [str(run)]) == 0
    assert run_main(main, [str(run)]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert run_main(main, [str(run), "--overwrite"]) == 0
    assert run_main(main, [str(run), "--out", str(run)]) == 2
    assert "cannot be read" in capsys.readouterr().err
