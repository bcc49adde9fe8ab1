"""Rooms: surfaces against closed forms, pieces apart and on the floor, rotations, and bad input."""

import math

import pytest
import torch
from scipy.stats import kstest

from erlangen.errors import ErlangenError
from erlangen.simulate import FURNITURE, Rooms, room_clouds
from erlangen.simulate._surfaces import BOX, CAPSULE, CYLINDER, surface_areas, surface_points


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(kind: int, size: tuple[float, float, float], count: int = 40_000) -> torch.Tensor:
    kinds = torch.full((count,), kind)
    sizes = torch.tensor(size, dtype=torch.float64).expand(count, 3)
    return surface_points(kinds, sizes, generator())


# --- surfaces --------------------------------------------------------------------------------------------------------
def test_areas() -> None:
    sizes = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    areas = surface_areas(torch.tensor([CAPSULE, CAPSULE, CYLINDER, BOX]), sizes)
    torch.testing.assert_close(areas, torch.tensor([4 * math.pi, 12 * math.pi, 10 * math.pi, 88.0], dtype=areas.dtype))


def test_sphere_is_uniform() -> None:
    x = draw(CAPSULE, (2.0, 0.0, 0.0))
    torch.testing.assert_close(x.norm(dim=-1), torch.full((len(x),), 2.0, dtype=x.dtype))
    for axis in range(3):  # Archimedes: each coordinate is uniform
        assert kstest(x[:, axis].numpy(), "uniform", args=(-2, 4)).pvalue > 1e-3


def test_capsule() -> None:
    x = draw(CAPSULE, (0.5, 1.5, 0.0))
    rest = x[:, 2] - x[:, 2].clamp(-1.5, 1.5)
    torch.testing.assert_close((x[:, :2].square().sum(1) + rest**2).sqrt(), torch.full((len(x),), 0.5, dtype=x.dtype))
    assert abs(float((rest == 0).double().mean()) - 0.75) < 0.01  # side 2 h of 2 h + 2 r
    assert kstest(x[:, 2].numpy(), "uniform", args=(-2, 4)).pvalue > 1e-3


def test_cylinder() -> None:
    x = draw(CYLINDER, (0.5, 1.0, 0.0))
    radius = x[:, :2].norm(dim=1)
    lid = x[:, 2].abs() == 1.0
    assert abs(float(lid.double().mean()) - 0.2) < 0.01  # 2 pi r^2 of that and 4 pi r h
    torch.testing.assert_close(radius[~lid], torch.full_like(radius[~lid], 0.5))
    assert kstest((radius[lid].square() / 0.25).numpy(), "uniform").pvalue > 1e-3
    assert kstest(x[~lid, 2].numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


def test_box() -> None:
    x = draw(BOX, (0.5, 1.0, 2.0))
    size = torch.tensor([0.5, 1.0, 2.0], dtype=x.dtype)
    face = x.abs() == size
    assert bool((face.sum(1) == 1).all())
    assert bool((x.abs() <= size).all())
    shares = face.double().mean(0)
    torch.testing.assert_close(shares, torch.tensor([2.0, 1.0, 0.5], dtype=x.dtype) / 3.5, rtol=0, atol=0.01)
    assert kstest(x[face[:, 0], 1].numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


# --- rooms -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("upright", [True, False])
def test_pieces_stand_apart_on_the_floor(upright: bool) -> None:
    found = room_clouds(60, 400, upright=upright, generator=generator(), dtype=torch.float64)
    for pos, piece in zip(found.pos, found.piece, strict=True):
        apart = torch.cdist(pos, pos)[piece[:, None] != piece]
        assert float(apart.min()) > 0.05
        for j in piece.unique():
            assert abs(float(pos[piece == j, 2].min())) < 1e-9
    number = (found.piece.amax(1) + 1).tolist()
    assert set(number) == {3, 4, 5}


def test_labels_belong_to_pieces() -> None:
    found = room_clouds(50, 300, generator=generator())
    assert set(found.kind.unique().tolist()) == set(range(len(FURNITURE)))
    for kind, piece in zip(found.kind, found.piece, strict=True):
        assert all(len(kind[piece == j].unique()) == 1 for j in piece.unique())


def _tilts(found: Rooms) -> torch.Tensor:
    """Height of the middle of lamps, whose upright height is at least 1.3 m."""
    lamp = FURNITURE.index("lamp")
    heights = [
        pos[(kind == lamp) & (piece == j), 2]
        for pos, kind, piece in zip(found.pos, found.kind, found.piece, strict=True)
        for j in range(5)
    ]
    return torch.stack([h.max() for h in heights if len(h) > 20])


def test_upright_lamps_stand_and_others_fall() -> None:
    assert float(_tilts(room_clouds(80, 300, generator=generator())).min()) > 1.3
    fallen = _tilts(room_clouds(80, 300, upright=False, generator=generator()))
    assert float(fallen.min()) < 0.7
    assert float((fallen < 1.3).double().mean()) > 0.3


def test_sizes_seeds_and_dtypes() -> None:
    assert room_clouds(0, 10).pos.shape == (0, 10, 3)
    first, again = (room_clouds(3, 50, generator=generator(4)) for _ in range(2))
    assert torch.equal(first.pos, again.pos)
    assert first.pos.dtype == torch.float32
    assert int(room_clouds(4, 100, pieces=(9, 9), generator=generator()).piece.max()) == 8


@pytest.mark.parametrize(
    "options", [{"points": 0}, {"count": -1}, {"pieces": (0, 3)}, {"pieces": (4, 3)}, {"pieces": (3, 10)}]
)
def test_bad_input(options: dict) -> None:
    with pytest.raises(ErlangenError, match=r"count = .*points = .*pieces = "):
        room_clouds(**{"count": 2, **options})
