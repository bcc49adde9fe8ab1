"""Non-linear least squares for whole batches, with the derivatives of the solution; projections onto linear constraints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError, check_finite, check_sizes
from erlangen.tracing import is_traced

__all__ = ["Curvature", "Fitted", "least_squares", "project_linear"]

Curvature = Literal["exact", "gauss-newton"]
"""Second derivatives that the derivative of a solution uses: all, or those of linearised residuals."""


class Fitted(NamedTuple):
    """Result of `least_squares`.

    Attributes:
        w: ``[B, n]`` the solutions, which carry derivatives.
        cost: ``[B]`` half of the sum of squares there.
        steps: ``[B]`` how many were tried.
        converged: ``[B]`` whether the gradient became small, so that derivatives mean something.
        condition: ``[B]`` condition numbers of the matrices that derivatives are solved with; infinite where these are singular.
    """

    w: Tensor
    cost: Tensor
    steps: Tensor
    converged: Tensor
    condition: Tensor


def least_squares(
    residual: Callable[..., Tensor],
    start: Tensor,
    *args: Tensor,
    ridge: float = 0.0,
    tol: float = 1e-9,
    steps: int = 100,
    curvature: Curvature = "exact",
) -> Fitted:
    """Minimise ``|residual(w, *args)|^2 / 2 + ridge |w|^2 / 2`` for every sample, by Levenberg and Marquardt's method.

    >>> t = torch.linspace(0, 1, 20, dtype=torch.float64)
    >>> y = (2 * torch.exp(-3 * t))[None].requires_grad_()
    >>> fitted = least_squares(lambda w, y: w[0] * torch.exp(-w[1] * t) - y, torch.ones(1, 2, dtype=torch.float64), y)
    >>> [round(value, 6) for value in fitted.w[0].tolist()], bool(fitted.converged)
    ([2.0, 3.0], True)

    Damping is scaled by the diagonal of ``J^T J`` (Marquardt 1963), with one number for every sample; a sample that has
    converged stays where it is while others go on. Derivatives by `args`, and by whatever `residual` holds, follow from the
    implicit function theorem: one linear solve, whatever the number of steps. They are first derivatives; second ones through
    the solution are not exact.

    Args:
        residual: ``residual(w, *args)`` of one sample, ``[n]`` and its arguments to ``[m]``; made of operations that
            `torch.func` follows.
        start: where to begin, ``[B, n]``, float64 for more than about four digits.
        args: of each sample, ``[B, ...]``.
        ridge: weight of the size of w.
        tol: a sample has converged where no entry of the gradient is above this times ``1 +`` its cost.
        steps: most steps.
        curvature: "exact", or "gauss-newton", which leaves out the curvature of residuals: the same where they vanish.

    Raises:
        ShapeError: `start` is no batch of vectors, or an argument has another batch.
        ErlangenError: `ridge` is negative, or a number is not positive.
        UnknownNameError: `curvature` is not known.
        NotFiniteError: a residual at the start is NaN or Inf.
    """
    _check(start, args, ridge, tol, steps, curvature)
    inner = tuple(arg.detach() for arg in args)

    def cost(w: Tensor, *rest: Tensor) -> Tensor:
        return residual(w, *rest).square().sum() / 2 + ridge * w.square().sum() / 2

    with torch.no_grad():
        w, tried = _descend(residual, cost, start.detach(), inner, ridge, tol, steps)
        if curvature == "exact":
            curved = _each(torch.func.hessian(cost), w, *inner)
        else:
            J = _each(torch.func.jacrev(residual), w, *inner)
            curved = J.mT @ J + ridge * torch.eye(w.shape[1]).to(w)
        values = torch.linalg.eigvalsh(curved).abs()
        condition = torch.where(values.amin(-1) > 0, values.amax(-1) / values.amin(-1), torch.inf)
    gradient = _each(torch.func.grad(cost), w, *args)
    small = gradient.detach().abs().amax(-1) <= tol * (1 + _each(cost, w, *inner).detach())
    # One step of Newton's method from the solution: it moves nowhere, and its derivative is that of the solution.
    step = (torch.linalg.pinv(curved, hermitian=True) @ gradient[..., None])[..., 0]
    found = w - torch.where(small[:, None], step, step - step.detach())
    return Fitted(found, _each(cost, w, *inner).detach(), tried, small, condition)


def project_linear(u: Tensor, C: Tensor, d: Tensor) -> Tensor:
    """The nearest points to u that obey ``C u = d``: ``u - C^T (C C^T)^-1 (C u - d)``.

    >>> project_linear(torch.tensor([1.0, 2.0, 6.0]), torch.ones(1, 3), torch.tensor([0.0])).round().tolist()
    [-2.0, -1.0, 3.0]

    Args:
        u: ``[..., n]``.
        C: constraints ``[..., k, n]`` of rank k; leading axes broadcast.
        d: ``[..., k]``.

    Raises:
        ShapeError: shapes do not fit, or there are more constraints than numbers.
        ErlangenError: constraints depend on each other.
    """
    if C.ndim < 2 or u.shape[-1:] != C.shape[-1:] or d.shape[-1:] != C.shape[-2:-1] or C.shape[-2] > C.shape[-1]:
        raise ShapeError(
            f"u {tuple(u.shape)}, C {tuple(C.shape)}, d {tuple(d.shape)}: give [..., n], [..., k, n] and [..., k], k at most n"
        )
    factor, info = torch.linalg.cholesky_ex(C @ C.mT)
    if not is_traced() and bool((info > 0).any()):
        raise ErlangenError("C has rows that depend on each other: leave out those that follow from others")
    gap = (C @ u[..., None])[..., 0] - d
    return u - (C.mT @ torch.cholesky_solve(gap[..., None], factor))[..., 0]


# --- inside ----------------------------------------------------------------------------------------------------------
def _descend(
    residual: Callable[..., Tensor],
    cost: Callable[..., Tensor],
    w: Tensor,
    args: tuple[Tensor, ...],
    ridge: float,
    tol: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Solutions, and how many steps each took."""
    eye = torch.eye(w.shape[1]).to(w)
    damping = torch.full((len(w), 1, 1), 1e-3, dtype=w.dtype, device=w.device)
    tried = torch.zeros(len(w), dtype=torch.long, device=w.device)
    now = _each(cost, w, *args)
    if not bool(torch.isfinite(now).all()):
        bad = int((~torch.isfinite(now)).nonzero()[0])
        raise NotFiniteError(f"residual is not finite at start[{bad}]; begin elsewhere")
    for _ in range(steps):
        r, J = _each(residual, w, *args), _each(torch.func.jacrev(residual), w, *args)
        gradient = (J.mT @ r[..., None])[..., 0] + ridge * w
        going = gradient.abs().amax(-1) > tol * (1 + now) / 10
        if not bool(going.any()):
            break
        A = J.mT @ J + ridge * eye
        scale = A.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12 * float(A.abs().max()))
        step = torch.linalg.solve(A + damping * torch.diag_embed(scale), gradient[..., None])[..., 0]
        there = _each(cost, w - step, *args)
        better = going & (there <= now)
        w = torch.where(better[:, None], w - step, w)
        now = torch.where(better, there, now)
        damping = torch.where(better[:, None, None], damping / 3, damping * 4).clamp(1e-15, 1e12)
        tried += going
    return w, tried


def _each(fn: Callable[..., Tensor], w: Tensor, *args: Tensor) -> Tensor:
    """A function of one sample, of all."""
    return torch.func.vmap(fn)(w, *args)


def _check(start: Tensor, args: tuple[Tensor, ...], ridge: float, tol: float, steps: int, curvature: Curvature) -> None:
    if start.ndim != 2 or not start.numel():
        raise ShapeError(f"start has shape {tuple(start.shape)}, but a batch of vectors [B, n] is needed")
    for i, arg in enumerate(args):
        if arg.shape[:1] != start.shape[:1]:
            raise ShapeError(f"args[{i}] has shape {tuple(arg.shape)}, but start holds {len(start)} samples")
    check_finite(start, "start")
    check_sizes(steps=steps)
    if not ridge >= 0 or not tol > 0:
        raise ErlangenError(
            f"ridge = {ridge}, tol = {tol}: give a weight that is not negative, and a positive tolerance"
        )
    if curvature not in get_args(Curvature):
        raise UnknownNameError(f"curvature = {curvature!r}: choose {', '.join(get_args(Curvature))}")
