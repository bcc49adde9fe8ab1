"""Least squares against scipy and closed forms; derivatives against finite differences; every sample for itself."""

import pytest
import torch
from scipy.optimize import least_squares as scipy_least_squares
from torch import Tensor, nn

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.groups.linear import TrivialGroup
from erlangen.nn import LeastSquares, LinearProjection
from erlangen.solve import least_squares, project_linear
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

T = torch.linspace(0, 2, 12, dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decay(w: Tensor, y: Tensor) -> Tensor:
    return w[0] * torch.exp(-w[1] * T.to(w)) - y


def curves(count: int = 4, noise: float = 0.1) -> Tensor:
    a, b = 1 + torch.rand(2, count, 1, generator=rng(), dtype=torch.float64)
    return a * torch.exp(-b * T) + noise * torch.randn(count, 12, generator=rng(1), dtype=torch.float64)


def ones(count: int = 4, n: int = 2) -> Tensor:
    return torch.ones(count, n, dtype=torch.float64)


def test_curves_are_those_of_scipy() -> None:
    y = curves()
    fitted = least_squares(decay, ones(), y)
    assert bool(fitted.converged.all())
    for i in range(4):
        due = scipy_least_squares(
            lambda w, i=i: decay(torch.from_numpy(w), y[i]).numpy(), [1.0, 1.0], xtol=1e-15, ftol=1e-15, gtol=1e-14
        )
        torch.testing.assert_close(fitted.w[i], torch.from_numpy(due.x), rtol=0, atol=1e-7)
        assert float(fitted.cost[i]) == pytest.approx(due.cost, rel=1e-10)


def test_linear_residuals_with_a_ridge_in_closed_form() -> None:
    A = torch.randn(3, 8, 4, generator=rng(), dtype=torch.float64)
    y = torch.randn(3, 8, generator=rng(1), dtype=torch.float64)
    fitted = least_squares(lambda w, A, y: A @ w - y, ones(3, 4), A, y, ridge=0.3)
    normal = A.mT @ A + 0.3 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(fitted.w, torch.linalg.solve(normal, (A.mT @ y[..., None]))[..., 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(fitted.condition, torch.linalg.cond(normal), rtol=1e-8, atol=0)


def test_rosenbrock() -> None:
    fitted = least_squares(
        lambda w: torch.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]]), torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    )
    torch.testing.assert_close(fitted.w, ones(1), rtol=0, atol=1e-9)


def test_derivatives_are_those_of_the_solution() -> None:
    """Also where residuals do not vanish, whose curvature Gauss and Newton leave out."""
    y = curves().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: least_squares(decay, ones(), y, tol=1e-12).w, [y], fast_mode=True)
    exact, rough = (
        torch.autograd.grad(least_squares(decay, ones(), y, curvature=how).w.sum(), y)[0]
        for how in ("exact", "gauss-newton")
    )
    assert float((exact - rough).norm() / exact.norm()) > 1e-3
    still = curves(noise=0.0).requires_grad_()
    exact, rough = (
        torch.autograd.grad(least_squares(decay, ones(), still, curvature=how).w.sum(), still)[0]
        for how in ("exact", "gauss-newton")
    )
    torch.testing.assert_close(exact, rough, rtol=0, atol=1e-6)


def test_what_residuals_hold_has_derivatives_too() -> None:
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    fitted = least_squares(lambda w: w - scale.square(), ones(2, 1))
    assert float(torch.autograd.grad(fitted.w.sum(), scale)[0]) == pytest.approx(2 * 2 * 1.5)


def test_every_sample_stops_by_itself() -> None:
    y = curves(noise=0.0)
    there = least_squares(decay, ones(), y).w.detach()
    start = torch.cat([there[:1], ones(3)])
    fitted = least_squares(decay, start, y)
    assert int(fitted.steps[0]) == 0
    assert int(fitted.steps[1:].min()) > 0
    alone = [least_squares(decay, start[i : i + 1], y[i : i + 1]) for i in range(4)]
    assert [int(one.steps) for one in alone] == fitted.steps.tolist()
    torch.testing.assert_close(torch.cat([one.w for one in alone]), fitted.w, rtol=0, atol=1e-12)


def test_what_cannot_be_told_is_reported() -> None:
    """Only the sum of two parameters matters; too few steps are no convergence."""
    flat = least_squares(lambda w, y: (w[0] + w[1] - y)[None], ones(1), torch.tensor([5.0], dtype=torch.float64))
    assert float(flat.condition) > 1e12
    assert bool(flat.converged)
    assert float(flat.w.sum()) == pytest.approx(5)
    assert not bool(least_squares(decay, ones(), curves(), steps=1).converged.any())


class Model(nn.Module):
    """Residuals with parameters of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, w: Tensor, y: Tensor) -> Tensor:
        return torch.cat([w - y + self.shift, 0.1 * w**2])


def test_contracts() -> None:
    nothing = Symmetry(TrivialGroup(2), input=("invariant", "invariant"), output="invariant")
    x = (torch.zeros(4, 3), torch.randn(4, 3, generator=rng()))
    # It looks at values to know when to stop, and second derivatives are not promised.
    check_layer(LeastSquares(Model(), tol=1e-4), x, nothing, skip=["vmap", "compile"])
    still = Symmetry(TrivialGroup(2), input="invariant", output="invariant")
    check_layer(LinearProjection(torch.randn(2, 5, generator=rng())), torch.randn(4, 5, generator=rng()), still)


def test_projections_obey_and_move_least() -> None:
    C = torch.randn(3, 7, generator=rng(), dtype=torch.float64)
    d, u = (
        torch.randn(3, generator=rng(1), dtype=torch.float64),
        torch.randn(5, 7, generator=rng(2), dtype=torch.float64),
    )
    found = LinearProjection(C, d)(u)
    torch.testing.assert_close(found @ C.mT, d.expand(5, 3), rtol=0, atol=1e-12)
    due = u + (torch.linalg.pinv(C) @ (d - u @ C.mT).mT).mT
    torch.testing.assert_close(found, due, rtol=0, atol=1e-12)
    torch.testing.assert_close(project_linear(found, C, d), found, rtol=0, atol=1e-12)
    given = [t.requires_grad_() for t in (u[0].clone(), C.clone(), d.clone())]
    assert torch.autograd.gradcheck(project_linear, given)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: least_squares(decay, ones()[0], curves()), ShapeError, r"a batch of vectors \[B, n\]"),
        (lambda: least_squares(decay, ones(), curves(3)), ShapeError, r"args\[0\] has shape \(3, 12\)"),
        (lambda: least_squares(decay, ones(), curves(), ridge=-1.0), ErlangenError, "ridge = -1.0"),
        (lambda: least_squares(decay, ones(), curves(), steps=0), ErlangenError, "steps = 0"),
        (lambda: least_squares(decay, ones(), curves(), curvature="none"), UnknownNameError, "curvature = 'none'"),
        (lambda: least_squares(decay, ones(), curves() * torch.nan), NotFiniteError, r"not finite at start\[0\]"),
        (lambda: least_squares(decay, ones() * torch.nan, curves()), NotFiniteError, "start has 8 values"),
        (lambda: LinearProjection(torch.ones(2, 3)), ErlangenError, "rows that depend on each other"),
        (lambda: LinearProjection(torch.ones(3)), ShapeError, r"give constraints \[k, n\]"),
        (lambda: LinearProjection(torch.ones(1, 3))(torch.ones(2)), ShapeError, r"u \(2,\), C \(1, 3\)"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
