"""The page as one file: cards, counts and the run's settings, with style and program in it."""

import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import write_text
from utils.manifest import Entry, read_manifest
from utils.reading import LARGEST_CONFIG, is_file, read_text
from utils.report.cards import Card, make_album
from utils.verdicts import VERDICTS_FILE, read_verdicts

MARK = b'<meta name="generator" content="CRG-Diffusion report">'  # near the top of every page
PARTS = {part.upper(): Path(__file__).with_name(f"page.{part}") for part in ("css", "js")}
TEMPLATE = Path(__file__).with_name("page.html")
BINS = 20  # of the histogram of scores, over 0 to 1


def write_report(run: str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of a run (default RUN/report/index.html) and return its path.

    Images that are missing leave a note on their card. Verdicts in RUN/verdicts.csv are in it. Raises UserError for a
    run without a manifest, or with an empty one, when the page cannot be written, and for an `out` that exists, unless
    it is an earlier page and `overwrite` is given.
    """
    run = Path(run)
    out = run / "report" / "index.html" if out is None else Path(out)
    check_page(out, overwrite)
    entries = read_manifest(run / "manifest.jsonl")
    if not entries:
        raise UserError(f"{run}/manifest.jsonl: no sample in it; paint some first")
    page = page_of(run.resolve().name, contents_of(run, entries))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
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


def page_of(name: str, content: dict[str, Any]) -> str:
    """The page's text; names in the content cannot end its script."""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    safe = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    parts = {part: path.read_text(encoding="utf-8").rstrip("\n") for part, path in PARTS.items()}
    parts |= {"TITLE": html.escape(f"Painted defects: {name}"), "DATA": safe}
    return re.sub("%([A-Z]+)%", lambda mark: parts[mark[1]], TEMPLATE.read_text(encoding="utf-8"))


def contents_of(run: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """What the page shows, as plain data."""
    judged = run / VERDICTS_FILE
    album = make_album(run, entries, read_verdicts(judged) if is_file(judged) else {})
    return {
        "run": run.resolve().name,
        "key": identity(run, entries[0]),
        "summary": summary(entries, album.cards),
        "settings": settings_of(run),
        "classes": class_counts(album.cards),
        "bins": histogram([card["score"] for card in album.cards]),
        "wholes": album.wholes,
        "cards": album.cards,
    }


def identity(run: Path, entry: Entry) -> str:
    """Name under which a browser keeps the verdicts on a run: of its folder, settings, seed and weights, so that
    verdicts outlast more samples, but not other images."""
    made_of = json.dumps([entry["seed"], entry["config_sha256"], entry["weights"]], sort_keys=True)
    return f"{run.resolve().name} {hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


# Counts


def class_counts(cards: Sequence[Card]) -> list[list[Any]]:
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
    """The text of the run's config.yml."""
    path = run / "config.yml"
    try:
        return read_text(path, LARGEST_CONFIG) if path.is_file() else "config.yml is missing"
    except UserError as error:
        return str(error)


def summary(entries: Sequence[Entry], cards: Sequence[Card]) -> str:
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
