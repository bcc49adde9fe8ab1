"""Fixed points against closed forms and scipy; gradients against the implicit function theorem and unrolling."""

import numpy as np
import pytest
import scipy.optimize
import torch

from erlangen.errors import ErlangenError, NotConvergedWarning, NotFiniteError, ShapeError, UnknownNameError
from erlangen.solve import fixed_point

SOLVERS = ["iterate", "anderson"]


def network(n: int = 6, seed: int = 0, gain: float = 0.8):
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n, n, generator=generator, dtype=torch.float64)
    W = gain * W / torch.linalg.matrix_norm(W, 2)
    return W, torch.randn(4, n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("solver", SOLVERS)
def test_linear_system(solver: str) -> None:
    W, b = network()
    found = fixed_point(lambda x: x @ W.mT + b, torch.zeros_like(b), solver=solver, tol=1e-12)
    want = torch.linalg.solve(torch.eye(6).double() - W, b.mT).mT
    torch.testing.assert_close(found.x, want, rtol=0, atol=1e-11)
    assert found.settled.all()
    assert (found.residual <= 1e-12).all()


def test_against_scipy() -> None:
    W, b = network(seed=1)
    found = fixed_point(lambda x: torch.tanh(x @ W.mT + b), torch.zeros_like(b), solver="anderson", tol=1e-13)
    for row, start in zip(found.x, b, strict=True):
        A, c = W.numpy(), start.numpy()
        want = scipy.optimize.root(lambda x, A=A, c=c: np.tanh(A @ x + c) - x, np.zeros(6), tol=1e-14).x
        np.testing.assert_allclose(row, want, atol=1e-12)


def test_anderson_is_faster_and_settles_where_iteration_cycles() -> None:
    W, b = network(gain=0.99)
    W = (W + W.mT) / 2
    W = 0.99 * W / torch.linalg.matrix_norm(W, 2)
    f = lambda x: x @ W.mT + b  # noqa: E731
    plain = fixed_point(f, torch.zeros_like(b), tol=1e-8, steps=5000)
    mixed = fixed_point(f, torch.zeros_like(b), tol=1e-8, steps=5000, solver="anderson", memory=8)
    assert mixed.steps < plain.steps / 10
    # x -> 1 - x swaps 0 and 1 for ever; an even number of steps must not hide that.
    swap = lambda x: 1 - x  # noqa: E731
    with pytest.warns(
        NotConvergedWarning, match="1 of 2 samples have not settled in 100 steps; the residual of sample 1 is 1"
    ):
        found = fixed_point(swap, torch.tensor([[0.5], [0.0]]), steps=100)
    assert found.settled.tolist() == [True, False]
    assert fixed_point(swap, torch.tensor([[0.5], [0.0]]), solver="anderson").x[1].item() == pytest.approx(
        0.5, abs=1e-6
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_answers_do_not_depend_on_the_batch(solver: str) -> None:
    W, b = network()
    b = b * torch.tensor([1e-6, 1.0, 3.0, 10.0]).double()[:, None]
    whole = fixed_point(lambda x: torch.tanh(x @ W.mT + b), torch.zeros_like(b), solver=solver, tol=1e-6)
    for i in range(4):
        one = b[i : i + 1]
        alone = fixed_point(lambda x, c=one: torch.tanh(x @ W.mT + c), torch.zeros_like(one), solver=solver, tol=1e-6)
        torch.testing.assert_close(whole.x[i], alone.x[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradient_is_that_of_the_implicit_function_theorem(solver: str) -> None:
    W, b = network(seed=2)
    W.requires_grad_()
    b.requires_grad_()
    found = fixed_point(lambda x: torch.tanh(x @ W.mT + b), torch.zeros(4, 6).double(), solver=solver, tol=1e-13)
    v = torch.randn(4, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    got = torch.autograd.grad((found.x * v).sum(), (W, b))

    x = torch.zeros(4, 6).double()
    for _ in range(400):
        x = torch.tanh(x @ W.mT + b)
    for a, want in zip(got, torch.autograd.grad((x * v).sum(), (W, b)), strict=True):
        torch.testing.assert_close(a, want, rtol=1e-9, atol=1e-11)
    D = torch.diag_embed(1 - found.x.detach().square())
    solved = torch.linalg.solve(torch.eye(6).double() - D @ W.detach(), D)  # dx/db
    torch.testing.assert_close(got[1], (v[:, None] @ solved)[:, 0], rtol=1e-9, atol=1e-11)


def test_gradcheck_and_second_backward() -> None:
    W, b = network(n=3, seed=3)
    fn = lambda W, b: fixed_point(lambda x: torch.tanh(x @ W.mT + b), torch.zeros(4, 3).double(), tol=1e-13).x  # noqa: E731
    assert torch.autograd.gradcheck(fn, (W[:3, :3].clone().requires_grad_(), b[:, :3].clone().requires_grad_()))
    W.requires_grad_()
    x = fixed_point(lambda x: torch.tanh(x @ W.mT + b), torch.zeros(4, 3).double(), tol=1e-13).x
    first = torch.autograd.grad(x.sum(), W, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(x.sum(), W)[0])


@pytest.mark.parametrize("given", [None, 7])
def test_a_cycle_ends_after_the_steps_that_are_allowed(given) -> None:
    """0, 1, 0, 1, ... never settles: the residual stays 1, and f is called 500 times where nothing else is said."""
    calls = []
    options = {} if given is None else {"steps": given}
    found = fixed_point(
        lambda x: calls.append(0) or 1 - x, torch.zeros(1), gradient="none", on_unsettled="allow", **options
    )
    assert found.steps == len(calls) == (given or 500)
    assert found.residual.item() == 1.0


def test_complex_states_and_empty_batches() -> None:
    W, b = network(seed=4)
    f = lambda x: torch.sinh(0.3 * (x @ W.to(x.dtype).mT)) + 1j * b  # noqa: E731
    found = fixed_point(f, torch.zeros(4, 6).to(torch.complex128), tol=1e-12)
    again = fixed_point(f, torch.zeros(4, 6).to(torch.complex128), solver="anderson", tol=1e-12)
    torch.testing.assert_close(found.x, again.x)
    assert found.settled.all()
    assert fixed_point(torch.cos, torch.zeros(0, 3)).x.shape == (0, 3)
    assert not fixed_point(torch.cos, torch.zeros(2, 3, requires_grad=True), gradient="none").x.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: fixed_point(lambda x: 3 * x + 1, torch.zeros(2, 1), steps=5000),
            NotFiniteError,
            "sample 0: f runs away",
        ),
        (lambda: fixed_point(lambda x: x[:, :1], torch.zeros(2, 3)), ShapeError, r"maps \(2, 3\) to \(2, 1\)"),
        (lambda: fixed_point(torch.cos, torch.tensor(0.0)), ShapeError, "no batch axis"),
        (lambda: fixed_point(torch.cos, torch.zeros(1), solver="newton"), UnknownNameError, "solver = 'newton'"),
        (lambda: fixed_point(torch.cos, torch.zeros(1), gradient="exact"), UnknownNameError, "gradient = 'exact'"),
        (
            lambda: fixed_point(torch.cos, torch.zeros(1), on_unsettled="skip"),
            UnknownNameError,
            "on_unsettled = 'skip'",
        ),
        (lambda: fixed_point(torch.cos, torch.zeros(1), tol=0), ErlangenError, "tol = 0"),
        (
            lambda: fixed_point(torch.cos, torch.zeros(1), steps=3, on_unsettled="error"),
            ErlangenError,
            "1 of 1 samples",
        ),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
