"""A run goes on only with the classes, images and annotations that its samples were made from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation.inputs import check_inputs
from generation.jobs import Job
from generation.outputs import Outputs
from tests.test_outputs import CLASSES, PROVENANCE, config, job, painted
from utils.errors import UserError


@pytest.fixture
def made(tmp_path: Path) -> tuple[Outputs, Job]:
    source = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(source)
    outputs, one = Outputs(tmp_path / "run", overwrite=False), job(0, source=source)
    outputs.prepare(config(), CLASSES)
    outputs.save(painted(one), PROVENANCE, 1.0)
    return Outputs(tmp_path / "run", overwrite=False), one


def moved(one: Job, **changes: float) -> Job:
    """The job with another annotation of the same name."""
    annotation = replace(one.defects[0].annotation, **changes)
    return replace(one, defects=(replace(one.defects[0], annotation=annotation),))


def test_the_same_inputs_pass(made):
    outputs, one = made
    check_inputs(outputs, [one, job(1)], CLASSES)


def test_another_class_file(made):
    outputs, one = made
    with pytest.raises(UserError, match=r"made from other classes \(class0: 0 against 1"):
        check_inputs(outputs, [one], {"class0": 1, "class1": 0})
    outputs.classes_file.unlink()  # as earlier versions left it: the lines tell
    with pytest.raises(UserError, match="made from other classes"):
        check_inputs(outputs, [one], {"class0": 1, "class1": 0})


def test_another_source_image(made):
    outputs, one = made
    Image.fromarray(np.ones((8, 8, 3), np.uint8)).save(one.image)
    with pytest.raises(UserError, match=r"a\.png: the image has changed since"):
        check_inputs(outputs, [one], CLASSES)


@pytest.mark.parametrize("change", [{"cx": 0.52}, {"w": 0.25}, {"class_id": 1}])
def test_another_annotation(made, change):
    outputs, one = made
    with pytest.raises(UserError, match=f"{one.name}: its annotations have changed since"):
        check_inputs(outputs, [moved(one, **change)], CLASSES)
    check_inputs(Outputs(outputs.root, overwrite=True), [moved(one, **change)], CLASSES)


@pytest.mark.parametrize(
    "text, outdated",
    [
        ("0 0.5 0.5 0.5 0.5\n", False),
        ("1 0.1 0.1 0.2 0.2\n\n0 0.5 0.5 0.5 0.5 0.93\n", False),  # among others, with a confidence
        ("0 0.5 0.5\n", True),
        ("1 0.5 0.5 0.5 0.5\n", True),
        ("0 0.5 0.5 0.5 0.51\n", True),
        ("no numbers\n", True),
        ("", True),
        (None, True),
    ],
)
def test_samples_of_annotations_that_are_gone_are_outdated(made, text: str | None, outdated: bool):
    outputs, one = made
    if text is not None:
        one.image.with_suffix(".TXT").write_text(text)
    assert outputs.outdated(one.image.parent, CLASSES) == ([one.name] if outdated else [])
    assert outputs.outdated(one.image.parent / "moved", CLASSES) == []
