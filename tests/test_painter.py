"""From jobs to painted images, with networks that are simple functions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from generation.exemplars.laying import Laid, Start
from generation.geometry import Geometry
from generation.jobs import Job, item_seed, plan_jobs, turn_items
from generation.painting.canvas import Canvas
from generation.painting.options import PaintOptions
from generation.painting.painter import Painter, Task, Work, attention_strips, separate
from generation.painting.results import ContextResult
from generation.scoring import PaintedSample
from guided_diffusion.ddim import Result, Sampler
from tests import defaults
from tests.defaults import attention_options, job_options, sampler_options
from utils.errors import UserError

SIZE, CROP = 32, 16
CLASSES = {"dark": 0, "bright": 1}
GRAY = 100


class ProgressCallback:
    """Counts contexts on their way."""

    def __init__(self):
        self.batches: list[int] = []

    def start(self, batch, clean, windows) -> None:
        self.batches.append(len(batch))

    def step(self, record) -> None:
        pass

    def finish(self) -> None:
        pass


class World:
    """A contextual model that sees flat gray everywhere, and a prior that sees a square in the middle of its
    window: dark for class 0, bright for class 1."""

    def __init__(self, calls_limit: int | None = None, visible: bool = True):
        self.diffusion = defaults.diffusion(diffusion_steps=1000, timestep_respacing="50")
        steps = (int(step) for step in self.diffusion.network_steps)
        self.abar = dict(zip(steps, self.diffusion.abar, strict=True))
        self.limit, self.visible = calls_limit, visible

    def clean(self, x: Tensor) -> Tensor:
        return torch.full_like(x, GRAY / 127.5 - 1)

    def eps(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        a = self.abar[int(t[0])]
        return ((x - a**0.5 * x0) / (1 - a) ** 0.5).to(x)

    def contextual(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        if self.limit is not None and len(x) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        a = self.abar[int(t[0])]
        # It keeps some of what it sees, so that refinement can move it
        return self.eps(x, 0.6 * self.clean(x) + 0.4 * x / a**0.5, t)

    def prior(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        x0 = self.clean(x)
        if self.visible:
            x0[:, :, 4:12, 4:12] = torch.where(y == 0, -1.0, 1.0).view(-1, 1, 1, 1)
        return self.eps(x, x0, t)

    def painter(self, **options: object) -> Painter:
        sampling = sampler_options([4, 3, 2, 1, 0], 4, [2] * 50, attention=attention_options(), lr_xt=0.001)
        values = {
            "generated": False,
            "feather": 2,
            "batch_size": 4,
            "seed": 0,
            "squash": False,
            "candidates": 1,
            "min_score": 0.0,
            "max_rerolls": 0,
            "strips": False,
            "masked": False,
            "sees_surroundings": False,
            **options,
        }
        sampler = Sampler(self.contextual, self.prior, self.diffusion, sampling)
        return Painter(sampler, PaintOptions(SIZE, CROP, **values), torch.device("cpu"), ProgressCallback())


def board(folder: Path, lines: str, name: str = "a", size: tuple[int, int] = (120, 80)) -> None:
    Image.fromarray(np.full((size[1], size[0], 3), GRAY, np.uint8)).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(lines)


def plan(folder: Path, together: bool = True, whole: bool = False, **geometry: object) -> list[Job]:
    values = {"resize": "native", "scale": 1.0, "image_size": SIZE, "crop_size": CROP, **geometry}
    return plan_jobs(
        folder, CLASSES, Geometry(**values), job_options(together=together, whole_contexts=whole)
    )


def paint_one(world: World, jobs: list[Job], **options: object) -> PaintedSample:
    (sample,) = world.painter(**options).paint(jobs)
    return sample


# What is painted


def test_several_defects_on_one_picture_each_in_its_place_and_class(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.384 0.5\n1 0.8 0.5")
    (job,) = plan(tmp_path)
    assert [one.defects for one in job.passes] == [(0, 1), (2,)]
    sample = paint_one(World(), [job])
    assert sample.accepted and sample.image.shape == (80, 120, 3)
    for defect, x, sign in zip(sample.defects, (30, 46, 96), (-1, 1, 1), strict=True):
        inner = sample.image[37:43, x - 3 : x + 3].astype(int) - GRAY
        assert 15 < sign * inner.mean() < 80
        left, top, right, bottom = defect.box
        assert abs(left - (x - 4)) <= 1 and abs(right - (x + 4)) <= 1
        assert abs(top - 36) <= 1 and abs(bottom - 44) <= 1
        assert defect.scores["agreement"] > 0.7 and defect.scores["area"] == defect.region.mask.sum()
    untouched = np.ones((80, 120), bool)
    for left, top, side in (d.window for d in job.defects):
        untouched[top : top + side, left : left + side] = False
    assert (sample.image[untouched] == GRAY).all()
    mask = sample.mask
    assert not mask[untouched].any() and mask[40, [30, 46, 96]].all() and not mask[40, 70]


def test_overlapping_windows_both_end_up_on_the_picture(tmp_path: Path):
    board(tmp_path, "0 0.5 0.5\n1 0.575 0.5")  # 9 px apart: the windows overlap, the squares do not
    (job,) = plan(tmp_path)
    assert len(job.turns) == 2
    sample = paint_one(World(), [job])
    dark, bright = sample.image[38:42, 58:62].mean(), sample.image[38:42, 67:71].mean()
    assert dark < GRAY - 15 and bright > GRAY + 15


def test_larger_scales_paint_larger_defects(tmp_path: Path):
    board(tmp_path, "0 0.5 0.5")
    sample = paint_one(World(), plan(tmp_path, scale=2.0))
    left, top, right, bottom = sample.defects[0].box
    assert abs((right - left) - 16) <= 2 and abs((bottom - top) - 16) <= 2
    assert sample.defects[0].window == (44, 24, 32)


@pytest.mark.parametrize("scale", [1.125, 1.21, 1.5, 2.3])
def test_nothing_outside_the_windows_changes_at_any_scale(tmp_path: Path, scale: float):
    board(tmp_path, "0 0.41 0.53", size=(131, 117))
    sample = paint_one(World(), plan(tmp_path, scale=scale), feather=0)
    left, top, side = sample.defects[0].window
    changed = (sample.image != GRAY).any(axis=2)
    assert changed[top : top + side, left : left + side].any()
    changed[top : top + side, left : left + side] = False
    assert not changed.any()


def test_a_whole_context_is_replaced_with_the_generated_background(tmp_path: Path):
    Image.fromarray(np.full((80, 120, 3), GRAY + 20, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5")
    sample = paint_one(World(), plan(tmp_path), generated=True)
    context = sample.image[24:56, 44:76].astype(int)
    assert GRAY < context[:4].mean() < GRAY + 15  # the contextual model draws darker boards
    rest = np.ones((80, 120), bool)
    rest[24:56, 44:76] = False
    assert (sample.image[rest] == GRAY + 20).all()


# Batches


def test_batches_fill_across_pictures_and_give_what_single_runs_give(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5")
    board(tmp_path, "1 0.3 0.4\n0 0.7 0.3\n0 0.3 0.45", "b")
    jobs = plan(tmp_path)
    together = World().painter(batch_size=3)
    samples = list(together.paint(jobs))
    assert together.callback.batches == [3, 1, 1]  # four contexts of the first turn, one of the second
    for job, sample in zip(jobs, samples, strict=True):
        alone = paint_one(World(), [job], batch_size=1)
        assert np.abs(alone.image.astype(int) - sample.image).max() <= 1


def test_memory_that_gives_out_halves_the_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in "abcde":
        board(tmp_path, "0 0.25 0.5", name)
    jobs = plan(tmp_path)
    small = World(calls_limit=2).painter(batch_size=5)
    samples = list(small.paint(jobs))
    assert small.callback.batches == [5, 2, 3, 1, 2]
    assert "too small for 5 contexts at once" in caplog.text and "too small for 3" in caplog.text
    for sample, expected in zip(samples, World().painter(batch_size=5).paint(jobs), strict=True):
        assert np.abs(sample.image.astype(int) - expected.image).max() <= 1


def test_memory_too_small_for_one_is_the_user_s_error(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    with pytest.raises(UserError, match="memory of cpu is too small for 1 contexts"):
        list(World(calls_limit=0).painter().paint(plan(tmp_path)))


def test_other_errors_are_not_taken_for_a_want_of_memory(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    painter = World().painter()
    painter.sampler.contextual = lambda x, t, y: torch.zeros(1) @ torch.zeros(2)
    with pytest.raises(RuntimeError, match="size"):
        list(painter.paint(plan(tmp_path)))


# Numbers that overflow


def overflowing(world: World, at: int = 4) -> World:
    """Another world, whose prior knows no numbers for class 0 from the index `at` of the chain downwards."""
    other, usual = World(), world.prior
    step = int(world.diffusion.network_steps[at])

    def prior(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        nan = (y == 0).view(-1, 1, 1, 1) & (t[0] <= step)
        return torch.where(nan, torch.nan, usual(x, t, y))

    other.prior = prior
    return other


def equal(one: PaintedSample, other: PaintedSample) -> bool:
    return np.array_equal(one.image, other.image) and one.status == other.status


def test_what_overflows_is_painted_in_float32_and_the_others_go_on(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5\n0 0.5 0.5")
    jobs = plan(tmp_path, together=False)
    expected = list(World().painter(batch_size=1).paint(jobs))
    painter = overflowing(World()).painter(batch_size=3)
    painter.exact = lambda: World().painter().sampler
    found = list(painter.paint(jobs))
    assert all(map(equal, found, expected))
    assert painter.callback.batches == [3, 1, 2]  # all, those with numbers, the others once more


@pytest.mark.parametrize("at", [4, 2, 1])
def test_what_overflows_in_float32_too_fails_with_step_and_reason(tmp_path: Path, at: int):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5")
    jobs = plan(tmp_path, together=False)
    painter = overflowing(World(), at).painter()
    painter.exact = lambda: overflowing(World(), at).painter().sampler
    failed, painted = painter.paint(jobs)
    assert (failed.status, failed.defects) == ("failed", ()) and (failed.image == GRAY).all()
    assert failed.failure.t == at and "not a number" in failed.failure.reason
    assert equal(painted, list(World().painter(batch_size=1).paint(jobs))[1])


def test_one_context_that_overflows_is_the_whole_sample(tmp_path: Path):
    board(tmp_path, "1 0.25 0.5\n0 0.8 0.5")
    (sample,) = overflowing(World()).painter(max_rerolls=2, min_score=0.9).paint(plan(tmp_path))
    assert (sample.status, sample.defects) == ("failed", ())


def test_a_result_that_is_not_finite_fails_at_the_last_step(tmp_path: Path):
    board(tmp_path, "1 0.25 0.5\n0 0.8 0.5")
    jobs = plan(tmp_path, together=False)
    tasks = [
        Task(job, item, np.zeros((SIZE, SIZE, 3), np.uint8))
        for job, item in zip(jobs, turn_items(jobs, 0), strict=True)
    ]
    sample, crop = torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, 3, CROP, CROP)
    crop[1, 0, 3, 3] = torch.inf
    good, bad = separate(Result(sample, crop, sample, None), tasks, [None, None], None, 7, keep_gray=False)
    assert good.after.shape == (SIZE, SIZE, 3) and good.crops.shape == (1, CROP, CROP, 3)
    assert bad.t == 7 and "not a number" in bad.reason


def test_what_is_painted_on_gray_is_gray_where_that_is_asked_for(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    (job,) = plan(tmp_path)
    sample, crop = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 3, CROP, CROP)
    sample[:, 0] = crop[:, 0] = 0.6  # 204 beside 128
    for ground, keep_gray, spread in (((9, 9, 9), True, 0), ((9, 9, 9), False, 76), ((9, 9, 99), True, 76)):
        task = Task(job, turn_items([job], 0)[0], np.full((SIZE, SIZE, 3), ground, np.uint8))
        (found,) = separate(Result(sample, crop, sample, None), [task], [None], None, 7, keep_gray)
        assert np.ptp(found.after[3, 3].astype(int)) == np.ptp(found.crops[0, 3, 3].astype(int)) == spread


def test_what_is_painted_by_masks_on_an_image_of_few_tones_has_those_alone(tmp_path: Path):
    board(tmp_path, "1 0.25 0.5")
    (job,) = plan(tmp_path)
    photograph = np.full((80, 120, 3), GRAY, np.uint8)
    two_tones = photograph.copy()
    two_tones[:, 60:] = GRAY + 40
    for picture, masked, kept in (
        (two_tones, True, True),
        (two_tones, False, False),
        (photograph, True, False),
    ):
        (sample,) = World().painter(masked=masked).paint([job], lambda path, picture=picture: picture)
        assert sample.defects[0].region.mask.any()
        assert (set(np.unique(sample.image)) <= {GRAY, GRAY + 40}) == kept


def test_the_label_is_drawn_as_around_the_training_defect_that_was_laid(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5 0.1 0.15")  # 12 x 12 px around (30, 40)
    (job,) = plan(tmp_path)
    (item,) = turn_items([job], 0)
    ((x, y),) = item.context.windows
    painter = World().painter(masked=True, label_margin=1.0)
    before = np.full((SIZE, SIZE, 3), GRAY, np.uint8)
    laid = before[y : y + CROP, x : x + CROP].copy()
    laid[4:11, 4:11] = 0
    after = before.copy()
    after[y : y + CROP, x : x + CROP] = laid
    after[y + 4 : y + 11, x + 11] = 0  # a px wider
    begun = Laid(laid, np.ones((CROP, CROP), bool), 1.0, (2.0, 3.0, 11.0, 9.0))
    result = ContextResult(before, after, laid[None], None, [None], [begun], [0.0], item.context.windows)
    canvas = Canvas(tmp_path / "a.png", painter.load, True)
    (found,) = painter.scorer.judge(item, job, canvas, result)
    assert found.region.box == (4, 4, 12, 11)
    assert found.drawn == (1, 2, 13, 10)  # the margin of 1 px around its own box, and the px
    (other,) = painter.scorer.judge(item, job, canvas, replace(result, laid=()))
    assert other.drawn is None


def test_a_training_defect_with_a_shape_may_lie_beyond_the_requested_box(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5 0.05 0.075")  # 6 x 6 px around (30, 40): 5 to 11 of the window
    (job,) = plan(tmp_path)
    (item,) = turn_items([job], 0)
    ((x, y),) = item.context.windows
    painter = World().painter(masked=True, sees_surroundings=True)
    laid = np.full((CROP, CROP, 3), GRAY, np.uint8)
    laid[6:16, 6:16] = 0
    shape = np.zeros((CROP, CROP), bool)
    shape[5:16, 5:16] = True
    begun = Laid(laid, shape, 1.0, (7.5, 7.5, 12.5, 13.0), shaped=True)
    before = np.full((SIZE, SIZE, 3), GRAY, np.uint8)
    after = before.copy()
    after[y : y + CROP, x : x + CROP] = laid
    canvas = Canvas(tmp_path / "a.png", painter.load, True)
    for shaped, box, seen in (
        (True, (6, 6, 16, 16), (7, 7, 13, 13)),
        (False, (6, 6, 14, 14), (5, 5, 11, 11)),  # 3 px of soft edge
    ):
        one = replace(begun, shaped=shaped)
        (found,) = painter.scorer.judge(
            item,
            job,
            canvas,
            ContextResult(before, after, laid[None], None, [None], [one], [0.0], item.context.windows),
        )
        assert found.region.box == box
        mask = painter.boxes([(job, item)], Start(torch.zeros(1), torch.zeros(1), [one], [0.0]))
        rows, columns = (torch.nonzero(mask[0, 0].amax(dim=k)).flatten().tolist() for k in (1, 0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == seen


# Scores and rerolls


def test_what_cannot_be_seen_is_painted_again_and_then_left_out(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5")
    painter = World(visible=False).painter(min_score=0.5, max_rerolls=2)
    (sample,) = painter.paint(plan(tmp_path))
    assert painter.callback.batches == [2, 2, 2]
    assert not sample.accepted and [d.attempt for d in sample.defects] == [2, 2]
    assert (sample.image == GRAY).all() and not sample.mask.any()


def test_only_windows_that_fail_are_painted_again(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.384 0.5")
    world = World()
    weak = world.prior

    def prior(x: Tensor, t: Tensor, y: Tensor) -> Tensor:  # never shows class 0
        eps, plain = weak(x, t, y), world.eps(x, world.clean(x), t)
        return torch.where((y == 0).view(-1, 1, 1, 1), plain, eps)

    world.prior = prior
    painter = world.painter(min_score=0.5, max_rerolls=1)
    (sample,) = painter.paint(plan(tmp_path))
    assert [(d.accepted, d.attempt) for d in sample.defects] == [(False, 1), (True, 0)]
    assert (sample.image[:, 20:38] == GRAY).all() and sample.image[38:42, 44:48].mean() > GRAY + 15


def test_painting_again_leaves_what_was_accepted_as_it_is(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.384 0.5")
    world = World()
    strong, tries = world.prior, []

    def prior(x: Tensor, t: Tensor, y: Tensor) -> Tensor:  # shows class 0 at the second attempt
        tries.append(len(x))
        plain = world.eps(x, world.clean(x), t)
        hidden = (y == 0).view(-1, 1, 1, 1) & (len(x) == 2)
        return torch.where(hidden, plain, strong(x, t, y))

    world.prior = prior
    painter = world.painter(generated=True, min_score=0.5, max_rerolls=1)
    (sample,) = painter.paint(plan(tmp_path))
    assert [(d.accepted, d.attempt) for d in sample.defects] == [(True, 1), (True, 0)] and set(tries) == {
        1,
        2,
    }
    assert sample.image[38:42, 28:32].mean() < GRAY - 15
    alone = World()
    alone.prior = strong
    (once,) = alone.painter(generated=True).paint(plan(tmp_path))
    bright = np.s_[38:42, 44:48]
    assert np.abs(sample.image[bright].astype(int) - once.image[bright]).max() <= 1


def test_without_min_score_everything_is_taken(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    painter = World(visible=False).painter(min_score=0.0, max_rerolls=5)
    (sample,) = painter.paint(plan(tmp_path))
    assert sample.accepted and painter.callback.batches == [1]


def test_the_best_of_several_candidates_is_kept(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5")
    jobs = plan(tmp_path)
    single = World().painter(batch_size=1)
    (job,) = jobs
    work = Work(job, Canvas(job.image, single.load))
    items = turn_items([job], 0)
    scores = []  # of each window by itself, with each of three noises
    for item in items:
        own = [replace(item, attempt=k) for k in range(3)]
        found = single.results([work], own, [work.canvas.context(item.context, SIZE)] * 3)
        scores.append(
            [
                single.scorer.judge(one, job, work.canvas, r)[0].scores["score"]
                for one, r in zip(own, found, strict=True)
            ]
        )
    painter = World().painter(candidates=3, batch_size=2)
    (sample,) = painter.paint(jobs)
    assert painter.callback.batches == [2, 2, 2]
    assert [d.attempt for d in sample.defects] == [values.index(max(values)) for values in scores]
    assert sample.scores == pytest.approx([max(values) for values in scores])


def test_candidates_count_as_attempts_and_no_more_are_made_than_asked_for(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    painter = World(visible=False).painter(min_score=0.5, candidates=2, max_rerolls=1)
    (sample,) = painter.paint(plan(tmp_path))
    assert painter.callback.batches == [2, 2] and not sample.accepted
    assert sample.defects[0].attempt == 3  # the last of four


def test_noise_depends_on_pass_and_attempt(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5\n1 0.8 0.5")
    (job,) = plan(tmp_path)
    first, second = turn_items([job], 0)
    again = [type(first)(0, 0, first.context, first.defects, attempt) for attempt in (1, 2)]
    seeds = [item_seed(0, job, item) for item in (first, second, *again)] + [item_seed(1, job, first)]
    assert len(set(seeds)) == 5


# Strips


def test_strips_show_the_attention_at_six_steps():
    masks = [torch.full((2, 1, 4, 4), step / 10) for step in range(11)]
    masks[0][1] = 1.0
    first, second = attention_strips(masks, 2)
    assert first.shape == (4, 24) and first.dtype == np.uint8
    assert first[0, ::4].tolist() == [0, 51, 102, 153, 204, 255] and second[0, 0] == 255
    assert attention_strips([], 2) == [None, None]


def test_strips_are_kept_when_asked_for(tmp_path: Path):
    board(tmp_path, "0 0.25 0.5")
    jobs = plan(tmp_path)
    assert paint_one(World(), jobs).defects[0].strip is None
    assert paint_one(World(), jobs, strips=True).defects[0].strip.shape == (CROP, 4 * CROP)
