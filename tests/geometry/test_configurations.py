"""Simplices, frames and their measures against closed forms, scipy and hand-made cases."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import (
    coherence,
    frame_potential,
    gram_distance,
    orthogonal_frame,
    principal_angles,
    procrustes,
    simplex_etf,
    subspace_similarity,
    welch_bound,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "dim"), [(2, None), (3, 2), (4, 7), (11, None), (50, 49)])
def test_simplex(n: int, dim: int | None) -> None:
    W = simplex_etf(n, dim)
    want = n / (n - 1) * (torch.eye(n).double() - 1 / n)
    assert (W @ W.mT - want).abs().max() < 1e-12
    assert W.sum(0).abs().max() < 1e-12
    assert W.shape == (n, dim or n - 1)
    assert coherence(W) == pytest.approx(welch_bound(n, n - 1), abs=1e-12)  # equiangular and tight
    assert coherence(W, signed=True) == pytest.approx(-1 / (n - 1), abs=1e-12)


def test_frames() -> None:
    lengths = [3.0, 0.0, 0.5]
    for generator in (None, torch.Generator().manual_seed(0)):
        F = orthogonal_frame(lengths, 5, generator=generator)
        assert (F @ F.mT - torch.tensor(lengths).double().square().diag()).abs().max() < 1e-12
    means = torch.stack([orthogonal_frame(3, generator=torch.Generator().manual_seed(s)) for s in range(2000)]).mean(0)
    assert means.abs().max() < 0.06  # uniform: the mean is 0 within 4.5 standard errors of sqrt(1/3/2000)
    assert coherence(orthogonal_frame(4, 6)) < 1e-12


def test_bounds_of_coherence() -> None:
    W = normal(3, 12, 5)
    assert bool((coherence(W) >= welch_bound(12, 5)).all())
    assert bool((frame_potential(W) >= 144 / 5).all())
    hexagon = torch.tensor([[math.cos(a), math.sin(a)] for a in np.arange(6) * math.pi / 3], dtype=torch.float64)
    assert frame_potential(hexagon) == pytest.approx(36 / 2)  # tight
    assert coherence(hexagon) == pytest.approx(1.0)  # opposite corners are one line
    assert coherence(hexagon, signed=True) == pytest.approx(0.5)
    Q = orthogonal_frame(5, generator=torch.Generator().manual_seed(1))
    flipped = (W * normal(12, 1).sign())[:, torch.randperm(12, generator=torch.Generator().manual_seed(2))] @ Q
    torch.testing.assert_close(coherence(flipped), coherence(W))


def test_gram_distance() -> None:
    X = normal(4, 6, 3)
    Q = orthogonal_frame(3, 3, generator=torch.Generator().manual_seed(1))
    assert bool((gram_distance(X, 5 * X @ Q) < 1e-12).all())
    assert bool((gram_distance(X, X @ Q, scaled=False) < 1e-12).all())
    wider = torch.nn.functional.pad(X, (0, 4))
    assert bool((gram_distance(X, wider) < 1e-12).all())
    # I/sqrt(3) against the normalised Gram matrix of a simplex: 2 - 2 tr(I G)/(sqrt 3 |G|), with tr G = 3, |G|^2 = 4.5.
    want = math.sqrt(2 - 2 * 3 / math.sqrt(3 * 4.5))
    assert gram_distance(torch.eye(3).double(), simplex_etf(3)) == pytest.approx(want, abs=1e-12)


def test_principal_angles_like_scipy() -> None:
    for d, p, q, seed in [(6, 2, 3, 0), (6, 3, 2, 1), (5, 5, 2, 2), (8, 4, 4, 3)]:
        U, V = normal(d, p, seed=seed), normal(d, q, seed=seed + 10)
        want = np.sort(scipy.linalg.subspace_angles(U.numpy(), V.numpy()))
        np.testing.assert_allclose(principal_angles(U, V), want, atol=1e-10)
    tiny = 1e-11  # arccos alone would give 0 here
    U, V = torch.eye(3).double()[:, :1], torch.tensor([[1.0], [tiny], [0.0]], dtype=torch.float64)
    assert principal_angles(U, V).item() == pytest.approx(tiny, rel=1e-6)
    assert subspace_similarity(U, V) == pytest.approx(1.0)
    assert subspace_similarity(torch.eye(4)[:, :2], torch.eye(4)[:, 2:]) == pytest.approx(0.0, abs=1e-12)


def test_procrustes() -> None:
    X = normal(3, 7, 4)
    R = torch.stack([orthogonal_frame(4, generator=torch.Generator().manual_seed(s)) for s in range(3)])
    torch.testing.assert_close(procrustes(X, X @ R.mT), R)
    proper = procrustes(X, X @ R.mT, proper=True)
    torch.testing.assert_close(torch.linalg.det(proper), torch.ones(3).double())
    flip = torch.diag(torch.tensor([1.0, 1.0, -1.0])).double()
    want, _ = scipy.linalg.orthogonal_procrustes(X[0, :, :3].numpy(), (X[0, :, :3] @ flip).numpy())
    np.testing.assert_allclose(procrustes(X[0, :, :3], X[0, :, :3] @ flip), want.T, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: simplex_etf(1), ErlangenError, "n = 1"),
        (lambda: simplex_etf(5, 3), ErlangenError, "dim = 3.*span 4 dimensions"),
        (lambda: orthogonal_frame([1.0, -1.0]), ErlangenError, r"lengths\[1\] = -1.0"),
        (lambda: orthogonal_frame(4, 3), ErlangenError, "dim = 3.*need 4 dimensions"),
        (lambda: orthogonal_frame([1.0, math.nan]), NotFiniteError, "lengths has 1"),
        (lambda: coherence(torch.zeros(3, 2)), ErlangenError, r"W\[0\] is zero"),
        (lambda: coherence(torch.ones(1, 2)), ShapeError, "two rows"),
        (lambda: gram_distance(torch.ones(3, 2), torch.ones(4, 2)), ShapeError, "3 rows and Y 4"),
        (lambda: gram_distance(torch.zeros(3, 2), torch.ones(3, 2)), ErlangenError, "X is zero"),
        (lambda: principal_angles(torch.ones(2, 3), torch.ones(2, 1)), ShapeError, "more columns"),
        (lambda: principal_angles(torch.ones(3, 2), torch.ones(3, 1)), ErlangenError, "column 1 depends"),
        (lambda: procrustes(torch.ones(3, 2), torch.ones(4, 2)), ShapeError, "rows correspond"),
        (lambda: welch_bound(0, 3), ErlangenError, "n = 0"),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
