"""Graphs that are hard to tell apart, in families, and how many pairs of a family a network confuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Generator, Tensor

from erlangen.data import skip_link_graph
from erlangen.measure import equal_pairs

Separator: TypeAlias = Callable[[Tensor], Tensor]
"""Outputs ``[M, C]`` of graphs ``[M, n, n]``, both float64, that do not depend on the order of the nodes."""

Row = dict[str, Any]

EQUAL = 1e-12
"""Outputs that differ by less, relative to the largest output of a family, count as equal; rounding gives some 1e-14."""
AT_ONCE = 2**19
"""Pairs of nodes per call of a network."""


class Family(NamedTuple):
    """Graphs of which some pairs are to be told apart: all pairs of each group ``[M, n, n]``."""

    name: str
    groups: list[Tensor]


def joined(nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """Adjacency matrix ``[nodes, nodes]``, float32."""
    adj = torch.zeros(nodes, nodes)
    u, v = torch.tensor(edges).T
    adj[u, v] = adj[v, u] = 1
    return adj


def ring(*nodes: int) -> list[tuple[int, int]]:
    """Edges around a ring."""
    return list(zip(nodes, (*nodes[1:], nodes[0]), strict=True))


def two_triangles_and_hexagon() -> Tensor:
    """``[2, 6, 6]``."""
    return torch.stack([joined(6, [*ring(0, 1, 2), *ring(3, 4, 5)]), joined(6, ring(0, 1, 2, 3, 4, 5))])


def decalin_and_bicyclopentyl() -> Tensor:
    """Carbon atoms of two hexagons that share an edge, and of two pentagons that are joined by one, ``[2, 10, 10]``."""
    decalin = joined(10, [*ring(0, 1, 2, 3, 4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 0)])
    return torch.stack([decalin, joined(10, [*ring(0, 1, 2, 3, 4), *ring(5, 6, 7, 8, 9), (0, 5)])])


SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""Skips of the ten circular skip-link graphs of 41 nodes (Murphy et al. 2019), no two of which are isomorphic."""


def circular_skip_links(skips: Sequence[int] = SKIPS, nodes: int = 41) -> Tensor:
    """A graph for each skip ``[len(skips), nodes, nodes]``, float32; see `erlangen.data.skip_link_graph`."""
    return torch.stack([skip_link_graph(nodes, skip) for skip in skips])


@torch.no_grad()
def separation_row(name: str, separate: Separator, family: Family, seed: int) -> Row:
    """How many pairs of graphs get equal outputs, and how far another order of the nodes changes an output."""
    begin = time.process_time()
    values = [_outputs(separate, group) for group in family.groups]
    seconds = time.process_time() - begin
    scale = max(float(value.abs().max()) for value in values)
    found = [equal_pairs(value / scale, EQUAL) for value in values]
    reordered = 0.0
    for group, value in zip(family.groups[:20], values[:20], strict=True):
        few = torch.randperm(len(group), generator=Generator().manual_seed(seed))[:100]
        order = torch.randperm(group.shape[-1], generator=Generator().manual_seed(seed + 1))
        again = _outputs(separate, group[few][:, order][:, :, order])
        reordered = max(reordered, float((again - value[few]).abs().max()) / scale)
    closest = min(closest for _, closest in found)
    return {
        "part": "separation",
        "model": name,
        "graphs": family.name,
        "pairs": sum(math.comb(len(group), 2) for group in family.groups),
        "pairs not separated": sum(count for count, _ in found),
        "closest pair": closest if math.isfinite(closest) else None,
        "reordering error": reordered,
        "seconds": seconds,
    }


def _outputs(separate: Separator, adj: Tensor) -> Tensor:
    """Outputs of a few graphs at a time."""
    return torch.cat([separate(part.double()) for part in adj.split(max(1, AT_ONCE // adj.shape[-1] ** 2))])
