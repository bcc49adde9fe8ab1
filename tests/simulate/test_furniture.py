"""Furniture: sizes in metres counted by hand at the smallest and largest draws, joints, and where pieces stand."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.simulate._surfaces import BOX, CYLINDER
from erlangen.simulate.rooms import _chair, _lamp, _places, _shelf, _sofa, _stool, _table, _turns

BUILD = {"chair": _chair, "table": _table, "shelf": _shelf, "sofa": _sofa, "lamp": _lamp, "stool": _stool}


def solids(kind: str, *draws: float) -> tuple[list[int], Tensor, Tensor]:
    """Kinds, lowest and highest corners ``[S, 3]`` of the solids of a piece at these six draws, equal if there is one."""
    draws = draws * 6 if len(draws) == 1 else draws
    built = BUILD[kind](*(torch.tensor(value, dtype=torch.float64) for value in draws))
    middle = torch.tensor([[float(v) for v in centre] for _, _, centre in built], dtype=torch.float64)
    half = torch.tensor([[float(v) for v in sizes] for _, sizes, _ in built], dtype=torch.float64)
    shapes = [shape for shape, _, _ in built]
    for i, shape in enumerate(shapes):
        if shape == CYLINDER:  # radius, half length, unused
            assert half[i, 2] == 0
            half[i] = half[i, [0, 0, 1]]
    return shapes, middle - half, middle + half


# The whole piece: width, depth and height in metres, at the smallest and at the largest draws.
WHOLE = [
    ("chair", (0.40, 0.42, 0.80), (0.52, 0.55, 1.10)),
    ("table", (1.00, 0.70, 0.67), (1.60, 1.10, 0.84)),
    ("shelf", (0.624, 0.28, 1.20), (1.04, 0.44, 1.80)),
    ("sofa", (1.26, 0.78, 0.70), (1.74, 1.02, 0.90)),
    ("lamp", (0.28, 0.28, 1.40), (0.44, 0.44, 1.86)),
]


@pytest.mark.parametrize(("kind", "small", "large"), WHOLE)
def test_whole_pieces(kind: str, small: tuple[float, ...], large: tuple[float, ...]) -> None:
    for draw, expected in ((0.0, small), (1.0, large)):
        _, low, high = solids(kind, draw)
        size = high.amax(0) - low.amin(0)
        if kind == "lamp":  # its foot may reach half a centimetre below the floor, or end as far above it
            assert abs(float(low[0, 2])) == pytest.approx(0.005, abs=1e-12)
            size[2] = high[:, 2].max()
        assert size.tolist() == pytest.approx(expected, abs=1e-12)


# One solid of each sort: which one, its size in metres at the smallest and at the largest draws.
PARTS = [
    ("chair", 0, (0.40, 0.40, 0.05), (0.52, 0.52, 0.05)),  # the seat
    ("chair", 1, (0.40, 0.04, 0.40), (0.52, 0.06, 0.60)),  # the back
    ("chair", 2, (0.04, 0.04, 0.40), (0.06, 0.06, 0.50)),  # a leg
    ("table", 0, (1.00, 0.70, 0.04), (1.60, 1.10, 0.08)),
    ("table", 1, (0.05, 0.05, 0.65), (0.09, 0.09, 0.80)),
    ("shelf", 0, (0.024, 0.28, 1.20), (0.04, 0.44, 1.80)),  # a side
    ("shelf", 2, (0.60, 0.28, 0.024), (1.00, 0.44, 0.04)),  # a board
    ("sofa", 0, (1.10, 0.70, 0.36), (1.50, 0.90, 0.46)),
    ("sofa", 1, (1.10, 0.16, 0.70), (1.50, 0.24, 0.90)),
    ("sofa", 2, (0.16, 0.70, 0.52), (0.24, 0.90, 0.62)),  # an arm
    ("lamp", 0, (0.24, 0.24, 0.03), (0.34, 0.34, 0.05)),  # the foot
    ("lamp", 1, (0.024, 0.024, 1.30), (0.04, 0.04, 1.70)),
    ("lamp", 2, (0.28, 0.28, 0.20), (0.44, 0.44, 0.32)),  # the shade
    ("stool", 1, (0.03, 0.03, 0.40), (0.05, 0.05, 0.65)),
    ("stool", 0, (0.32, 0.32, 0.04), (0.44, 0.44, 0.10)),
]


@pytest.mark.parametrize(("kind", "part", "small", "large"), PARTS)
def test_parts(kind: str, part: int, small: tuple[float, ...], large: tuple[float, ...]) -> None:
    for draw, expected in ((0.0, small), (1.0, large)):
        _, low, high = solids(kind, draw)
        assert (high - low)[part].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", BUILD)
def test_solids_join(kind: str) -> None:
    """From each solid one comes to each other one, and all but the stool are the same left and right."""
    for draw in torch.rand(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        _, low, high = solids(kind, *draw.tolist())
        meets = ((low[:, None] <= high + 1e-12) & (low <= high[:, None] + 1e-12)).all(-1).double()
        assert bool((torch.linalg.matrix_power(meets, len(meets)) > 0).all())
        if kind != "stool":
            assert float(low[:, 0].min() + high[:, 0].max()) == pytest.approx(0, abs=1e-12)
        assert abs(float(low[:, 2].min())) <= 0.005 + 1e-12


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_what_stands_on_what(draw: float) -> None:
    _, low, high = solids("chair", draw)
    assert float(low[1, 2]) == pytest.approx(float(high[0, 2]) - 0.025)  # the back rises from the middle of the seat
    assert float(low[1, 1] + high[1, 1]) == pytest.approx(2 * float(low[0, 1]))  # and at its edge
    assert float(high[2:, 2].max()) == pytest.approx(float(low[0, 2] + high[0, 2]) / 2)
    _, low, high = solids("sofa", draw)
    assert low[:, 2].tolist() == pytest.approx([0] * 4, abs=1e-12)
    assert float(low[1, 1] + high[1, 1]) == pytest.approx(2 * float(low[0, 1]))
    assert ((low + high)[2:, 0] / 2).tolist() == pytest.approx([float(low[0, 0]), float(high[0, 0])])
    _, low, high = solids("lamp", draw)
    assert float(low[1, 2]) == pytest.approx(0, abs=1e-12)
    assert float(low[2, 2] + high[2, 2]) == pytest.approx(2 * float(high[1, 2]))  # the shade is held by its middle


# Middles of legs: distances from the axes of the piece in metres, at the smallest and at the largest draws.
@pytest.mark.parametrize(
    ("kind", "legs", "small", "large"),
    [("chair", slice(2, 6), (0.16, 0.16), (0.22, 0.22)), ("table", slice(1, 5), (0.45, 0.30), (0.70, 0.45))],
)
def test_four_legs(kind: str, legs: slice, small: tuple[float, float], large: tuple[float, float]) -> None:
    for draw, (x, y) in ((0.0, small), (1.0, large)):
        shapes, low, high = solids(kind, draw)
        assert shapes[legs] == [CYLINDER] * 4
        found = sorted(tuple(round(v, 9) for v in row) for row in ((low + high)[legs, :2] / 2).tolist())
        assert found == sorted((i * x, j * y) for i in (-1, 1) for j in (-1, 1))
        assert low[legs, 2].tolist() == pytest.approx([0] * 4, abs=1e-12)
        assert bool((low[legs, :2] >= low[0, :2]).all())  # under the seat or the board
        assert bool((high[legs, :2] <= high[0, :2]).all())


def test_shelf_boards() -> None:
    """Four boards between the sides, at 5, 35, 65 and 95 % of the height, the first three up to 5 % higher."""
    for draw, shares in ((0.0, (0.05, 0.35, 0.65, 0.95)), (1.0, (0.10, 0.40, 0.70, 0.95))):
        shapes, low, high = solids("shelf", draw)
        assert shapes == [BOX] * 6
        assert ((low + high)[2:, 2] / 2 / high[0, 2]).tolist() == pytest.approx(shares)
        assert ((low + high)[:2, 0] / 2).tolist() == pytest.approx([float(low[2, 0]), float(high[2, 0])])


def test_stool_legs() -> None:
    """Three legs at equal angles, at 70 to 90 % of the radius of the seat, up to its middle."""
    for draw, share in ((0.0, 0.7), (1.0, 0.9)):
        shapes, low, high = solids("stool", draw)
        assert shapes == [CYLINDER] * 4
        middle = (low + high)[1:, :2] / 2
        torch.testing.assert_close(middle.norm(dim=1), (share * high[0, :1]).expand(3))
        angles = torch.atan2(middle[:, 1], middle[:, 0]).remainder(2 * math.pi)
        torch.testing.assert_close(angles, torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3)
        assert high[1:, 2].tolist() == pytest.approx([float(low[0, 2] + high[0, 2]) / 2] * 3)


def test_places() -> None:
    """Nine places 2.5 m apart about the origin, each once, moved by up to 10 cm to both sides along each axis."""
    place = _places(500, 9, torch.Generator().manual_seed(0))
    nearest = (place / 2.5).round()
    moved = place - 2.5 * nearest
    assert float(moved.max()) == pytest.approx(0.1, abs=1e-3)
    assert float(moved.min()) == pytest.approx(-0.1, abs=1e-3)
    assert moved.mean((0, 1)).tolist() == pytest.approx([0, 0], abs=0.006)  # seven standard errors
    cells = (nearest[..., 0] + 1) + 3 * (nearest[..., 1] + 1)
    assert torch.equal(cells.sort(1).values, torch.arange(9.0, dtype=torch.float64).expand(500, 9))
    first = torch.bincount(cells[:, 0].long(), minlength=9)
    assert int(first.min()) > 25  # 55.6 are expected of each


def test_turns() -> None:
    upright = _turns((50, 4), True, torch.Generator().manual_seed(0))
    assert torch.equal(upright[..., 2, :], torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(50, 4, 3))
    assert torch.equal(upright[..., :, 2], torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(50, 4, 3))
    free = _turns((50, 4), False, torch.Generator().manual_seed(0))
    for turn in (upright, free):
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(50, 4, 3, 3))
        assert bool((torch.linalg.det(turn) > 0).all())
        assert len(turn.flatten(2).flatten(0, 1).unique(dim=0)) == 200
