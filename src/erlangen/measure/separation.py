"""How many inputs a network cannot tell apart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, ShapeError, check_finite, check_floating

Separator: TypeAlias = Callable[[Tensor], Tensor]
"""Outputs ``[M, C]`` of graphs ``[M, n, n]``, both float64, that do not depend on the order of the nodes."""

EQUAL = 1e-12
"""Outputs that differ by less, relative to the largest output, count as equal; rounding gives some 1e-14."""

_AT_ONCE = 2**19
"""Pairs of nodes per call of a network."""


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


def separation_table(
    separators: Mapping[str, Separator],
    families: Mapping[str, Sequence[Tensor]],
    seed: int = 0,
    *,
    tol: float = EQUAL,
    scale: float | None = None,
) -> list[dict[str, Any]]:
    """Which graphs do networks tell apart? A row for each family and each network.

    >>> pair = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    >>> rows = separation_table({"edges": lambda adj: adj.sum((1, 2))[:, None]}, {"an edge or none": [pair]})
    >>> rows[0]["pairs"], rows[0]["pairs not separated"]
    (1, 0)

    Args:
        separators: networks by their names.
        families: by their names, groups of graphs ``[M, n, n]``; all pairs within a group are to be told apart.
        seed: of the graphs that are renumbered, and of their new order.
        tol: outputs whose largest difference is at most this share of `scale` count as equal.
        scale: what outputs are divided by; without it, the largest output of a network on a family.

    Returns:
        Rows with the columns part, model, graphs, pairs, pairs not separated, closest pair (the smallest difference of the
        others, None where there is none), reordering error (how far another order of the nodes changes an output, of up to 100
        graphs of each of the first 20 groups) and seconds of the processor.
    """
    return [
        {"part": "separation", "model": model, "graphs": graphs, **_separation(separate, groups, seed, tol, scale)}
        for graphs, groups in families.items()
        for model, separate in separators.items()
    ]


@torch.no_grad()
def _separation(
    separate: Separator, groups: Sequence[Tensor], seed: int, tol: float, scale: float | None
) -> dict[str, Any]:
    begin = time.process_time()
    values = [_outputs(separate, group) for group in groups]
    seconds = time.process_time() - begin
    scale = max(float(value.abs().max()) for value in values) if scale is None else scale
    found = [equal_pairs(value / scale, tol) for value in values]
    reordered = 0.0
    for group, value in zip(groups[:20], values[:20], strict=True):
        few = torch.randperm(len(group), generator=Generator().manual_seed(seed))[:100]
        order = torch.randperm(group.shape[-1], generator=Generator().manual_seed(seed + 1))
        again = _outputs(separate, group[few][:, order][:, :, order])
        reordered = max(reordered, float((again - value[few]).abs().max()) / scale)
    closest = min(closest for _, closest in found)
    return {
        "pairs": sum(math.comb(len(group), 2) for group in groups),
        "pairs not separated": sum(count for count, _ in found),
        "closest pair": closest if math.isfinite(closest) else None,
        "reordering error": reordered,
        "seconds": seconds,
    }


def _outputs(separate: Separator, adj: Tensor) -> Tensor:
    """Outputs of a few graphs at a time."""
    return torch.cat([separate(part.double()) for part in adj.split(max(1, _AT_ONCE // adj.shape[-1] ** 2))])
