"""Products of signals with the harmonics of edges, in a frame where the edge is the polar axis."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.errors import DtypeError, IrrepsError, ShapeError, is_whole
from erlangen.irreps import gaunt_tensor, wigner_D_all
from erlangen.irreps.cache import constant
from erlangen.nn.edges import check_directions
from erlangen.numerics import full_precision, safe_norm


def edge_gaunt(
    x: Tensor, vectors: Tensor, lmax_out: int, *, lmax_edge: int | None = None, weights: Tensor | None = None
) -> Tensor:
    """The product of signals on the sphere with the harmonics of the directions of edges.

    ``out_c = sum_ab x_a w_l(b) Y_b(r / |r|) G_abc`` with the integrals G of `erlangen.irreps.gaunt`. In a frame whose polar
    axis is the edge, only the harmonics of order 0 are not zero there, so the product there couples degrees of equal
    order by one constant matrix (Passaro and Zitnick 2023; Luo, Chen and Krishnapriyan 2024, section 3.3). The
    result does not depend on which of the frames around the edge is taken, and neither does its gradient, so both are
    right for every direction, the poles included. On a CPU the general product of the harmonics on a grid (`TensorProduct`
    with rule "gaunt") is as fast, or up to 3 times faster, at degrees 2 to 6.

    Args:
        x: signals ``[..., C, (L + 1)^2]``, L at most 12.
        vectors: edges ``[..., 3]``, of any length but zero, of the dtype of x.
        lmax_out: largest degree of the output, at most ``L + lmax_edge`` and 12.
        lmax_edge: largest degree of the harmonics; by default that of `weights`, or L.
        weights: ``[..., lmax_edge + 1]``, a factor for each degree of the harmonics of each edge; NaN stays in its row.

    Returns:
        ``[..., C, (lmax_out + 1)^2]``.

    Raises:
        DegenerateFrameError: an edge has length zero and so no direction; names the first. Not looked for under
            `torch.compile` and `torch.func`, where such an edge counts as one along +y.
        IrrepsError: a degree is no integer or out of range.
        ShapeError: shapes do not fit.
        DtypeError: x is not float32 or float64, or dtypes differ.
    """
    L = _check(x, vectors, weights)
    edge = (L if weights is None else weights.shape[-1] - 1) if lmax_edge is None else lmax_edge
    if weights is not None and weights.shape[-1] != edge + 1:
        raise ShapeError(
            f"weights has shape {tuple(weights.shape)}, but [..., {edge + 1}] is needed for lmax_edge={edge}"
        )
    for name, l, top in (("lmax_edge", edge, 16), ("lmax_out", lmax_out, min(L + edge, 12))):
        if not is_whole(l, 0, top):
            raise IrrepsError(f"{name} is {l!r}, but an integer in 0..{top} is needed (x has degree {L})")
    inner, outer = (L + 1) ** 2, (lmax_out + 1) ** 2
    with full_precision(x):
        # Block-diagonal with its zeros: one product of large matrices is several times faster than many of small ones.
        D = _block_diagonal(wigner_D_all(max(L, lmax_out), to_polar_axis(vectors), check=False))
        table = _axial_table(L, edge, lmax_out).to(x)
        matrix = table.sum(0) if weights is None else torch.tensordot(weights, table, 1)
        return x @ D[..., :inner, :inner].mT @ matrix @ D[..., :outer, :outer]


def to_polar_axis(vectors: Tensor) -> Tensor:
    """Rotations ``[..., 3, 3]`` that take vectors ``[..., 3]`` to the positive y axis: ``R r = |r| y``.

    The smallest rotation where r_y >= 0; below, half a turn about x comes first, so that nothing diverges at -y. Smooth on
    each side. For a zero vector: the identity.
    """
    length = safe_norm(vectors, keepdim=True)
    x, y, z = (vectors / torch.where(length == 0, 1.0, length)).unbind(-1)
    y = torch.where(length[..., 0] == 0, 1.0, y)
    sign = torch.where(y < 0, -1.0, 1.0).to(y)
    y, z = sign * y, sign * z
    c, one = 1 / (1 + y), torch.ones_like(x)
    rows = [one - c * x * x, -x, -c * x * z, x, y, z, -c * x * z, -z, one - c * z * z]
    R = torch.stack(rows, -1).unflatten(-1, (3, 3))
    return R * torch.stack([one, sign, sign], -1)[..., None, :]


def _block_diagonal(D: list[Tensor]) -> Tensor:
    """Matrices ``[..., (l + 1)^2, (l + 1)^2]`` of blocks of degrees 0..l."""
    size = len(D) ** 2
    return torch.cat([F.pad(block, (l * l, size - (l + 1) ** 2)) for l, block in enumerate(D)], -2)


@constant
def _axial_table(L: int, edge: int, lmax_out: int) -> Tensor:
    """Products with the harmonics of one degree at the y axis, float64 ``[edge + 1, (L + 1)^2, (lmax_out + 1)^2]``.

    ``Y_l,0(y axis) G[a, (l, 0), c]``, not zero only where a and c have the same order.
    """
    G = gaunt_tensor(L, edge, lmax_out, dtype=torch.float64)
    degrees = torch.arange(edge + 1)
    axis = ((2 * degrees.double() + 1) / (4 * math.pi)).sqrt()
    return (G[:, degrees**2 + degrees] * axis[:, None]).transpose(0, 1).contiguous()


# What torch.compiler.assume_constant_result sets, as a compiler cannot trace the coupling coefficients; calling it here
# would import the compiler, which takes more than a second.
setattr(_axial_table, "_dynamo_marked_constant", True)  # noqa: B010


def _check(x: Tensor, vectors: Tensor, weights: Tensor | None) -> int:
    """Raise unless the tensors fit; the degree of x."""
    L = math.isqrt(x.shape[-1]) - 1 if x.ndim >= 2 else -1
    if L < 0 or x.shape[-1] != (L + 1) ** 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but signals [..., C, (L + 1)^2] are needed")
    if L > 12:
        raise IrrepsError(f"x has degree {L}, but rotations are known up to degree 12")
    if vectors.shape != (*x.shape[:-2], 3):
        raise ShapeError(f"vectors has shape {tuple(vectors.shape)}, but {(*x.shape[:-2], 3)} is needed for x")
    if weights is not None and (weights.ndim == 0 or weights.shape[:-1] != x.shape[:-2] or not weights.shape[-1]):
        raise ShapeError(
            f"weights has shape {tuple(weights.shape)}, but one row per edge, {(*x.shape[:-2], 'l')}, is needed"
        )
    for name, other in (("x", x), ("vectors", vectors), *([("weights", weights)] if weights is not None else [])):
        if other.dtype not in (torch.float32, torch.float64) or other.dtype != x.dtype:
            raise DtypeError(
                f"{name} has dtype {other.dtype}, and x has {x.dtype}; all must be float32, or all float64"
            )
    check_directions(vectors)
    return L
