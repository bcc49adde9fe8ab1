"""Graphs that are hard to tell apart, in families: small known pairs, circular skip links, and files of the benchmark BREC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.spatial import Delaunay
from torch import Generator, Tensor

from erlangen.data.graph_files import graph6_graphs
from erlangen.data.graphs import skip_link_graph
from erlangen.errors import check_integer

__all__ = [
    "SKIPS",
    "brec_families",
    "circular_skip_links",
    "decalin_and_bicyclopentyl",
    "graph_of_edges",
    "planar_pairs",
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


def planar_pairs(pairs: int, nodes: int = 20, *, generator: Generator | None = None) -> Tensor:
    """Pairs of planar graphs that colour refinement does not tell apart ``[pairs, 2, nodes, nodes]``, float32.

    Built as the pairs of EXP (Abboud et al. 2021): a core that differs, one ring of 6 or 8 nodes against two rings of half as
    many, beside a part that does not, a random planar graph. The order of the nodes is random.

    >>> planar_pairs(3, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 2, 20, 20])

    Args:
        pairs: number of pairs.
        nodes: nodes of every graph, at least 12.
        generator: source of the random parts and orders; torch's global stream without it.

    Raises:
        ErlangenError: there are no pairs, or too few nodes.
    """
    check_integer("pairs", pairs, 1)
    check_integer("nodes", nodes, 12)
    adj = torch.zeros(pairs, 2, nodes, nodes)
    for index in range(pairs):
        half = 3 + int(torch.randint(0, 2, (), generator=generator))
        beside = [(u + 2 * half, v + 2 * half) for u, v in _planar_edges(nodes - 2 * half, generator)]
        ring = ring_edges(*range(2 * half))
        halves = [*ring_edges(*range(half)), *ring_edges(*range(half, 2 * half))]
        for side, core in enumerate((ring, halves)):
            order = torch.randperm(nodes, generator=generator)
            adj[index, side] = graph_of_edges(nodes, [*core, *beside])[order][:, order]
    return adj


def _planar_edges(nodes: int, generator: Generator | None) -> list[tuple[int, int]]:
    """About three of five edges of the Delaunay triangulation of random points."""
    corners = Delaunay(torch.rand(nodes, 2, generator=generator, dtype=torch.float64).numpy()).simplices.tolist()
    edges = sorted({(min(u, v), max(u, v)) for a, b, c in corners for u, v in ((a, b), (b, c), (c, a))})
    kept = torch.rand(len(edges), generator=generator) < 0.6
    return [edge for edge, keep in zip(edges, kept.tolist(), strict=True) if keep]


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
