"""Judging painted defects: windows, file names, tables, and a classifier that learns."""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evaluation.classifier import (
    BOARD,
    CLEAN,
    LABELS,
    PATCH,
    DefectClassifier,
    _augment,
    _clean_places,
    confusion,
    cut_window,
    draw_patches,
    format_confusion,
    load_classifier,
    predict,
    save_classifier,
    train_classifier,
    window_origin,
)
from evaluation.hits import (
    GREEN,
    RED,
    Hit,
    Sample,
    clean_windows_named_clean,
    collect,
    contact_sheet,
    find_clean,
    format_table,
    judge,
    known_names,
    main,
    mean_change,
    parse_sample_name,
    parse_seeds,
    table_rows,
    write_csv,
)
from utils.errors import UserError
from utils.images import save_png
from utils.judging.classifier import blur
from utils.synthetic_pcb.board import CLASSES, defect_center
from utils.synthetic_pcb.defects import add_defects
from utils.synthetic_pcb.layout import draw_board

NAMES = known_names([*CLASSES, "missing_hole", "Mouse_Bite"])  # spellings of other class files too


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return draw_patches(2, first_seed=980_000, progress=False)


def hit(class_name: str, predicted: str, probability: float, **changes: float) -> Hit:
    sample = Sample("x.png", 0, "board", class_name, 40, 50, 1, 0)
    return Hit(sample, predicted, probability, changes.get("inside"), changes.get("outside"))


# Windows


@pytest.mark.parametrize(
    ("x", "y", "origin"),
    [(50, 60, (18, 28)), (0, 0, (0, 0)), (31, 33, (0, 1)), (119, 99, (56, 36)), (89, 69, (56, 36))],
)
def test_window_stays_inside_the_picture(x, y, origin):
    assert window_origin(100, 120, x, y) == origin


def test_cut_window_holds_the_center_at_32():
    picture = np.zeros((100, 120, 3), dtype=np.uint8)
    picture[60, 50] = 255
    window = cut_window(picture, 50, 60)
    assert window.shape == (64, 64, 3) and window[32, 32].tolist() == [255] * 3 and window.sum() == 765
    assert cut_window(picture, 0, 99)[60 - 36, 50, 0] == 255


def test_picture_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="64 px"):
        cut_window(np.zeros((63, 100, 3), dtype=np.uint8), 10, 10)


# Patches


def test_patches_are_complete_repeatable_and_labeled(drawn):
    patches, labels = drawn
    assert patches.shape == (16, PATCH, PATCH, 3) and patches.dtype == np.uint8
    assert np.bincount(labels).tolist() == [2] * len(CLASSES) + [4]
    again, same = draw_patches(2, first_seed=980_000, progress=False)
    assert np.array_equal(patches, again) and np.array_equal(labels, same)
    assert not np.array_equal(patches, draw_patches(2, first_seed=981_000, progress=False)[0])


def test_clean_patches_include_the_place_of_a_defect():
    board = draw_board(980_000, BOARD, BOARD)
    _, defects = add_defects(board, ["opencircuit"], 3, PATCH // 2)
    places = _clean_places(board, defects, np.random.default_rng(0))
    assert defect_center(defects[0]) in places and len(places) == 3
    assert all(PATCH // 2 <= value <= BOARD - PATCH // 2 for place in places for value in place)


def test_blur_of_each_picture_has_its_own_sigma():
    batch = torch.zeros(2, 3, 15, 15)
    batch[:, :, 7, 7] = 1.0
    blurred = blur(batch, torch.tensor([0.0, 1.0]))
    assert torch.equal(blurred[0], batch[0])
    assert blurred[1].sum(dim=(1, 2)).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    # A Gaussian of sigma 1: the neighbor has exp(-1/2) of the peak
    assert (blurred[1, 0, 7, 8] / blurred[1, 0, 7, 7]).item() == pytest.approx(np.exp(-0.5), rel=1e-5)


def test_variation_keeps_the_defect_in_view_and_repeats():
    patches = torch.zeros(8, PATCH, PATCH, 3, dtype=torch.uint8)
    patches[:, PATCH // 2 - 8 : PATCH // 2 + 8, PATCH // 2 - 8 : PATCH // 2 + 8] = 255
    first = _augment(patches, torch.Generator().manual_seed(1))
    assert first.shape == (8, 3, 64, 64) and first.min() >= -1 and first.max() <= 1
    assert (first[:, :, 31:33, 31:33] > 0).all() and (first[:, :, :16] < -0.3).all()
    assert torch.equal(first, _augment(patches, torch.Generator().manual_seed(1)))


# The network


def test_forward_shape_and_probabilities():
    model = DefectClassifier().eval()
    assert model(torch.zeros(3, 3, 64, 64)).shape == (3, 7)
    windows = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    chances = predict(model, windows, batch_size=2)
    assert chances.shape == (5, 7) and chances.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert chances == pytest.approx(predict(model, windows), abs=1e-5)
    assert predict(model, windows[:0]).shape == (0, 7)


def test_save_and_load_round_trip(tmp_path):
    model = DefectClassifier().eval()
    path = tmp_path / "new" / "classifier.safetensors"
    save_classifier(model, path)
    windows = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(predict(load_classifier(path), windows), predict(model, windows))


def test_missing_or_damaged_weights_are_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="evaluation.classifier"):
        load_classifier(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="not a classifier"):
        load_classifier(tmp_path / "bad.safetensors")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a classifier"):
        load_classifier(tmp_path / "other.safetensors")


def test_training_lowers_the_loss_and_repeats(drawn):
    patches, labels = drawn
    state = torch.get_rng_state()
    model, losses = train_classifier(patches, labels, steps=24, batch_size=16, progress=False)
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3]) and not model.training
    assert torch.equal(torch.get_rng_state(), state)
    _, again = train_classifier(patches, labels, steps=3, batch_size=16, progress=False)
    assert again[0] == losses[0]


def test_confusion_counts_true_rows_and_predicted_columns():
    table = confusion(np.array([0, 0, 3, 6]), np.array([0, 5, 3, 1]))
    assert table.sum() == 4 and table[0, 0] == table[0, 5] == table[3, 3] == table[6, 1] == 1
    lines = format_confusion(table).splitlines()
    assert len(lines) == 8 and lines[1].endswith("50.0%") and lines[2].endswith("-")
    assert lines[4].endswith("100.0%") and lines[7].endswith(" 0.0%")


# File names and options


@pytest.mark.parametrize(
    ("name", "stem", "class_name", "numbers"),
    [
        ("board_3_opencircuit_cx120_cy150_0.png", "board_3", "opencircuit", (120, 150, 1, 0)),
        ("board_1_missing_hole_cx70_cy178_0.png", "board_1", "missinghole", (70, 178, 1, 0)),
        ("board_5_spuriouscopper_cx331_cy100-2_13.png", "board_5", "spuriouscopper", (331, 100, 2, 13)),
        ("a_short_b_Mouse_Bite_cx0_cy5_3.png", "a_short_b", "mousebite", (0, 5, 1, 3)),
        ("spur_cx1_cy2_0_spur_cx3_cy4_5.png", "spur_cx1_cy2_0", "spur", (3, 4, 1, 5)),
    ],
)
def test_file_names_are_understood(name, stem, class_name, numbers):
    sample = parse_sample_name(f"folder/{name}", 4, NAMES)
    assert (sample.stem, sample.class_name, sample.seed, sample.path.name) == (stem, class_name, 4, name)
    assert (sample.x, sample.y, sample.copy, sample.index) == numbers


def test_other_files_are_passed_over_and_unknown_classes_named():
    assert parse_sample_name("board_1_short_cx1_cy2_0_mask.png", 0, NAMES) is None
    assert parse_sample_name("overview.png", 0, NAMES) is None
    with pytest.raises(UserError, match="no class before _cx"):
        parse_sample_name("board_1_scratch_cx1_cy2_0.png", 0, NAMES)


def test_known_names_match_the_published_spelling():
    assert known_names(["Missing_hole", "mousebite"]) == {
        "Missing_hole": "missinghole",
        "missinghole": "missinghole",
        "mousebite": "mousebite",
    }
    with pytest.raises(UserError, match="'scratch'"):
        known_names(["spur", "scratch"])


def test_seeds():
    assert parse_seeds("0-3,7,2") == [0, 1, 2, 3, 7] and parse_seeds("5") == [5]
    for text in ("", "3-1", "a", "1,,2", "-1"):
        with pytest.raises(UserError, match="--seeds"):
            parse_seeds(text)


def test_seed_and_outdir_cannot_be_overridden():
    with pytest.raises(UserError, match="--seeds"):
        main(["--conf_path", "confs/pcb_gen.yml", "seed=3"])
    with pytest.raises(UserError, match="--out"):
        main(["--conf_path", "confs/pcb_gen.yml", "outdir=x"])


# Judging


def test_mean_change_tells_inside_from_outside():
    clean = np.full((64, 128, 3), 100, dtype=np.uint8)
    painted = clean.copy()
    painted[:, 64:] = 90  # the window at x = 96 is the right half
    painted[:, :32] = 104
    assert mean_change(painted, clean, 96, 32) == pytest.approx((10.0, 2.0))
    assert mean_change(painted[:, 64:], clean[:, 64:], 0, 0) == pytest.approx((10.0, 0.0))


def test_table_counts_right_and_wrong_names():
    hits = [
        hit("spur", "spur", 0.9, inside=4.0, outside=1.0),
        hit("spur", "clean", 0.1, inside=2.0, outside=0.0),
        hit("spur", "clean", 0.2, inside=3.0, outside=0.5),
        hit("spur", "short", 0.0, inside=3.0, outside=0.5),
        hit("missinghole", "missinghole", 1.0),
    ]
    first, second, total = table_rows(hits)
    assert (first.name, first.samples, first.right, first.wrong_name) == ("missinghole", 1, 1, "-")
    assert first.inside is None and first.outside is None
    assert (second.name, second.samples, second.right, second.wrong_name) == ("spur", 4, 1, "clean (2)")
    assert (second.probability, second.inside, second.outside) == pytest.approx((0.3, 3.0, 0.5))
    assert (total.name, total.samples, total.right, total.wrong_name) == ("total", 5, 2, "clean (2)")
    lines = format_table([first, second, total]).splitlines()
    assert lines[2].split() == ["spur", "4", "1", "25%", "0.30", "3.00", "0.50", "clean", "(2)"]
    assert lines[1].split() == ["missinghole", "1", "1", "100%", "1.00", "-", "-", "-"]


class Brightest(torch.nn.Module):
    """Names the label whose number is written in the window's middle pixel as its red value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        label = ((x[:, 0, 32, 32] + 1) * 127.5).round().long()
        return 20.0 * torch.nn.functional.one_hot(label, len(LABELS)).float()


@pytest.fixture
def painted(tmp_path) -> tuple[list[Sample], dict[str, np.ndarray]]:
    """Two seeds of one annotation at (70, 80): the first shows its class, the second looks clean."""
    clean = np.full((128, 128, 3), CLEAN, dtype=np.uint8)
    samples = []
    for seed, label in ((0, CLASSES.index("short")), (1, CLEAN)):
        folder = tmp_path / f"seed_{seed}" / "sample"
        folder.mkdir(parents=True)
        picture = clean.copy()
        picture[80, 70] = label
        save_png(folder / "board_1_short_cx70_cy80_0.png", picture)
        save_png(folder / "board_1_short_cx70_cy80_0_mask.png", picture)
        samples += collect(folder.parent, seed, NAMES)
    (tmp_path / "clean").mkdir()
    save_png(tmp_path / "clean" / "board_1.png", clean)
    return samples, {"board_1": find_clean(tmp_path / "clean", "board_1")}


def test_judge_names_the_window_at_the_file_names_center(painted):
    samples, clean = painted
    assert len(samples) == 2
    right, wrong = judge(Brightest(), samples, clean)
    assert right.right and right.probability > 0.99 and right.outside == 0
    assert right.inside == pytest.approx(3 / 64**2)  # label 3 instead of 6, in one pixel
    assert not wrong.right and wrong.predicted == "clean" and wrong.inside == 0
    assert clean_windows_named_clean(Brightest(), samples, clean) == (1, 1)
    unknown = judge(Brightest(), samples, {"board_1": None})
    assert unknown[0].right and unknown[0].inside is None
    assert clean_windows_named_clean(Brightest(), samples, {}) == (0, 0)


def test_csv_and_contact_sheet(painted, tmp_path):
    samples, clean = painted
    hits = judge(Brightest(), samples, clean)
    write_csv(tmp_path / "hits.csv", hits)
    with (tmp_path / "hits.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["class"], row["predicted"], row["right"]) for row in rows] == [
        ("0", "short", "short", "1"),
        ("1", "short", "clean", "0"),
    ]
    sheet = contact_sheet(hits, clean)
    step = 2 * 96 + 4
    assert sheet.shape == (16 + step, 130 + 3 * step, 3)
    assert tuple(sheet[16 + 96, 130 + step]) == GREEN and tuple(sheet[16 + 96, 130 + 2 * step]) == RED
    assert tuple(sheet[16 + 96, 130 + 96]) == (CLEAN,) * 3


def test_empty_folder_is_said(tmp_path):
    (tmp_path / "sample").mkdir()
    with pytest.raises(UserError, match="no painted image"):
        collect(tmp_path, 0, NAMES)
