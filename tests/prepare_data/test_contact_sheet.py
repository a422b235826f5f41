"""The contact sheet: what it shows of each class, and how."""

from pathlib import Path

import numpy as np
import pytest

from utils.images import save_png
from utils.prepare_data.report import GROUND, LABEL_WIDTH, IndexRow, contact_sheet

SIDE, PAD = 48, 2
NAME = "Fleck groß"


@pytest.fixture
def sheet(tmp_path: Path) -> np.ndarray:
    """Of one defect, with a red boxed patch of 96 x 48 px and a green centered one, and its outline."""
    shape = np.zeros((48, 96), np.uint8)
    shape[16:32, 32:64] = 255
    pictures = {
        "boxed": np.full((48, 96, 3), (200, 0, 0), np.uint8),
        "defect": np.full((96, 96, 3), (0, 200, 0), np.uint8),
        "outlines": shape,
    }
    rows = []
    for part, pixels in pictures.items():
        file = f"train/{part}/spot_0000.png"
        (tmp_path / file).parent.mkdir(parents=True)
        save_png(tmp_path / file, pixels)
        rows.append(IndexRow(file, "a.png", NAME, 0, 0, 9, 9, 1, "a", "train"))
    return contact_sheet(tmp_path, rows, [NAME], SIDE, seed=0)


def test_boxed_patches_keep_their_sides(sheet: np.ndarray):
    patch, outlined = (
        sheet[top + PAD : top + PAD + SIDE, LABEL_WIDTH + PAD :][:, :SIDE] for top in (0, SIDE + 2 * PAD)
    )
    assert (patch[12:36] == (200, 0, 0)).all()
    assert (patch[:12] == GROUND).all() and (patch[36:] == GROUND).all()
    pink = outlined[..., 2] > 50
    assert (outlined[:12] == GROUND).all()
    rows, columns = np.nonzero(pink[12:36])
    assert np.ptp(columns) == pytest.approx(2 * np.ptp(rows), abs=2)


def test_letters_beyond_ascii_are_drawn(tmp_path: Path):
    def drawn(name: str) -> np.ndarray:
        return contact_sheet(tmp_path, [], [name], SIDE, seed=0)[:SIDE, :LABEL_WIDTH]

    assert not any(
        np.array_equal(drawn(letter), drawn("\N{CJK UNIFIED IDEOGRAPH-4E00}")) for letter in "ßüéž"
    )
    assert not np.array_equal(drawn("ß"), drawn("ü"))
