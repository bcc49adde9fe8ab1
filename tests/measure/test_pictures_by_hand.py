"""Pictures of data: their sizes in points, the room above curves, and which way one looks at a cloud."""

import math
import re

import pytest
import torch

from erlangen import plots
from erlangen.measure.pictures import Picture, Reach, _projected, _series


def test_a_picture_is_a_square_below_its_title() -> None:
    """2.4 inches and a margin of 0.05 on all sides, with a quarter of an inch for the title; an inch has 72 points."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', Picture("title", lambda ax: None).svg())
    assert found is not None
    assert [float(side) for side in found.groups()] == pytest.approx([2.5 * 72, 2.75 * 72], abs=0.1)


@pytest.mark.parametrize(("channels", "rows"), [(1, 1), (3, 1), (4, 1), (6, 1), (7, 2), (13, 3), (20, 3)])
def test_names_stand_above_the_curves(channels: int, rows: int) -> None:
    """Six names in a row, of at most 18; each row takes 22 % of half the height."""
    x = torch.linspace(-1, 1, 5)[:, None].expand(5, channels)
    ax = plots.Figure().add_subplot()
    _series(x, Reach.of(x), "curves", [str(c) for c in range(channels)]).paint(ax)
    low, high = ax.get_ylim()
    assert -low == pytest.approx(1.2 * Reach.of(x).size)
    assert high / -low == pytest.approx(1 + 0.22 * rows)
    assert ax.get_xlim() == (0, 4)
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == min(channels, 18)


def test_clouds_are_seen_from_the_side_and_above() -> None:
    """Turned by -25 degrees about z, then tipped by -65 about x; points of a plane stay as they are."""
    flat = torch.tensor([[1.0, 2.0]])
    assert torch.equal(_projected(flat)[0], flat)
    places, depth = _projected(torch.eye(3, dtype=torch.float64))
    c, s, C, S = (f(math.radians(a)) for a in (25, 65) for f in (math.cos, math.sin))
    expected = torch.tensor([[c, -s * C], [s, c * C], [0, S]], dtype=torch.float64)
    torch.testing.assert_close(places, expected)
    torch.testing.assert_close(depth, torch.tensor([s * S, -c * S, C], dtype=torch.float64))
