"""Eigenvectors by plain arithmetic, for exported programs: ONNX has no eigenvalue decomposition.

Cyclic Jacobi rotations in rounds of disjoint pairs (Brent and Luk, "The solution of singular-value and symmetric eigenvalue
problems on multiprocessor arrays", 1985). Each rotation is computed without dividing by a number that may vanish, so that
equal eigenvalues, zero matrices and diagonal ones are ordinary cases. The method is backward stable: as good as LAPACK's
eigenvectors, up to signs, and up to the choice of a basis where eigenvalues coincide.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class _Round(NamedTuple):
    """Constants of the rotations of k disjoint pairs (p, q) of n axes."""

    first: Tensor
    """Places of the entries (p, p), int64 ``[k]``, in flat matrices."""
    second: Tensor
    """Places of the entries (q, q)."""
    mixed: Tensor
    """Places of the entries (p, q)."""
    idle: Tensor
    """Flat matrix ``[n n]`` with a one for the axis that has no partner."""
    cosines: Tensor
    """``[k, n n]``: ones at (p, p) and (q, q)."""
    sines: Tensor
    """``[k, n n]``: one at (p, q), minus one at (q, p)."""


def count_sweeps(n: int) -> int:
    """Rounds through all pairs after which matrices ``[n, n]`` are diagonal to rounding, with one to spare.

    Convergence is quadratic in the end; the number before grows as the logarithm of n. A single pair needs one round.
    """
    return 2 if n <= 2 else 4 + math.ceil(1.5 * math.log2(n))


def jacobi_eigh(A: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., n]``, ascending, and eigenvectors in columns ``[..., n, n]``, always a rotation.

    The number of operations grows as n log n, each on matrices of n x n: made for n of a few dozen at most.

    Args:
        A: symmetric matrices ``[..., n, n]``, float32 or float64.
    """
    n = A.shape[-1]
    scale = A.abs().amax((-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    A = A / scale
    rounds = [_constants(pairs, n, A) for pairs in _pairings(n)]
    axes = torch.eye(n, dtype=A.dtype, device=A.device).expand(A.shape)
    for _ in range(count_sweeps(n)):
        for constants in rounds:
            turn = _rotation(A, constants)
            A = turn.transpose(-2, -1) @ A @ turn
            axes = axes @ turn
    values = A.diagonal(dim1=-2, dim2=-1) * scale[..., 0]
    values, order = torch.sort(values, dim=-1)
    axes = axes.gather(-1, order[..., None, :].expand(axes.shape))
    # Rotations have determinant one, and the order changes its sign with every inversion.
    before, after = torch.triu_indices(n, n, 1, device=A.device).unbind()
    odd = (order.index_select(-1, before) > order.index_select(-1, after)).to(torch.int64).sum(-1) % 2
    sign = (1 - 2 * odd).to(axes.dtype)
    return values, torch.cat([axes[..., :1] * sign[..., None, None], axes[..., 1:]], -1)


def _rotation(A: Tensor, constants: _Round) -> Tensor:
    """The rotation ``[..., n, n]`` that makes the entries (p, q) of all pairs vanish."""
    flat = A.flatten(-2)
    mixed = flat.index_select(-1, constants.mixed)
    half = (flat.index_select(-1, constants.second) - flat.index_select(-1, constants.first)) / 2
    root = half.abs() + (half.square() + mixed.square()).sqrt()
    tangent = torch.where(half < 0, -mixed, mixed) / torch.where(root > 0, root, 1.0)
    cosine = (1 + tangent.square()).rsqrt()
    turn = constants.idle + cosine @ constants.cosines + (tangent * cosine) @ constants.sines
    return turn.unflatten(-1, A.shape[-2:])


def _pairings(n: int) -> list[list[tuple[int, int]]]:
    """Rounds of disjoint pairs that together hold every pair once: the schedule of a tournament."""
    players = list(range(n + n % 2))
    rounds: list[list[tuple[int, int]]] = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = zip(players[:half], reversed(players[half:]), strict=True)
        rounds.append([(min(pair), max(pair)) for pair in pairs if max(pair) < n])
        players = [players[0], players[-1], *players[1:-1]]
    return rounds


def _constants(pairs: list[tuple[int, int]], n: int, like: Tensor) -> _Round:
    cosines, sines = torch.zeros(2, len(pairs), n, n, dtype=torch.float64).unbind()
    idle = torch.eye(n, dtype=torch.float64)
    for k, (p, q) in enumerate(pairs):
        cosines[k, p, p] = cosines[k, q, q] = sines[k, p, q] = 1.0
        sines[k, q, p] = -1.0
        idle[p, p] = idle[q, q] = 0.0
    places = [torch.tensor([i * n + j for i, j in entries], device=like.device) for entries in (
        [(p, p) for p, _ in pairs], [(q, q) for _, q in pairs], pairs,
    )]  # fmt: skip
    return _Round(*places, *(t.flatten(-2).to(like) for t in (idle, cosines, sines)))
