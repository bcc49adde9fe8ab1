"""Polar charts of matrix groups and elements drawn in them: round trips, the logarithm, gradients, laws, bad input."""

import math

import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor

from erlangen.errors import (
    ErlangenError,
    GroupElementError,
    GroupError,
    MatrixFunctionError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SL, SO, GLPlus, GroupSamples, O, PolarChart, PolarSampler
from erlangen.numerics import sym_exp

GROUPS = [SL(2), GLPlus(2), SO(2), SL(3), GLPlus(3), SO(3)]
TOL = {torch.float64: 1e-12, torch.float32: 1e-5}
DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(group, count: int, seed: int = 0, **options) -> GroupSamples:
    return PolarSampler(group, **options).draw(count, generator=rng(seed))


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=rng(seed), dtype=DOUBLE)


def matrices(group, count: int) -> Tensor:
    """Elements with condition numbers below 100."""
    drawn = draw(group, 2 * count, seed=1, variance=0.25).g
    return drawn[torch.linalg.cond(drawn) < 100][:count]


def worst(a: Tensor, b: Tensor) -> float:
    return float((torch.linalg.matrix_norm(a.double() - b.double()) / torch.linalg.matrix_norm(b.double())).max())


# --- the chart -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_chart_and_back(group, dtype: torch.dtype) -> None:
    chart, g = PolarChart(group), matrices(group, 300).to(dtype)
    a = chart.coordinates(g)
    assert a.shape == (300, group.dim)
    assert a.dtype == dtype
    assert worst(chart.element(a), g) < TOL[dtype]
    coordinates = torch.randn(50, group.dim, generator=rng(), dtype=DOUBLE).to(dtype) / 3
    torch.testing.assert_close(chart.coordinates(chart.element(coordinates)), coordinates, rtol=0, atol=4 * TOL[dtype])


@pytest.mark.parametrize("group", [SL(2), GLPlus(2), SL(3)], ids=str)
def test_on_both_factors_the_chart_is_the_logarithm(group) -> None:
    chart, n = PolarChart(group), group.space_dim
    R = SO(n).sample(20, generator=rng(), dtype=DOUBLE)
    A = group.hat(chart.coordinates(R))
    torch.testing.assert_close(A, SO(n).hat(SO(n).log(R)), rtol=0, atol=1e-12)
    P = sym_exp(
        group.hat(
            group.vee(images(20, n, n))[..., : chart.symmetric_dim]
            @ torch.eye(group.dim, dtype=DOUBLE)[: chart.symmetric_dim]
        )
    )
    for p, a in zip(P, group.hat(chart.coordinates(P)), strict=True):
        torch.testing.assert_close(a, torch.from_numpy(scipy.linalg.logm(p.numpy())).real, rtol=0, atol=1e-10)


def test_the_chart_has_what_the_logarithm_misses() -> None:
    g = torch.tensor([[-1.0, 1.0], [0.0, -1.0]], dtype=DOUBLE)
    with pytest.raises(MatrixFunctionError):
        SL(2).log(g)
    chart = PolarChart(SL(2))
    a = chart.coordinates(g)
    assert bool(torch.isfinite(a).all())
    torch.testing.assert_close(chart.element(a), g, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sign", [0.0, -0.0, 1e-17, -1e-17])
def test_half_turns_have_one_angle(sign: float) -> None:
    R = torch.tensor([[-1.0, -sign], [sign, -1.0]], dtype=DOUBLE)
    assert PolarChart(SO(2)).coordinates(R).item() == math.pi
    assert PolarChart(SO(2)).coordinates(torch.eye(2)).item() == 0


def test_scalings_of_a_line_have_no_rotations() -> None:
    """On the positive numbers the chart is the exponential, and its inverse the logarithm."""
    chart, a = PolarChart(GLPlus(1)), torch.tensor([[0.5], [-2.0]], dtype=DOUBLE)
    torch.testing.assert_close(chart.element(a), a.exp()[..., None])
    torch.testing.assert_close(chart.coordinates(a.exp()[..., None]), a)


def test_gradients_of_the_chart() -> None:
    g = draw(GLPlus(2), 3, angle=2.0).g.requires_grad_()
    assert torch.autograd.gradcheck(PolarChart(GLPlus(2)).coordinates, (g,))
    tie = (2 * torch.eye(2, dtype=DOUBLE)).requires_grad_()
    assert torch.autograd.gradcheck(PolarChart(GLPlus(2)).coordinates, (tie,))
    a = images(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(PolarChart(SL(2)).element, (a,))


# --- samples ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_samples_come_with_their_inverses(group) -> None:
    samples = draw(group, 50)
    eye = torch.eye(group.space_dim, dtype=DOUBLE).expand(50, -1, -1)
    torch.testing.assert_close(samples.g @ samples.inverse, eye, rtol=0, atol=1e-13)
    assert bool(group.contains(samples.g).all())
    assert torch.equal(samples.g, draw(group, 50).g)
    a = draw(group, 1, seed=5).g[0]
    torch.testing.assert_close(samples.moved(a).g @ samples.moved(a).inverse, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(samples.moved(a).inverse, samples.inverse @ torch.linalg.inv(a))


def test_the_variance_is_that_of_each_coordinate() -> None:
    chart, variance = PolarChart(GLPlus(2)), (0.1, 0.4, 0.05)
    a = chart.coordinates(draw(GLPlus(2), 20_000, variance=variance).g)[:, :3]
    for column, expected in zip(a.T, variance, strict=True):
        assert scipy.stats.kstest(column.numpy(), scipy.stats.norm(0, expected**0.5).cdf).pvalue > 0.01


@pytest.mark.parametrize("rotations", ["uniform", "equidistant"])
def test_angles_fill_their_range(rotations) -> None:
    many = [draw(SO(2), 8, seed, angle=0.7, rotations=rotations).g for seed in range(400)]
    t = SO(2).log(torch.stack(many))[..., 0]
    assert scipy.stats.kstest(t.flatten().numpy(), scipy.stats.uniform(-0.7, 1.4).cdf).pvalue > 0.01
    if rotations == "equidistant":
        torch.testing.assert_close(t.diff(dim=1), torch.full((400, 7), 1.4 / 8, dtype=DOUBLE))


def test_equidistant_rotations_count_none_twice() -> None:
    """Over the full circle the first and the last are neighbours, as far apart as all others."""
    g = draw(SO(2), 5, rotations="equidistant").g
    gaps = SO(2).log(g.mT @ g.roll(-1, 0))[:, 0]
    torch.testing.assert_close(gaps, torch.full((5,), 2 * math.pi / 5, dtype=DOUBLE))


def test_weights_are_those_of_the_group() -> None:
    """The kernel's weights for its own proposal, up to one constant."""
    for group in (SL(2), GLPlus(2), SL(3)):
        samples = draw(group, 30, variance=group.scale**2)
        torch.testing.assert_close(samples.log_weight, group.log_haar_weight(samples.g), rtol=1e-9, atol=1e-9)


def test_factors_make_elements() -> None:
    S, R = torch.diag(torch.tensor([4.0, 0.25], dtype=DOUBLE))[None], SO(2).exp(torch.tensor([[0.5]], dtype=DOUBLE))
    samples = GroupSamples.from_factors(SL(2), S, R)
    torch.testing.assert_close(samples.g, torch.diag(torch.tensor([2.0, 0.5], dtype=DOUBLE)) @ R)
    torch.testing.assert_close(samples.inverse @ samples.g, torch.eye(2, dtype=DOUBLE)[None])


# --- bad input -------------------------------------------------------------------------------------------------------
def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=DOUBLE)


@pytest.mark.parametrize(
    ("group", "g", "error", "message"),
    [
        (GLPlus(2), matrix((1.0, 0.0), (0.0, -1.0)), GroupElementError, r"g is not in GL\+\(2\) \(det = -1\)"),
        (GLPlus(2), matrix((1.0, 0.0), (0.0, 0.0)), GroupElementError, r"not in GL\+\(2\) \(det = 0\)"),
        (GLPlus(2), matrix((1e4, 0.0), (0.0, 1e-3)), GroupElementError, "condition number above 1e"),
        (SL(2), matrix((1.0, 0.0), (0.0, 1.001)), GroupElementError, r"not in SL\(2\) \(det = 1\.001\)"),
        (SL(2), torch.stack([torch.eye(2), 2 * torch.eye(2)]), GroupElementError, r"g\[1\] is not in SL\(2\)"),
        (SO(2), matrix((1.0, 0.1), (0.0, 1.0)), GroupElementError, r"is not in SO\(2\)"),
        (GLPlus(2), torch.ones(2, 3), ShapeError, "square"),
        (GLPlus(2), torch.eye(3), ShapeError, r"elements \[\.\.\., 2, 2\]"),
        (SL(2), matrix((math.nan, 0.0), (0.0, 1.0)), NotFiniteError, "g has 1 values"),
    ],
)
def test_bad_elements(group, g: Tensor, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        PolarChart(group).coordinates(g)


def test_determinants_within_the_tolerance_are_elements() -> None:
    assert bool(torch.isfinite(PolarChart(SL(2)).coordinates(matrix((1.0, 0.0), (0.0, 1.00005)))).all())


S_VOLUME, EYE = 2 * torch.eye(2, dtype=DOUBLE)[None], torch.eye(2, dtype=DOUBLE)[None]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: PolarChart(O(2)), GroupError, "no polar chart"),
        (lambda: PolarChart(SL(2)).element(torch.zeros(4)), ShapeError, r"coordinates \[\.\.\., 3\]"),
        (lambda: PolarSampler(SL(2), (0.1, 0.1, 0.1)), GroupError, "preserves volume: its log S is traceless"),
        (lambda: PolarSampler(GLPlus(2), (0.1, 0.1)), GroupError, "3 directions.*does not force trace 0"),
        (lambda: PolarSampler(SL(2), 0.0), GroupError, "variance"),
        (lambda: PolarSampler(SL(2), (0.1, -0.1)), GroupError, "variance"),
        (lambda: PolarSampler(SL(2), angle=0.0), GroupError, "angle"),
        (lambda: PolarSampler(SL(2), angle=4.0), GroupError, "up to pi"),
        (lambda: PolarSampler(SL(3), angle=1.0), GroupError, "n = 2 only"),
        (lambda: PolarSampler(SL(2), rotations="haar"), UnknownNameError, "uniform, equidistant"),
        (lambda: PolarSampler(SL(2)).draw(0), GroupError, "count = 0"),
        (lambda: GroupSamples.from_factors(SL(2), S_VOLUME, EYE), GroupElementError, r"not in SL\(2\) \(det = 4\)"),
        (lambda: GroupSamples.from_factors(SL(2), EYE, S_VOLUME), GroupElementError, r"not in SO\(2\)"),
        (
            lambda: GroupSamples.from_factors(GLPlus(2), matrix((1.0, 0.5), (0.0, 1.0))[None], EYE),
            GroupElementError,
            "symmetric",
        ),
        (lambda: GroupSamples.of(SL(2), torch.eye(2)), ShapeError, r"elements \[N, 2, 2\]"),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
