"""The manifest: lines cut short, lines repeated, and COCO's run lengths."""

import numpy as np
import pytest

from tests.builders import manifest_defect, manifest_entry
from utils.errors import UserError
from utils.manifest import append_entry, mask_of, mask_rle, read_manifest, rewrite


@pytest.fixture(autouse=True)
def _log(tmp_path):
    (tmp_path / "log").mkdir()


def test_the_last_line_of_a_name_counts_and_order_is_that_of_first_lines(tmp_path):
    path = tmp_path / "manifest.jsonl"
    for entry in (manifest_entry("b", seed=1), manifest_entry("ä"), manifest_entry("b", seed=2)):
        append_entry(path, entry)
    assert read_manifest(path) == [manifest_entry("b", seed=2), manifest_entry("ä")]


def test_a_line_that_a_kill_cut_short_is_passed_over_and_replaced(tmp_path):
    path = tmp_path / "manifest.jsonl"
    append_entry(path, manifest_entry("a"))
    with open(path, "a") as file:
        file.write('{"name": "b", "v"')
    assert read_manifest(path) == [manifest_entry("a")]
    append_entry(path, manifest_entry("c"))
    assert read_manifest(path) == [manifest_entry("a"), manifest_entry("c")]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"v": 1}', "3"])
def test_other_bad_lines_are_errors_that_name_the_line(tmp_path, line):
    path = tmp_path / "manifest.jsonl"
    append_entry(path, manifest_entry("a"))
    with open(path, "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"manifest.jsonl:2: got"):
        read_manifest(path)


RLE = {"size": [8, 8], "counts": [0, 8, 56]}


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in ("../../evil", "/etc/x", "a\\b", "", "..", "a\0", "x" * 300)),
        *({"files": {"sample": path, "mask": "m.png"}} for path in ("/etc/hostname", "../x", "a/../../x", 3)),
        *({"size": size} for size in ([0, 8], [2**20, 2**20], [8], [8.5, 8], "88")),
        *({"seed": "1"}, {"weights": [1]}, {"defects": {}}, {"status": "done"}, {"files": {}}),
    ],
)
def test_what_a_sample_may_not_be(tmp_path, change):
    append_entry(tmp_path / "manifest.jsonl", manifest_entry("a") | change)
    with pytest.raises(UserError, match=r"manifest.jsonl:1: got .* expected a sample"):
        read_manifest(tmp_path / "manifest.jsonl")


@pytest.mark.parametrize(
    "change",
    [
        *({"class_id": value} for value in (-1, 10**8, "0", 1.5)),
        *({"window": value} for value in ([0, 0, 9], [-1, 0, 4], [0, 0, 0])),
        *({"box": value, "mask": RLE} for value in ([0, 0, 9, 4], [4, 0, 4, 4], [0, 0, 1], [0, 0, 1e9, 1])),
        *({"mask": {**RLE, "counts": value}, "box": [0, 0, 1, 1]} for value in ([63], [-1, 65], [2**60])),
        *({"scores": {}}, {"scores": {"score": float("nan")}}, {"status": "x"}, {"attempt": -1}),
        {"box": [0, 0, 1, 1], "mask": None},
    ],
)
def test_what_a_defect_may_not_be(tmp_path, change):
    append_entry(tmp_path / "manifest.jsonl", manifest_entry("a", defects=[manifest_defect(**change)]))
    with pytest.raises(UserError, match=r"manifest.jsonl:1: got .* expected a sample"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_no_manifest(tmp_path):
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_rewriting(tmp_path):
    path = tmp_path / "manifest.jsonl"
    for name in "bca":
        append_entry(path, manifest_entry(name))
    rewrite(path, lambda entries: sorted(entries[1:], key=lambda entry: entry["name"]))
    assert [entry["name"] for entry in read_manifest(path)] == ["a", "c"]
    stamp = path.stat().st_mtime_ns
    rewrite(path, list)
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 0, 1], [0, 1, 1]], [3, 3]),  # columns 00, 01, 11
        ([[1, 0], [1, 0]], [0, 2, 2]),
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
    ],
)
def test_run_lengths_go_down_the_columns_and_begin_with_zeros(mask, counts):
    mask = np.array(mask, bool)
    rle = mask_rle(mask, (0, 0), mask.shape[::-1])
    assert rle == {"size": list(mask.shape), "counts": counts}
    assert np.array_equal(mask_of(rle), mask)


@pytest.mark.parametrize("corner", [(0, 0), (0, 3), (4, 0), (2, 1), (4, 3)])
def test_a_window_at_any_place_of_a_picture(corner):
    rng, whole = np.random.default_rng(sum(corner)), np.zeros((5, 7), bool)
    for _ in range(20):
        window = rng.random((2, 3)) < 0.5
        whole[:] = False
        whole[corner[1] : corner[1] + 2, corner[0] : corner[0] + 3] = window
        rle = mask_rle(window, corner, (7, 5))
        assert rle["counts"] == mask_rle(whole, (0, 0), (7, 5))["counts"] and 0 not in rle["counts"][1:]
        assert np.array_equal(mask_of(rle), whole)
