"""What is planned from a folder, what the files are called, and which defects are painted together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.geometry import Context, Geometry
from generation.jobs import Job, JobOptions, make_groups, nothing_to_paint, plan_groups, plan_jobs, safe_name
from generation.passes import Pass
from tests.defaults import job_options
from utils.errors import UserError

CLASSES = {"spur": 0, "mouse bite": 1}
SQUASH = Geometry("squash", 1.0, 256, 64)
NATIVE = Geometry("native", 1.0, 64, 32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(folder: Path, name: str, text: str | None = "0 0.5 0.5", size: tuple[int, int] = (40, 30)) -> Path:
    """An image of `size` (width, height), with annotations unless `text` is None."""
    Image.fromarray(noise(size[1], size[0], 3)).save(folder / name)
    if text is not None:
        (folder / name).with_suffix(".txt").write_text(text)
    return folder / name


def problems(folder: Path, geometry: Geometry = SQUASH, options: JobOptions | None = None) -> str:
    with pytest.raises(UserError) as caught:
        plan_jobs(folder, CLASSES, geometry, options or job_options())
    return str(caught.value)


# Plans


def test_names_order_and_indices(tmp_path: Path):
    write(tmp_path, "b.png", "1 0.25 0.5 0.1 0.1\n0 0.9999 0\n1 0.2501 0.5001")
    write(tmp_path, "a.JPG", "0 0.5 0.5 0.1 0.1 0.77")
    write(tmp_path, "empty.bmp", "")
    write(tmp_path, "bare.bmp", None)
    jobs = plan_jobs(tmp_path, CLASSES, SQUASH, job_options(n_samples=2, n_iter=2))
    bases = ["b_mouse-bite_cx64_cy128", "b_spur_cx255_cy0", "b_mouse-bite_cx64_cy128-2"]
    expected = [f"a_spur_cx128_cy128_{i}" for i in range(4)]
    expected += [f"{base}_{i}" for pair in ((0, 1), (2, 3)) for base in bases for i in pair]
    assert [job.name for job in jobs] == expected
    assert [job.index for job in jobs[4:]] == [0, 1] * 3 + [2, 3] * 3
    assert len({job.name for job in jobs}) == 16
    assert jobs[4].defects[0].center == (64, 128) and jobs[4].defects[0].annotation.w == 0.1
    assert jobs[0].image == tmp_path / "a.JPG"


def test_native_names_carry_native_pixels(tmp_path: Path):
    write(tmp_path, "wide.png", "0 0.75 0.5", size=(200, 100))
    (job,) = plan_jobs(tmp_path, CLASSES, NATIVE, job_options())
    context = Context(118, 18, 64, ((16, 16),), 1.0)
    assert (job.name, job.turns) == ("wide_spur_cx150_cy50_0", ((Pass(context, (0,)),),))
    assert job.defects[0].window == (134, 34, 32)


def test_turned_photograph_is_measured_as_it_is_shown(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: 100 x 200 is shown
    Image.fromarray(noise(100, 200, 3)).save(tmp_path / "t.jpg", exif=exif)
    (tmp_path / "t.txt").write_text("0 0.5 0.9")
    (job,) = plan_jobs(tmp_path, CLASSES, NATIVE, job_options())
    assert job.defects[0].center == (50, 180) and job.passes[0].context.top == 136


def test_suffixes_in_any_case_hidden_files_and_odd_names(tmp_path: Path):
    write(tmp_path, "BOARD 1.PNG", None)
    (tmp_path / "BOARD 1.TXT").write_text("0 0.5 0.5\r\n")
    write(tmp_path, "плата.v2 (копия).png")
    (tmp_path / "._BOARD 1.PNG").write_bytes(b"what macOS leaves on memory sticks")
    (tmp_path / "._BOARD 1.TXT").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "classes.txt").write_text("spur")
    (tmp_path / "later.png").mkdir()
    names = [job.name for job in plan_jobs(tmp_path, CLASSES, SQUASH, job_options())]
    assert names == ["BOARD 1_spur_cx128_cy128_0", "плата.v2 (копия)_spur_cx128_cy128_0"]


@pytest.mark.parametrize(
    "name, safe",
    [("mouse_bite", "mouse_bite"), ("a/b\\c:d", "a-b-c-d"), ("../x", "---x"), ("漏孔 2", "漏孔-2")],
)
def test_class_names_become_parts_of_file_names(name: str, safe: str):
    assert safe_name(name) == safe


# Folders that cannot be painted


def test_every_problem_of_a_folder_is_listed(tmp_path: Path):
    write(tmp_path, "good.png")
    write(tmp_path, "bad.png", "0 0.5 half\n7 0.5 0.5\n0 1.5 0.5\n0 0.5")
    (tmp_path / "broken.png").write_bytes(b"not an image")
    (tmp_path / "broken.txt").write_text("9 0.5 0.5")
    (tmp_path / "lonely.txt").write_text("0 0.5 0.5")
    write(tmp_path, "twin.png")
    write(tmp_path, "twin.jpg")
    lines = problems(tmp_path).splitlines()
    assert lines[0] == f"defect_free_dir {tmp_path} cannot be painted (8 problems):"
    text = "\n".join(line.removeprefix("  - ").replace(f"{tmp_path}/", "") for line in lines[1:])
    for expected in (
        "twin.jpg and twin.png: the same name",
        "broken.png: not a readable image",
        "broken.txt:1: got class 9, expected one of 0 (spur), 1 (mouse bite)",
        "bad.txt:1: got '0 0.5 half', expected numbers",
        "bad.txt:2: got class 7",
        "bad.txt:3: got 1.5, expected coordinates in [0, 1]",
        "bad.txt:4: got 2 columns",
        "lonely.txt: annotations without an image",
    ):
        assert expected in text
    assert "good" not in text and len(lines) == 9


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_picture_cut_short_is_found_before_anything_is_painted(tmp_path: Path, suffix: str):
    path = write(tmp_path, f"cut{suffix}", size=(80, 80))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"cut{suffix}: not a readable image" in problems(tmp_path)


def test_contexts_that_do_not_fit_are_among_the_problems(tmp_path: Path):
    write(tmp_path, "small.png", "0 0.5 0.5\n1 0.1 0.1", size=(63, 200))
    text = problems(tmp_path, NATIVE)
    assert "(2 problems)" in text and "small.txt:1: the image is 63x200 px" in text
    assert "annotation 1 needs" in text and "annotation 2 needs" in text


def test_folder_without_annotations(tmp_path: Path):
    write(tmp_path, "a.png", None)
    write(tmp_path, "b.png", "\n")
    assert "no annotations" in problems(tmp_path) and "\n" not in problems(tmp_path)


def test_folder_without_pictures_and_no_folder(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5")
    assert f"{tmp_path}: no images in it" in problems(tmp_path)
    assert "nowhere: no such folder" in problems(tmp_path / "nowhere")
    assert "a.txt: no such folder" in problems(tmp_path / "a.txt")


def test_pictures_whose_annotations_would_write_one_file_are_named(tmp_path: Path):
    write(tmp_path, "board.png", "1 0.5 0.5")
    write(tmp_path, "board_open.png", "0 0.5 0.5")
    classes = {"circuit": 0, "open_circuit": 1}
    with pytest.raises(
        UserError, match=r"board.png and board_open.png: both would write board_open_circuit_cx"
    ):
        plan_jobs(tmp_path, classes, SQUASH, job_options())


# Several defects on one image


def together(folder: Path, centers: list[tuple[int, int]], whole: bool = False, **geometry: object) -> Job:
    """The job of an image of 400 x 300 px with defects at these px, all on one image."""
    lines = [f"{k % 2} {x / 400} {y / 300}" for k, (x, y) in enumerate(centers)]
    write(folder, "a.png", "\n".join(lines), size=(400, 300))
    options = job_options(together=True, whole_contexts=whole)
    (job,) = plan_jobs(folder, CLASSES, Geometry(**{**vars(NATIVE), **geometry}), options)
    return job


def passes(job: Job) -> list[list[tuple[int, ...]]]:
    return [[one.defects for one in turn] for turn in job.turns]


def test_near_defects_share_a_context_and_far_ones_do_not(tmp_path: Path):
    job = together(tmp_path, [(100.5, 100.5), (132.5, 100.5), (300.5, 200.5), (100.5, 132.5)])
    assert job.name == "a_all_0" and len(job.defects) == 4
    assert passes(job) == [[(0, 1, 3), (2,)]]
    first = job.turns[0][0].context
    assert (first.left, first.top, first.windows) == (84, 84, ((0, 0), (32, 0), (0, 32)))
    assert [d.window for d in job.defects] == [
        (84, 84, 32), (116, 84, 32), (284, 184, 32), (84, 116, 32)
    ]  # fmt: skip


def test_overlapping_windows_are_painted_in_turn(tmp_path: Path):
    job = together(tmp_path, [(100, 100), (110, 100), (120, 100), (300, 100)])
    assert passes(job) == [[(0,), (3,)], [(1,)], [(2,)]]


def test_whole_contexts_that_overlap_are_painted_in_turn(tmp_path: Path):
    centers = [(100, 100), (160, 100), (300, 100)]  # windows apart, contexts 60 px apart and 64 wide
    assert passes(together(tmp_path, centers)) == [[(0,), (1,), (2,)]]
    assert passes(together(tmp_path, centers, whole=True)) == [[(0,), (2,)], [(1,)]]


def test_squashed_picture_is_one_pass_but_for_overlaps(tmp_path: Path):
    job = together(tmp_path, [(20, 20), (200, 150), (380, 280), (25, 25)], resize="squash", image_size=256)
    assert passes(job) == [[(0, 1, 2)], [(3,)]]


def test_only_windows_of_one_scale_share_a_context(tmp_path: Path):
    write(tmp_path, "a.png", "0 0.25 0.33 0.09 0.01\n1 0.33 0.33 0.02 0.02", size=(400, 300))  # 36 px: 1.5
    auto = Geometry("native", "auto", 64, 32)
    (job,) = plan_jobs(tmp_path, CLASSES, auto, job_options(together=True))
    assert sorted(one.context.scale for one in job.passes) == [1.0, 1.5]


def overlap(a: tuple[int, int, int], b: tuple[int, int, int]) -> bool:
    """Whether two squares (left, top, side) share a pixel."""
    return all(a[k] < b[k] + b[2] and b[k] < a[k] + a[2] for k in (0, 1))


def test_no_two_windows_of_a_turn_overlap_wherever_they_lie(tmp_path: Path):
    rng = np.random.default_rng(0)
    centers = [
        (int(x), int(y)) for x, y in zip(rng.integers(0, 400, 60), rng.integers(0, 300, 60), strict=True)
    ]
    for whole in (False, True):
        job = together(tmp_path, centers, whole=whole)
        assert sorted(k for one in job.passes for k in one.defects) == list(range(60))
        for turn in job.turns:
            windows = [job.defects[k].window for one in turn for k in one.defects]
            assert not any(overlap(a, b) for n, a in enumerate(windows) for b in windows[:n])
            squares = [(c.context.left, c.context.top, c.context.side) for c in turn]
            if whole:
                assert not any(overlap(a, b) for n, a in enumerate(squares) for b in squares[:n])


def test_label_box_annotation_needs_boxes(tmp_path: Path):
    write(tmp_path, "a.png", "0 0.5 0.5\n1 0.2 0.2 0.1 0.1\n0 0.1 0.1")
    text = problems(tmp_path, options=job_options(boxes=True))
    assert "(2 problems)" in text and "a.txt:1: no width and height" in text and "a.txt:3" in text


def test_annotations_in_a_folder_of_their_own(tmp_path: Path):
    write(tmp_path, "a.png", "1 0.1 0.1")
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/a.txt").write_text("0 0.5 0.5")
    (job,) = plan_jobs(tmp_path, CLASSES, SQUASH, job_options(), tmp_path / "plan")
    assert job.name == "a_spur_cx128_cy128_0"


@pytest.mark.parametrize("name", ["x" * 400, "é" * 130])
def test_names_that_no_file_can_have_are_found_before_painting(tmp_path: Path, name: str):
    write(tmp_path, "a.png", "0 0.5 0.5\n1 0.5 0.5")
    with pytest.raises(
        UserError, match=r"a\.png: its samples would be named a_.*shorten the image's or"
    ) as caught:
        plan_jobs(tmp_path, {name: 0, "spur": 1}, SQUASH, job_options())
    assert "spur" not in str(caught.value)


# Groups


def of(contexts: int) -> Job:
    """A job with so many contexts, and that number as its index."""
    one = Pass(Context(0, 0, 8, ((0, 0),), 1.0), (0,))
    return Job(Path("a.png"), (), ((one,) * contexts,), "a", contexts)


def test_groups_fill_batches_with_contexts_or_end_after_four():
    jobs = [of(n) for n in (3, 3, 2, 5, 1, 4)]
    assert [[j.index for j in group] for group in plan_groups(jobs, 4)] == [[3, 3, 2], [5, 1, 4]]
    assert [len(group) for group in plan_groups([of(3)] * 9, 7)] == [7, 2]  # 21 = 3 batches of 7
    assert [len(group) for group in plan_groups([of(5)] * 9, 2)] == [2, 2, 2, 2, 1]
    assert plan_groups(jobs, 99) == [jobs] and plan_groups([], 2) == []


def test_processes_take_groups_in_turn_and_leave_out_what_is_done(monkeypatch: pytest.MonkeyPatch):
    jobs = [of(n) for n in (1, 2, 3, 4, 5, 6)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shares.append(make_groups(jobs, 1, wanted=lambda job: job.index != 3))
    assert [[[j.index for j in group] for group in share] for share in shares] == [
        [[1], [5]],
        [[2], [4], [6]],
    ]
    assert sum(make_groups(jobs, 1, wanted=lambda job: job.index != 3, shared=False), []) == [
        job for job in jobs if job.index != 3
    ]


def test_a_process_with_nothing_to_paint_says_whether_others_have(monkeypatch: pytest.MonkeyPatch):
    assert nothing_to_paint(6, 0).startswith("nothing to paint: the 6 samples are all there")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert nothing_to_paint(6, 0).startswith("nothing to paint: the 6 samples are all there")
    assert nothing_to_paint(6, 2) == (
        "process 1 of 2 has nothing to paint: the 2 samples that are missing belong to other processes' batches"
    )
