"""Polar, Iwasawa and singular value decompositions against scipy, with gradients at ties and named errors."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.errors import DtypeError, GroupElementError, NotFiniteError, ShapeError
from erlangen.groups.decompositions import iwasawa, polar, polar_sqrt, svd
from erlangen.groups.linear import SL, SO, GLPlus

TOL = {torch.float32: 1e-5, torch.float64: 1e-12}
DTYPES = [torch.float32, torch.float64]
ALL = [polar, polar_sqrt, iwasawa, svd]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(n: int, count: int, seed: int = 0, condition: float = 100.0) -> torch.Tensor:
    """Matrices in GL+(n) with condition numbers up to `condition`."""
    U, V = SO(n).sample((2, count), generator=rng(seed), dtype=torch.float64)
    s = condition ** torch.rand(count, n, generator=rng(seed + 1), dtype=torch.float64)
    return (U * s[:, None]) @ V / math.sqrt(condition)


def relative(A: torch.Tensor, B: torch.Tensor) -> float:
    return (torch.linalg.matrix_norm(A - B) / torch.linalg.matrix_norm(B)).max().item()


def orthogonality(R: torch.Tensor) -> float:
    eye = torch.eye(R.shape[-1], dtype=R.dtype)
    assert (torch.linalg.det(R) > 0).all()
    return torch.linalg.matrix_norm(R.mT @ R - eye).max().item()


@pytest.mark.parametrize("dtype", DTYPES)
@given(n=st.integers(1, 5).filter(lambda n: n != 1), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_round_trips(n: int, seed: int, dtype: torch.dtype) -> None:
    g, tol = sample(n, 20, seed).to(dtype), 2 * TOL[dtype]
    log_p, r = polar(g)
    assert torch.allclose(log_p, log_p.mT, atol=tol)
    assert orthogonality(r) < tol
    assert relative(torch.linalg.matrix_exp(log_p) @ r, g) < tol
    s, r = polar_sqrt(g)
    assert relative(s, g @ g.mT) < tol
    assert orthogonality(r) < tol
    k, a, upper = iwasawa(g)
    assert orthogonality(k) < tol
    assert (a > 0).all()
    assert torch.allclose(upper, upper.triu())
    assert (upper.diagonal(dim1=-2, dim2=-1) == 1).all()
    assert relative(k @ (a[..., None] * upper), g) < tol
    u, log_s, vh = svd(g)
    assert orthogonality(u) < tol
    assert orthogonality(vh) < tol
    assert (log_s.diff(dim=-1) <= 0).all()
    assert relative((u * log_s.exp()[..., None, :]) @ vh, g) < tol


@pytest.mark.parametrize("n", [2, 3, 4])
def test_polar_matches_scipy(n: int) -> None:
    g = sample(n, 30)
    log_p, r = polar(g)
    s, r_again = polar_sqrt(g)
    for i, matrix in enumerate(g.numpy()):
        rotation, P = scipy.linalg.polar(matrix, side="left")
        assert np.allclose(r[i], rotation, atol=1e-11)
        assert np.allclose(log_p[i], scipy.linalg.logm(P), atol=1e-10)
        assert np.allclose(scipy.linalg.sqrtm(s[i].numpy()) @ r_again[i].numpy(), matrix, atol=1e-10)


def test_svd_matches_scipy() -> None:
    g = sample(3, 30)
    expected = np.log(np.stack([scipy.linalg.svdvals(matrix) for matrix in g.numpy()]))
    assert np.allclose(svd(g).log_s, expected, atol=1e-11)


def test_svd_fixes_reflections() -> None:
    """Some plain decompositions have two reflections; the test would not see the sign rule without them."""
    g = sample(4, 50)
    plain = torch.linalg.svd(g)
    assert (torch.linalg.det(plain.U) < 0).any()
    assert (torch.linalg.det(svd(g).u) > 0).all()


def test_known_factors() -> None:
    R = SO(3).sample(5, generator=rng(), dtype=torch.float64)
    log_p, r = polar(R)
    assert torch.allclose(r, R, atol=1e-14)
    assert log_p.abs().max() < 1e-14
    P = torch.diag(torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64))
    log_p, r = polar(P)
    assert torch.allclose(log_p, P.diagonal().log().diag(), atol=1e-14)
    assert torch.allclose(r, torch.eye(3, dtype=torch.float64), atol=1e-14)


def test_polar_coordinates_exist_where_the_logarithm_does_not() -> None:
    g = torch.tensor([[-1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    log_p, r = polar(g)
    assert torch.allclose(torch.linalg.matrix_exp(log_p) @ r, g, atol=1e-13)
    assert abs(log_p.trace().item()) < 1e-13  # g is in SL(2)


def test_polar_of_samples_is_what_was_drawn() -> None:
    for group in (SL(3), GLPlus(2)):
        log_p, _ = polar(group.sample(20_000, generator=rng(), dtype=torch.float64))
        degrees = group.dim - group.space_dim * (group.space_dim - 1) // 2
        squares = log_p.square().sum((-2, -1)) / group.scale**2  # chi squared
        assert squares.mean().item() == pytest.approx(degrees, abs=5 * math.sqrt(2 * degrees / 20_000))


@pytest.mark.parametrize("condition", [1e6, 1e10])
def test_ill_conditioned_matrices_keep_an_exact_rotation(condition: float) -> None:
    g = sample(3, 50, condition=condition)
    log_p, r = polar(g)
    assert orthogonality(r) < 1e-12
    assert relative(torch.linalg.matrix_exp(log_p) @ r, g) < 1e-10


def test_gradients() -> None:
    g = sample(3, 2, seed=3, condition=5.0).requires_grad_()
    for function in ALL[:3]:
        assert torch.autograd.gradcheck(lambda g, f=function: tuple(f(g)), (g,))
    assert torch.autograd.gradcheck(lambda g: (svd(g).log_s, svd(g).u @ svd(g).vh), (g,))
    tie = (2 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    for function in ALL[:3]:
        assert torch.autograd.gradcheck(lambda g, f=function: tuple(f(g)), (tie,))


@pytest.mark.parametrize("function", ALL)
def test_bad_input(function) -> None:
    good = torch.eye(3)
    mirror, singular = torch.diag(torch.tensor([-2.0, 1.0, 1.0])), torch.ones(3, 3)
    with pytest.raises(GroupElementError, match=r"g\[1\] has determinant -2 < 0"):
        function(torch.stack([good, mirror, singular]))
    with pytest.raises(GroupElementError, match=r"g\[0, 1\] is singular"):
        function(torch.stack([good, singular])[None])
    with pytest.raises(GroupElementError, match="g is singular"):
        function(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match="square"):
        function(torch.ones(2, 3))
    with pytest.raises(DtypeError, match=r"g\.float\(\)"):
        function(torch.eye(2).half())
    with pytest.raises(NotFiniteError, match="g has 1 values"):
        function(torch.tensor([[math.nan, 0.0], [0.0, 1.0]]))
    assert all(part.shape[0] == 0 for part in function(torch.zeros(0, 2, 2)))
