"""The delicate functions that everything stands on: norm, angle, eigenvalues, log, sqrt, and their gradients.

Every function takes batches ``[..., n]`` of vectors or ``[..., n, n]`` of matrices in float32 or float64 and keeps dtype and
device. The decompositions refuse bfloat16 and float16 (`DtypeError`) and switch autocast off inside, because below float32
they lose all digits; on the CPU, `eigh` takes large batches on several threads. Derivatives are formed at scale one and
keep their digits at any size of the matrices. Where one does not exist (norm at 0, eigenvectors at equal eigenvalues) the
gradient is finite and each docstring says what it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from erlangen._symmetric import (
    EXP,
    LOG,
    ROOT,
    RSQRT,
    Function,
    SymFunction,
    floor_function,
    full_precision,
    largest_value,
    round_off,
)
from erlangen._threads import compose_symmetric, decompose_symmetric
from erlangen.errors import DtypeError, MatrixFunctionError, ShapeError, check_finite, check_floating, first_index
from erlangen.tracing import carries_derivative, is_recorded, is_traced

MAX_NEWTON_STEPS = 60
"""Steps of the square-root iteration; about log2(1 / angle to the negative axis) + 8 are used."""
MAX_ROOTS = 40
"""Square roots taken by `matrix_log`; about log2(|log A|) + 3 are used."""
GREGORY_TERMS = 11
"""Terms of the series of `matrix_log`: its argument is at most 0.15, and 0.15 ** 22 / 23 < 1e-19."""


# --- vectors ------------------------------------------------------------------------------------------------
def safe_norm(x: Tensor, dim: int | tuple[int, ...] = -1, keepdim: bool = False, eps: float = 0.0) -> Tensor:
    """Euclidean norm ``sqrt(|x|^2 + eps^2)`` over `dim`, with gradient 0 instead of NaN at x = 0.

    The vector is scaled by its largest entry first, so entries whose squares would overflow or underflow keep
    full accuracy. First and second derivatives are exact except at x = 0 with eps = 0, where they are zero.

    Args:
        x: floating tensor of any shape.
        dim: dimension or dimensions that are summed over.
        keepdim: keep the summed dimensions with size 1.
        eps: smoothing length, in the units of x.

    Raises:
        DtypeError: x is not floating point.
    """
    check_floating(x, "x")
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if any(x.shape[d] == 0 for d in dims):
        return x.sum(dims, keepdim=keepdim) + eps
    # Not below the smallest normal number, whose reciprocal is still finite.
    largest = x.detach().abs().amax(dims, keepdim=True).clamp(min=max(eps, torch.finfo(x.dtype).tiny))
    scale = torch.where(torch.isfinite(largest), largest, 1.0)
    squares = (x / scale).square().sum(dims, keepdim=True) + (eps / scale).square()
    zero = squares == 0
    norm = torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt()) * scale
    return norm if keepdim else norm.squeeze(dims)


def angle(x: Tensor, y: Tensor) -> Tensor:
    """Angle in radians, in [0, pi], between vectors ``[..., n]``, shape ``[...]`` after broadcasting.

    ``2 atan2(|u - v|, |u + v|)`` of the unit vectors u and v (Kahan, "How futile are mindless assessments of
    roundoff", 2006, section 12) keeps full accuracy near 0 and pi, where acos keeps half the digits. The
    gradient is exact in between and 0 where x and y are parallel or opposite. The angle to a zero vector is 0
    with gradient 0.
    """
    check_floating(x, "x")
    check_floating(y, "y")
    u, v = _unit(x), _unit(y)
    difference, total = safe_norm(u - v), safe_norm(u + v)
    zero = (safe_norm(x) == 0) | (safe_norm(y) == 0)
    return 2 * torch.atan2(torch.where(zero, 0.0, difference), torch.where(zero, 1.0, total))


def _unit(x: Tensor) -> Tensor:
    length = safe_norm(x, keepdim=True)
    return x / torch.where(length == 0, 1.0, length)


def log_sinhc(x: Tensor) -> Tensor:
    """``log(sinh(x) / x)``, elementwise, 0 at 0; does not overflow for large x; smooth at 0."""
    check_floating(x, "x")
    small = x.abs() < 0.3
    near, far = torch.where(small, x, 0.0), torch.where(small, 1.0, x.abs())
    s = near.square()
    # Taylor series: the coefficients are 2^(2k) B_2k / (2k (2k)!) with the Bernoulli numbers B_2k.
    coefficients = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250, 2 / 127702575)
    series = torch.zeros_like(s)
    for coefficient in reversed(coefficients):
        series = s * (coefficient + series)
    return torch.where(small, series, far + torch.log(-torch.expm1(-2 * far) / (2 * far)))


# --- symmetric matrices -------------------------------------------------------------------------------------
class Eigh(NamedTuple):
    """Result of `eigh`: ``values [..., n]`` ascending, ``vectors [..., n, n]`` in columns, ``gap [...]``."""

    values: Tensor
    vectors: Tensor
    gap: Tensor


def eigh(A: Tensor, *, check: bool = True) -> Eigh:
    """Eigendecomposition of symmetric matrices ``[..., n, n]`` with a finite gradient and its spectral gap.

    Only the symmetric part ``(A + A^T) / 2`` is used. ``gap`` is the smallest distance of neighbouring
    eigenvalues divided by the largest absolute eigenvalue: 0 for the zero matrix, inf for n = 1; it carries
    no gradient.

    In the derivative, ``1 / d`` with d = l_i - l_j is replaced by ``d / (d^2 + e^2)``, e = sqrt(machine
    epsilon) max|l|: equal to autograd's up to the relative error ``epsilon / gap^2``, and zero between equal
    eigenvalues, where eigenvectors have no derivative. Works with double backward and `torch.func.jvp`.

    Args:
        A: the matrices.
        check: look for NaN and Inf. Without it there is no device synchronisation, and the call works under
            `torch.func.vmap` and `torch.compile`.

    Raises:
        ShapeError: A is not a batch of square matrices.
        DtypeError: A is not float32 or float64.
        NotFiniteError: A holds NaN or Inf.
    """
    check_square(A, "A")
    with full_precision(A):
        # Where nothing is to be differentiated, the bookkeeping of torch would cost more than small matrices do.
        values, vectors = decompose_symmetric(A, check) if _is_plain(A) else _Eigh.apply(A, check)
    return Eigh(values, vectors, _gap(values.detach()))


def sym_exp(A: Tensor, *, check: bool = True) -> Tensor:
    """Matrix exponential of symmetric matrices ``[..., n, n]``.

    Derivatives are as exact as those of `sym_log`. `check` and errors are those of `eigh`.
    """
    return _sym_function(A, eigh(A, check=check), EXP)


def sym_log(A: Tensor, *, check: bool = True) -> Tensor:
    """Matrix logarithm of symmetric positive definite matrices ``[..., n, n]``.

    The first and the second derivative are exact at equal and nearly equal eigenvalues too: they multiply by divided
    differences of the logarithm (Daleckii and Krein 1965; Higham, Functions of Matrices, theorem 3.11), written without
    cancellation. Third derivatives go through the eigenvectors: exact for distinct eigenvalues, with the error of `eigh` close
    to equal ones. Second derivatives take memory for n^3 numbers, at most 2^24 of them at once. Only the symmetric part of A
    is used.

    Args:
        A: the matrices.
        check: test that A is finite and positive definite. Without it there is no device synchronisation,
            and matrices that are not positive definite give NaN.

    Raises:
        MatrixFunctionError: an eigenvalue is not positive to working precision; names the batch index.
        ShapeError, DtypeError, NotFiniteError: as `eigh`.
    """
    eig = _definite(A, check, "sym_log")
    return _sym_function(A, eig, LOG)


def sym_invsqrt(A: Tensor, *, check: bool = True) -> Tensor:
    """Inverse square root of symmetric positive definite matrices ``[..., n, n]``; otherwise as `sym_log`."""
    eig = _definite(A, check, "sym_invsqrt")
    return _sym_function(A, eig, RSQRT)


def sym_roots(A: Tensor, *, check: bool = True) -> tuple[Tensor, Tensor]:
    """Square root and inverse square root of positive definite matrices, from one decomposition; otherwise as `sym_log`."""
    eig = _definite(A, check, "sym_roots")
    return _sym_function(A, eig, ROOT), _sym_function(A, eig, RSQRT)


def sym_sqrt(A: Tensor, *, check: bool = True) -> Tensor:
    """Square root of symmetric positive semidefinite matrices ``[..., n, n]``; otherwise as `sym_log`.

    Eigenvalues that are zero up to round-off (n epsilon max|l|) count as zero. The square root has no
    derivative there; the gradient within their eigenspace is set to 0, as for `safe_norm`.

    Raises:
        MatrixFunctionError: an eigenvalue is negative beyond round-off; names the batch index.
    """
    eig = eigh(A, check=check)
    if check:
        _check_values(eig.values >= -round_off(eig.values), eig.values, "sym_sqrt", "positive semidefinite")
    return _sym_function(A, eig, ROOT)


def sym_floor(A: Tensor, least: float, *, check: bool = True) -> Tensor:
    """Symmetric matrices ``[..., n, n]`` with eigenvalues below `least` raised to it, as the layer ReEig does.

    Derivatives are those of `sym_log`, exact at equal eigenvalues too; at an eigenvalue of `least` itself it is the one from
    above. `check` and errors are those of `eigh`.
    """
    return _sym_function(A, eigh(A, check=check), floor_function(least))


def lyapunov(P: Tensor, C: Tensor, *, check: bool = True) -> Tensor:
    """Symmetric X ``[..., n, n]`` with ``P X + X P = C`` for symmetric positive definite P and the symmetric part of C.

    In P's basis of eigenvectors x_ij = c_ij / (p_i + p_j). Derivatives are solutions of the same equation, exact at equal
    eigenvalues too and of any order.

    Raises:
        MatrixFunctionError: P is not positive definite to working precision; names the batch index.
        ShapeError, DtypeError, NotFiniteError: as `eigh`.
    """
    check_square(C, "C")
    eig = _definite(P, check, "lyapunov")
    with full_precision(P):
        return _Lyapunov.apply((P + P.mT) / 2, (C + C.mT) / 2, eig.values.detach(), eig.vectors.detach())


# --- general matrices ---------------------------------------------------------------------------------------
def matrix_sqrt(A: Tensor) -> Tensor:
    """Principal square root of real matrices ``[..., n, n]`` without eigenvalues on the closed negative axis.

    Scaled Denman-Beavers iteration (Higham, Functions of Matrices, eq. 6.28), in float64 where the device has
    it; an eigenvalue of modulus 1 at the angle d from the negative axis costs the factor 1/d in accuracy.
    Differentiable any number of times, finite at equal eigenvalues. Not for use inside `torch.func.vmap`: the
    number of steps depends on the values.

    Raises:
        MatrixFunctionError: the principal root does not exist, or its square does not return A to half the
            digits; names the batch index and the eigenvalues.
        ShapeError, DtypeError, NotFiniteError: as `eigh`.
    """
    check_square(A, "A")
    check_finite(A, "A")
    with full_precision(A):
        work, unit = _scaled(_widest(A))
        root = _denman_beavers(work)
        _check_residual(root.detach() @ root.detach(), work.detach(), "square root", A)
    return (root * unit).to(A.dtype)


def matrix_log(A: Tensor) -> Tensor:
    """Principal logarithm of real matrices ``[..., n, n]`` without eigenvalues on the closed negative axis.

    Inverse scaling and squaring: square roots until ``|A - I| <= 0.25``, then Gregory's series
    ``log A = 2 sum Z^(2k+1) / (2k+1)``, ``Z = (A - I)(A + I)^-1`` (Higham, Functions of Matrices, section
    11.5), in float64 where the device has it. Each matrix of the batch takes only as many roots as it needs.
    Differentiable any number of times, finite at equal eigenvalues. Not for use inside `torch.func.vmap`.

    Raises:
        MatrixFunctionError: the principal logarithm does not exist, or its exponential does not return A to
            half the digits; names the batch index and the eigenvalues.
        ShapeError, DtypeError, NotFiniteError: as `eigh`.
    """
    check_square(A, "A")
    check_finite(A, "A")
    with full_precision(A):
        work, unit = _scaled(_widest(A))
        root = work
        eye = torch.eye(A.shape[-1], dtype=work.dtype, device=A.device)
        scale = torch.ones((*A.shape[:-2], 1, 1), dtype=work.dtype, device=A.device)
        for _ in range(MAX_ROOTS):
            far = safe_norm(root.detach() - eye, dim=(-2, -1), keepdim=True) > 0.25
            if not bool(far.any()):
                break
            half = _denman_beavers(root)
            _check_residual((half @ half).detach(), root.detach(), "logarithm", A)
            root = torch.where(far, half, root)
            scale = torch.where(far, 2 * scale, scale)
        log = scale * _gregory(root, eye)
        _check_residual(torch.linalg.matrix_exp(log.detach()), work.detach(), "logarithm", A)
    return (log + 2 * unit.log() * eye).to(A.dtype)


def _denman_beavers(A: Tensor) -> Tensor:
    """Square root by Newton steps for A^(1/2) and A^(-1/2) together; not finite where they do not converge.

    The product form needs one inverse per step instead of two, but would lose rotations by almost pi: a factor 1/d^2.
    """
    n = A.shape[-1]
    root, coroot = A, torch.eye(n, dtype=A.dtype, device=A.device).expand_as(A)
    close, extra = 0.1 * torch.finfo(A.dtype).eps ** 0.5, 0
    for _ in range(MAX_NEWTON_STEPS):
        root_inverse, coroot_inverse = torch.linalg.inv_ex(root).inverse, torch.linalg.inv_ex(coroot).inverse
        size = root.detach().abs().amax((-2, -1), keepdim=True)
        error = (coroot_inverse - root).detach().abs().amax((-2, -1), keepdim=True) / size
        # Any positive factor leaves the limit unchanged, so the scaling needs no gradient.
        volume = torch.linalg.det(root.detach()) * torch.linalg.det(coroot.detach())
        scaled = volume[..., None, None].abs() ** (-1 / (2 * n))
        mu = torch.where((error > 0.1) & torch.isfinite(scaled), scaled, 1.0)
        root, coroot = (mu * root + coroot_inverse / mu) / 2, (mu * coroot + root_inverse / mu) / 2
        # The error is squared per step; two more carry the first and second derivatives along.
        extra += int(bool(((error <= close) | ~torch.isfinite(error)).all()))
        if extra == 3:
            break
    return root


def _scaled(A: Tensor) -> tuple[Tensor, Tensor]:
    """``A / u^2`` and u ``[..., 1, 1]``: a power of two that brings very large or small entries to one, else 1.

    So determinants stay in range, and the logarithm of what is close to the identity is no difference of two numbers.
    """
    largest = A.detach().abs().amax((-2, -1), keepdim=True)
    far = (largest > 0) & ((largest < 1e-8) | (largest > 1e8))
    unit = torch.where(far, torch.exp2((torch.log2(torch.where(far, largest, 1.0)) / 2).round()), 1.0)
    return A / unit / unit, unit


def _widest(A: Tensor) -> Tensor:
    """A in float64, or as it is on devices without float64."""
    return A if A.device.type == "mps" else A.double()


def _gregory(A: Tensor, eye: Tensor) -> Tensor:
    Z = torch.linalg.solve(A + eye, A - eye)
    square = Z @ Z
    total = eye / (2 * GREGORY_TERMS - 1)
    for k in range(GREGORY_TERMS - 2, -1, -1):
        total = eye / (2 * k + 1) + square @ total
    return 2 * (Z @ total)


# --- gradients ----------------------------------------------------------------------------------------------
class _Eigh(torch.autograd.Function):
    """`eigh` of the symmetric part ``(A + A^T) / 2``, whose gradient is symmetric."""

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, check: bool) -> tuple[Tensor, Tensor]:
        return decompose_symmetric(A, check)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, bool], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)
        ctx.set_materialize_grads(False)  # functions of matrices ask for nothing here until their third derivative

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        if grads[0] is None and grads[1] is None:
            return None, None
        values, vectors = ctx.saved_tensors
        grad_values = torch.zeros_like(values) if grads[0] is None else grads[0]
        grad_vectors = torch.zeros_like(vectors) if grads[1] is None else grads[1]
        with full_precision(values):
            inner = vectors.mT @ grad_vectors
            rotation = (inner - inner.mT) / 2 * _safe_reciprocal_differences(values)
            return vectors @ (torch.diag_embed(grad_values) + rotation) @ vectors.mT, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = ctx.saved_tensors
        with full_precision(values):
            inner = vectors.mT @ ((tangents[0] + tangents[0].mT) / 2) @ vectors
            return (
                inner.diagonal(dim1=-2, dim2=-1).clone(),
                vectors @ (inner * _safe_reciprocal_differences(values)),
            )


class _Lyapunov(torch.autograd.Function):
    """X with P X + X P = C. From dP X + P dX + dX P + X dP = dC, dX solves the same equation for dC - dP X - X dP."""

    generate_vmap_rule = True

    @staticmethod
    def forward(P: Tensor, C: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
        inner = vectors.mT @ C @ vectors
        return vectors @ (inner / (values[..., :, None] + values[..., None, :])) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        P, _, values, vectors = inputs
        ctx.save_for_backward(P, values, vectors, output)
        ctx.save_for_forward(P, values, vectors, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        P, values, vectors, X = ctx.saved_tensors
        S = _Lyapunov.apply(P, (grads[0] + grads[0].mT) / 2, values, vectors)
        return -(S @ X + X @ S), S, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        P, values, vectors, X = ctx.saved_tensors
        change = torch.zeros_like(X) if tangents[1] is None else tangents[1]
        if tangents[0] is not None:
            change = change - (tangents[0] @ X + X @ tangents[0])
        return _Lyapunov.apply(P, change, values, vectors)


def _safe_reciprocal_differences(values: Tensor) -> Tensor:
    """Matrix of ``1 / (l_j - l_i)``, Lorentzian-regularised, antisymmetric, zero on the diagonal."""
    # Squares of differences would underflow for covariances in T^2 and overflow for large ones: scale first.
    largest = largest_value(values)
    scaled = values / largest
    difference = scaled[..., None, :] - scaled[..., :, None]
    return difference / (difference.square() + torch.finfo(values.dtype).eps) / largest[..., None]


def _is_plain(A: Tensor) -> bool:
    return not (is_traced() or is_recorded() or carries_derivative(A))


def _sym_function(A: Tensor, eig: Eigh, f: Function) -> Tensor:
    with full_precision(A):
        if _is_plain(A):
            return compose_symmetric(f.value(eig.values), eig.vectors)
        return SymFunction.apply((A + A.mT) / 2, eig.values, eig.vectors, f)


# --- checks -------------------------------------------------------------------------------------------------
def check_square(A: Tensor, name: str) -> None:
    """Raise unless A is a batch of square matrices (`ShapeError`) in float32 or float64 (`DtypeError`)."""
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or A.shape[-1] == 0:
        raise ShapeError(f"{name} has shape {tuple(A.shape)}, but square matrices [..., n, n] with n >= 1 are needed")
    if A.dtype not in (torch.float32, torch.float64):
        raise DtypeError(
            f"{name} has dtype {A.dtype}, but decompositions need float32 or float64; "
            f"call {name}.float() and cast the result back"
        )


def _gap(values: Tensor) -> Tensor:
    if values.shape[-1] == 1:
        return torch.full_like(values[..., 0], torch.inf)
    return (values / largest_value(values)).diff(dim=-1).amin(-1)


def _definite(A: Tensor, check: bool, caller: str) -> Eigh:
    eig = eigh(A, check=check)
    if check:
        _check_values(eig.values > round_off(eig.values), eig.values, caller, "positive definite")
    return eig


def _check_values(good: Tensor, values: Tensor, caller: str, kind: str) -> None:
    bad = ~good.all(-1)
    if bool(bad.any()):
        index = first_index(bad)
        raise MatrixFunctionError(
            f"{caller} needs {kind} matrices, but A{list(index) if index else ''} has the eigenvalue "
            f"{values[index].min().item():.6g} (the largest is {values[index].max().item():.6g}); "
            "add a small multiple of the identity, or drop the null directions first"
        )


def _check_residual(back: Tensor, scaled: Tensor, kind: str, A: Tensor) -> None:
    """Raise, naming A, where the function of the result does not return the scaled A to half the digits of its dtype."""
    distance = torch.linalg.matrix_norm(back - scaled)
    bad = ~(distance <= torch.finfo(scaled.dtype).eps ** 0.5 * torch.linalg.matrix_norm(scaled))
    if bool(bad.any()):
        index = first_index(bad)
        eigenvalues = ", ".join(f"{v:.4g}" for v in torch.linalg.eigvals(A.detach()[index]).tolist())
        raise MatrixFunctionError(
            f"A{list(index) if index else ''} has no real principal {kind}, or none that {A.dtype} resolves: "
            f"its eigenvalues {eigenvalues} must keep away from the closed negative axis. "
            "For group elements without a logarithm use erlangen.groups.decompositions.polar"
        )
