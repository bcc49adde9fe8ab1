"""3j and Gaunt coefficients: e3nn, sympy-free closed forms, invariance, quadrature on the sphere."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from erlangen.errors import IrrepsError
from erlangen.irreps import gaunt, gaunt_tensor, sparse, spherical_harmonics, wigner_3j, wigner_D_all

F64 = torch.float64


def triples(lmax: int) -> list[tuple[int, int, int]]:
    return [t for t in itertools.product(range(lmax + 1), repeat=3) if abs(t[0] - t[1]) <= t[2] <= t[0] + t[1]]


def test_equals_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    for l1, l2, l3 in triples(6):
        expected = o3.wigner_3j(l1, l2, l3, dtype=F64)
        torch.testing.assert_close(wigner_3j(l1, l2, l3, dtype=F64), expected, rtol=0, atol=1e-14)


def test_invariant_and_normalised() -> None:
    R = torch.from_numpy(Rotation.random(2, random_state=0).as_matrix())
    D = wigner_D_all(8, R)
    for l1, l2, l3 in triples(8):
        C = wigner_3j(l1, l2, l3, dtype=F64)
        assert C.square().sum().item() == pytest.approx(1, abs=1e-13)
        moved = torch.einsum("nia,abc->nibc", D[l1], C)
        moved = torch.einsum("njb,nibc->nijc", D[l2], moved)
        moved = torch.einsum("nkc,nijc->nijk", D[l3], moved)
        torch.testing.assert_close(moved, C.expand_as(moved), rtol=0, atol=1e-12)


def test_dot_and_cross_product() -> None:
    torch.testing.assert_close(wigner_3j(1, 1, 0, dtype=F64)[..., 0], torch.eye(3, dtype=F64) / 3**0.5)
    epsilon = torch.zeros(3, 3, 3, dtype=F64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        epsilon[i, j, k], epsilon[j, i, k] = 1, -1
    torch.testing.assert_close(wigner_3j(1, 1, 1, dtype=F64), epsilon / 6**0.5)


def test_largest_degrees_are_orthonormal() -> None:
    """The columns of all couplings of 16 and 16 (degrees 0..16) are orthogonal: the sums did not lose digits."""
    columns = [(2 * l + 1) ** 0.5 * wigner_3j(16, 16, l, dtype=F64).flatten(0, 1) for l in range(17)]
    basis = torch.cat(columns, 1)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1], dtype=F64), rtol=0, atol=1e-12)


def test_gaunt_equals_quadrature() -> None:
    """Integrals of three harmonics with scipy-independent nodes: Gauss-Legendre times the trapezoidal rule."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    a = 2 * np.pi * np.arange(16) / 16
    y, azimuth = (g.ravel() for g in np.meshgrid(nodes, a, indexing="ij"))
    r = np.sqrt(1 - y**2)
    p = torch.from_numpy(np.stack([r * np.sin(azimuth), y, r * np.cos(azimuth)], -1))
    w = torch.from_numpy(np.repeat(weights, 16) * 2 * np.pi / 16)
    Y = spherical_harmonics(5, p)
    expected = torch.einsum("n,na,nb,nc->abc", w, Y, Y, Y)
    torch.testing.assert_close(gaunt_tensor(5, 5, 5, dtype=F64), expected, rtol=0, atol=1e-13)


def test_gaunt_is_zero_for_odd_sums_and_known_for_small_degrees() -> None:
    assert not gaunt(1, 1, 1).any()
    assert not gaunt(2, 3, 4).any()
    for degrees, norm in (((0, 0, 0), 0.282095), ((0, 1, 1), 0.488603), ((1, 1, 2), 0.690988), ((2, 2, 4), 1.011503)):
        assert gaunt(*degrees, dtype=F64).norm().item() == pytest.approx(norm, abs=1e-6)


def test_product_of_signals() -> None:
    x, y = torch.randn(9, dtype=F64), torch.randn(16, dtype=F64)
    p = torch.randn(50, 3, dtype=F64)
    product = torch.einsum("a,b,abc->c", x, y, gaunt_tensor(2, 3, 5, dtype=F64))
    left = spherical_harmonics(5, p) @ product
    right = (spherical_harmonics(2, p) @ x) * (spherical_harmonics(3, p) @ y)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_sparse_form_holds_all_that_is_not_zero(dtype: torch.dtype) -> None:
    for l1, l2, l3 in triples(4):
        C = wigner_3j(l1, l2, l3, dtype=dtype)
        indices, values = sparse(C)
        dense = torch.zeros_like(C)
        dense[tuple(indices)] = values
        assert torch.equal(dense, C)
        m1, m2, m3 = (i - l for i, l in zip(indices, (l1, l2, l3), strict=True))
        coupled = (m3.abs() == (m1.abs() + m2.abs())) | (m3.abs() == (m1.abs() - m2.abs()).abs())
        assert bool(coupled.all())


def test_writing_into_a_result_does_not_change_the_next() -> None:
    wigner_3j(2, 2, 2).zero_()
    assert wigner_3j(2, 2, 2).norm().item() == pytest.approx(1)


def test_bad_input() -> None:
    with pytest.raises(IrrepsError, match=r"1 and 1 give 0\.\.2"):
        wigner_3j(1, 1, 3)
    with pytest.raises(IrrepsError, match=r"0\.\.16"):
        wigner_3j(17, 17, 0)
    with pytest.raises(IrrepsError, match="-1"):
        gaunt(-1, 1, 0)
