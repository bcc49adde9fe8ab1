"""Graphs that are hard to tell apart, in families: small known pairs, circular skip links, and files of the benchmark BREC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from erlangen.data.graph_files import graph6_graphs
from erlangen.data.graphs import skip_link_graph

__all__ = [
    "SKIPS",
    "brec_families",
    "circular_skip_links",
    "decalin_and_bicyclopentyl",
    "graph_of_edges",
    "ring_edges",
    "two_triangles_and_hexagon",
]

SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
"""Skips of the ten circular skip-link graphs of 41 nodes (Murphy et al. 2019), no two of which are isomorphic."""

BREC = ("basic", "regular", "extension", "cfi", "4vtx", "dr", "str")
"""Kinds of pairs of the benchmark BREC (Wang and Zhang 2024)."""


def graph_of_edges(nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """Adjacency matrix ``[nodes, nodes]`` of undirected edges, float32.

    >>> graph_of_edges(3, [(0, 1)])
    tensor([[0., 1., 0.],
            [1., 0., 0.],
            [0., 0., 0.]])
    """
    adj = torch.zeros(nodes, nodes)
    u, v = torch.tensor(edges).T
    adj[u, v] = adj[v, u] = 1
    return adj


def ring_edges(*nodes: int) -> list[tuple[int, int]]:
    """Edges around a ring of these nodes.

    >>> ring_edges(0, 1, 2)
    [(0, 1), (1, 2), (2, 0)]
    """
    return list(zip(nodes, (*nodes[1:], nodes[0]), strict=True))


def two_triangles_and_hexagon() -> Tensor:
    """Two graphs of six nodes of degree 2, ``[2, 6, 6]``, float32."""
    return torch.stack(
        [
            graph_of_edges(6, [*ring_edges(0, 1, 2), *ring_edges(3, 4, 5)]),
            graph_of_edges(6, ring_edges(0, 1, 2, 3, 4, 5)),
        ]
    )


def decalin_and_bicyclopentyl() -> Tensor:
    """Carbon atoms of two hexagons that share an edge, and of two pentagons that are joined by one, ``[2, 10, 10]``, float32."""
    decalin = graph_of_edges(10, [*ring_edges(0, 1, 2, 3, 4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 0)])
    pentagons = graph_of_edges(10, [*ring_edges(0, 1, 2, 3, 4), *ring_edges(5, 6, 7, 8, 9), (0, 5)])
    return torch.stack([decalin, pentagons])


def circular_skip_links(skips: Sequence[int] = SKIPS, nodes: int = 41) -> Tensor:
    """A graph for each skip ``[len(skips), nodes, nodes]``, float32; see `skip_link_graph`."""
    return torch.stack([skip_link_graph(nodes, skip) for skip in skips])


def brec_families(folder: str | Path, largest: int = 64) -> dict[str, list[Tensor]]:
    """Pairs of graphs of the benchmark BREC (Wang and Zhang 2024) by their kind, from a folder of its files ``brec_*.npy``.

    Args:
        folder: the place of the files; lists `sr251256.g6` and `graph8c.g6` that lie there are read, too, as one group each.
        largest: pairs of larger graphs are left out.

    Returns:
        For each kind, groups ``[M, n, n]``, float32, whose graphs are to be told apart.

    Raises:
        DataError: a file of BREC is missing, or damaged.
    """
    found: dict[str, list[Tensor]] = {}
    for kind in BREC:
        graphs = graph6_graphs(Path(folder) / f"brec_{kind}.npy")
        pairs = [torch.stack(graphs[k : k + 2]) for k in range(0, len(graphs), 2) if len(graphs[k]) <= largest]
        found[f"BREC, {kind}"] = pairs
    lists = [path for path in (Path(folder) / f"{name}.g6" for name in ("sr251256", "graph8c")) if path.is_file()]
    return found | {path.name: [torch.stack(graph6_graphs(path))] for path in lists}
