"""The orthogonal matrix nearest to a matrix: its polar factor, with derivatives of any order, and fast for many 3 x 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erlangen.numerics import full_precision
from erlangen.tracing import is_recorded

FEW = 64
"""Below this many 3 x 3 matrices, LAPACK's decompositions one by one are faster than rotations of all at once."""

BLOCK = 16384
"""3 x 3 matrices that are decomposed at once: enough to hide what calls cost, and little memory."""

SWEEPS = 12
"""Most rounds of Jacobi rotations; four or five suffice for almost all matrices."""


def nearest_rotation(M: Tensor, *, proper: bool) -> tuple[Tensor, Tensor, Tensor]:
    """R ``[..., d, d]`` with the largest ``tr(R^T M)``, singular values ``[..., d]`` of M, right singular vectors in columns.

    R is a rotation where `proper`, else any orthogonal matrix. The values descend; in the first case the last one has the sign
    of det M. They carry no gradient.
    """
    d = M.shape[-1]
    wide = M if M.dtype in (torch.float32, torch.float64) else M.float()
    with full_precision(wide):
        R, values, vectors = _Nearest.apply(wide.reshape(-1, d, d), proper)
    return R.to(M).reshape(M.shape), values.to(M).reshape(M.shape[:-1]), vectors.to(M).reshape(M.shape)


class _Nearest(torch.autograd.Function):
    """With M = R P, P symmetric, dR = R W for the skew W with P W + W P = R^T dM - dM^T R. That map is its own adjoint."""

    generate_vmap_rule = True

    @staticmethod
    def forward(M: Tensor, proper: bool) -> tuple[Tensor, Tensor, Tensor]:
        fast = M.shape[-1] == 3 and len(M) >= FEW and M.device.type == "cpu" and not is_recorded()
        return _by_jacobi(M, proper) if fast else _by_svd(M, proper)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        R, values, vectors = output
        ctx.mark_non_differentiable(values, vectors)
        ctx.save_for_backward(inputs[0], R, values, vectors)
        ctx.save_for_forward(inputs[0], R, values, vectors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        M, R, values, vectors = ctx.saved_tensors
        return _turned(M, R, values, vectors, grads[0]), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None, None]:
        M, R, values, vectors = ctx.saved_tensors
        return _turned(M, R, values, vectors, tangents[0]), None, None


def _turned(M: Tensor, R: Tensor, values: Tensor, vectors: Tensor, H: Tensor) -> Tensor:
    with full_precision(M):
        P, C = R.mT @ M, R.mT @ H
        return R @ _Skew.apply((P + P.mT) / 2, C - C.mT, values, vectors)


class _Skew(torch.autograd.Function):
    """The skew X with P X + X P = C, for P = V diag(l) V^T; zero where l_i + l_j = 0, as nothing determines it there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(P: Tensor, C: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
        scale = values.abs().amax(-1)[..., None, None]
        sums = (values[..., :, None] + values[..., None, :]) / torch.where(scale == 0, 1.0, scale)
        inverse = sums / (sums.square() + (4 * torch.finfo(P.dtype).eps) ** 2)
        inner = vectors.mT @ C @ vectors / torch.where(scale == 0, 1.0, scale)
        return vectors @ (inner * inverse) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        P, _, values, vectors = inputs
        ctx.save_for_backward(P, values, vectors, output)
        ctx.save_for_forward(P, values, vectors, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        P, values, vectors, X = ctx.saved_tensors
        S = _Skew.apply(P, grads[0], values, vectors)
        dP = S @ X + X @ S  # X is skew, so this is -(S X^T + X^T S)
        return (dP + dP.mT) / 2, S, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        P, values, vectors, X = ctx.saved_tensors
        change = torch.zeros_like(X) if tangents[1] is None else tangents[1]
        if tangents[0] is not None:
            change = change - (tangents[0] @ X + X @ tangents[0])
        return _Skew.apply(P, change, values, vectors)


def _by_svd(M: Tensor, proper: bool) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(M)
    if proper:
        sign = torch.ones_like(values)
        sign[..., -1] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
        left, values = left * sign[..., None, :], values * sign
    return left @ right, values, right.mT


def _by_jacobi(M: Tensor, proper: bool) -> tuple[Tensor, Tensor, Tensor]:
    R, values, vectors = torch.empty_like(M), M.new_empty(M.shape[:-1]), torch.empty_like(M)
    for first in range(0, len(M), BLOCK):
        part = slice(first, first + BLOCK)
        R[part], values[part], vectors[part], clear = _block(M[part], proper)
        if not bool(clear.all()):  # a direction without extent has no singular vector here
            rows = first + torch.nonzero(~clear)[:, 0]
            R[rows], values[rows], vectors[rows] = _by_svd(M[rows], proper)
    return R, values, vectors


def _block(M: Tensor, proper: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One-sided Jacobi rotations (Hestenes 1958): columns of M are made orthogonal pair by pair, all matrices at once.

    Axes come first in memory. The columns end as singular values times left vectors, to high relative accuracy.
    """
    eps = torch.finfo(M.dtype).eps
    scale = M.abs().amax((-2, -1))
    scale = torch.where(scale > 0, scale, 1.0)
    columns = (M / scale[:, None, None]).permute(2, 1, 0)
    eye = torch.eye(3, dtype=M.dtype, device=M.device)[:, :, None].expand(3, 3, len(M))
    both = list(torch.cat([columns, eye], 1).unbind(0))  # column j of M above column j of V, [6, B]
    for _ in range(SWEEPS):
        squares = [_dot(column, column) for column in both]
        rough = torch.zeros((), dtype=torch.bool, device=M.device)
        for p, q in ((0, 1), (0, 2), (1, 2)):
            a, b, alpha, beta = both[p], both[q], squares[p], squares[q]
            mixed = _dot(a, b)
            half = (beta - alpha) / 2
            root = half.abs() + (half * half + mixed * mixed).sqrt()
            tangent = torch.where(half < 0, -mixed, mixed) / root.clamp(min=torch.finfo(M.dtype).tiny)
            cosine = (1 + tangent * tangent).rsqrt()
            sine = tangent * cosine
            both[p], both[q] = cosine * a - sine * b, sine * a + cosine * b
            shift = tangent * mixed
            squares[p], squares[q] = alpha - shift, beta + shift
            rough |= (mixed * mixed > 1e-3 * eps * alpha * beta).any()
        # Convergence is quadratic: cosines of a thousandth of the root of eps are gone after their rotation.
        if not bool(rough):
            break
    whole = torch.stack(both)  # [3, 6, B]
    norms = whole[:, :3].square().sum(1).sqrt()
    norms, order = norms.sort(0, descending=True)
    whole = whole.gather(0, order[:, None].expand_as(whole))
    left, right = whole[:, :3] / torch.where(norms > 0, norms, 1.0)[:, None], whole[:, 3:]
    right = torch.cat(
        [right[:2], torch.linalg.cross(right[:1], right[1:2], dim=1)]
    )  # a rotation, whatever the order was
    third = torch.linalg.cross(left[0], left[1], dim=0)
    sign = torch.where((third * (whole[2, :3] * (whole[2, 3:] * right[2]).sum(0))).sum(0) < 0, -1.0, 1.0)
    if proper:
        norms = torch.cat([norms[:2], (norms[2] * sign)[None]])
    else:
        third = third * sign
    left = torch.cat([left[:2], third[None]])
    clear = norms[1 if proper else 2] > 64 * eps * norms[0]
    R = torch.einsum("kib,kjb->bij", left, right)
    return R, (norms * scale).mT, right.permute(2, 1, 0), clear


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
