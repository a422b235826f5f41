"""Series of photographs of one part: found where images say so, by whatever field of their names."""

import numpy as np
import pytest

from tests.prepare_data.builders import pixels, voc_xml, write_image
from utils.images import save_png
from utils.prepare_data.__main__ import main
from utils.prepare_data.groups.series import alike, assortativity, find_series, likeness, recurring, view_of
from utils.prepare_data.sources import DefectBox, SourceImage
from utils.prepare_data.survey import survey_source

SIZE = (160, 120)


def image(tmp_path, name: str, seed: int, *boxes: tuple[float, float, float, float], kind: str = "pit"):
    return SourceImage(
        tmp_path / name,
        [DefectBox(kind, *box) for box in boxes],
        size=SIZE,
        view=view_of(pixels(seed, *SIZE)),
    )


def place(position: int, frame: int) -> tuple[float, float, float, float]:
    """A pit that grows, at a place of its own for each position."""
    left = 10.0 + 35 * position
    return (left - frame, 40.0 - frame, left + 12 + frame, 60.0 + frame)


def test_time_lapses_are_grouped_by_their_position(tmp_path):
    frames = [
        image(tmp_path, f"1_{900 + 7 * k + p}_{p}000_45_crop.jpg", 10 * k + p, place(p, k))
        for p in range(4)
        for k in range(3)
    ]
    found = find_series(frames)
    assert found is not None and found.pattern == r"^(?:[^_.-]+[_.-]+){2}([^_.-]+)"
    assert "4 groups" in found.reason and "defects recur" in found.reason


def test_aligned_photographs_are_grouped_by_their_board_whatever_their_defects(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for number in range(12):
        left, top = rng.integers(0, 60, 2)
        name = f"{'top-left' if number % 3 else 'front'}-{number}-b{number % 4}.png"
        frames.append(image(tmp_path, name, number % 4, (left, top, left + 9, top + 5)))
    found = find_series(frames)
    assert found is not None and found.pattern == r"([^_.-]+)(?:[_.-]+[^_.-]+){1}$"


def test_images_with_nothing_in_common_have_no_series(tmp_path):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 100, (12, 2))
    frames = [
        image(tmp_path, f"day{n % 3}_{n}.png", n, (x, y, x + 15, y + 9)) for n, (x, y) in enumerate(corners)
    ]
    assert find_series(frames) is None


def test_everything_alike_is_no_series(tmp_path):
    frames = [image(tmp_path, f"day{n % 3}_{n}.png", 5, place(0, 1)) for n in range(12)]
    assert find_series(frames) is None


def test_a_division_by_class_is_none(tmp_path):
    kinds = ("crack", "dent", "hole")
    frames = [
        image(tmp_path, f"{kinds[k]}_{n}.png", 10 * k + n, place(k, n), kind=kinds[k])
        for k in range(3)
        for n in range(5)
    ]
    assert find_series(frames) is None
    for one in frames:
        one.boxes = [DefectBox("pit", *place(kinds.index(one.path.name.split("_")[0]), 0))]
    assert find_series(frames) is not None


def test_groups_of_the_reader_stay(tmp_path):
    frames = [image(tmp_path, f"{p}_{k}.png", k, place(p, k)) for p in range(4) for k in range(3)]
    assert find_series(frames) is not None
    frames[0].group = "mine"
    assert find_series(frames) is None


def test_assortativity_is_1_inside_groups_and_0_by_chance():
    keys = np.array([0, 0, 1, 1])
    own = np.kron(np.eye(2), 1 - np.eye(2)).astype(bool)
    assert assortativity(own, keys) == 1.0
    # Of 3 links 2 are inside; half of all ends are of each group: (2/3 - 1/2) / (1 - 1/2)
    own[1, 2] = own[2, 1] = True
    assert assortativity(own, keys) == pytest.approx(1 / 3)
    assert assortativity(np.zeros((4, 4), bool), keys) == 0.0


def test_views_do_not_mind_light():
    view = view_of(pixels(1))
    assert likeness([view], [view // 2 + 60])[0, 0] > 0.99
    assert abs(likeness([view], [view_of(pixels(2))])[0, 0]) < 0.2
    assert likeness([np.full_like(view, 9)], [view])[0, 0] == 0
    assert alike([view, view_of(pixels(2)), view]).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_half_of_the_boxes_of_either_image_must_recur(tmp_path):
    both = image(tmp_path, "a.png", 1, (0, 0, 20, 20), (80, 80, 90, 90))
    same = image(tmp_path, "b.png", 2, (0, 0, 20, 19), (80, 80, 90, 90))
    one = image(tmp_path, "c.png", 3, (0, 0, 20, 20))
    three = image(tmp_path, "d.png", 3, (0, 0, 20, 20), (120, 0, 130, 9), (120, 60, 130, 69))
    assert recurring([both, same, one, three]).tolist() == [
        [False, True, True, False],
        [True, False, False, False],  # 0.95 and 0 of its boxes in c
        [True, False, False, False],
        [False, False, False, False],
    ]


def test_clean_frames_of_held_out_positions_stay_out_of_training(tmp_path):
    for position in range(4):
        part = pixels(position, *SIZE)
        for number in range(3):
            name, (left, top, right, bottom) = f"1_{number}{position}_{position}00", place(position, number)
            shown = part.copy()
            shown[int(top) : int(bottom), int(left) : int(right)] = 0
            (tmp_path / "in/images").mkdir(parents=True, exist_ok=True)
            save_png(tmp_path / f"in/images/{name}.png", shown)
            voc_xml(tmp_path / f"in/images/{name}.xml", [("pit", left, top, right, bottom)], SIZE)
        (tmp_path / "in/clean").mkdir(exist_ok=True)
        save_png(tmp_path / f"in/clean/1_9{position}_{position}00.png", part)
        write_image(tmp_path / f"in/clean/1_8{position}_{position}00.png", 50 + position, 170)  # another size
    survey = survey_source(tmp_path / "in")
    assert {one.group for one in survey.images} == {"000", "100", "200", "300"}
    assert all(
        one.counterpart is not None and one.counterpart.path.name == f"1_9{one.group[0]}_{one.group}.png"
        for one in survey.defective
    )
    main([str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--holdout", "200", "--window", "32"])
    trained = [path.name for path in (tmp_path / "out/train").rglob("*.png")]
    assert not any("_200" in name for name in trained) and any("_100" in name for name in trained)
    assert sorted(path.name for path in (tmp_path / "out/train_clean").iterdir())[0] == "1_80_000.png"
    assert len(list((tmp_path / "out/train_clean").iterdir())) == 6
    assert len(list((tmp_path / "out/test_clean").glob("*.png"))) == 3
    assert "images are grouped by ^(?:" in (tmp_path / "out/report.txt").read_text()
