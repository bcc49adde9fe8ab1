"""Nudges against Taylor coefficients, the asymmetry of Jacobians against matrices."""

import pytest
import torch

from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.solve import asymmetry, nudged_derivative


def rational(z: complex) -> torch.Tensor:
    """1/(1 - z): every Taylor coefficient is 1, so N points give f'(0) = 1 plus b^N + b^2N + ... exactly."""
    return 1 / (1 - torch.tensor([z], dtype=torch.complex128))


@pytest.mark.parametrize("points", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("real", [True, False])
def test_error_is_that_of_the_missing_coefficients(points: int, real: bool) -> None:
    b = 0.3
    want = 1 / (1 - b) if points == 1 else 1 / (1 - b**points)
    assert complex(nudged_derivative(rational, b, points, real=real)) == pytest.approx(want, abs=1e-12)


def test_real_functions_need_half_of_the_calls() -> None:
    calls: list[complex] = []

    def f(z: complex) -> torch.Tensor:
        calls.append(z)
        return torch.exp(torch.tensor([z, 2 * z], dtype=torch.complex128))

    assert nudged_derivative(f, 0.1, 8).tolist() == pytest.approx([1, 2], abs=1e-9)
    assert len(calls) == 5
    assert all(z.imag >= -1e-17 for z in calls)


def test_asymmetry() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    want = (A - A.mT).square().sum() / 2
    field = lambda x: x @ A.mT  # noqa: E731
    torch.testing.assert_close(asymmetry(field, x), want.expand(3))
    torch.testing.assert_close(asymmetry(lambda x: field(x) + 7 * x, x), want.expand(3))
    Q = torch.linalg.qr(A)[0]
    torch.testing.assert_close(asymmetry(lambda x: field(x @ Q) @ Q.mT, x), want.expand(3))
    estimate = asymmetry(field, x.expand(3, 5), probes=4000, generator=generator)
    assert ((estimate - want).abs() < 0.08 * want).all()  # five standard errors of about 1.1 % and a little
    energy = lambda x: torch.func.grad(lambda x: (x @ A).tanh().sum() + (x**4).sum())(x)  # noqa: E731
    assert asymmetry(energy, x).max() < 1e-20
    assert asymmetry(energy, x, probes=10, generator=generator).abs().max() < 1e-9


def test_asymmetry_of_a_nonlinear_field_has_gradients() -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    W = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value(W: torch.Tensor, probes: int | None = None) -> torch.Tensor:
        return asymmetry(lambda x: torch.tanh(x @ W.mT), x, probes=probes, generator=torch.Generator().manual_seed(3))

    D = 1 - torch.tanh(x @ W.mT).square()
    J = D[:, :, None] * W
    torch.testing.assert_close(value(W), (J - J.mT).square().sum((1, 2)) / 2)
    W.requires_grad_()
    assert torch.autograd.gradcheck(value, (W,))
    assert torch.autograd.gradcheck(lambda W: value(W, 2), (W,))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nudged_derivative(rational, 0.0, 2), ErlangenError, "radius = 0.0"),
        (lambda: nudged_derivative(rational, 0.1, 0), ErlangenError, "points = 0"),
        (lambda: asymmetry(lambda x: x[:, :1], torch.zeros(2, 3)), ShapeError, "has the shape of its argument"),
        (lambda: asymmetry(lambda x: x, torch.zeros(3)), ShapeError, "give samples"),
        (lambda: asymmetry(lambda x: x, torch.zeros(2, 3).long()), DtypeError, "x has dtype"),
        (lambda: asymmetry(lambda x: x, torch.zeros(2, 3), probes=0), ErlangenError, "probes = 0"),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
