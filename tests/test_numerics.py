"""Norm, angle, eigenvalues and matrix functions against scipy, autograd and closed forms."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

from erlangen import _threads
from erlangen.errors import DtypeError, MatrixFunctionError, NotFiniteError, ShapeError
from erlangen.numerics import (
    angle,
    eigh,
    log_sinhc,
    matrix_log,
    matrix_sqrt,
    safe_norm,
    sym_exp,
    sym_invsqrt,
    sym_log,
    sym_sqrt,
)

DTYPES = [torch.float32, torch.float64]
TOL = {torch.float32: 1e-5, torch.float64: 1e-12}
SYMMETRIC = [sym_exp, sym_log, sym_sqrt, sym_invsqrt]


def normal(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def definite(*batch: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Symmetric matrices with eigenvalues in [1/2, 3], well apart."""
    Q, _ = torch.linalg.qr(normal(*batch, n, n, seed=seed))
    return (Q @ torch.diag(torch.linspace(0.5, 3, n, dtype=torch.float64)) @ Q.mT).to(dtype)


def general(count: int, n: int, size: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linalg.matrix_exp(size * normal(count, n, n, seed=n)).to(dtype)


# --- vectors ------------------------------------------------------------------------------------------------
@given(exponent=st.integers(-44, 37), n=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_norm_keeps_accuracy_where_squares_overflow(exponent: int, n: int, seed: int) -> None:
    x = normal(4, n, seed=seed) * 10.0**exponent
    for dtype in DTYPES:
        expected = np.linalg.norm(x.to(dtype).double().numpy(), axis=-1)
        spacing = 2e-45 if dtype == torch.float32 else 0  # of subnormal numbers
        assert torch.allclose(safe_norm(x.to(dtype)).double(), torch.tensor(expected), rtol=TOL[dtype], atol=spacing)


def test_norm_of_zero_infinite_and_empty() -> None:
    assert safe_norm(torch.zeros(2, 3)).tolist() == [0, 0]
    assert safe_norm(torch.tensor([math.inf, 1.0])) == math.inf
    assert safe_norm(torch.tensor([math.nan, 1.0])).isnan()
    assert safe_norm(torch.zeros(2, 0)).tolist() == [0, 0]
    assert safe_norm(torch.zeros(2), eps=1e-3).item() == pytest.approx(1e-3)
    assert safe_norm(torch.tensor([3.0, 4.0]), eps=12.0).item() == pytest.approx(13.0)


def test_norm_shapes() -> None:
    x = normal(2, 3, 4)
    assert safe_norm(x, keepdim=True).shape == (2, 3, 1)
    assert torch.allclose(safe_norm(x, dim=(-2, -1)), torch.linalg.matrix_norm(x))
    assert torch.allclose(safe_norm(x, dim=0), x.norm(dim=0))


def test_norm_gradients() -> None:
    x = normal(3, 4).requires_grad_()
    assert gradcheck(safe_norm, (x,))
    assert gradgradcheck(safe_norm, (x,))
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(safe_norm(zero).sum(), zero, create_graph=True)
    assert (first == 0).all()
    (second,) = torch.autograd.grad(first.sum() + 0 * zero.sum(), zero)
    assert (second == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("theta", [0.0, 1e-3, 0.7, math.pi / 2, 3.0, math.pi - 1e-3, math.pi])
def test_angle_is_accurate_from_0_to_pi(theta: float, dtype: torch.dtype) -> None:
    x = torch.tensor([[2.0, 0.0, 0.0]], dtype=dtype)
    y = torch.tensor([[1e-12 * math.cos(theta), 1e-12 * math.sin(theta), 0.0]], dtype=dtype)
    assert angle(x, y).item() == pytest.approx(theta, rel=10 * torch.finfo(dtype).eps, abs=1e-15)


def test_angle_keeps_tiny_angles_that_acos_loses() -> None:
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e-6])
    assert angle(x, y).item() == pytest.approx(1e-6, rel=1e-6)
    assert torch.acos((x @ y) / (x.norm() * y.norm())).item() != pytest.approx(1e-6, rel=0.1)


def test_angle_gradients() -> None:
    x, y = normal(4, 3, seed=1).requires_grad_(), normal(4, 3, seed=2).requires_grad_()
    assert gradcheck(angle, (x, y))
    assert gradgradcheck(angle, (x, y))
    for other in (1.0, -2.0, 0.0):
        a = torch.tensor([1.0, 2.0, -1.0], requires_grad=True)
        b = (other * a.detach()).requires_grad_()
        assert all(g.isfinite().all() for g in torch.autograd.grad(angle(a, b), (a, b)))


@given(x=st.floats(-700, 700))
@settings(deadline=None, max_examples=50)
def test_log_sinhc_matches_numpy(x: float) -> None:
    expected = math.log(np.sinh(x) / x) if abs(x) > 1e-4 else x * x / 6
    assert log_sinhc(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_log_sinhc_extremes_and_gradient() -> None:
    assert log_sinhc(torch.tensor(0.0)).item() == 0
    assert log_sinhc(torch.tensor(1e4)).item() == pytest.approx(1e4 - math.log(2e4))
    x = torch.tensor([-2.0, 0.0, 0.1, 0.29, 0.31, 5.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(log_sinhc, (x,))
    assert gradgradcheck(log_sinhc, (x,))


# --- symmetric matrices -------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_eigh_matches_numpy(n: int, dtype: torch.dtype) -> None:
    A = definite(5, n=n, dtype=dtype)
    result = eigh(A)
    values, _ = np.linalg.eigh(A.double().numpy())
    assert result.values.dtype == dtype
    assert torch.allclose(result.values.double(), torch.tensor(values), rtol=TOL[dtype])
    rebuilt = result.vectors @ torch.diag_embed(result.values) @ result.vectors.mT
    assert torch.allclose(rebuilt, A, atol=10 * TOL[dtype])


def test_eigh_gap() -> None:
    A = torch.diag_embed(torch.tensor([[1.0, 2.0, 4.0], [-4.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert eigh(A).gap.tolist() == [0.25, 0.0, 0.0]
    assert eigh(torch.ones(2, 1, 1)).gap.tolist() == [math.inf, math.inf]


def test_eigh_gradient_equals_autograd_where_the_gap_is_large() -> None:
    A = definite(3, n=4).requires_grad_()
    weights = normal(4, 4, seed=3)

    def loss(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return (vectors.square() * weights).sum() + values.pow(3).sum()

    symmetric = (A + A.mT) / 2
    (expected,) = torch.autograd.grad(loss(*torch.linalg.eigh(symmetric)), A)
    (ours,) = torch.autograd.grad(loss(*eigh(A)[:2]), A)
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_eigh_gradcheck_twice_and_forward() -> None:
    A = definite(2, n=3).requires_grad_()

    def invariant(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = eigh(A)
        return result.values, result.vectors.square()

    assert gradcheck(invariant, (A,), check_forward_ad=True)
    assert gradgradcheck(invariant, (A,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("A", [torch.zeros(3, 3), torch.eye(3), torch.diag(torch.tensor([1.0, 1.0, 2.0]))])
def test_eigh_gradients_are_finite_at_ties(A: torch.Tensor, dtype: torch.dtype) -> None:
    A = A.to(dtype).requires_grad_()
    values, vectors, _ = eigh(A)
    loss = (vectors * normal(3, 3, dtype=dtype)).sum() + values.sum()
    (first,) = torch.autograd.grad(loss, A, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), A)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert first.trace().item() == pytest.approx(3.0, rel=1e-4)  # d(sum of eigenvalues) = trace(dA)


def test_eigh_under_vmap_autocast_and_compile() -> None:
    A = definite(4, n=3, dtype=torch.float32)
    mapped = torch.func.vmap(torch.func.jacrev(lambda a: eigh(a, check=False).values))(A)
    direct = torch.stack([torch.func.jacrev(lambda a: eigh(a).values)(a) for a in A])
    assert torch.allclose(mapped, direct, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sym_log(A)
    assert torch.equal(inside, sym_log(A))
    compiled = torch.compile(lambda a: eigh(a, check=False).values, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(A), eigh(A).values)


REFERENCE = {
    sym_exp: scipy.linalg.expm,
    sym_log: scipy.linalg.logm,
    sym_sqrt: scipy.linalg.sqrtm,
    sym_invsqrt: lambda A: np.linalg.inv(scipy.linalg.sqrtm(A)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", SYMMETRIC)
def test_symmetric_functions_match_scipy(function, dtype: torch.dtype) -> None:
    A = definite(2, 3, n=4, dtype=dtype)
    expected = np.stack([[REFERENCE[function](a) for a in row] for row in A.double().numpy()])
    result = function(A)
    assert result.dtype == dtype
    assert torch.allclose(result.double(), torch.tensor(expected).real, rtol=TOL[dtype], atol=10 * TOL[dtype])


@pytest.mark.parametrize("function", SYMMETRIC)
@pytest.mark.parametrize("A", [definite(2, n=3), torch.eye(3, dtype=torch.float64)], ids=["apart", "tie"])
def test_symmetric_functions_have_exact_gradients_also_at_ties(function, A: torch.Tensor) -> None:
    assert gradcheck(function, (A.clone().requires_grad_(),), check_forward_ad=True)


@pytest.mark.parametrize("function", SYMMETRIC)
def test_symmetric_functions_second_derivatives(function) -> None:
    assert gradgradcheck(function, (definite(2, n=3).requires_grad_(),))
    tie = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(function(tie).square().sum(), tie, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), tie)
    assert second.isfinite().all()


def test_log_gradient_close_to_a_tie_is_that_of_the_frechet_derivative() -> None:
    A = torch.diag(torch.tensor([1.0, 1.0 + 1e-9, 1.3], dtype=torch.float64)).requires_grad_()
    E = definite(n=3, seed=4)
    (gradient,) = torch.autograd.grad((sym_log(A) * E).sum(), A)
    block = torch.zeros(6, 6, dtype=torch.float64)  # log [[A, E], [0, A]] holds the derivative in direction E
    block[:3, :3] = block[3:, 3:] = A.detach()
    block[:3, 3:] = E
    expected = scipy.linalg.logm(block.numpy())[:3, 3:]
    assert np.allclose(gradient.numpy(), expected, rtol=1e-7, atol=1e-9)


def test_square_root_of_singular_matrices() -> None:
    A = torch.diag(torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)).requires_grad_()
    root = sym_sqrt(A)
    assert torch.allclose(root, torch.diag(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)))
    (gradient,) = torch.autograd.grad(root.sum(), A, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), A)
    assert gradient.isfinite().all()
    assert second.isfinite().all()
    assert gradient[2, 2].item() == pytest.approx(0.25)


def test_exp_of_extreme_matrices_has_finite_gradients() -> None:
    A = torch.diag(torch.tensor([-300.0, 0.0, 1.0])).requires_grad_()
    (gradient,) = torch.autograd.grad(sym_exp(A).sum(), A)
    assert gradient.isfinite().all()
    assert gradient[0, 1].item() == pytest.approx(1 / 300, rel=1e-5)


# --- general matrices ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_general_functions_match_scipy(n: int, dtype: torch.dtype) -> None:
    A = general(60, n, 0.6, dtype)
    for ours, reference in ((matrix_log, scipy.linalg.logm), (matrix_sqrt, scipy.linalg.sqrtm)):
        expected = torch.tensor(np.stack([reference(a) for a in A.double().numpy()]))
        error = torch.linalg.matrix_norm(ours(A).double() - expected) / torch.linalg.matrix_norm(expected)
        assert error.max() < TOL[dtype]


def test_log_of_defective_and_nearly_identical_matrices() -> None:
    jordan = torch.tensor([[2.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    expected = torch.tensor([[math.log(2), 0.5], [0.0, math.log(2)]], dtype=torch.float64)
    tiny = 1e-9 * normal(2, 2)
    batch = torch.stack([jordan, torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64) + tiny])
    logs = matrix_log(batch)
    assert torch.allclose(logs[0], expected, atol=1e-13)
    assert (logs[1] == 0).all()
    assert torch.allclose(logs[2], tiny, atol=1e-16)


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_log_of_rotations_by_almost_pi(distance: float) -> None:
    theta = math.pi - distance
    R = torch.tensor([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]], dtype=torch.float64)
    assert matrix_log(R)[1, 0].item() == pytest.approx(theta, abs=1e-15 / distance)


@pytest.mark.parametrize("function", [matrix_log, matrix_sqrt])
@pytest.mark.parametrize("A", [general(2, 3, 0.5), torch.eye(3, dtype=torch.float64)], ids=["apart", "tie"])
def test_general_functions_have_exact_derivatives(function, A: torch.Tensor) -> None:
    A = A.clone().requires_grad_()
    assert gradcheck(function, (A,))
    assert gradgradcheck(function, (A,))


# --- bad input ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad",
    [
        [[-1.0, 1.0], [0.0, -1.0]],  # in SL(2), no real logarithm at all
        [[-1.0, 0.0], [0.0, -2.0]],
        [[-1.0, 0.0], [0.0, -1.0]],  # has real logarithms, but no principal one
        [[1.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_missing_logarithm_names_the_matrix(bad: list[list[float]], dtype: torch.dtype) -> None:
    batch = torch.stack([torch.eye(2), torch.tensor(bad)]).to(dtype)
    with pytest.raises(MatrixFunctionError, match=r"A\[1\] has no real principal logarithm.*eigenvalues"):
        matrix_log(batch)


def test_missing_root_names_the_matrix() -> None:
    with pytest.raises(MatrixFunctionError, match=r"A\[0, 1\] has no real principal square root"):
        matrix_sqrt(torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -4.0]))])[None])


@pytest.mark.parametrize("function", [sym_log, sym_invsqrt, sym_sqrt])
def test_indefinite_matrices_are_named(function) -> None:
    batch = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -0.5]))])
    with pytest.raises(MatrixFunctionError, match=r"A\[1\] has the eigenvalue -0.5"):
        function(batch)
    assert not function(batch, check=False)[1].isfinite().all() or function is sym_sqrt


def test_singular_matrices_have_no_symmetric_log() -> None:
    x = normal(3, 1)
    with pytest.raises(MatrixFunctionError, match="positive definite"):
        sym_log(x @ x.mT)


@pytest.mark.parametrize("function", [eigh, *SYMMETRIC, matrix_log, matrix_sqrt])
def test_bad_tensors(function) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        with pytest.raises(DtypeError, match=r"call A\.float\(\)"):
            function(torch.eye(2).to(dtype))
    for shape in ((3,), (2, 3), (0, 0)):
        with pytest.raises(ShapeError, match="square matrices"):
            function(torch.zeros(shape))
    bad = torch.eye(2).repeat(3, 1, 1)
    bad[1, 0, 1] = math.nan
    with pytest.raises(NotFiniteError, match="A has"):
        function(bad)


def test_integer_vectors() -> None:
    with pytest.raises(DtypeError, match="x has dtype"):
        safe_norm(torch.ones(3, dtype=torch.int64))


@pytest.mark.parametrize("function", [eigh, *SYMMETRIC, matrix_log, matrix_sqrt])
def test_empty_batches(function) -> None:
    result = function(torch.zeros(0, 3, 3))
    assert (result.vectors if function is eigh else result).shape == (0, 3, 3)


# --- threads ------------------------------------------------------------------------------------------------
@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(256,), (3, 1, 43), (2, 1)])
def test_threads_give_the_same_bits(dtype: torch.dtype, batch: tuple[int, ...], two_threads: None) -> None:
    A = normal(*batch, 32, 32, seed=1, dtype=dtype)
    A = A if batch[0] == 256 else A.mT  # and another layout in memory
    threads = _threads.usable_threads(A)
    assert threads == (1 if batch == (2, 1) else 2)
    values, vectors, gap = eigh(A)
    torch.set_num_threads(1)
    assert _threads.usable_threads(A) == 1
    for ours, plain in zip((values, vectors, gap), eigh(A), strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, plain)
    symmetric = (A + A.mT) / 2
    expected = np.linalg.eigvalsh(symmetric.double().numpy())
    np.testing.assert_allclose(values.double().numpy(), expected, rtol=0, atol=20 * TOL[dtype])
    again = (vectors * values[..., None, :]) @ vectors.mT
    torch.testing.assert_close(again, symmetric, rtol=0, atol=20 * TOL[dtype])


@pytest.mark.parametrize("f", SYMMETRIC)
def test_threads_and_scipy(f: Callable[[torch.Tensor], torch.Tensor], two_threads: None) -> None:
    A = definite(300, n=16)
    assert _threads.usable_threads(A) == 2
    with torch.inference_mode():
        inferred = f(A)
    assert torch.equal(inferred, f(A))
    names = {sym_exp: scipy.linalg.expm, sym_log: scipy.linalg.logm, sym_sqrt: scipy.linalg.sqrtm}
    reference = names.get(f, lambda M: np.linalg.inv(scipy.linalg.sqrtm(M)))
    for i in (0, 149, 150, 299):
        np.testing.assert_allclose(f(A)[i].numpy(), reference(A[i].numpy()).real, rtol=0, atol=1e-11)


def test_threads_leave_the_settings_of_torch_alone(two_threads: None) -> None:
    settings_before, new_before = torch.__config__.parallel_info(), threads_of_a_new_thread()
    _threads._pools.clear()  # so that the threads begin now
    eigh(normal(256, 32, 32))
    assert torch.get_num_threads() == 2
    assert torch.__config__.parallel_info() == settings_before  # OpenMP and MKL threads of this thread
    assert threads_of_a_new_thread() == new_before == 2


def test_threads_from_several_threads_at_once(two_threads: None) -> None:
    A = definite(8, 256, n=16)
    expected = [sym_log(a) for a in A]

    def call(a: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(2)
        return sym_log(a)

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(call, A), expected, strict=True):
            assert torch.equal(found, wanted)


def test_threads_and_derivatives(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "MIN_WORK", 0)
    A = definite(4, n=3).requires_grad_()
    assert _threads.usable_threads(A) == 2
    assert gradcheck(sym_log, A, check_forward_ad=True)
    assert gradgradcheck(sym_log, A)
    assert gradcheck(lambda X: eigh(X).values, normal(4, 3, 3).requires_grad_(), check_forward_ad=True)


def test_no_threads_where_calls_are_recorded_or_transformed(two_threads: None) -> None:
    A = definite(256, n=16)
    seen: list[int] = []

    def one(a: torch.Tensor) -> torch.Tensor:
        seen.append(_threads.usable_threads(A))
        return sym_log(a, check=False)

    torch.testing.assert_close(torch.func.vmap(one)(A[:4]), sym_log(A[:4]))
    torch.func.jvp(one, (A[0],), (A[0],))
    with FakeTensorMode():
        assert one(torch.empty(256, 16, 16)).shape == (256, 16, 16)
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        one(A[0])
    assert seen == [1] * 4
    compiled = torch.compile(lambda a: sym_log(a, check=False), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(A), sym_log(A))


def test_errors_come_out_of_threads(two_threads: None) -> None:
    A = definite(256, n=16)
    A[200, 3, 4] = math.nan
    with pytest.raises(NotFiniteError, match=r"A has 1 values.*index \(200, 3, 4\)"):
        sym_log(A)
    done: list[int] = []

    def call(x: torch.Tensor) -> None:
        done.append(int(1 / int(x)))

    with pytest.raises(ZeroDivisionError):
        _threads.run_on_threads(call, [(torch.tensor(i),) for i in (0, 1)])
    assert done == [1]  # the other was waited for


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_threads_after_a_fork() -> None:
    """The child has no threads of the parent's pool, and makes its own."""
    script = """
import os, torch
from erlangen import _threads
from erlangen.numerics import eigh
_threads.os.cpu_count = lambda: 2
torch.set_num_threads(2)
A = torch.eye(64).repeat(7, 1, 1)
assert _threads.usable_threads(A) == 2
eigh(A)
child = os.fork()
if child == 0:
    os._exit(0 if bool((eigh(A).values == 1).all()) and len(_threads._pools) == 2 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert bool((eigh(A).values == 1).all())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)
