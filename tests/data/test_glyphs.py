"""Glyphs are what their fonts say, differ from one another, and can be told apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

from erlangen.data import FONTS, glyph_characters, glyphs
from erlangen.errors import DataError, ErlangenError, UnknownNameError


def test_undistorted_pictures_are_the_characters() -> None:
    still = {
        "degrees": 0.0,
        "shear": 0.0,
        "scale": (1.0, 1.0),
        "shift": 0.0,
        "blur": 0.0,
        "noise": 0.0,
        "fonts": ["DejaVuSans"],
    }
    data = glyphs("-|O", 2, size=32, **still)
    assert data.classes == ("-", "|", "O")
    assert data.y.tolist() == [0, 0, 1, 1, 2, 2]
    minus, bar, ring = (data.x[i, 0] > 0.5 for i in (0, 2, 4))
    assert minus.any(0).sum() > 2 * minus.any(1).sum()  # wide
    assert bar.any(1).sum() > 5 * bar.any(0).sum()  # high
    # matplotlib's own rendering of the same outline has ink of the same extent.
    font = FT2Font(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    font.set_size(round(0.8 * 32), 72)
    font.set_text("O")
    font.draw_glyphs_to_bitmap()
    ink = torch.from_numpy(np.asarray(font.get_image()).copy()) > 127
    for axis in (0, 1):
        assert abs(int(ring.any(axis).sum()) - int(ink.any(axis).sum())) <= 1
    assert abs(int(ring.sum()) - int(ink.sum())) <= 0.15 * int(ink.sum())


def test_hundreds_of_classes_that_look_different() -> None:
    known = glyph_characters()
    assert len(known) >= 600
    assert len(set(known)) == len(known)
    assert "A" in known
    assert "Α" not in known  # Greek, of the same shape
    assert "А" not in known  # Cyrillic
    data = glyphs(600, 2, generator=torch.Generator().manual_seed(0))
    assert data.x.shape == (1200, 1, 28, 28)
    assert data.classes == known[:600]
    assert data.x.min() >= 0
    assert data.x.max() <= 1


def test_nearest_neighbours_tell_digits_of_new_fonts_apart() -> None:
    train = glyphs("0123456789", 60, fonts=FONTS[:3], generator=torch.Generator().manual_seed(0))
    test = glyphs("0123456789", 20, fonts=FONTS[3:6], generator=torch.Generator().manual_seed(1))
    found = torch.cdist(test.x.flatten(1), train.x.flatten(1)).argmin(1)
    assert (train.y[found] == test.y).float().mean() > 0.8
    again = glyphs("0123456789", 20, fonts=FONTS[3:6], generator=torch.Generator().manual_seed(1))
    assert torch.equal(test.x, again.x)
    one, other = (glyphs("7", 2, generator=torch.Generator().manual_seed(s)).x for s in (3, 4))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: glyphs("AA", 2), DataError, "different characters"),
        (lambda: glyphs("A\ue000", 2), DataError, r"has no .*U\+E000"),
        (lambda: glyphs(100_000, 2), DataError, "classes = 100000: these fonts have"),
        (lambda: glyphs(0, 2), ErlangenError, "count = 0"),
        (lambda: glyphs("A", 0), ErlangenError, "per_class = 0"),
        (lambda: glyphs("A", 1, fonts=["../../etc/passwd"]), UnknownNameError, "none of .*DejaVuSans"),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
