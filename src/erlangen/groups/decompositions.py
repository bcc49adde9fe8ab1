"""Decompositions of matrices with positive determinant: polar, Iwasawa, singular values.

All take batches ``[..., n, n]`` in float32 or float64, check them, and return tensors of the same dtype and
device. Every function raises `GroupElementError`, naming the batch index, for a matrix outside GL+(n):
determinant negative, or singular to working precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import GroupElementError, check_finite, first_index
from erlangen.numerics import check_square, full_precision, sym_log

NEWTON_STEPS = 10
"""Steps of the polar iteration; 9 suffice for condition numbers up to 1e16 (Byers and Xu 2008)."""


class Polar(NamedTuple):
    """``g = exp(log_p) @ r``: `log_p` symmetric, `r` a rotation, both ``[..., n, n]``."""

    log_p: Tensor
    r: Tensor


class PolarSqrt(NamedTuple):
    """``g = s^(1/2) @ r``: ``s = g g^T`` positive definite, `r` a rotation, both ``[..., n, n]``."""

    s: Tensor
    r: Tensor


class Iwasawa(NamedTuple):
    """``g = k @ diag(a) @ n``: `k` a rotation, `a` positive ``[..., n]``, `n` unipotent upper triangular."""

    k: Tensor
    a: Tensor
    n: Tensor


class SVD(NamedTuple):
    """``g = u @ diag(exp(log_s)) @ vh``: `u`, `vh` rotations, `log_s` ``[..., n]`` descending."""

    u: Tensor
    log_s: Tensor
    vh: Tensor


def polar(g: Tensor) -> Polar:
    """Polar (Cartan) decomposition ``g = exp(log P) R`` of matrices ``[..., n, n]`` in GL+(n).

    R by the scaled Newton iteration ``R -> (R + R^-T) / 2`` (Higham, Functions of Matrices, section 8.6), P
    as ``g R^T``. Gradients are exact at equal singular values too. In float32 the error of log P is about
    1e-7 times the condition number of g.

    Raises:
        GroupElementError: a matrix has negative determinant or is singular; names the batch index.
        ShapeError, DtypeError, NotFiniteError: as `erlangen.numerics.eigh`.
    """
    check_gl_plus(g)
    with full_precision(g):
        R = _polar_rotation(g)
        return Polar(sym_log(g @ R.mT), R)


def polar_sqrt(g: Tensor) -> PolarSqrt:
    """Polar decomposition ``g = S^(1/2) R`` with ``S = g g^T``, of matrices ``[..., n, n]`` in GL+(n).

    In the coordinates (S, R) Haar measure of GL+(n) is the product of the congruence-invariant measure
    ``det(S)^(-(n + 1) / 2) dS`` and Haar measure of SO(n). Errors as `polar`.
    """
    check_gl_plus(g)
    with full_precision(g):
        return PolarSqrt(g @ g.mT, _polar_rotation(g))


def iwasawa(g: Tensor) -> Iwasawa:
    """Iwasawa decomposition ``g = K A N`` of matrices ``[..., n, n]`` in GL+(n), by QR with positive diagonal.

    A is returned as the vector of its diagonal. Errors as `polar`.
    """
    check_gl_plus(g)
    with full_precision(g):
        Q, R = torch.linalg.qr(g)
        diagonal = R.diagonal(dim1=-2, dim2=-1)
        return Iwasawa(Q * diagonal.sign()[..., None, :], diagonal.abs(), R / diagonal[..., :, None])


def svd(g: Tensor) -> SVD:
    """Singular values with rotations, ``g = U diag(exp(log s)) V^T``, of ``[..., n, n]`` in GL+(n).

    This is Cartan's decomposition K A K. Since det g > 0, U and V have the same determinant; where it is -1
    the last column of both changes sign. The gradient does not exist at equal singular values. Errors as
    `polar`.
    """
    check_gl_plus(g)
    with full_precision(g):
        U, s, Vh = torch.linalg.svd(g)
        sign = torch.ones_like(s)
        sign[..., -1] = torch.linalg.det(U.detach()).sign()
        return SVD(U * sign[..., None, :], s.log(), sign[..., :, None] * Vh)


def check_gl_plus(g: Tensor, name: str = "g") -> None:
    """Raise `GroupElementError` unless all matrices have positive determinant and are regular.

    Singular means that the smallest singular value is at most n epsilon times the largest.
    """
    check_square(g, name)
    check_finite(g, name)
    with torch.no_grad(), full_precision(g):
        s, sign = torch.linalg.svdvals(g), torch.linalg.slogdet(g).sign
    singular = s[..., -1] <= g.shape[-1] * torch.finfo(g.dtype).eps * s[..., 0]
    bad = singular | (sign <= 0)
    if bool(bad.any()):
        index = first_index(bad)
        where = f"{name}{list(index) if index else ''}"
        if bool(singular[index]):
            raise GroupElementError(
                f"{where} is singular (singular values from {s[index][-1].item():.3g} to "
                f"{s[index][0].item():.3g}), so not in GL+(n); drop the null directions first"
            )
        raise GroupElementError(
            f"{where} has determinant {torch.linalg.det(g[index]).item():.3g} < 0, so it is not in GL+(n); "
            "compose it with a reflection first, and decompose the product"
        )


def _polar_rotation(g: Tensor) -> Tensor:
    rotation = g
    for _ in range(NEWTON_STEPS):
        dual = torch.linalg.inv(rotation).mT
        # Any positive factor leaves the limit unchanged, so the scaling needs no gradient.
        ratio = torch.linalg.matrix_norm(dual.detach()) / torch.linalg.matrix_norm(rotation.detach())
        mu = ratio.sqrt()[..., None, None]
        rotation = (mu * rotation + dual / mu) / 2
    return rotation
