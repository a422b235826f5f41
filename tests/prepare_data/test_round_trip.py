"""What utils.export_dataset writes is read back: the same images, boxes, classes, and a split by source."""

from pathlib import Path

import pytest

from tests.test_export_dataset import CLASSES, export, run  # noqa: F401
from utils.manifest import read_manifest
from utils.prepare_data.survey import survey_source


def painted_boxes(run: Path) -> dict[str, set[tuple]]:  # noqa: F811
    """Name of a sample -> its boxes, from the manifest."""
    return {
        entry["name"]: {(d["class_name"], *d["box"]) for d in entry["defects"]}
        for entry in read_manifest(run / "manifest.jsonl")
    }


@pytest.mark.parametrize("labels", ["boxes", "segments"])
@pytest.mark.parametrize("first_category_id", [0, 1])
def test_exported_data_set_is_read_back(run, labels, first_category_id):  # noqa: F811
    folder = export(run, labels=labels, first_category_id=first_category_id, background_share=0.2).folder
    survey = survey_source(folder)
    assert survey.format == "coco" and list(survey.classes) == list(CLASSES)
    read = {
        image.path.stem: {(b.class_name, b.left, b.top, b.right, b.bottom) for b in image.boxes}
        for image in survey.defective
    }
    assert read == painted_boxes(run)
    assert all(image.path.parent.parent.name == "images" for image in survey.images)
    assert len(survey.clean) > 0 and {image.group for image in survey.images} <= {f"b{n}" for n in range(5)}
    assert not survey.warnings and not any("no annotation" in note for note in survey.notes)


def test_yolo_labels_of_an_exported_data_set_are_read_to_a_thousandth_of_a_pixel(run):  # noqa: F811
    survey = survey_source(export(run).folder, "yolo")
    expected = painted_boxes(run)
    for image in survey.defective:
        read = sorted((b.class_name, b.left, b.top, b.right, b.bottom) for b in image.boxes)
        for got, want in zip(read, sorted(expected[image.path.stem]), strict=True):
            assert got[0] == want[0] and got[1:] == pytest.approx(want[1:], abs=1e-3)
