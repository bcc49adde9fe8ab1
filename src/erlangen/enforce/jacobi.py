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

from erlangen.errors import ShapeError
from erlangen.groups.determinants import parity


class _Round(NamedTuple):
    """Constants of the rotations of k disjoint pairs (p, q) of n axes. Few operations: each one is a node of the program."""

    pick: Tensor
    """``[n n, 2 k]``: from flat matrices to ``(a_qq - a_pp) / 2`` and ``a_pq`` of all pairs."""
    put: Tensor
    """``[2 k, n n]``: from cosines and sines to flat rotations."""
    idle: Tensor
    """Flat matrix ``[n n]`` with a one for the axis that has no partner."""


LARGEST = 8
"""Axes of the largest matrices: beyond, spread spectra take more sweeps than are worth unrolling, and thousands of operations."""


def count_sweeps(n: int) -> int:
    """Rounds through all pairs after which matrices ``[n, n]`` are diagonal to rounding, with one to spare.

    Convergence is quadratic in the end; a single pair needs one round. Counted for n up to `LARGEST`, on spectra over twenty
    orders of magnitude and on gaps down to rounding.
    """
    return {1: 0, 2: 2, 3: 5, 4: 6}.get(n, 4 + math.ceil(1.5 * math.log2(n)))


def jacobi_eigh(A: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., n]``, ascending, and eigenvectors in columns ``[..., n, n]``, always a rotation.

    Args:
        A: symmetric matrices ``[..., n, n]``, float32 or float64, with n of at most `LARGEST`.

    Raises:
        ShapeError: n is larger.
    """
    n = A.shape[-1]
    if n > LARGEST:
        raise ShapeError(
            f"eigenvectors of {n} x {n} matrices cannot be exported, only up to {LARGEST} axes (or nodes of graphs); export "
            "what needs none: frames of chosen points (PointsFrame), sorted features of nodes, or how='orbit'; torch.compile "
            "takes all sizes"
        )
    scale = A.abs().amax((-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    rest = A / scale
    rounds = [_constants(pairs, n, A) for pairs in _pairings(n)]
    axes = torch.eye(n, dtype=A.dtype, device=A.device).expand(A.shape)
    for _ in range(count_sweeps(n)):
        for constants in rounds:
            turn = _rotation(rest, constants)
            rest = turn.transpose(-2, -1) @ rest @ turn
            axes = axes @ turn
    values = rest.diagonal(dim1=-2, dim2=-1) * scale[..., 0]
    values, order = torch.sort(values, dim=-1)
    axes = axes.gather(-1, order[..., None, :].expand(axes.shape))
    sign = parity(order).to(axes.dtype)[..., None, None]  # rotations have determinant one, and the order this
    return values, torch.cat([axes[..., :1] * sign, axes[..., 1:]], -1)


def _rotation(A: Tensor, constants: _Round) -> Tensor:
    """The rotation ``[..., n, n]`` that makes the entries (p, q) of all pairs vanish."""
    half, mixed = (A.flatten(-2) @ constants.pick).chunk(2, -1)
    root = half.abs() + (half.square() + mixed.square()).sqrt()
    tangent = torch.where(half < 0, -mixed, mixed) / torch.where(root > 0, root, 1.0)
    cosine = (1 + tangent.square()).rsqrt()
    turn = torch.cat([cosine, tangent * cosine], -1) @ constants.put + constants.idle
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
    k = len(pairs)
    pick, put = torch.zeros(2 * k, n, n, dtype=torch.float64), torch.zeros(2 * k, n, n, dtype=torch.float64)
    idle = torch.eye(n, dtype=torch.float64)
    for i, (p, q) in enumerate(pairs):
        pick[i, q, q], pick[i, p, p], pick[k + i, p, q] = 0.5, -0.5, 1.0
        put[i, p, p] = put[i, q, q] = put[k + i, p, q] = 1.0
        put[k + i, q, p] = -1.0
        idle[p, p] = idle[q, q] = 0.0
    return _Round(*(t.to(like) for t in (pick.flatten(1).transpose(0, 1), put.flatten(1), idle.flatten())))
