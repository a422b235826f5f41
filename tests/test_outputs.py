"""The output folder: what is done, what may be overwritten, and files that appear whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.config import GenerationConfig, load_generation_config
from utils.errors import UserError
from utils.jobs import Context, Job
from utils.labels import Annotation
from utils.outputs import Outputs, plan_batches
from utils.painted import Region

GREY = np.full((8, 8, 3), 90, np.uint8)
WHITE = np.full((4, 4, 3), 255, np.uint8)
REGION = Region(np.eye(8, dtype=bool), (0, 0, 8, 8), 10.0)


def job(index: int, stem: str = "a") -> Job:
    annotation = Annotation(0, "spur", 0.5, 0.5)
    context = Context(None, None, None, (0, 0), 1.0)
    return Job(Path(f"{stem}.png"), annotation, (4, 4), context, f"{stem}_spur_cx4_cy4", index)


def config(**values: object) -> GenerationConfig:
    return GenerationConfig(**values)


def filled(folder: Path, **values: object) -> Outputs:
    """A folder with one sample, made with these settings."""
    outputs = Outputs(folder, overwrite=False)
    outputs.prepare(config(**values))
    outputs.save(job(0), GREY, WHITE, REGION)
    return outputs


def refusal(outputs: Outputs, **values: object) -> str:
    with pytest.raises(UserError) as caught:
        outputs.check(config(**values))
    return str(caught.value)


# Batches


def test_batches_are_planned_from_all_jobs(tmp_path: Path):
    jobs = [job(index) for index in range(5)]
    outputs = filled(tmp_path)
    assert [[j.index for j in batch] for batch in plan_batches(jobs, 2)] == [[0, 1], [2, 3], [4]]
    assert [outputs.missing(j) for j in jobs] == [False, True, True, True, True]
    assert plan_batches(jobs, 9) == [jobs] and plan_batches([], 2) == []


# Files


def test_files_have_their_places(tmp_path: Path):
    outputs = filled(tmp_path / "new/folder")
    outputs.save_grid(job(0), [GREY, GREY, GREY])
    files = sorted(str(path.relative_to(outputs.root)) for path in outputs.root.rglob("*") if path.is_file())
    assert files == [
        "config.yml",
        "crop/a_spur_cx4_cy4_0.png",
        "grid/a_spur_cx4_cy4_grid.png",
        "label/a_spur_cx4_cy4_0.txt",
        "log/generation.log",
        "mask/a_spur_cx4_cy4_0.png",
        "sample/a_spur_cx4_cy4_0.png",
    ]
    assert np.array_equal(np.array(Image.open(outputs.sample_path(job(0)))), GREY)
    assert np.array_equal(np.array(Image.open(outputs.crop_path(job(0)))), WHITE)
    assert np.array_equal(np.array(Image.open(outputs.mask_path(job(0)))), np.eye(8) * 255)
    assert outputs.label_path(job(0)).read_text() == "0 0.500000 0.500000 1.000000 1.000000\n"
    assert Image.open(outputs.grid_path(job(0))).size == (3 * 10 + 2, 12)
    assert load_generation_config(outputs.config_file) == config()


def test_a_sample_that_is_there_stays(tmp_path: Path):
    outputs = filled(tmp_path)
    outputs.save(job(0), 255 - GREY, 255 - WHITE, REGION)
    assert np.array_equal(np.array(Image.open(outputs.sample_path(job(0)))), GREY)
    assert np.array_equal(np.array(Image.open(outputs.crop_path(job(0)))), WHITE)


def test_replaced_jobs_are_missing_again(tmp_path: Path):
    outputs = filled(tmp_path)
    outputs.save(job(0, "b"), GREY, WHITE, REGION)
    outputs.save_grid(job(0), [GREY])
    outputs.prepare(config(seed=1), replaced=[job(0), job(1)])
    left = sorted(path.name for path in tmp_path.rglob("*.png"))
    assert outputs.missing(job(0)) and left == ["b_spur_cx4_cy4_0.png"] * 3
    assert outputs.strangers([job(0)]) == ["b_spur_cx4_cy4_0.png"]
    assert outputs.strangers([job(0, "b")]) == []


def test_failed_saving_leaves_neither_sample_nor_temporary_file(tmp_path: Path):
    outputs = filled(tmp_path)
    outputs.crop_path(job(1)).mkdir()  # in the way
    with pytest.raises(UserError, match="cannot be written"):
        outputs.save(job(1), GREY, WHITE, REGION)
    assert outputs.missing(job(1))
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


# Settings


def test_other_settings_are_refused_by_name(tmp_path: Path):
    outputs = filled(tmp_path, seed=1)
    outputs.check(config(seed=1))
    message = refusal(outputs, seed=2, background="original")
    assert "seed: 1 against 2" in message and "background: 'generated' against 'original'" in message
    assert "overwrite=true" in message
    Outputs(tmp_path, overwrite=True).check(config(seed=2))


def test_settings_that_do_not_change_a_picture_may_differ(tmp_path: Path):
    more = {"n_samples": 9, "n_iter": 2, "batch_size": 3, "visualize": True, "debug": True}
    filled(tmp_path, seed=1).check(config(seed=1, **more))


def test_settings_do_not_matter_before_the_first_sample(tmp_path: Path):
    outputs = Outputs(tmp_path, overwrite=False)
    outputs.prepare(config(seed=1))
    outputs.check(config(seed=2))


@pytest.mark.parametrize("text", ["", "seed: [1", "seed: maybe\nfoo: 1\n", "\x00\x01"])
def test_unreadable_settings_beside_samples_are_explained(tmp_path: Path, text: str):
    outputs = filled(tmp_path)
    outputs.config_file.write_text(text)
    message = refusal(outputs)
    assert message.startswith(f"outdir {tmp_path} holds samples, but the settings")
    assert "overwrite=true" in message and "config.yml" in message
    Outputs(tmp_path, overwrite=True).check(config())


# Folders that cannot be written (a file is in the way, which stops even root)


def test_file_in_place_of_a_folder_is_found_before_anything_is_made(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file/below/results"):
        message = refusal(Outputs(root, overwrite=True))
        assert message.startswith(f"outdir {root} cannot be written ({tmp_path / 'file'} is not a folder)")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/sample").write_text("x")
    assert "sample is not a folder" in refusal(Outputs(tmp_path / "results", overwrite=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "results"]


def test_preparing_says_what_stands_in_the_way(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file/results cannot be written .*file"):
        Outputs(tmp_path / "file/results", overwrite=False).prepare(config())


def test_checking_makes_nothing(tmp_path: Path):
    Outputs(tmp_path / "a/b", overwrite=False).check(config())
    assert list(tmp_path.iterdir()) == []
