"""What the page shows of each defect: the window clean and painted, its mask and attention, facts; and whole images."""

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils import images
from utils.errors import UserError
from utils.images import ImageCache
from utils.manifest import Entry, mask_of
from utils.report.explanations import explained
from utils.verdicts import Verdicts

THUMBNAIL = 192  # px at most
WHOLE = 640  # px of the longer side of a whole image,
MANY, SMALLEST = 100, 160  # less where a page has more than this many, but not below so many px
MARGIN = 0.25  # of the window's side that is shown around it
QUALITY = 80  # of JPEG
TINT = (255, 40, 200)  # of masks; a color no board has

Card = dict[str, Any]


@dataclass(frozen=True)
class View:
    """The square of an image that a card shows, in px: left, top, side."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, window: Sequence[int], size: Sequence[int]) -> "View":
        """The window (left, top, side) with its margin, moved and shrunk to lie on an image (width, height)."""
        left, top, side = window
        wanted = min(round(side * (1 + 2 * MARGIN)), *size)
        left, top = (
            min(max(v - (wanted - side) // 2, 0), n - wanted) for v, n in zip((left, top), size, strict=True)
        )
        return cls(left, top, wanted)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Of (H, W) or (H, W, 3)."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]

    def relative(self, box: Sequence[int]) -> list[float]:
        """A box (left, top, right, bottom) in px as fractions of the view."""
        corner = (self.left, self.top) * 2
        return [round((v - c) / self.side, 4) for v, c in zip(box, corner, strict=True)]

    def place(self, size: Sequence[int]) -> list[float]:
        """The view itself as fractions of its image (width, height): left, top, right, bottom."""
        sides = (self.left, self.top, self.left + self.side, self.top + self.side)
        return [round(v / n, 5) for v, n in zip(sides, (*size, *size), strict=True)]


class ReportImages:
    """Images by path, as painted on: squashed to `size` (width, height) where the file has another one. None for
    those that cannot be read."""

    def __init__(self) -> None:
        self.caches: dict[int | None, ImageCache] = {}

    def __call__(self, path: str | Path, size: Sequence[int]) -> np.ndarray | None:
        try:
            squashed = None if images.image_size(path) == tuple(size) else size[0]
            if squashed is not None and size[0] != size[1]:
                return None  # no run squashes to that: the image has been replaced
            return self.caches.setdefault(squashed, ImageCache(squashed))(Path(path))
        except (UserError, *images.READ_ERRORS):
            return None  # the card says so


@dataclass
class Album:
    """Everything that a page shows: `cards`, one per defect, and `wholes`, the clean images they lie on, small; a
    card names its one by number."""

    cards: list[Card] = field(default_factory=list)
    wholes: list[str | None] = field(default_factory=list)


def make_album(run: Path, entries: Sequence[Entry], verdicts: Verdicts) -> Album:
    """Cards in the manifest's order. Samples of one source are looked at together, so that it is decoded once."""
    load, album, found = ReportImages(), Album(), {}
    numbers: dict[tuple[str, tuple[int, ...]], int] = {}
    longest = whole_side(len({entry["source"] for entry in entries}))
    for entry in sorted(entries, key=lambda entry: entry["source"]):
        key = (entry["source"], tuple(entry["size"]))
        if key not in numbers:
            numbers[key] = len(album.wholes)
            clean = load(*key)
            album.wholes.append(None if clean is None else jpeg(clean, longest))
        found[entry["name"]] = [
            {**card, "whole": numbers[key], "good": verdicts.get((card["name"], card["number"]))}
            for card in cards_of(run, entry, load)
        ]
    album.cards = [card for entry in entries for card in found[entry["name"]]]
    return album


def whole_side(count: int) -> int:
    """Longer side in px of `count` whole images of a page: many are smaller, so that they take about as many bytes."""
    return max(SMALLEST, round(WHOLE * min(1.0, math.sqrt(MANY / max(count, 1)))))


def cards_of(run: Path, entry: Entry, load: ReportImages) -> Iterator[Card]:
    """The cards of one sample's defects."""
    size, files = entry["size"], entry["files"]
    clean = load(entry["source"], size)
    shown = files.get("sample")
    sample = load(run / shown, size) if shown else None
    for number, defect in enumerate(entry["defects"]):
        view = View.around(defect["window"], size)
        note = "" if sample is not None else "not shipped" if not shown else "image missing"
        strips = files.get("attention", [])
        yield {
            "name": entry["name"],
            "number": number,
            "class": defect["class_name"],
            "status": defect["status"],
            "score": defect["scores"]["score"],
            "area": defect["scores"].get("area", 0),
            "before": None if clean is None else jpeg(view.cut(clean), THUMBNAIL),
            "after": None if sample is None else jpeg(view.cut(sample), THUMBNAIL),
            "note": note,
            "size": size,
            "place": view.place(size),
            "mask": mask_png(defect, view),
            "box": view.relative(defect["box"]) if defect["box"] else None,
            "strip": strip_of(run / strips[number]) if number < len(strips) else None,
            "facts": facts(entry, defect),
        }


def facts(entry: Entry, defect: Mapping[str, Any]) -> list[list[str]]:
    """The viewer's facts about a defect: name, text, and what a number means."""
    box = "none" if defect["box"] is None else "{}, {} to {}, {}".format(*defect["box"])
    paths = [
        path for value in entry["files"].values() for path in ([value] if isinstance(value, str) else [])
    ]
    attempts = f" after {defect['attempt'] + 1} attempts" if defect["attempt"] else ""
    return [
        ["class", f"{defect['class_name']} ({defect['class_id']})", ""],
        ["status", defect["status"] + attempts, ""],
        *explained(defect["scores"]),
        ["box (px)", box, "left, top to right, bottom"],
        ["window (px)", "{}, {}, side {}".format(*defect["window"]), "what the model painted in"],
        ["scale", f"{defect['scale']:g}", "px of the image per px of the model"],
        ["sample", entry["name"], ""],
        ["source", f"{entry['source']}, line {defect['line']}", ""],
        ["files", ", ".join(paths) or "none", ""],
    ]


# Images in the page


def jpeg(image: np.ndarray, longest: int) -> str:
    """(h, w, 3) uint8 as a data URI, its longer side at most `longest` px."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    small = images.resize_squash(image, (max(1, round(height * factor)), max(1, round(width * factor))))
    return data_uri(Image.fromarray(small), "JPEG", quality=QUALITY)


def mask_png(defect: Mapping[str, Any], view: View) -> str | None:
    """A defect's mask in the view, tinted on nothing."""
    if defect["mask"] is None:
        return None
    mask = view.cut(mask_of(defect["mask"]))
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, *TINT])
    return data_uri(image, "PNG", transparency=0, bits=1)


def strip_of(path: Path) -> str | None:
    """The attention's strip as a data URI; None when its file is missing or damaged."""
    try:
        with images.open_image(path) as strip:
            return data_uri(strip.convert("L"), "JPEG", quality=QUALITY)
    except images.READ_ERRORS:
        return None


def data_uri(image: Image.Image, form: str, **options: Any) -> str:
    """An image as text, in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
