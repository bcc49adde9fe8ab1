"""Equivariant maps of permutation tensors in closed form: one per partition of the axes (Maron et al. 2019).

A tensor with m axes of length n is invariant under all permutations if and only if it is constant on the orbits of index
tuples, and two tuples are in one orbit if and only if the same of their entries are equal. Orbits are therefore the
partitions of the m axes into at most n blocks: Bell(m) of them for n >= m.
"""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.groups import Symmetric
from erlangen.reps.base import Rep
from erlangen.reps.leaves import V


def tensor_order(rep: Rep) -> int | None:
    """k for the arrays ``[n, ..., n]`` with k axes of `Symmetric(n)`, None for other representations."""
    if not isinstance(rep.group, Symmetric):
        return None
    if rep.is_unit:
        return 0
    places = V(rep.group)
    factors = rep.factors()
    return len(factors) if all(factor == places for factor in factors) else None


def partition_count(m: int, n: int) -> int:
    """Number of partitions of m things into at most n blocks: sums of Stirling numbers, Bell(m) for n >= m."""
    row = [1]  # row[b]: partitions of the things so far into b blocks
    for _ in range(m):
        row = [0, *(row[b - 1] + b * (row[b] if b < len(row) else 0) for b in range(1, len(row) + 1))]
    return sum(row[: n + 1])


def partition_basis(n: int, m: int) -> Tensor:
    """Orthonormal invariant tensors with m axes of length n, float64 ``[partition_count(m, n), n^m]``.

    Each is the indicator of one orbit over the square root of its size. They are in lexicographic order of the
    positions at which the axes' entries first occur: (0, 0, ..., 0), where all are equal, is the first.
    """
    code = torch.zeros(n**m, dtype=torch.int64)
    places = torch.arange(n**m)
    entries = [places // n ** (m - 1 - axis) % n for axis in range(m)]
    for axis in range(m):
        first = torch.full_like(places, axis)
        for earlier in range(axis - 1, -1, -1):
            first = torch.where(entries[earlier] == entries[axis], earlier, first)
        code = code * m + first
    _, orbit, sizes = code.unique(return_inverse=True, return_counts=True)
    basis = torch.zeros(len(sizes), n**m, dtype=torch.float64)
    basis[orbit, places] = sizes.double().rsqrt()[orbit]
    return basis
