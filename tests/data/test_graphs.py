"""Lists of graphs against networkx's atlas, published counts, and the equation of strongly regular graphs."""

import networkx as nx
import pytest
import torch
from torch import Tensor

from erlangen.data import (
    connected_graphs,
    rook_graph,
    shrikhande_graph,
    strongly_regular_graphs,
    triangular_graph,
)
from erlangen.errors import DataError


def as_networkx(adj: Tensor) -> "nx.Graph[int]":
    g = nx.from_numpy_array(adj.numpy())
    nx.set_node_attributes(g, "", "colour")
    return g


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 1), (3, 2), (4, 6), (5, 21), (6, 112), (7, 853), (8, 11117)])
def test_counts_are_the_published_ones(n: int, count: int) -> None:
    graphs = connected_graphs(n)
    assert graphs.shape == (count, n, n)
    assert graphs.dtype == torch.float32
    assert torch.equal(graphs, graphs.mT)
    assert bool(((graphs == 0) | (graphs == 1)).all())
    assert float(graphs.diagonal(dim1=1, dim2=2).abs().sum()) == 0
    reached = torch.linalg.matrix_power(graphs.double() + torch.eye(n), n)
    assert bool((reached > 0).all())


@pytest.mark.parametrize("n", [4, 5, 6])
def test_lists_are_the_atlas(n: int) -> None:
    atlas = [g for g in nx.graph_atlas_g() if len(g) == n and nx.is_connected(g)]
    ours = [as_networkx(adj) for adj in connected_graphs(n)]
    matches = [
        [k for k, g in enumerate(ours) if nx.faster_could_be_isomorphic(g, h) and nx.is_isomorphic(g, h)] for h in atlas
    ]
    assert sorted(k for found in matches for k in found) == list(range(len(ours)))
    assert all(len(found) == 1 for found in matches)


@pytest.mark.parametrize("n", [7, 8])
def test_no_graph_occurs_twice(n: int) -> None:
    """Graphs are compared where degrees, triangles and refined colours agree; elsewhere they differ for sure."""
    groups: dict[str, list[nx.Graph[int]]] = {}
    for adj in connected_graphs(n):
        triangles = (torch.linalg.matrix_power(adj, 3)).diagonal().long()
        cycles = (torch.linalg.matrix_power(adj, 4)).diagonal().long()
        g = as_networkx(adj)
        nx.set_node_attributes(g, {k: f"{int(triangles[k])},{int(cycles[k])}" for k in range(n)}, "walks")
        groups.setdefault(nx.weisfeiler_lehman_graph_hash(g, node_attr="walks", iterations=4), []).append(g)
    for group in groups.values():
        for k, g in enumerate(group):
            assert not any(nx.is_isomorphic(g, h) for h in group[:k])


def test_results_belong_to_the_caller() -> None:
    connected_graphs(4).zero_()
    assert float(connected_graphs(4).sum()) > 0


def parameters(adj: Tensor) -> tuple[int, int, int, int]:
    """(v, k, lambda, mu), checked by the equation ``A^2 = k I + lambda A + mu (J - I - A)``."""
    v, k = len(adj), int(adj[0].sum())
    square, other = adj @ adj, 1 - adj - torch.eye(v)
    joined, apart = int((square * adj).max()), int((square * other).max())
    assert torch.equal(square, k * torch.eye(v) + joined * adj + apart * other)
    return v, k, joined, apart


def test_families_are_strongly_regular() -> None:
    assert parameters(rook_graph(4)) == parameters(shrikhande_graph()) == (16, 6, 2, 2)
    assert parameters(rook_graph(5)) == (25, 8, 3, 2)
    assert parameters(triangular_graph(7)) == (21, 10, 5, 4)
    assert [parameters(adj) for adj in strongly_regular_graphs(16)] == 2 * [(16, 6, 2, 2)]
    assert [parameters(adj) for adj in strongly_regular_graphs(28)] == 4 * [(28, 12, 6, 4)]


def test_families_hold_different_graphs() -> None:
    for nodes in (16, 28):
        graphs = strongly_regular_graphs(nodes)
        # The neighbours of a node: for these families their kinds tell the graphs apart.
        kinds = {_neighbourhoods(adj) for adj in graphs}
        assert len(kinds) == len(graphs)


def _neighbourhoods(adj: Tensor) -> tuple[str, ...]:
    g = as_networkx(adj)
    return tuple(
        sorted(
            nx.weisfeiler_lehman_graph_hash(g.subgraph(g[k]).copy(), node_attr="colour") + str(_cliques(g, k))
            for k in g
        )
    )


def _cliques(g: "nx.Graph[int]", node: int) -> list[int]:
    return sorted(len(c) for c in nx.find_cliques(g, nodes=[node]))


def test_named_graphs_are_networkxs() -> None:
    board = nx.cartesian_product(nx.complete_graph(4), nx.complete_graph(4))
    assert nx.is_isomorphic(as_networkx(rook_graph(4)), board)
    assert nx.is_isomorphic(as_networkx(triangular_graph(6)), nx.line_graph(nx.complete_graph(6)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connected_graphs(0), "n = 0: graphs of 1 to 8 nodes"),
        (lambda: connected_graphs(9), "n = 9"),
        (lambda: connected_graphs(3.0), "n = 3.0"),  # type: ignore[arg-type]
        (lambda: rook_graph(1), "at least 2 rows"),
        (lambda: triangular_graph(3), "at least 4 things"),
        (lambda: strongly_regular_graphs(25), "nodes = 25"),
    ],
)
def test_bad_sizes(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        call()
