"""Grids on the sphere and SO(3): exactness, round trips, Parseval, convolution-free oracles."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from erlangen.errors import GridError, ShapeError
from erlangen.irreps import (
    S2Grid,
    SO3Grid,
    at_rotations,
    from_s2_grid,
    from_so3_grid,
    gaunt_tensor,
    spherical_harmonics,
    to_s2_grid,
    to_so3_grid,
    wigner_D,
)
from erlangen.irreps.harmonics import NORMALIZATIONS

F64 = torch.float64


def monomial_integral(a: int, b: int, c: int) -> float:
    """Integral of x^a y^b z^c over the unit sphere (Folland, Amer. Math. Monthly 108, 2001, p. 446)."""
    if a % 2 or b % 2 or c % 2:
        return 0.0
    g = [math.gamma((k + 1) / 2) for k in (a, b, c)]
    return 2 * math.prod(g) / math.gamma((a + b + c + 3) / 2)


@pytest.mark.parametrize("degree", [0, 1, 4, 7])
def test_monomials_are_integrated_exactly(degree: int) -> None:
    grid = S2Grid.exact_for(degree)
    assert grid.degree >= degree
    assert grid.points.shape == (grid.size, 3)
    x, y, z = grid.points.unbind(-1)
    for a in range(degree + 1):
        for b in range(degree + 1 - a):
            for c in range(degree + 1 - a - b):
                found = (grid.weights * x**a * y**b * z**c).sum().item()
                assert found == pytest.approx(monomial_integral(a, b, c), abs=1e-13)


@pytest.mark.parametrize("degree", [2, 4, 6])
def test_one_point_less_is_not_exact(degree: int) -> None:
    best = S2Grid.exact_for(degree)
    for grid in (S2Grid(best.polar - 1, best.azimuthal), S2Grid(best.polar, best.azimuthal - 1)):
        assert grid.degree < degree
        Y = spherical_harmonics(degree // 2, grid.points)
        gram = Y.mT @ (grid.weights[:, None] * Y)
        assert (gram - torch.eye(Y.shape[1], dtype=F64)).abs().max() > 0.1


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("lmax", [0, 1, 5])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_s2_round_trip(normalization: str, lmax: int, dtype: torch.dtype, tol: float) -> None:
    c = torch.randn(2, 3, (lmax + 1) ** 2, dtype=dtype)
    grid = S2Grid.exact_for(2 * lmax)
    f = to_s2_grid(c, grid, normalization)
    assert f.shape == (2, 3, grid.size)
    torch.testing.assert_close(from_s2_grid(f, grid, lmax, normalization), c, rtol=0, atol=tol)
    direct = spherical_harmonics(lmax, grid.points.to(dtype), normalization=normalization) @ c[0, 0]
    torch.testing.assert_close(f[0, 0], direct, rtol=0, atol=10 * tol)


def test_product_on_the_grid_is_the_gaunt_product() -> None:
    x, y = torch.randn(4, 9, dtype=F64), torch.randn(4, 16, dtype=F64)
    grid = S2Grid.exact_for(2 + 3 + 5)
    product = from_s2_grid(to_s2_grid(x, grid) * to_s2_grid(y, grid), grid, 5)
    expected = torch.einsum("na,nb,abc->nc", x, y, gaunt_tensor(2, 3, 5, dtype=F64))
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-12)


def test_so3_grid_holds_rotations_with_mass_one() -> None:
    grid = SO3Grid.exact_for(5)
    R = grid.rotations
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=F64).expand_as(R), rtol=0, atol=1e-14)
    assert bool((torch.linalg.det(R) > 0).all())
    assert grid.weights.sum().item() == pytest.approx(1, abs=1e-14)
    assert R.shape[0] == grid.size == grid.weights.shape[0]
    # Means of D^l vanish for 1 <= l <= degree, and of D^l D^l are Schur's delta / (2l + 1).
    for l in range(1, 6):
        D = wigner_D(l, R)
        assert (grid.weights[:, None, None] * D).sum(0).abs().max() < 1e-14
    D = wigner_D(2, R).flatten(1)
    gram = D.mT @ (grid.weights[:, None] * D)
    torch.testing.assert_close(gram, torch.eye(25, dtype=F64) / 5, rtol=0, atol=1e-14)


def test_so3_grid_is_in_the_order_of_euler_angles() -> None:
    grid = SO3Grid(2, 3)
    b = math.acos(1 / 3**0.5)  # nodes -+1/sqrt 3
    angles = [[2 * math.pi / 3, math.pi - b, 4 * math.pi / 3], [2 * math.pi / 3, b, 0.0]]
    expected = Rotation.from_euler("YXY", angles).as_matrix()
    torch.testing.assert_close(grid.rotations[[6 + 2, 6 + 3]], torch.from_numpy(expected))


@pytest.mark.parametrize("lmax", [0, 1, 3])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_so3_round_trip_and_parseval(lmax: int, dtype: torch.dtype, tol: float) -> None:
    size = sum((2 * l + 1) ** 2 for l in range(lmax + 1))
    c = torch.randn(3, size, dtype=dtype)
    grid = SO3Grid.exact_for(2 * lmax)
    f = to_so3_grid(c, grid)
    torch.testing.assert_close(from_so3_grid(f, grid, lmax), c, rtol=0, atol=tol)
    power = (grid.weights.to(dtype) * f.square()).sum(-1)
    torch.testing.assert_close(power, c.square().sum(-1), rtol=10 * tol, atol=0)


def test_values_at_any_rotations_are_those_of_the_series() -> None:
    """On the grid they are the transform; elsewhere scipy's rotations give matrix entries of degree 1 and of degree 0."""
    grid = SO3Grid(3, 5)
    c = torch.randn(2, 35, dtype=F64)
    torch.testing.assert_close(at_rotations(c, grid.rotations, chunk=7), to_so3_grid(c, grid), rtol=0, atol=1e-12)
    R = torch.from_numpy(Rotation.random(6, random_state=0).as_matrix())
    expected = c[:, :1] + 3**0.5 * torch.einsum("bij,nij->bn", c[:, 1:10].unflatten(-1, (3, 3)), R)
    torch.testing.assert_close(at_rotations(c[:, :10], R), expected, rtol=0, atol=1e-12)
    assert at_rotations(c, R[:0]).shape == (2, 0)
    for wrong, error, match in (
        (lambda: at_rotations(c[:, :11], R), ShapeError, "the next is 35"),
        (lambda: at_rotations(c, R[0]), ShapeError, r"give rotation matrices \[n, 3, 3\]"),
        (lambda: at_rotations(c, R, chunk=0), GridError, "chunk = 0"),
    ):
        with pytest.raises(error, match=match):
            wrong()


def test_so3_signal_of_a_matrix_entry() -> None:
    """f(R) = R_zx has the coefficient 1 / sqrt 3 at its place in degree 1 and no other."""
    grid = SO3Grid.exact_for(4)
    c = from_so3_grid(grid.rotations[:, 2, 0], grid, 2)
    expected = torch.zeros(35, dtype=F64)
    expected[1 + 2 * 3] = 3**-0.5
    torch.testing.assert_close(c, expected, rtol=0, atol=1e-14)


def test_bad_input() -> None:
    grid = S2Grid(3, 6)
    with pytest.raises(GridError, match=r"too coarse.*smallest grid is S2Grid\(polar=4, azimuthal=7\)"):
        from_s2_grid(torch.zeros(grid.size), grid, 3)
    with pytest.raises(GridError, match=r"smallest grid is SO3Grid\(polar=3, azimuthal=5\)"):
        from_so3_grid(torch.zeros(2), SO3Grid(2, 5), 2)
    with pytest.raises(ShapeError, match=r"\[..., 18\]"):
        from_s2_grid(torch.zeros(17), grid, 2)
    with pytest.raises(ShapeError, match=r"4 for lmax = 1 or 9 for lmax = 2"):
        to_s2_grid(torch.zeros(7), grid)
    with pytest.raises(ShapeError, match="the next is 35"):
        to_so3_grid(torch.zeros(11), SO3Grid(2, 3))
    with pytest.raises(GridError, match="azimuthal is 0"):
        S2Grid(3, 0)
    with pytest.raises(GridError, match=r"polar is 2\.5"):
        SO3Grid(2.5, 3)  # type: ignore[arg-type]
