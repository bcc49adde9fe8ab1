"""Derivatives of matrix functions from 1e-300 to 1e300, against torch's own at one and closed forms."""

from collections.abc import Callable

import pytest
import torch

from erlangen.numerics import eigh, matrix_log, matrix_sqrt, sym_invsqrt, sym_log, sym_sqrt

TOL = {torch.float32: 1e-5, torch.float64: 1e-12}


def normal(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def definite(*batch: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Symmetric matrices with eigenvalues in [1/2, 3], well apart."""
    Q, _ = torch.linalg.qr(normal(*batch, n, n, seed=seed))
    return (Q @ torch.diag(torch.linspace(0.5, 3, n, dtype=torch.float64)) @ Q.mT).to(dtype)


def by_torch(f: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """V f(l) V^T, differentiated by torch's own eigendecomposition."""

    def function(A: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh((A + A.mT) / 2)
        return vectors @ torch.diag_embed(f(values)) @ vectors.mT

    return function


def projectors(A: torch.Tensor) -> torch.Tensor:
    """Squared entries of eigenvectors: without signs."""
    return eigh(A).vectors.square()


SCALED = {  # what is measured, what torch makes of it, and p where f(s A) = s^p f(A) + constant
    "eigenvectors": (projectors, lambda A: torch.linalg.eigh((A + A.mT) / 2)[1].square(), 0.0),
    "eigenvalues": (
        lambda A: torch.diag_embed(eigh(A).values),
        lambda A: torch.diag_embed(torch.linalg.eigvalsh(A)),
        1.0,
    ),
    "log": (sym_log, by_torch(torch.log), 0.0),
    "sqrt": (sym_sqrt, by_torch(torch.sqrt), 0.5),
    "invsqrt": (sym_invsqrt, by_torch(torch.rsqrt), -0.5),
    "matrix_sqrt": (matrix_sqrt, by_torch(torch.sqrt), 0.5),
    "matrix_log": (matrix_log, by_torch(torch.log), 0.0),
}
SCALES = [(torch.float32, 10.0**k) for k in (-35, -26, -23, -13, 13, 19, 37)]
SCALES += [(torch.float64, 10.0**k) for k in (-300, -160, -26, -13, 19, 160, 300)]


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
def test_derivatives_at_every_scale_are_those_of_torch_at_one(
    name: str, dtype: torch.dtype, scale: float, n: int
) -> None:
    """First and second derivatives along B at A = s B, brought back by s^-p, do not depend on s; forward mode too."""
    ours, theirs, degree = SCALED[name]
    cotangent, probe = normal(n, n, seed=5), normal(n, n, seed=6)
    probe = probe + probe.mT

    def derivatives(function, scale: float, dtype: torch.dtype) -> list[torch.Tensor]:
        B = definite(n=n, dtype=dtype).requires_grad_()
        value = function(B * scale) * scale**-degree
        (first,) = torch.autograd.grad((value * cotangent.to(dtype)).sum(), B, create_graph=True)
        first = (first + first.mT) / 2
        (second,) = torch.autograd.grad((first * probe.to(dtype)).sum(), B)
        return [t.detach().double() for t in (first, (second + second.mT) / 2)]

    for got, expected in zip(derivatives(ours, scale, dtype), derivatives(theirs, 1.0, torch.float64), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=10 * TOL[dtype] * max(float(expected.abs().max()), 1e-3))
    if name.startswith("matrix"):
        return
    A, direction = definite(n=n, dtype=dtype) * scale, probe.to(dtype) * scale
    tangent = torch.func.jvp(ours, (A,), (direction,))[1].double() * scale**-degree
    expected = torch.func.jvp(theirs, (definite(n=n),), (probe,))[1]
    torch.testing.assert_close(tangent, expected, rtol=0, atol=10 * TOL[dtype] * float(expected.abs().max()))


@pytest.mark.parametrize("scale", [1e-26, 1e-13, 1e19])
def test_gradients_of_covariances_in_their_own_units(scale: float) -> None:
    """Without any factor between: d log det C = tr(C^-1 dC), and rotating an eigenvector costs 1 / gap."""
    A = (definite(n=4, dtype=torch.float32) * scale).requires_grad_()
    (gradient,) = torch.autograd.grad(sym_log(A).trace(), A)
    expected = torch.linalg.inv(A.detach().double())
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    diagonal = torch.diag(torch.tensor([1.0, 2.0]) * scale).requires_grad_()
    (gradient,) = torch.autograd.grad(eigh(diagonal).vectors[0].prod(), diagonal)
    assert gradient.abs()[0, 1].item() == pytest.approx(0.5 / scale, rel=1e-5)
    tie = (torch.eye(3) * scale).requires_grad_()
    (gradient,) = torch.autograd.grad(eigh(tie).vectors.sum() + sym_log(tie).sum(), tie)
    assert gradient.isfinite().all()
