"""Eigenvectors without LAPACK, against LAPACK, closed forms and their own equations."""

import itertools
import math

import numpy as np
import pytest
import torch

from erlangen.enforce.jacobi import jacobi_eigh
from erlangen.errors import ShapeError
from erlangen.groups.determinants import determinant, parity

RNG = np.random.default_rng(0)


def with_spectrum(values: np.ndarray) -> torch.Tensor:
    """Symmetric matrices ``[B, n, n]`` with eigenvalues ``[B, n]`` in random axes."""
    batch, n = values.shape
    axes = np.linalg.qr(RNG.normal(size=(batch, n, n)))[0]
    A = (axes * values[:, None]) @ axes.swapaxes(-2, -1)
    return torch.from_numpy((A + A.swapaxes(-2, -1)) / 2)


def spectra(kind: str, n: int) -> np.ndarray:
    if kind == "spread":
        return np.sort(RNG.uniform(-1, 1, size=(300, n)))
    if kind == "near ties":  # gaps of 1e-16 to 1
        return 1 + 10.0 ** RNG.uniform(-16, 0, size=(300, n))
    if kind == "graded":
        return 10.0 ** RNG.uniform(-20, 0, size=(300, n))
    return np.repeat(RNG.normal(size=(300, 1)), n, 1)  # all equal


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("kind", ["spread", "near ties", "graded", "equal"])
def test_decompositions(n, kind):
    """Eigenvalues as LAPACK has them, and vectors that fulfil their equations, at ties too; a dozen roundings per axis."""
    A = with_spectrum(spectra(kind, n))
    values, axes = jacobi_eigh(A)
    scale = A.abs().amax((-2, -1))
    bound = 12 * n * np.finfo(float).eps
    expected = torch.from_numpy(np.linalg.eigvalsh(A.numpy()))
    assert bool(((values - expected).abs().amax(-1) <= bound * scale).all())
    assert bool((values.diff(dim=-1) >= 0).all())
    residual = (A @ axes - axes * values[:, None]).abs().amax((-2, -1))
    assert bool((residual <= bound * scale).all())
    assert (axes.mT @ axes - torch.eye(n, dtype=A.dtype)).abs().max() < bound
    assert (torch.linalg.det(axes) - 1).abs().max() < n * bound


@pytest.mark.parametrize("n", [2, 3, 4])
def test_vectors_as_lapack_where_eigenvalues_differ(n):
    A = with_spectrum(np.tile(np.arange(1.0, n + 1), (50, 1)))
    axes, expected = jacobi_eigh(A)[1], torch.from_numpy(np.linalg.eigh(A.numpy())[1])
    overlap = (axes * expected).sum(-2).abs()
    torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=0, atol=1e-13)


def test_closed_forms():
    zero, eye = torch.zeros(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    for A, expected in (
        (zero, [0, 0, 0]),
        (eye, [1, 1, 1]),
        (torch.ones_like(eye), [0, 0, 3]),
        (-2e-30 * eye, [-2e-30] * 3),
    ):
        values, axes = jacobi_eigh(A)
        assert values.tolist() == pytest.approx(expected, abs=1e-15)
        torch.testing.assert_close(axes.mT @ axes, eye)
    order = torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
    values, axes = jacobi_eigh(order)
    assert values.tolist() == [1, 2, 3]
    assert axes.abs().argmax(0).tolist() == [1, 2, 0]
    a, b, c = 2.0, -0.7, 0.5
    values, _ = jacobi_eigh(torch.tensor([[a, b], [b, c]]))
    root = math.hypot((a - c) / 2, b)
    assert values.tolist() == pytest.approx([(a + c) / 2 - root, (a + c) / 2 + root], rel=1e-6)  # float32


def test_large_matrices_are_refused_with_what_exports():
    with pytest.raises(
        ShapeError, match=r"eigenvectors of 9 x 9 matrices cannot be exported.*PointsFrame.*how='orbit'"
    ):
        jacobi_eigh(torch.eye(9))


def test_batches_and_dtypes():
    A = with_spectrum(spectra("spread", 3)[:6]).view(2, 3, 3, 3)
    values, axes = jacobi_eigh(A)
    assert values.shape == (2, 3, 3)
    assert axes.shape == A.shape
    one = jacobi_eigh(A[1, 2].float())
    assert one[0].dtype == one[1].dtype == torch.float32
    torch.testing.assert_close(one[0].double(), values[1, 2], rtol=1e-5, atol=1e-5)
    assert jacobi_eigh(A[:0, 0])[1].shape == (0, 3, 3)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_determinants_of_exported_programs(n, monkeypatch):
    A = torch.from_numpy(RNG.normal(size=(20, n, n)))
    expected = torch.from_numpy(np.linalg.det(A.numpy()))
    torch.testing.assert_close(determinant(A), expected)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(determinant(A), expected)


def test_parity_is_the_determinant_of_the_permutation():
    for n in (1, 2, 4):
        every = torch.tensor(list(itertools.permutations(range(n))))
        matrices = torch.nn.functional.one_hot(every, n).double()
        assert torch.equal(parity(every).double(), torch.linalg.det(matrices))
