"""How many inputs a network cannot tell apart."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating


def equal_pairs(values: Tensor, tol: float) -> tuple[int, float]:
    """Pairs of rows whose largest difference is at most `tol`, and the smallest difference of the other pairs.

    With rows of an invariant network's outputs, one for each graph: the pairs that it does not separate, and how near it comes.
    All pairs are looked at only where they are near: along a direction whose entries sum to one, rows are no farther apart than
    their largest difference.

    >>> equal_pairs(torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), 1e-6)
    (1, 2.0)

    Args:
        values: ``[M, C]``, finite, best of float64.
        tol: largest difference of equal rows, not negative.

    Returns:
        The number of pairs, and the smallest difference above `tol`, infinite where there is none.

    Raises:
        ShapeError: `values` is no matrix.
        DtypeError, NotFiniteError: it is not floating point, or not finite.
        ErlangenError: `tol` is negative.
    """
    check_floating(values, "values")
    check_finite(values, "values")
    if values.dim() != 2:
        raise ShapeError(f"values have shape {tuple(values.shape)}; pass [M, C], a row for each graph")
    if not tol >= 0:
        raise ErlangenError(f"tol = {tol}; give a number that is not negative")
    direction = torch.rand(values.shape[1], generator=Generator().manual_seed(1), dtype=values.dtype)
    along, order = (values @ (direction / direction.sum())).sort()
    values = values[order]
    pairs, closest = 0, math.inf
    for lag in range(1, len(values)):
        near = along[lag:] - along[:-lag] <= max(tol, closest)
        if not bool(near.any()):
            break
        difference = (values[lag:][near] - values[:-lag][near]).abs().amax(-1)
        pairs += int((difference <= tol).sum())
        closest = min([closest, *difference[difference > tol].tolist()])
    return pairs, closest
