"""The recursion behind the real solid harmonics, fused over blocks of points that stay in the cache.

Coordinates here are (u, v, w) with polar axis w: in this library's convention (w is y) that is (z, x, y). Rows of a
table are the functions, flat index ``l^2 + l + m``; columns are the points, so every operation runs along memory.

The functions ``S_lm`` are scaled to be monic in w, which leaves one multiplication and one multiply-add per entry::

    S_m,m + i S_m,-m = (u + i v)^m
    S_lm = w S_(l-1)m - ((l-1)^2 - m^2) / ((2l-1)(2l-3)) rho S_(l-2)m,      rho = u^2 + v^2 + w^2

(the three-term recursion of the associated Legendre polynomials, DLMF 14.10.3, divided by the leading coefficients).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.irreps.cache import constant

BLOCK_BYTES = 1 << 21
"""Size of the table of one block on the CPU: small enough for the cache, large enough to hide the cost of a call."""


class Constants(NamedTuple):
    """Factors of the recursion in one dtype on one device.

    ``beta[l]``: ``[2l - 3, 1]``, minus the factor of the two-step term for |m| <= l - 2; ``None`` for l < 2.
    ``scale``: ``[(lmax + 1)^2, 1]``, what makes the monic functions normalised.
    """

    beta: tuple[Tensor | None, ...]
    scale: Tensor


@constant
def constants(lmax: int, normalization: str, dtype: torch.dtype, device: torch.device) -> Constants:
    """Factors of the recursion up to degree lmax, computed in float64."""
    beta: list[Tensor | None] = [None, None]
    for l in range(2, lmax + 1):
        m = torch.arange(2 - l, l - 1, dtype=torch.float64)
        beta.append((m.square() - (l - 1) ** 2)[:, None] / ((2 * l - 1) * (2 * l - 3)))
    scale = [
        degree_factor(l, normalization) * _monic_scale(l, abs(m)) for l in range(lmax + 1) for m in range(-l, l + 1)
    ]
    return Constants(
        tuple(None if b is None else b.to(dtype=dtype, device=device) for b in beta[: lmax + 1]),
        torch.tensor(scale, dtype=torch.float64)[:, None].to(dtype=dtype, device=device),
    )


def degree_factor(l: int, normalization: str) -> float:
    """What multiplies orthonormal harmonics of degree l to give the named normalisation."""
    return {"integral": 1.0, "component": math.sqrt(4 * math.pi), "norm": math.sqrt(4 * math.pi / (2 * l + 1))}[
        normalization
    ]


def _monic_scale(l: int, m: int) -> float:
    """Orthonormal harmonic of order m >= 0 divided by the monic function: leading coefficient times norm."""
    # (2m-1)!! times prod_{j=m+1..l} (2j-1)/(j-m) = (2l-1)!! / (l-m)!, as exact integers.
    double_factorial = math.prod(range(1, 2 * l, 2))
    square = (2 * l + 1) * double_factorial**2 / (math.factorial(l - m) * math.factorial(l + m))
    return math.sqrt(square / (4 * math.pi) * (2 if m else 1))


def fill_harmonics(out: Tensor, x: Tensor, lmax: int, normalize: bool, normalization: str) -> None:
    """Write the harmonics of points ``[N, 3]`` into ``out [(lmax + 1)^2, N]``, without autograd."""
    factors = constants(lmax, normalization, x.dtype, x.device)
    block = _block_size(x, out.shape[0])
    for start in range(0, x.shape[0], block):
        point = coordinates(x[start : start + block], normalize)
        table = out[:, start : start + block]
        _fill(table, point, lmax, factors)
        table.mul_(factors.scale)


def gradient(x: Tensor, grad: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
    """Vector-Jacobian product ``[N, 3]`` of `fill_harmonics` with ``grad [N, (lmax + 1)^2]``, without autograd.

    The harmonics are computed again block by block: that is cheaper than to fetch them from memory.
    """
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    if lmax == 0:
        return out
    factors = constants(lmax, normalization, x.dtype, x.device)
    block = _block_size(x, 2 * (lmax + 1) ** 2)
    below = torch.empty(lmax**2, min(block, x.shape[0]), dtype=x.dtype, device=x.device)
    adjoint = torch.empty((lmax + 1) ** 2, below.shape[1], dtype=x.dtype, device=x.device)
    for start in range(0, x.shape[0], block):
        rows = slice(start, min(start + block, x.shape[0]))
        size = rows.stop - start
        if size < below.shape[1]:  # the last block; its tables must be contiguous too
            below, adjoint = (t.flatten()[: t.shape[0] * size].view(-1, size) for t in (below, adjoint))
        point = coordinates(x[rows], normalize)
        _fill(below, point, lmax - 1, factors)
        adjoint.copy_(grad[rows].T).mul_(factors.scale)
        out[rows] = _pull_back(adjoint, below, point, lmax, factors).T
    return out


class _Point(NamedTuple):
    """Coordinates ``[n]`` of a block: unit vectors with `inverse_length`, or raw points with `rho`.

    A zero vector stays zero, with `inverse_length` 0, so that nothing flows back to it.
    """

    u: Tensor
    v: Tensor
    w: Tensor
    rho: Tensor | None
    inverse_length: Tensor | None


def coordinates(x: Tensor, normalize: bool) -> _Point:
    """The coordinates of vectors ``[n, 3]``, each in a row of its own; those of unit vectors if `normalize`."""
    rows = x.T.contiguous()
    if not normalize:
        return _Point(rows[2], rows[0], rows[1], rows.square().sum(0), None)
    # The largest entry is divided out first, so that squares neither overflow nor underflow.
    largest = rows.abs().amax(0)
    one = torch.ones((), dtype=x.dtype, device=x.device)
    rows = rows / torch.where(largest > 0, largest, one)
    length = rows.square().sum(0).sqrt_()
    rows /= torch.where(length > 0, length, one)
    inverse = torch.where(largest > 0, (largest * length).reciprocal_(), 0.0)
    return _Point(rows[2], rows[0], rows[1], None, inverse)


def _block_size(x: Tensor, rows: int) -> int:
    """Points per block: all of them off the CPU, where a kernel launch costs more than the traffic."""
    if x.device.type != "cpu":
        return max(x.shape[0], 1)
    return max(BLOCK_BYTES // (rows * x.element_size()) // 64 * 64, 512)


def _fill(S: Tensor, point: _Point, lmax: int, factors: Constants) -> None:
    """Write the monic functions of degree <= lmax into the rows of S."""
    u, v, w, rho, inverse_length = point
    S[0] = 1
    if lmax == 0:
        return
    S[1], S[2], S[3] = v, w, u
    for l in range(2, lmax + 1):
        # Degree l is the rows first..last, degree l - 1 the rows below..first-1.
        below, first, last = (l - 1) ** 2, l * l, (l + 1) ** 2 - 1
        # (u + iv)^l: the rows m = -l and m = l, as one strided pair.
        torch.mul(S[below : first : 2 * l - 2], u, out=S[first : last + 1 : 2 * l])
        S[first].addcmul_(S[first - 1], v)
        S[last].addcmul_(S[below], v, value=-1)
        torch.mul(S[below:first], w, out=S[first + 1 : last])
        two_below, beta = S[(l - 2) ** 2 : below], factors.beta[l]
        assert beta is not None
        if rho is not None:
            two_below = two_below * rho
        elif l == 2 and inverse_length is not None:
            two_below = inverse_length[None] > 0  # rho of a unit vector: 1, but 0 for the zero vector
        S[first + 2 : last - 1].addcmul_(two_below, beta)


def _pull_back(H: Tensor, S: Tensor, point: _Point, lmax: int, factors: Constants) -> Tensor:
    """Cotangent ``[3, n]`` of the points, in the order of x, from H, that of the monic functions.

    The steps of `_fill` in reverse. H and S are overwritten: when degree l is done, H holds the full cotangent of
    degree l - 1, and the rows of degree l - 1 in S hold their share of the cotangent of w.
    """
    u, v, w, rho, _ = point
    grad_pair, grad_v = H.new_zeros(2, H.shape[1]), torch.zeros_like(v)
    grad_rho = None if rho is None else torch.zeros_like(rho)
    for l in range(lmax, 1, -1):
        below, first, last = (l - 1) ** 2, l * l, (l + 1) ** 2 - 1
        inner, two_below, beta = H[first + 2 : last - 1], slice((l - 2) ** 2, below), factors.beta[l]
        assert beta is not None
        if rho is None or grad_rho is None:
            H[two_below].addcmul_(inner, beta)
        else:
            weighted = inner * beta
            grad_rho += (weighted * S[two_below]).sum(0)
            H[two_below].addcmul_(weighted, rho)
        pair, pair_below = slice(first, last + 1, 2 * l), slice(below, first, 2 * l - 2)
        grad_pair.addcmul_(H[pair], S[pair_below])
        grad_v.addcmul_(H[first], S[first - 1]).addcmul_(H[last], S[below], value=-1)
        S[below:first] *= H[first + 1 : last]
        H[below:first].addcmul_(H[first + 1 : last], w)
        H[pair_below].addcmul_(H[pair], u)
        H[below].addcmul_(H[last], v, value=-1)
        H[first - 1].addcmul_(H[first], v)
    # Degree 1 is v, w, u itself.
    S[0] *= H[2]
    grad = torch.stack([grad_v + H[1], S.sum(0), grad_pair.sum(0) + H[3]])
    return _through_length(grad, point, grad_rho)


def _through_length(grad: Tensor, point: _Point, grad_rho: Tensor | None) -> Tensor:
    """Add what reaches the points through rho, or project out the length that was divided away."""
    x = torch.stack([point.v, point.w, point.u])
    if grad_rho is not None:
        return grad.addcmul_(x, grad_rho, value=2)
    assert point.inverse_length is not None
    return (grad - x * (grad * x).sum(0)) * point.inverse_length
