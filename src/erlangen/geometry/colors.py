"""Colour refinement, the one-dimensional Weisfeiler-Leman test, and the graph kernel of its colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ShapeError, check_sizes

__all__ = ["color_kernel", "refined_colors"]


def refined_colors(edge_index: Tensor, labels: Tensor, rounds: int | None = None) -> Tensor:
    """Colours of nodes, refined by the colours of their neighbours again and again; the same in all graphs of a batch.

    Two nodes of equal colour get different ones where the multisets of the colours of their neighbours differ. Multisets are
    compared themselves, not by hashes.

    >>> path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    >>> refined_colors(path, torch.zeros(4).long())
    tensor([[0, 0, 0, 0],
            [0, 1, 1, 0]])

    Args:
        edge_index: int64 ``[2, E]``, source and target; undirected graphs have every edge in both directions.
        labels: the first colours, int64 ``[N]``; zeros for nodes that are alike.
        rounds: how often; by default until no more colours appear.

    Returns:
        int64 ``[rounds + 1, N]``, first the labels, renumbered from 0 in every round.

    Raises:
        ShapeError, DtypeError: tensors are not as above.
        ErlangenError: `rounds` is not positive.
    """
    check_sizes(rounds=1 if rounds is None else rounds)
    for name, value, dim in (("edge_index", edge_index, 2), ("labels", labels, 1)):
        if value.dtype != torch.int64:
            raise DtypeError(f"{name} has dtype {value.dtype}; pass int64")
        if value.dim() != dim or (dim == 2 and len(value) != 2):
            raise ShapeError(f"{name} has shape {tuple(value.shape)}; pass {'[2, E]' if dim == 2 else '[N]'}")
    nodes = len(labels)
    source, target = edge_index
    degree = torch.bincount(target, minlength=nodes)
    most = int(degree.max()) if nodes else 0
    place = torch.arange(len(source), device=labels.device) - (degree.cumsum(0) - degree).repeat_interleave(degree)
    colors = [labels.unique(return_inverse=True)[1]]
    while len(colors) <= (nodes if rounds is None else rounds):
        now = colors[-1]
        order = (target * (int(now.max()) + 1 if nodes else 1) + now[source]).argsort()
        around = now.new_full((nodes, most), -1)
        around[target[order], place] = now[source[order]]
        new = torch.cat([now[:, None], around], 1).unique(dim=0, return_inverse=True)[1] if nodes else now
        if rounds is None and (not nodes or int(new.max()) == int(now.max())):
            break
        colors.append(new)
    return torch.stack(colors)


def color_kernel(colors: Tensor, batch: Tensor, graphs: int) -> Tensor:
    """The Weisfeiler-Leman subtree kernel ``[G, G]``, float64: equal colours of two graphs, over all rounds.

    The inner product of the counts of all colours (Shervashidze, Schweitzer, van Leeuwen, Mehlhorn and Borgwardt, JMLR 2011),
    divided by the lengths of both counts, so that a graph has the value 1 with itself.

    Args:
        colors: of `refined_colors`, int64 ``[R, N]``.
        batch: the graph of each node, int64 ``[N]``.
        graphs: their number, G; a graph without nodes has zeros.

    Raises:
        ShapeError: the shapes do not fit.
    """
    if colors.dim() != 2 or batch.shape != colors.shape[1:]:
        raise ShapeError(f"colors {tuple(colors.shape)} and batch {tuple(batch.shape)} must be [R, N] and [N]")
    from scipy.sparse import coo_array

    offsets = (colors.amax(1) + 1).cumsum(0) if colors.numel() else colors.new_zeros(len(colors))
    column = colors + torch.cat([offsets.new_zeros(1), offsets[:-1]])[:, None]
    rows = batch.expand_as(colors).flatten().cpu().numpy()
    shape = (graphs, int(offsets[-1]) if len(offsets) else 0)
    counts: Any = coo_array((np.ones(len(rows)), (rows, column.flatten().cpu().numpy())), shape=shape).tocsr()
    kernel = torch.from_numpy((counts @ counts.T).toarray())
    length = kernel.diagonal().sqrt()
    return (kernel / torch.where(length > 0, length, 1) / torch.where(length > 0, length, 1)[:, None]).to(batch.device)
