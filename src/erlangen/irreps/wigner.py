"""Wigner D matrices of real harmonics, straight from rotation matrices."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DtypeError, GroupElementError, IrrepsError, ShapeError, first_index, is_whole
from erlangen.irreps.cache import constant
from erlangen.numerics import full_precision

MAX_WIGNER_DEGREE = 12
"""Largest degree of `wigner_D`; the tests check orthogonality and the product law up to it."""


def wigner_D(l: int, R: Tensor, *, check: bool = True) -> Tensor:
    """The matrix of R on harmonics of degree l: ``Y_l(x @ R.mT) = Y_l(x) @ wigner_D(l, R).mT``.

    Args:
        l: the degree, 0..12. ``wigner_D(1, R)`` is R itself.
        R: orthogonal matrices ``[..., 3, 3]``, float32 or float64. For a reflection the result is that of
            harmonics, whose parity is ``(-1)^l``.
        check: test that R is orthogonal. Without it there is no device synchronisation, and the call works under
            `torch.func.vmap` and `torch.compile`.

    Returns:
        ``[..., 2l + 1, 2l + 1]``, polynomials of degree l in the entries of R: smooth everywhere, the identity
        included.

    Raises:
        IrrepsError: l is not an integer in 0..12.
        ShapeError, DtypeError: R is not a batch of 3 x 3 matrices in float32 or float64.
        GroupElementError: a matrix is not orthogonal; names the batch index.

    Source: Ivanic and Ruedenberg, J. Phys. Chem. 100 (1996) 6342, with the correction in 102 (1998) 9099. Their
    order (y, z, x) of degree 1 with polar axis z is (x, y, z) with polar axis y here.
    """
    return wigner_D_all(l, R, check=check)[l]


def wigner_D_all(lmax: int, R: Tensor, *, check: bool = True) -> list[Tensor]:
    """The matrices of `wigner_D` of all degrees 0..lmax, a list of ``[..., 2l + 1, 2l + 1]``; each uses the last."""
    if not is_whole(lmax, 0, MAX_WIGNER_DEGREE):
        raise IrrepsError(f"lmax is {lmax!r}, but Wigner matrices have integer degrees in 0..{MAX_WIGNER_DEGREE}")
    check_matrices(R, check=check)
    matrices = [torch.ones_like(R[..., :1, :1]), R]
    with full_precision(R):
        for l in range(2, lmax + 1):
            matrices.append(_next_degree(l, R, matrices[-1]))
    return matrices[: lmax + 1]


def check_matrices(R: Tensor, *, check: bool, name: str = "R") -> None:
    """Raise unless R is a batch of orthogonal 3 x 3 matrices (orthogonality only with `check`)."""
    if R.ndim < 2 or R.shape[-2:] != (3, 3):
        raise ShapeError(f"{name} has shape {tuple(R.shape)}, but matrices [..., 3, 3] are needed")
    if R.dtype not in (torch.float32, torch.float64):
        raise DtypeError(f"{name} has dtype {R.dtype}, but float32 or float64 is needed; call {name}.float()")
    if not check:
        return
    with torch.no_grad(), full_precision(R):
        error = (R @ R.mT - torch.eye(3, dtype=R.dtype, device=R.device)).abs().amax((-2, -1))
    bad = ~(error <= (1e-9 if R.dtype == torch.float64 else 1e-4))
    if bool(bad.any()):
        index = first_index(bad)
        raise GroupElementError(
            f"{name}{list(index) if index else ''} is not orthogonal: |{name} {name}^T - I| is "
            f"{error[index].item():.3g}; project it with erlangen.groups.polar, or pass check=False"
        )


class _Step(NamedTuple):
    """Factors of the step to degree l: ``rows [2l+1, 3 (2l-1)]`` and ``columns [2l+1]``."""

    rows: Tensor
    columns: Tensor


def _next_degree(l: int, R: Tensor, D: Tensor) -> Tensor:
    """Degree l from degree l - 1: ``rows @ P * columns``, P the products of R and D in Ivanic and Ruedenberg's table 2.

    P[i, mu, n] is a product of R[i, 0] with D[mu, n] for |n| < l, and the real and imaginary part of a complex
    product for n = +-l.
    """
    step = _step(l, R.dtype, R.device)
    low, mid, high = (R[..., :, i, None, None] for i in range(3))
    before = D[..., None, :, :]
    first, last = before[..., :1], before[..., -1:]
    P = torch.cat([high * first + low * last, mid * before, high * last - low * first], -1)
    return step.rows @ P.flatten(-3, -2) * step.columns


@constant
def _step(l: int, dtype: torch.dtype, device: torch.device) -> _Step:
    """The coefficients u, v, w of Ivanic and Ruedenberg's table 1; what depends on n alone is in `columns`."""
    rows = torch.zeros(2 * l + 1, 3, 2 * l - 1, dtype=torch.float64)
    for m in range(-l, l + 1):
        for i, mu, value in _row_terms(l, m):
            rows[l + m, i + 1, l - 1 + mu] += value
    n = torch.arange(-l, l + 1, dtype=torch.float64)
    inner = n.abs() < l
    columns = torch.where(inner, l * l - n.square(), 2.0 * l * (2 * l - 1)).rsqrt()
    return _Step(rows.flatten(1).to(dtype=dtype, device=device), columns.to(dtype=dtype, device=device))


def _row_terms(l: int, m: int) -> list[tuple[int, int, float]]:
    """Terms (i, mu, factor) of row m: the row of R, the row of D of degree l - 1."""
    a, s = abs(m), 1 if m >= 0 else -1
    terms = [(0, m, math.sqrt((l + m) * (l - m)))] if a < l else []
    if m == 0:
        v = -math.sqrt(2 * (l - 1) * l) / 2
        return [*terms, (1, 1, v), (-1, -1, v)]
    v = math.sqrt((l + a - 1) * (l + a)) / 2
    # The neighbour of order 0 exists once, as a cosine, and carries both halves.
    if a == 1:
        terms.append((s, 0, v * math.sqrt(2)))
    else:
        terms += [(1, m - s, v), (-1, s - m, -s * v)]
    if a < l - 1:
        w = -math.sqrt((l - a - 1) * (l - a)) / 2
        terms += [(1, m + s, w), (-1, -m - s, s * w)]
    return terms
