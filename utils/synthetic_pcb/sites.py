"""Plausible sites on a board for a defect of each class."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from utils.synthetic_pcb.board import CLASSES, EIGHT_CONNECTED, Board, blur, coverage


@dataclass(frozen=True)
class Site:
    """A place for a defect: center, outward normal, copper width inward and free gap outward (pixels)."""

    x: float
    y: float
    nx: float = 0.0
    ny: float = 0.0
    inner: float = 0.0
    outer: float = 0.0


def candidate_sites(board: Board, class_name: str, margin: int) -> list[tuple[int, int]]:
    """Pixels (x, y) where such a defect could be centered, at least `margin` px from the image's edge.

    Raises ValueError for an unknown class.
    """
    last_x, last_y = board.width - 1, board.height - 1
    found = [
        (min(round(s.x), last_x), min(round(s.y), last_y)) for s in find_sites(board, class_name, margin)
    ]
    return sorted(set(found))


def find_sites(
    board: Board, class_name: str, margin: int, edges: dict[str, np.ndarray] | None = None
) -> list[Site]:
    """The sites for a class, at least `margin` px from the image's edge; ValueError for an unknown class.

    edges: the result of `copper_edges(board)`, where the caller has it.
    """
    if class_name not in CLASSES:
        raise ValueError(f"class {class_name!r} is not one of {', '.join(CLASSES)}")
    if class_name == "missinghole":
        sites = _hole_sites(board)
    elif class_name == "spuriouscopper":
        sites = _free_sites(board)
    else:
        sites = _edge_sites(board, class_name, copper_edges(board) if edges is None else edges)
    return [site for site in sites if keeps_margin(board, site.x, site.y, margin)]


def keeps_margin(board: Board, x: float, y: float, margin: int) -> bool:
    """Whether (x, y) is at least `margin` px from the image's edge."""
    return margin <= x <= board.width - margin and margin <= y <= board.height - margin


def copper_edges(board: Board) -> dict[str, np.ndarray]:
    """Points on the copper's edge, away from pads, vias and silkscreen, as columns of equal length.

    x, y: position; nx, ny: outward unit normal; inner: copper width inward; outer: gap outward (px); own, far:
    labels of the conductor at the point and of the one across the gap (0: none within 40 px).
    """
    scale = board.scale
    cover = coverage(board.copper)
    labels, _ = ndimage.label(cover >= 0.5, structure=EIGHT_CONNECTED)
    copper = labels > 0
    crowded = _near(coverage(board.opening) + coverage(board.via), 6 * scale) | _near(
        coverage(board.silk), 9 * scale
    )
    rows, columns = np.nonzero(copper & ~ndimage.binary_erosion(copper, border_value=1) & ~crowded)
    rows, columns = rows[::3], columns[::3]
    smooth = blur(cover, 1.5 * scale)
    slope_y, slope_x = np.gradient(smooth)
    nx, ny = -slope_x[rows, columns], -slope_y[rows, columns]
    norm = np.maximum(np.hypot(nx, ny), 1e-6)
    nx, ny = nx / norm, ny / norm
    straight = _straight(copper, columns, rows, nx, ny, scale)
    columns, rows, nx, ny = columns[straight], rows[straight], nx[straight], ny[straight]
    x, y = columns.astype(float), rows.astype(float)
    reach = round(40 * scale)
    inner = _march(~copper, x, y, -nx, -ny, reach)
    outer = _march(copper, x + nx, y + ny, nx, ny, reach)
    far_x = np.clip(np.rint(x + nx * (outer + 1)), 0, board.width - 1).astype(int)
    far_y = np.clip(np.rint(y + ny * (outer + 1)), 0, board.height - 1).astype(int)
    return {
        "x": x, "y": y, "nx": nx, "ny": ny, "inner": inner, "outer": outer,
        "own": labels[rows, columns], "far": np.where(outer < reach, labels[far_y, far_x], 0),
    }  # fmt: skip


def _straight(
    copper: np.ndarray, x: np.ndarray, y: np.ndarray, nx: np.ndarray, ny: np.ndarray, scale: float
) -> np.ndarray:
    """Which edge points lie on a straight edge: copper behind, laminate in front, for 10 px to either side."""
    good = np.ones(len(x), dtype=bool)
    for along in (-10.0, -5.0, 5.0, 10.0):
        for out in (-2.5, 2.5):
            columns = np.rint(x + scale * (nx * out - ny * along)).astype(int).clip(0, copper.shape[1] - 1)
            rows = np.rint(y + scale * (ny * out + nx * along)).astype(int).clip(0, copper.shape[0] - 1)
            good &= copper[rows, columns] == (out < 0)
    return good


def _march(
    blocked: np.ndarray, x: np.ndarray, y: np.ndarray, nx: np.ndarray, ny: np.ndarray, reach: int
) -> np.ndarray:
    """Steps of one pixel along (nx, ny) until `blocked` is met; `reach` if it is not met before."""
    steps = np.arange(1, reach)
    columns = np.rint(x[:, None] + nx[:, None] * steps).astype(int)
    rows = np.rint(y[:, None] + ny[:, None] * steps).astype(int)
    inside = (columns >= 0) & (columns < blocked.shape[1]) & (rows >= 0) & (rows < blocked.shape[0])
    hit = inside & blocked[np.where(inside, rows, 0), np.where(inside, columns, 0)]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, reach).astype(float)


def _near(cover: np.ndarray, distance: float) -> np.ndarray:
    return ndimage.maximum_filter(cover, size=2 * round(distance) + 1) > 0.1


def _pick(edges: dict[str, np.ndarray], keep: np.ndarray, shift: np.ndarray) -> list[Site]:
    """Sites at the kept edge points, moved by `shift` pixels along the outward normal."""
    kept = {key: value[keep] for key, value in edges.items()}
    moved = shift[keep]
    columns = (kept["x"] + kept["nx"] * moved, kept["y"] + kept["ny"] * moved)
    rest = (kept["nx"], kept["ny"], kept["inner"], kept["outer"])
    return [Site(*(float(v) for v in row)) for row in zip(*columns, *rest, strict=True)]


def _edge_sites(board: Board, class_name: str, edges: dict[str, np.ndarray]) -> list[Site]:
    scale = board.scale
    inner, outer = edges["inner"], edges["outer"]
    if class_name == "mousebite":
        return _pick(edges, inner >= 7.5 * scale, -0.25 * np.minimum(inner, 16 * scale))
    if class_name == "opencircuit":
        return _pick(edges, (inner >= 4 * scale) & (inner <= 14.5 * scale), 0.5 - inner / 2)
    if class_name == "spur":
        return _pick(edges, (outer >= 13 * scale) & (inner >= 4 * scale), np.full_like(outer, 5 * scale))
    linked = (
        (outer >= 5 * scale) & (outer <= 24 * scale) & (edges["far"] > 0) & (edges["far"] != edges["own"])
    )
    return _pick(edges, linked, 0.5 + outer / 2)


def _hole_sites(board: Board) -> list[Site]:
    drill = coverage(board.drill)
    sites = []
    for pad in board.pads:
        inside = 0 <= pad.x < board.width and 0 <= pad.y < board.height
        if pad.kind not in ("via", "smd") and inside and drill[int(pad.y), int(pad.x)] > 0.5:
            sites.append(Site(pad.x, pad.y, inner=pad.drill))
    return sites


def _free_sites(board: Board) -> list[Site]:
    """Points of bare laminate, on a grid of 4 px, at least 11 px from copper and away from silkscreen."""
    free = ndimage.distance_transform_edt(coverage(board.copper) < 0.5)
    silk = _near(coverage(board.silk), 9 * board.scale)
    rows, columns = np.nonzero((free[::4, ::4] >= 11 * board.scale) & ~silk[::4, ::4])
    return [
        Site(float(x), float(y), outer=float(free[y, x])) for x, y in zip(columns * 4, rows * 4, strict=True)
    ]
