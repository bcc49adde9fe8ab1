"""Cells of balls: two balls and a cubic lattice by hand, voronota where it is installed, and what is refused."""

import math

import pytest
import torch

from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import ball_cells, burial
from erlangen.groups import SO


def test_two_balls_have_caps() -> None:
    """Spheres of radius 2 and 1.5 at distance 2.5: the plane lies at (D^2 + R^2 - r^2) / 2 D."""
    D, R, r = 2.5, 2.0, 1.5
    pos = torch.tensor([[0.0, 0, 0], [0, D, 0]], dtype=torch.float64)
    cells = ball_cells(pos, torch.tensor([R, r], dtype=torch.float64), rays=100_000)
    assert cells.pairs.tolist() == [[0, 1], [1, 0]]
    for k, (own, other) in enumerate(((R, r), (r, R))):
        height = own - (D**2 + own**2 - other**2) / (2 * D)
        assert float(cells.area[k]) == pytest.approx(2 * math.pi * own * height, rel=1e-3)
        assert float(cells.exposed[k]) == pytest.approx(2 * math.pi * own * (2 * own - height), rel=1e-3)
        cap = math.pi * height**2 * (3 * own - height) / 3
        assert float(cells.volume[k]) == pytest.approx(4 * math.pi / 3 * own**3 - cap, rel=1e-3)


def test_a_ball_in_a_lattice_has_the_cube() -> None:
    steps = torch.cartesian_prod(*[torch.arange(-2, 3.0, dtype=torch.float64)] * 3)
    cells = ball_cells(steps, torch.full((len(steps),), 1.0, dtype=torch.float64), rays=20_000)
    middle = int(steps.norm(dim=1).argmin())
    assert float(cells.volume[middle]) == pytest.approx(1, rel=2e-3)
    assert float(cells.exposed[middle]) == 0
    faces = cells.area[cells.pairs[:, 0] == middle]
    assert len(faces) == 6
    torch.testing.assert_close(faces, torch.full((6,), 4 * math.pi / 6, dtype=torch.float64), rtol=5e-3, atol=0)


def test_a_ball_alone_is_whole() -> None:
    cells = ball_cells(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64))
    assert cells.pairs.shape == (0, 2)
    assert float(cells.volume[0]) == pytest.approx(32 * math.pi / 3)
    assert float(cells.exposed[0]) == pytest.approx(16 * math.pi)


def test_rays_that_turn_along_see_the_same() -> None:
    g = torch.Generator().manual_seed(0)
    pos = 2 * torch.randn(40, 3, generator=g, dtype=torch.float64)
    radius = 1 + torch.rand(40, generator=g, dtype=torch.float64)
    frames = SO(3).sample(40, generator=g, dtype=torch.float64)
    R = SO(3).sample(1, generator=g, dtype=torch.float64)[0]
    a, b = ball_cells(pos, radius, frames=frames), ball_cells(pos @ R.mT + 3, radius, frames=R @ frames)
    torch.testing.assert_close(a.volume, b.volume)
    assert torch.equal(a.pairs, b.pairs)
    torch.testing.assert_close(a.area, b.area)


def test_all_area_is_shared_out() -> None:
    g = torch.Generator().manual_seed(1)
    pos = 2 * torch.randn(30, 3, generator=g, dtype=torch.float64)
    radius = 1 + torch.rand(30, generator=g, dtype=torch.float64)
    cells = ball_cells(pos, radius)
    total = cells.exposed.index_add(0, cells.pairs[:, 0], cells.area)
    torch.testing.assert_close(total, 4 * math.pi * radius.square())


def test_burial_counts_steps() -> None:
    ring = torch.tensor([[k, (k + s) % 6] for k in range(6) for s in (1, 5)])
    assert burial(ring, torch.tensor([1.0, 0, 0, 0, 0, 0])).tolist() == [1, 2, 3, 4, 3, 2]
    assert burial(torch.zeros(0, 2, dtype=torch.long), torch.tensor([1.0, 0.0])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("pos", "radius", "error", "words"),
    [
        (torch.zeros(2, 2), torch.ones(2), ShapeError, r"\[A, 3\]"),
        (torch.zeros(2, 3), torch.ones(3), ShapeError, "radii"),
        (torch.zeros(2, 3), torch.ones(2), DataError, r"pos\[0\] and pos\[1\] coincide"),
        (torch.eye(3), torch.tensor([1.0, 0, 1]), ErlangenError, "not positive"),
        (torch.eye(3) * torch.nan, torch.ones(3), NotFiniteError, "pos has"),
    ],
)
def test_bad_balls(pos: torch.Tensor, radius: torch.Tensor, error: type[ErlangenError], words: str) -> None:
    with pytest.raises(error, match=words):
        ball_cells(pos, radius)
