"""Solids: balanced, normalised, reproducible, upright; each family on its own surfaces, in sizes counted by hand."""

import math

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from erlangen.simulate import solid_families, solids
from erlangen.simulate.solid_families import _deform, _Sampler

Triple = tuple[float, float, float]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_solids_are_balanced_upright_and_normalised() -> None:
    x, y = solids(200, 64, noise=0.0, generator=seeded())
    assert torch.bincount(y).tolist() == [20] * 10
    torch.testing.assert_close(x.square().sum(-1).mean(1), torch.ones(200), rtol=1e-5, atol=1e-5)
    assert float(x.mean(1).abs().max()) < 1e-5
    again = solids(200, 64, noise=0.0, generator=seeded())[0]
    assert torch.equal(x, again)
    cylinders = x[y == 1]  # turned about z and bent a little: heights stay the longest extent
    assert float((cylinders[..., 2].std(1) / cylinders[..., 0].std(1)).min()) > 1


def test_noise_is_a_hundredth_by_default() -> None:
    noisy, clean = (solids(50, 200, generator=seeded(), **options)[0] for options in ({}, {"noise": 0.0}))
    assert float((noisy - clean).std()) == pytest.approx(0.01, rel=0.03)


def test_fewer_objects_than_families() -> None:
    x, y = solids(3, 5, generator=seeded())
    assert x.shape == (3, 5, 3)
    assert y.sort().values.tolist() == [0, 1, 2]


# --- surfaces --------------------------------------------------------------------------------------------------------
class _Set(_Sampler):
    """All sizes at the low (0) or high (1) end of their range."""

    def __init__(self, share: float, points: int = 20_000) -> None:
        super().__init__(1, points, seeded())
        self.share = share

    def draw(self, low: float, high: float) -> Tensor:
        return torch.full((1, 1), low + self.share * (high - low), dtype=torch.float64)


def built(family: str, share: float) -> Tensor:
    return getattr(solid_families, f"_{family}")(_Set(share))[0]


def box(x: Tensor, half: Triple, middle: Triple = (0, 0, 0)) -> Tensor:
    """How far points are from the surface of a box, in half sides."""
    return (((x - torch.tensor(middle, dtype=x.dtype)) / torch.tensor(half, dtype=x.dtype)).abs().amax(-1) - 1).abs()


def ring(x: Tensor, large: float, small: float, axis: int = 2) -> Tensor:
    """How far points are from the surface of a torus about an axis."""
    flat = [i for i in range(3) if i != axis]
    return (torch.hypot(x[:, flat].norm(dim=1) - large, x[:, axis]) - small).abs()


def check_shares(gaps: list[Tensor], weights: list[float]) -> None:
    """Every point is on a part, and parts have their shares of the points (those on two of them are on either)."""
    on = torch.stack([gap < 1e-9 for gap in gaps])
    assert bool(on.any(0).all())
    for part, weight in zip(on, weights, strict=True):
        assert float(part.double().mean()) == pytest.approx(weight / sum(weights), abs=0.012)  # 3.4 standard errors


@pytest.mark.parametrize(("share", "half"), [(0.0, (0.3, 0.5, 0.6)), (1.0, (0.6, 0.9, 1.2))])
def test_box(share: float, half: Triple) -> None:
    x = built("box", share)
    check_shares([box(x, half)], [1])
    a, b, c = half
    sides = (x.abs() - torch.tensor(half, dtype=x.dtype)).abs() < 1e-9
    shares = torch.tensor([b * c, a * c, a * b], dtype=x.dtype) / (b * c + a * c + a * b)
    torch.testing.assert_close(sides.double().mean(0), shares, rtol=0, atol=0.012)
    assert x.mean(0).abs().max() < 0.03
    inner = x[~sides[:, 0], 0]
    assert kstest(inner.numpy(), "uniform", args=(-a, 2 * a)).pvalue > 1e-3


@pytest.mark.parametrize(("share", "radius", "half"), [(0.0, 0.3, 0.6), (1.0, 0.6, 1.2)])
def test_cylinder(share: float, radius: float, half: float) -> None:
    x = built("cylinder", share)
    r, z = x[:, :2].norm(dim=1), x[:, 2]
    check_shares([(r - radius).abs(), (z - half).abs(), (z + half).abs()], [4 * half, radius, radius])
    assert kstest(z[z.abs() < half - 1e-9].numpy(), "uniform", args=(-half, 2 * half)).pvalue > 1e-3
    lid = r[(z.abs() - half).abs() < 1e-9] / radius
    assert kstest(lid.square().numpy(), "uniform").pvalue > 1e-3
    assert kstest(torch.atan2(x[:, 1], x[:, 0]).numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3


@pytest.mark.parametrize(("share", "bottom", "top", "half"), [(0.0, 0.5, 0.02, 0.5), (1.0, 0.8, 0.12, 1.0)])
def test_cone_has_one_lid(share: float, bottom: float, top: float, half: float) -> None:
    x = built("cone", share)
    r, z = x[:, :2].norm(dim=1), x[:, 2]
    lid = (z + half).abs() < 1e-9
    assert float((r - (bottom + top) / 2 + (bottom - top) * z / (2 * half))[~lid].abs().max()) < 1e-9
    side = (bottom + top) * math.hypot(bottom - top, 2 * half)
    assert float(lid.double().mean()) == pytest.approx(bottom**2 / (bottom**2 + side), abs=0.012)
    assert kstest(r[~lid].square().numpy(), "uniform", args=(top**2, bottom**2 - top**2)).pvalue > 1e-3


@pytest.mark.parametrize(("share", "sides"), [(0.0, (0.4, 0.5, 0.7)), (1.0, (0.6, 0.8, 1.2))])
def test_ellipsoid(share: float, sides: Triple) -> None:
    round_ = built("ellipsoid", share) / torch.tensor(sides, dtype=torch.float64)
    torch.testing.assert_close(round_.norm(dim=1), torch.ones(len(round_), dtype=torch.float64))
    for axis in range(3):  # Archimedes
        assert kstest(round_[:, axis].numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize(("share", "large", "small"), [(0.0, 0.8, 0.15), (1.0, 1.0, 0.3)])
def test_torus(share: float, large: float, small: float) -> None:
    x = built("torus", share)
    assert float(ring(x, large, small).max()) < 1e-9
    for angle in (torch.atan2(x[:, 1], x[:, 0]), torch.atan2(x[:, 2], x[:, :2].norm(dim=1) - large)):
        assert kstest(angle.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("share", "turns", "radius", "wire", "half"), [(0.0, 1.5, 0.4, 0.08, 0.7), (1.0, 3.0, 0.6, 0.15, 1.2)]
)
def test_helix(share: float, turns: float, radius: float, wire: float, half: float) -> None:
    """A wire about the curve (radius, 2 pi turns t, half (2 t - 1)) in cylinder coordinates, t in 0 to 1."""
    x = built("helix", share)
    t = torch.atan2(x[:, 1], x[:, 0])[:, None] / (2 * math.pi) + torch.arange(4)  # whole turns are not seen
    t = t / turns
    off = torch.hypot(x[:, :2].norm(dim=1)[:, None] - radius, x[:, 2:] - half * (2 * t - 1)) - wire
    off[(t < 0) | (t > 1)] = math.inf
    assert float(off.abs().amin(1).max()) < 1e-9
    chosen = t.gather(1, off.abs().argmin(1, keepdim=True))[:, 0]
    assert kstest(chosen.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("share", "thick", "wide", "high", "deep"), [(0.0, 0.08, 0.3, 0.6, 0.4), (1.0, 0.15, 0.6, 1.0, 0.9)]
)
def test_bracket(share: float, thick: float, wide: float, high: float, deep: float) -> None:
    """The foot reaches from the middle of the upright plate to one side, at its lower end."""
    x = built("bracket", share)
    upright, foot = box(x, (thick, wide, high)), box(x, (deep, wide, thick), (deep, 0.0, -high))
    assert bool((torch.minimum(upright, foot) < 1e-9).all())
    assert float((x[:, 0] > thick + 1e-9).double().mean()) == pytest.approx(
        deep
        / (deep + high)
        # what of the foot lies beyond the plate: an end of two, and as much of the rest as of its length
        * (thick * wide + (1 - thick / (2 * deep)) * (2 * deep * (thick + wide)))
        / (2 * thick * wide + 2 * deep * (thick + wide)),
        abs=0.012,
    )
    assert bool((foot[upright > 1e-9] < 1e-9).all())


@pytest.mark.parametrize(
    ("share", "a", "high", "leg", "top"), [(0.0, 0.5, 0.4, 0.06, 0.05), (1.0, 0.9, 0.8, 0.12, 0.1)]
)
def test_table(share: float, a: float, high: float, leg: float, top: float) -> None:
    x = built("table", share)
    plate = box(x, (a, a, top), (0.0, 0.0, high))
    legs = [box(x, (leg, leg, high), (i * (a - leg), j * (a - leg), 0.0)) for i in (-1, 1) for j in (-1, 1)]
    assert bool((torch.stack([plate, *legs]).amin(0) < 1e-9).all())
    below = x[:, 2] < high - top - 1e-9  # of a leg all but what the plate hides
    hidden = (leg**2 + 2 * leg * top) / (
        2 * leg**2 + 4 * leg * high
    )  # a lid and a part of the side; half of leg (a + ...)
    for i, j in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = below & (i * x[:, 0] > 0) & (j * x[:, 1] > 0)
        expected = leg * high / (a * a + 4 * leg * high) * (1 - hidden)
        assert float(corner.double().mean()) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("share", "radius", "high", "handle", "wire"), [(0.0, 0.4, 0.45, 0.25, 0.06), (1.0, 0.6, 0.7, 0.4, 0.1)]
)
def test_mug(share: float, radius: float, high: float, handle: float, wire: float) -> None:
    """A wall, a bottom, no lid, and half a torus that stands upright on the wall."""
    x = built("mug", share)
    r, z = x[:, :2].norm(dim=1), x[:, 2]
    wall, bottom = (r - radius).abs() < 1e-9, ((z + high).abs() < 1e-9) & (r < radius)
    grip = (ring(x - torch.tensor([radius, 0.0, 0.0], dtype=x.dtype), handle, wire, axis=1) < 1e-9) & ~wall & ~bottom
    assert bool((wall | bottom | grip).all())
    assert float(x[grip, 0].min()) >= radius - 1e-9
    assert float(z[wall].abs().max()) <= high
    cup = radius * high / (radius * high + 0.2 * handle)
    assert float(grip.double().mean()) == pytest.approx(1 - cup, abs=0.012)
    assert float(bottom.double().mean()) == pytest.approx(cup * radius / (radius + 4 * high), abs=0.012)
    angle = torch.atan2(z[grip], x[grip, 0] - radius)
    assert kstest(angle.numpy(), "uniform", args=(-math.pi / 2, math.pi)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("share", "thick", "high", "arm", "level"), [(0.0, 0.1, 0.8, 0.4, 0.2), (1.0, 0.2, 1.2, 0.7, 0.6)]
)
def test_cross(share: float, thick: float, high: float, arm: float, level: float) -> None:
    x = built("cross", share)
    post, beam = box(x, (thick, thick, high)), box(x, (arm, thick, thick), (0.0, 0.0, high * level))
    assert bool((torch.minimum(post, beam) < 1e-9).all())
    out = x[:, 0].abs() > thick + 1e-9  # both ends of the beam, and what of its sides lies beyond the post
    whole = 2 * thick**2 + 4 * arm * thick
    expected = arm / (high + arm) * (2 * thick**2 + 4 * (arm - thick) * thick) / whole
    assert float(out.double().mean()) == pytest.approx(expected, abs=0.012)


# --- deformations ----------------------------------------------------------------------------------------------------
def test_tapered_by_15_and_bent_by_10_percent_at_most() -> None:
    """Circles at heights -2, 0 and 2: the middle one is turned alone, the ends keep their sum of radii and move alike."""
    angle = 2 * math.pi * torch.arange(12, dtype=torch.float64) / 12
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
    lift = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    count = 2000
    x = torch.cat([circle - lift, circle, circle + lift]).expand(count, -1, 3)
    y = _deform(x, seeded())
    assert torch.equal(y[..., 2], x[..., 2])
    low, middle, high = y[..., :2].unflatten(1, (3, 12)).unbind(1)
    torch.testing.assert_close(middle.norm(dim=-1), torch.ones(count, 12, dtype=torch.float64))
    turn = torch.atan2(middle[:, 0, 1], middle[:, 0, 0])
    assert kstest(turn.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    torch.testing.assert_close(low.mean(1), high.mean(1))
    bend = (high.mean(1) * middle[:, 0]).sum(-1)
    assert kstest(bend.numpy(), "uniform", args=(-0.1, 0.2)).pvalue > 1e-3
    torch.testing.assert_close(bend.abs(), high.mean(1).norm(dim=-1))  # towards the first axis, which turns along
    radii = [(end - end.mean(1, keepdim=True)).norm(dim=-1) for end in (low, high)]
    torch.testing.assert_close(radii[0] + radii[1], torch.full((count, 12), 2.0, dtype=torch.float64))
    assert kstest(radii[1][:, 0].numpy(), "uniform", args=(0.85, 0.3)).pvalue > 1e-3
