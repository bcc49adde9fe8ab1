"""Second derivatives of functions of symmetric matrices where eigenvalues meet: exact, by closed forms and in 60 digits."""

import mpmath
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import hessian, vmap

from erlangen import _symmetric
from erlangen.numerics import sym_exp, sym_floor, sym_invsqrt, sym_log, sym_sqrt

GAPS = [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 0.0]
FUNCTIONS = {
    "exp": (mpmath.exp, sym_exp, _symmetric.EXP),
    "log": (mpmath.log, sym_log, _symmetric.LOG),
    "sqrt": (mpmath.sqrt, sym_sqrt, _symmetric.ROOT),
    "invsqrt": (lambda x: 1 / mpmath.sqrt(x), sym_invsqrt, _symmetric.RSQRT),
}


def turned(values, dtype=torch.float64):
    """A matrix with these eigenvalues along axes in general position."""
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(0)).double())[0]
    return (q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T).to(dtype)


def direction(n=3, seed=1, dtype=torch.float64):
    d = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (d + d.T).to(dtype)


def second_along(fn, A, D):
    """The second derivative of fn(A + t D) at t = 0, entry by entry through two backward passes."""
    t = torch.zeros((), dtype=A.dtype, requires_grad=True)
    answer, found = fn(A + t * D), torch.zeros_like(A)
    for i in range(len(A)):
        for j in range(len(A)):
            (first,) = torch.autograd.grad(answer[i, j], t, create_graph=True)
            (found[i, j],) = torch.autograd.grad(first, t, retain_graph=True)
    return found


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 2e-14), (torch.float32, 1e-5)])
@pytest.mark.parametrize("gap", GAPS)
def test_second_derivative_of_exp_is_the_corner_of_a_block_matrix(gap, dtype, tol):
    """exp [[A, D, 0], [0, A, D], [0, 0, A]] holds half of it (Higham, theorem 3.6 applied twice), here by its Taylor series."""
    A, D = turned([0.5, 0.5 + gap, 1.3]), direction()
    zero = np.zeros((3, 3))
    block = np.block([[A.numpy(), D.numpy(), zero], [zero, A.numpy(), D.numpy()], [zero, zero, A.numpy()]])
    with mpmath.workdps(60):
        corner = mpmath.expm(mpmath.matrix(block.tolist()), method="taylor")[0:3, 6:9]
    wanted = 2 * torch.tensor(np.array(corner.tolist(), dtype=float))
    found = second_along(sym_exp, A.to(dtype), D.to(dtype)).double()
    assert float((found - wanted).norm() / wanted.norm()) < tol


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(
    "identity",
    [
        lambda A: sym_exp(sym_log(A)),
        lambda A: sym_sqrt(A) @ sym_sqrt(A),
        lambda A: torch.linalg.inv(sym_invsqrt(A) @ sym_invsqrt(A)),
    ],
    ids=["exp log", "sqrt", "invsqrt"],
)
def test_what_gives_the_matrix_back_has_no_second_derivative(identity, gap, dtype, tol):
    A, D = turned([0.7, 0.7 + gap, 1.9], dtype), direction(dtype=dtype)
    assert float(second_along(identity, A, D).abs().max()) < tol


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-9, 0.0])
def test_both_derivatives_by_finite_differences(name, gap):
    A = turned([0.8, 0.8 + gap, 0.8 + 2 * gap]).requires_grad_()
    fn = FUNCTIONS[name][1]
    assert gradcheck(fn, (A,), check_forward_ad=True)
    assert gradgradcheck(fn, (A,), check_fwd_over_rev=True)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 3e-15), (torch.float32, 2e-6)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_divided_differences_in_sixty_digits(name, dtype, tol):
    exact, _, f = FUNCTIONS[name]
    draw = np.random.default_rng(0)
    for _ in range(60):
        base, spread = draw.uniform(0.2, 1), 10 ** draw.uniform(-12, 0.5)
        values = base + spread * draw.random(3) * draw.integers(0, 2, 3)
        points = torch.tensor(values, dtype=dtype)
        found = f.second(points[:, None, None], points[:, None], points)
        with mpmath.workdps(60):
            for i, j, k in ((0, 1, 2), (2, 0, 1), (1, 1, 0), (0, 0, 0)):
                # Points that coincide are told apart by what double precision cannot see.
                a, b, c = (
                    mpmath.mpf(float(points[m])) + mpmath.mpf(10) ** -20 * s
                    for m, s in zip((i, j, k), (0, 1, 3), strict=True)
                )
                wanted = ((exact(a) - exact(b)) / (a - b) - (exact(b) - exact(c)) / (b - c)) / (a - c)
                assert abs(mpmath.mpf(float(found[i, j, k])) / wanted - 1) < tol


def test_square_roots_within_the_kernel_stay_out():
    A = torch.diag(torch.tensor([0.0, 0.0, 4.0, 9.0], dtype=torch.float64)).requires_grad_()
    (first,) = torch.autograd.grad(sym_sqrt(A)[2:, 2:].trace(), A, create_graph=True)
    (second,) = torch.autograd.grad(first[2, 2], A)
    assert second[2, 2].item() == pytest.approx(-1 / 32)  # of sqrt(x) at 4
    assert second[:2, :2].abs().max() == 0


def test_hessians_under_vmap_and_piece_by_piece(monkeypatch):
    batch = torch.stack([turned([0.8, 0.8, 1.4]), turned([0.5, 1.0, 2.0])])
    weights = direction()

    def loss(A):
        return (sym_log(A, check=False) * weights).sum()

    together = vmap(hessian(loss))(batch)
    rows = torch.stack([torch.autograd.functional.hessian(loss, A) for A in batch])
    torch.testing.assert_close(together, rows, rtol=1e-11, atol=1e-11)
    monkeypatch.setattr(_symmetric, "MOST", 1)
    torch.testing.assert_close(vmap(hessian(loss))(batch), together, rtol=1e-12, atol=1e-12)


def test_third_derivatives_of_distinct_eigenvalues():
    """tr exp(A): its third derivative along D is that of a sum of exponentials; by two of ours and one difference."""
    A, D = turned([0.2, 0.9, 1.7]), direction()
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = sym_exp(A + t * D)[0, 1]
    for _ in range(3):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
    step = 1e-5
    difference = (second_along(sym_exp, A + step * D, D) - second_along(sym_exp, A - step * D, D)) / (2 * step)
    assert value.item() == pytest.approx(difference[0, 1].item(), rel=1e-7)


# --- eigenvalues raised to a floor -----------------------------------------------------------------------------------
def test_floor_is_the_nearest_matrix_above() -> None:
    A = turned([-1.0, 0.2, 0.2, 3.0])
    wanted = turned([0.5, 0.5, 0.5, 3.0])
    assert float((sym_floor(A, 0.5) - wanted).abs().max()) < 1e-14


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [0.1, 0.1, 3.0], [0.1, 2.0, 2.0], [0.1, 0.2, 1.0]])
def test_derivatives_of_the_floor(values) -> None:
    """Finite differences, at eigenvalues that are equal too, on one side of the kink or on both."""
    A = turned(values).requires_grad_()
    assert gradcheck(lambda A: sym_floor((A + A.mT) / 2, 0.5), A)
    assert gradgradcheck(lambda A: sym_floor((A + A.mT) / 2, 0.5), A)
