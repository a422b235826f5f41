"""Painting arrays: the same images as the command line's, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generation import Request, load_painter
from tests.test_sample_generation import Place, build, pixels, save_weights
from utils.errors import UserError
from utils.images import load_rgb
from utils.manifest import read_manifest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A board with two defects, which the command line has painted twice each and together."""
    root = tmp_path_factory.mktemp("arrays")
    save_weights(root)
    place = build(root / "place", root)
    place.board("board.png", "0 0.5 0.5 0.2 0.2\n1 0.25 0.3 0.1 0.1", size=(90, 70))
    native = ("resize=native", "background=original")
    assert place.run(*native, "n_samples=2") == 0
    assert place.run(*native, "paint=all", f"outdir={place.root / 'all'}") == 0
    assert place.run("paint=all", f"outdir={place.root / 'squashed'}") == 0
    return place


def painter(place: Place, **settings: object):
    return load_painter(place.conf, **{"resize": "native", "background": "original", **settings})


def board(place: Place) -> np.ndarray:
    return load_rgb(place.root / "boards/board.png")


def test_the_same_image_mask_boxes_and_scores_as_the_command_line(place: Place):
    one, image = painter(place), board(place)
    for request in (Request("spur", (45, 35), (18, 14)), Request("Mouse Bite", center=(22, 21))):
        for index in (0, 1):
            result = one.paint(image, [request], name="board.png", index=index)
            stem = result.job.name
            assert np.array_equal(result.image, place.sample(stem))
            mask = np.array(Image.open(place.out / "mask" / f"{stem}.png"))
            assert np.array_equal(result.mask, mask == 255)
            (entry,) = [e for e in read_manifest(place.out / "manifest.jsonl") if e["name"] == stem]
            (defect,) = entry["defects"]
            assert defect["painted_box"] == (None if result.boxes[0] is None else list(result.boxes[0]))
            assert defect["scores"]["score"] == round(result.scores[0], 4)
    assert np.array_equal(image, pixels(90, 70))  # untouched


@pytest.mark.parametrize(
    ("folder", "settings"), [("all", {}), ("squashed", {"resize": "squash", "background": "generated"})]
)
def test_several_defects_come_together(place: Place, folder: str, settings: dict[str, str]):
    requests = [Request("spur", (45, 35)), Request("mousebite", (22, 21))]
    result = painter(place, **settings).paint(board(place), requests, name="board.png")
    assert np.array_equal(result.image, load_rgb(place.root / folder / "sample/board_all_0.png"))
    assert len(result.boxes) == len(result.scores) == 2


def test_noise_depends_on_seed_name_and_index(place: Place):
    image, request = board(place), [Request("spur", (45, 35))]
    one = painter(place)
    first = one.paint(image, request).image
    assert np.array_equal(one.paint(image, request).image, first)
    assert not np.array_equal(one.paint(image, request, index=1).image, first)
    assert not np.array_equal(one.paint(image, request, name="b.png").image, first)
    assert not np.array_equal(painter(place, seed=1).paint(image, request).image, first)
    assert isinstance(painter(place, seed=None).run.config.seed, int)


def test_nothing_is_written(place: Place):
    before = sorted(place.root.rglob("*"))
    painter(place, outdir=str(place.root / "new")).paint(board(place), [Request("spur", (45, 35))])
    assert sorted(place.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], "requests: got none"),
        ([Request("spur", (45, 35)), Request("spurr", (1, 1))], "request 2: class 'spurr' is unknown"),
        (
            [Request("spur", (90, 35))],
            "request 1: center: got (90, 35), expected a pixel of the image of 90x70",
        ),
        ([Request("spur", (45, -1))], "request 1: center: got (45, -1)"),
        ([Request("spur", (45, 35), (0, 5))], "request 1: size: got (0, 5)"),
    ],
)
def test_requests_that_cannot_be_painted(place: Place, requests: list[Request], expected: str):
    with pytest.raises(UserError) as caught:
        painter(place).paint(board(place), requests)
    assert str(caught.value).startswith(expected)


def test_images_and_settings_that_cannot_be_used(place: Place):
    one, request = painter(place), [Request("spur", (5, 5))]
    with pytest.raises(UserError, match=r"image: got float64 of shape \(64, 64, 3\), expected uint8"):
        one.paint(np.zeros((64, 64, 3)), request)
    with pytest.raises(UserError, match="request 1: .* needs 32x32 px"):
        one.paint(np.zeros((16, 64, 3), np.uint8), request)
    with pytest.raises(UserError, match="^argument: sede: unknown key; did you mean seed"):
        painter(place, sede=1)
    with pytest.raises(UserError, match=r"label_box: annotation, .* need; add them"):
        painter(place, label_box="annotation").paint(board(place), request)


def test_the_example_of_the_readme(monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    text = (root / "README.md").read_text(encoding="utf-8")
    (example,) = [part.split("```")[0] for part in text.split("```python\n")[1:] if "load_painter" in part]
    names: dict = {}
    exec(example, names)
    assert names["result"].image.shape == names["image"].shape
    assert names["result"].boxes[0] is not None and names["result"].scores[0] > 0.3
