"""Tables of matrices: nearest entry, closure under products, exact entries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.errors import GroupError

MAX_CLOSURE = 10_000
"""Largest group that `close_under_product` builds."""

CLOSED_TOL = 1e-8
"""How far a product may lie from the nearest entry of a table and still count as that entry."""

_CHUNK = 4_000_000  # distances computed at once in a nearest-entry search: 32 MB of float64


def close_under_product(name: str, generators: Tensor, seeds: Sequence[Tensor] = ()) -> Tensor:
    """All products of matrices of finite order, ``[order, n, n]`` float64, the identity first.

    Args:
        name: used in the error.
        generators: ``[k, n, n]``.
        seeds: tables ``[m, n, n]`` without repetition whose elements are known to be such products. They
            shorten the words by which elements are found, and with them the rounding error.

    Raises:
        GroupError: more than `MAX_CLOSURE` products; the group is infinite or too large for a table.
    """
    generators = generators.to(torch.float64)
    n = generators.shape[-1]
    table = torch.eye(n, dtype=torch.float64)[None]
    for seed in seeds:
        table = torch.cat([table, _outside(seed.to(torch.float64), table)])
    frontier = table
    while len(frontier):
        size = len(table)
        for g in generators:
            table = torch.cat([table, _outside(snap(g @ frontier), table)])
            if len(table) > MAX_CLOSURE:
                raise GroupError(
                    f"{name}: more than {MAX_CLOSURE:,} products of the generators, so the group is "
                    "infinite or too large for a table; use a Lie group that contains them"
                )
        frontier = table[size:]
    return table


def nearest_matrix(M: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest entry of a table in the Frobenius norm.

    Args:
        M: ``[..., n, n]``.
        table: ``[order, n, n]`` of the same dtype and device.

    Returns:
        The index ``[...]`` and the largest absolute entry of the difference ``[...]``.
    """
    rows, columns = M.reshape(-1, M.shape[-1] ** 2), table.flatten(1)
    half_norm = columns.square().sum(-1) / 2
    step = max(1, _CHUNK // len(table))
    index = torch.cat([(half_norm - part @ columns.mT).argmin(-1) for part in rows.split(step)])
    distance = (rows - columns[index]).abs().amax(-1)
    return index.reshape(M.shape[:-2]), distance.reshape(M.shape[:-2])


def snap(matrices: Tensor, values: tuple[float, ...] = (0.0, 0.5, 1.0), tol: float = 1e-12) -> Tensor:
    """Set entries within `tol` of one of `values` (or its negative) to exactly that; zeros get no sign."""
    snapped = matrices
    for value in values:
        snapped = torch.where((matrices.abs() - value).abs() < tol, value * matrices.sign(), snapped)
    return snapped + 0.0


def _outside(candidates: Tensor, table: Tensor) -> Tensor:
    return candidates[nearest_matrix(candidates, table)[1] > CLOSED_TOL]
