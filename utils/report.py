"""A page to look through a run's results, in one file that needs no network.

    python -m utils.report images/demo

It filters by class and score, and shows clean against painted, masks and attention.
"""

if __name__ == "__main__":  # the libraries take seconds to load
    from utils.processes.interrupts import exit_on_signals

    exit_on_signals()

import base64
import html
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils import images
from utils.command_line import make_parser
from utils.errors import UserError, run_main
from utils.files import replacing
from utils.images import ImageCache
from utils.manifest import Entry, mask_of, read_manifest
from utils.reading import LARGEST_CONFIG, read_text

MARK = b'<meta name="generator" content="CRG-Diffusion report">'  # near the top of every page
TEMPLATE = Path(__file__).with_name("report_template.html")
THUMBNAIL = 192  # px at most
MARGIN = 0.25  # of the window's side that is shown around it
QUALITY = 80  # of JPEG
BINS = 20  # of the histogram of scores, over 0 to 1
TINT = (255, 40, 200)  # of masks; a color no board has


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


def write_report(run: str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of a run (default RUN/report/index.html) and return its path.

    Images that are missing leave a note on their card. Raises UserError for a run without a manifest, or with
    an empty one, when the page cannot be written, and for an `out` that exists, unless it is an earlier page and
    `overwrite` is given.
    """
    run = Path(run)
    out = run / "report" / "index.html" if out is None else Path(out)
    check_page(out, overwrite)
    entries = read_manifest(run / "manifest.jsonl")
    if not entries:
        raise UserError(f"{run}/manifest.jsonl: no sample in it; paint some first")
    cards = all_cards(run, entries)
    content = {
        "summary": summary(entries, cards),
        "settings": settings_of(run),
        "classes": class_counts(cards),
        "bins": histogram([card["score"] for card in cards]),
        "cards": cards,
    }
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    safe = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    page = TEMPLATE.read_text(encoding="utf-8")
    title = html.escape(f"Painted defects: {run.resolve().name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            temporary.write_text(page.replace("%TITLE%", title).replace("%DATA%", safe), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another --out") from error
    return out


def check_page(out: Path, overwrite: bool) -> None:
    """Raises UserError when `out` exists, unless it is an earlier page and is to be replaced."""
    if not out.exists():
        return
    try:
        with open(out, "rb") as file:
            ours = MARK in file.read(1000)
    except OSError as error:
        raise UserError(f"{out}: cannot be read ({error.strerror}); give another --out") from error
    if not ours:
        raise UserError(f"{out}: exists and is not an earlier report; give another --out")
    if not overwrite:
        raise UserError(
            f"{out}: there is an earlier report; give --overwrite to replace it, or another --out"
        )


# Cards


def all_cards(run: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """A card per defect, in the manifest's order. Samples of one source are looked at together, so that it is
    decoded once."""
    load, found = ReportImages(), {}
    for entry in sorted(entries, key=lambda entry: entry["source"]):
        found[entry["name"]] = list(cards_of(run, entry, load))
    return [card for entry in entries for card in found[entry["name"]]]


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


def cards_of(run: Path, entry: Entry, load: ReportImages) -> Iterator[dict[str, Any]]:
    """The cards of one sample's defects."""
    size, files = entry["size"], entry["files"]
    clean = load(entry["source"], size)
    sample = load(run / files["sample"], size) if files else None
    for number, defect in enumerate(entry["defects"]):
        view = View.around(defect["window"], size)
        note = "" if sample is not None else "not shipped" if not files else "image missing"
        strips = files.get("attention", [])
        yield {
            "name": entry["name"],
            "number": number,
            "class": defect["class_name"],
            "status": defect["status"],
            "score": defect["scores"]["score"],
            "area": defect["scores"]["area"],
            "before": None if clean is None else jpeg(view.cut(clean)),
            "after": None if sample is None else jpeg(view.cut(sample)),
            "note": note,
            "mask": mask_png(defect, view),
            "box": view.relative(defect["box"]) if defect["box"] else None,
            "strip": strip_of(run / strips[number]) if number < len(strips) else None,
            "facts": facts(entry, defect),
        }


def facts(entry: Entry, defect: dict[str, Any]) -> list[list[str]]:
    """The viewer's facts about a defect: names and texts."""
    scores = [[name, f"{value:g}"] for name, value in defect["scores"].items()]
    box = "none" if defect["box"] is None else "{}, {} to {}, {}".format(*defect["box"])
    paths = [
        path for value in entry["files"].values() for path in ([value] if isinstance(value, str) else [])
    ]
    return [
        ["class", f"{defect['class_name']} ({defect['class_id']})"],
        [
            "status",
            defect["status"] + (f" after {defect['attempt'] + 1} attempts" if defect["attempt"] else ""),
        ],
        *scores,
        ["box (px)", box],
        ["window (px)", "{}, {}, side {}".format(*defect["window"])],
        ["scale", f"{defect['scale']:g}"],
        ["sample", entry["name"]],
        ["source", f"{entry['source']}, line {defect['line']}"],
        ["files", ", ".join(paths) or "none"],
    ]


# Images in the page


def jpeg(square: np.ndarray) -> str:
    """(h, w, 3) uint8 as a data URI, at most THUMBNAIL px."""
    small = images.resize_squash(square, min(THUMBNAIL, len(square)))
    return data_uri(Image.fromarray(small), "JPEG", quality=QUALITY)


def mask_png(defect: dict[str, Any], view: View) -> str | None:
    """A defect's mask in the view, tinted on nothing."""
    if defect["mask"] is None:
        return None
    mask = view.cut(mask_of(defect["mask"]))
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, *TINT])
    return data_uri(image, "PNG", transparency=0, bits=1)


def strip_of(path: Path) -> str | None:
    """The attention's strip as a data URI; None when its file is missing."""
    if not path.is_file():
        return None
    with images.open_image(path) as strip:
        return data_uri(strip.convert("L"), "JPEG", quality=QUALITY)


def data_uri(image: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


# Counts


def class_counts(cards: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """[class, painted, rejected], in the order of names."""
    tally = Counter((card["class"], card["status"]) for card in cards)
    return [
        [name, tally[name, "painted"], tally[name, "rejected"]]
        for name in sorted({name for name, _ in tally})
    ]


def histogram(scores: Sequence[float]) -> list[int]:
    """How many scores are in each of BINS equal parts of [0, 1]; the last one holds 1."""
    return np.histogram(scores, bins=BINS, range=(0, 1))[0].tolist()


def settings_of(run: Path) -> str:
    path = run / "config.yml"
    try:
        return read_text(path, LARGEST_CONFIG) if path.is_file() else "config.yml is missing"
    except UserError as error:
        return str(error)


def summary(entries: Sequence[Entry], cards: Sequence[dict[str, Any]]) -> str:
    """The run in one line."""
    shipped = sum(entry["status"] == "painted" for entry in entries)
    rejected = sum(card["status"] == "rejected" for card in cards)
    failed = sum(entry["status"] == "failed" for entry in entries)
    sources = len({entry["source"] for entry in entries})
    parts = [
        f"{shipped} images from {sources} clean ones, {len(cards) - rejected} defects",
        *([f"{rejected} rejected"] if rejected else []),
        *([f"{failed} samples failed"] if failed else []),
        f"seed {entries[0]['seed']}",
        f"settings {entries[0]['config_sha256'][:12]}",
        f"version {entries[0]['version']}",
    ]
    return ", ".join(parts)


def main(argv: list[str]) -> None:
    parser = make_parser("python -m utils.report", __doc__)
    parser.add_argument("run", type=Path, help="outdir of a run, with manifest.jsonl")
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/report/index.html)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier page there")
    args = parser.parse_args(argv)
    print(write_report(args.run, args.out, args.overwrite))


if __name__ == "__main__":
    sys.exit(run_main(main))
