"""Surfaces: normals against differences of the points, shapes against their equations, areas against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import ErlangenError
from erlangen.simulate import surfaces
from erlangen.simulate.shapes import _FAMILIES, _box, _Draw, _ellipsoid, _rounded, _superquadric, _torus, _turned


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clouds_are_normalised_balanced_and_repeatable() -> None:
    data = surfaces(36, 100, generator=seeded(), dtype=torch.float64)
    assert data.pos.shape == data.normals.shape == (36, 100, 3)
    assert torch.bincount(data.family).tolist() == [6] * 6
    assert float(data.pos.mean(1).abs().max()) < 1e-12
    torch.testing.assert_close(data.pos.square().sum(-1).mean(1), torch.ones(36, dtype=torch.float64))
    torch.testing.assert_close(data.normals.norm(dim=-1), torch.ones(36, 100, dtype=torch.float64))
    again = surfaces(36, 100, generator=seeded(), dtype=torch.float64)
    assert torch.equal(data.pos, again.pos)
    assert torch.equal(data.normals, again.normals)
    assert surfaces(2, 8).pos.dtype == torch.float32
    upright = data.family != 3
    assert bool((data.pos[upright, :, 2].std(1) > data.pos[upright, :, 0].std(1)).all())


@pytest.mark.parametrize("family", range(6))
def test_near_points_lie_across_the_normal(family: int) -> None:
    """On a smooth patch the difference of neighbours has no part along the normal, to first order in their distance."""
    data = surfaces(12, 4000, generator=seeded(1), dtype=torch.float64)
    chosen = data.family == family
    pos, normals = data.pos[chosen], data.normals[chosen]
    apart = torch.cdist(pos, pos)
    distance, near = (apart + 9 * torch.eye(4000)).min(-1)
    turned = (normals * normals.gather(1, near[..., None].expand_as(normals))).sum(-1)
    smooth = (distance < 0.05) & (turned > 0.97)  # not across an edge
    step = pos.gather(1, near[..., None].expand_as(pos)) - pos
    along = ((step * normals).sum(-1).abs() / distance)[smooth]
    assert float(smooth.double().mean()) > 0.85
    assert float(along.mean()) < 0.05


@pytest.mark.parametrize("family", range(6))
def test_normals_point_outwards(family: int) -> None:
    """The flux of x through a closed surface is three times its volume, so positive; and of a constant field zero."""
    draw = _Draw(2, 200_000, seeded(2))
    pos, normals, area = _FAMILIES[family](draw)
    size = area.sum(1)
    flux = (pos * normals).sum(-1).mul(area).sum(1) / size
    assert bool((flux > 0.1).all())
    assert float(((normals * area[..., None]).sum(1) / size[:, None]).abs().max()) < 0.01


def mean_area(area: Tensor) -> float:
    return float(area.mean())


def test_areas_have_closed_forms() -> None:
    """The mean of the area over the measure from which candidates are drawn is the area of the surface."""
    count = 400_000
    large, small = 0.9, 0.3
    draw = _Fixed(1, count, seeded(3), [large, small])
    assert mean_area(_torus(draw)[2]) * (2 * math.pi) ** 2 * small == pytest.approx(
        4 * math.pi**2 * large * small, rel=3e-3
    )
    a, b, c = 0.4, 0.6, 1.0
    # Faces by chance 1/3: the mean of 1 / side is the sum over faces; times 8 a b c it is the area.
    box = mean_area(_box(_Fixed(1, count, seeded(4), [a, b, c]))[2]) * 3 * 8 * a * b * c
    assert box == pytest.approx(8 * (a * b + b * c + a * c) * 3 / 3, rel=5e-3)
    oblate = mean_area(_ellipsoid(_Fixed(1, count, seeded(5), [0.5, 0.5, 1.0]))[2]) * 4 * math.pi
    e = math.sqrt(1 - 0.25)
    assert oblate == pytest.approx(2 * math.pi * 0.25 * (1 + 1 / (0.5 * e) * math.asin(e)), rel=5e-3)  # prolate
    bottom, top, half = (torch.full((1, 1), v, dtype=torch.float64) for v in (0.8, 0.2, 1.0))
    cone = mean_area(_turned(_Draw(1, count, seeded(6)), bottom, top, half)[2]) * 3 * math.pi
    slant = math.hypot(0.6, 2.0)
    assert cone == pytest.approx(math.pi * (0.8 + 0.2) * slant + math.pi * (0.64 + 0.04), rel=5e-3)


class _Fixed(_Draw):
    """Sizes that are set instead of drawn."""

    def __init__(self, objects: int, points: int, generator: torch.Generator, sizes: list[float]) -> None:
        super().__init__(objects, points, generator)
        self.sizes = list(sizes)

    def size_between(self, low: float, high: float) -> Tensor:
        return torch.full((self.size[0], 1), self.sizes.pop(0), dtype=torch.float64)


class _End(_Draw):
    """All sizes at the low (0) or high (1) end of their range."""

    def __init__(self, share: float) -> None:
        super().__init__(1, 4000, seeded(8))
        self.share = share

    def size_between(self, low: float, high: float) -> Tensor:
        return torch.full((1, 1), low + self.share * (high - low), dtype=torch.float64)


# Half sides of ellipsoid, superquadric and box; radii of the torus; radius (bottom, top) and half height of what is turned.
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sizes_of_families(share: float) -> None:
    ellipsoid, rounded, box, torus, cylinder, cone = (family(_End(share))[0][0] for family in _FAMILIES)
    sides = torch.tensor([[0.35, 0.55, 0.9], [0.5, 0.8, 1.3]][int(share)], dtype=torch.float64)
    ones = torch.ones(4000, dtype=torch.float64)
    for pos, power in ((ellipsoid, 2.0), (rounded, [2.5, 5.0][int(share)])):
        torch.testing.assert_close((pos / sides).abs().pow(power).sum(-1), ones)
    torch.testing.assert_close((box / sides).abs().amax(-1), ones)
    large, small = [(0.8, 0.25), (1.0, 0.45)][int(share)]
    torch.testing.assert_close(torch.hypot(torus[:, :2].norm(dim=1) - large, torus[:, 2]), small * ones)
    for pos, (bottom, top, half) in (
        (cylinder, [(0.4, 0.4, 0.8), (0.7, 0.7, 1.2)][int(share)]),
        (cone, [(0.6, 0.1, 0.8), (0.9, 0.2, 1.2)][int(share)]),
    ):
        radius, z = pos[:, :2].norm(dim=1), pos[:, 2]
        assert float(z.abs().max()) == pytest.approx(half)
        wall = z.abs() < half - 1e-9
        torch.testing.assert_close(radius[wall], ((bottom + top) / 2 - (bottom - top) * z / (2 * half))[wall])
        for lid, rim in ((-half, bottom), (half, top)):
            on = radius[(z - lid).abs() < 1e-9]
            assert 0.99 * rim < float(on.max()) <= rim + 1e-9
        assert float(wall.double().mean()) == pytest.approx(1 / 3, abs=0.03)


def test_superquadrics_fulfil_their_equation() -> None:
    sides, p = torch.tensor([0.4, 0.7, 1.1], dtype=torch.float64), 3.5
    draw = _Fixed(1, 500, seeded(), sides.tolist())
    pos, normals, _ = _superquadric(draw, torch.full((1, 1), p, dtype=torch.float64))
    pos = pos.requires_grad_()
    norm = (pos / sides).abs().pow(p).sum(-1)
    torch.testing.assert_close(norm.detach(), torch.ones(1, 500, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(norm.sum(), pos)
    torch.testing.assert_close(normals, gradient / gradient.norm(dim=-1, keepdim=True))
    assert _rounded(_Draw(3, 10, seeded()))[0].shape == (3, 10, 3)


def test_points_are_spread_by_area() -> None:
    """The lids of a cylinder hold the share of points that is theirs."""
    data = surfaces(600, 256, generator=seeded(7), dtype=torch.float64)
    cylinders = data.family == 4
    pos, normals = data.pos[cylinders], data.normals[cylinders]
    lids = normals[..., 2].abs() > 0.5
    radius = pos[..., :2].norm(dim=-1).amax(1)
    half = pos[..., 2].abs().amax(1)
    share = radius / (radius + 2 * half)
    assert float((lids.double().mean(1) - share).mean().abs()) < 0.02


def test_bad_counts() -> None:
    for counts in ((0, 8), (3, -1)):
        with pytest.raises(ErlangenError, match="n_"):
            surfaces(*counts)
