"""Lists of graphs against networkx's atlas, published counts, and the equation of strongly regular graphs."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from erlangen.data import (
    cfi_graphs,
    connected_graphs,
    graph6_graphs,
    latin_square_graph,
    rook_graph,
    shrikhande_graph,
    skip_link_graph,
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


def test_five_of_25_nodes_are_different() -> None:
    graphs = strongly_regular_graphs(25)
    assert [parameters(adj) for adj in graphs] == 5 * [(25, 12, 5, 6)]
    assert len({tuple(sorted(common_edges(adj))) for adj in graphs}) == 5


def common_edges(adj: Tensor) -> list[str]:
    """Of each node, how many edges join its common neighbours with each other node, of joined and of other pairs."""
    inside = torch.einsum("ac,ad,cd,bc,bd->ab", *[adj.double()] * 5)
    outside = torch.einsum("ac,ad,cd,bc,bd->ab", *[1 - adj.double() - torch.eye(len(adj))] * 5)
    return [str(row.sort().values.tolist()) for row in inside + 1000 * outside + 1e6 * adj]


def test_skip_links_are_circulants() -> None:
    skips = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
    graphs = [as_networkx(skip_link_graph(41, skip)) for skip in skips]
    for skip, graph in zip(skips, graphs, strict=True):
        assert nx.utils.graphs_equal(nx.Graph(graph.edges), nx.Graph(nx.circulant_graph(41, [1, skip]).edges))
    for a, b in itertools.combinations([np.linalg.eigvalsh(nx.to_numpy_array(g)) for g in graphs], 2):
        assert np.abs(a - b).max() > 1e-3


def test_cfi_of_a_cycle_is_one_cycle_or_two() -> None:
    cycle = torch.from_numpy(nx.to_numpy_array(nx.cycle_graph(5))).float()
    sizes = [sorted(map(len, nx.connected_components(as_networkx(adj)))) for adj in cfi_graphs(cycle)]
    assert sizes == [[5, 5], [10]]
    assert bool((cfi_graphs(cycle).sum(-1) == 2).all())


@pytest.mark.parametrize("base", [nx.complete_graph(4), nx.complete_bipartite_graph(3, 3), nx.diamond_graph()])
def test_cfi_pairs_differ_but_agree_in_refined_colours(base: "nx.Graph[int]") -> None:
    pair = cfi_graphs(torch.from_numpy(nx.to_numpy_array(base)).float())
    assert pair.shape[-1] == sum(2 ** (degree - 1) for _, degree in base.degree)
    assert torch.equal(pair, pair.mT)
    a, b = map(as_networkx, pair)
    assert not nx.vf2pp_is_isomorphic(a, b)
    hashes = [nx.weisfeiler_lehman_graph_hash(g, node_attr="colour") for g in (a, b)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("n", [1, 2, 5, 62, 63, 70])
def test_graph6_is_networkxs(tmp_path, n: int) -> None:  # type: ignore[no-untyped-def]
    graphs = [nx.gnp_random_graph(n, 0.4, seed=k) for k in range(3)]
    texts = [nx.to_graph6_bytes(g, header=k == 0).strip() for k, g in enumerate(graphs)]
    (tmp_path / "some.g6").write_bytes(b"\n".join(texts) + b"\n")
    np.save(tmp_path / "bytes.npy", np.array(texts))
    np.save(tmp_path / "rows.npy", np.array([[text.decode()] for text in texts]))
    for name in ("some.g6", "bytes.npy", "rows.npy"):
        for found, graph in zip(graph6_graphs(tmp_path / name), graphs, strict=True):
            assert np.array_equal(found.numpy(), nx.to_numpy_array(graph))


@pytest.mark.parametrize("text", [b"D", b"D?{~", b"\x01", b"D\xff\xff", b"~"])
def test_what_is_no_graph6_is_named(tmp_path, text: bytes) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bad.g6").write_bytes(b"Bw\n" + text)
    with pytest.raises(DataError, match=r"text 1: .* is no graph in graph6"):
        graph6_graphs(tmp_path / "bad.g6")


def test_pickled_arrays_and_missing_files_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "objects.npy", np.array([b"Bw", "Bw"], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no plain array of texts"):
        graph6_graphs(tmp_path / "objects.npy")
    with pytest.raises(DataError, match="no such file"):
        graph6_graphs(tmp_path / "none.g6")


def test_real_lists(shared_data) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data / "expressivity"
    ours = {tuple(adj.sum(0).sort().values.tolist()) for adj in connected_graphs(8)}
    graphs = graph6_graphs(folder / "graph8c.g6")
    assert len(graphs) == len(connected_graphs(8))
    assert {tuple(adj.sum(0).sort().values.tolist()) for adj in graphs} == ours
    family = [tuple(sorted(common_edges(adj))) for adj in graph6_graphs(folder / "sr251256.g6")]
    assert len(family) == 15
    assert {tuple(sorted(common_edges(adj))) for adj in strongly_regular_graphs(25)} < set(family)
    assert len(graph6_graphs(folder / "brec_cfi.npy")) == 200


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


def test_smallest_of_each_family() -> None:
    """A square, an octahedron, K(3, 3, 3), and five nodes that are all joined."""
    assert nx.is_isomorphic(as_networkx(rook_graph(2)), nx.cycle_graph(4))
    assert nx.is_isomorphic(as_networkx(triangular_graph(4)), nx.octahedral_graph())
    latin = latin_square_graph([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    assert nx.is_isomorphic(as_networkx(latin), nx.complete_multipartite_graph(3, 3, 3))
    assert nx.is_isomorphic(as_networkx(skip_link_graph(5, 2)), nx.complete_graph(5))
    assert connected_graphs(1).tolist() == [[[0.0]]]
    with pytest.raises(DataError, match="every row and column"):
        latin_square_graph([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connected_graphs(0), "n = 0: graphs of 1 to 8 nodes"),
        (lambda: connected_graphs(9), "n = 9"),
        (lambda: connected_graphs(3.0), "n = 3.0"),  # type: ignore[arg-type]
        (lambda: rook_graph(1), "at least 2 rows"),
        (lambda: triangular_graph(3), "at least 4 things"),
        (lambda: strongly_regular_graphs(26), "nodes = 26"),
        (lambda: latin_square_graph([[0, 1, 2], [1, 2, 0], [1, 0, 2]]), "every row and column"),
        (lambda: latin_square_graph([[0, 1, 2], [1, 2, 0]]), "every row and column"),
        (lambda: skip_link_graph(41, 21), "skip = 21"),
        (lambda: skip_link_graph(41, 1), "skip = 1"),
        (lambda: cfi_graphs(torch.ones(3, 3)), "zero on the diagonal"),
        (lambda: cfi_graphs(torch.zeros(3, 3)), "no row zero"),
        (lambda: cfi_graphs(torch.ones(3, 2)), "symmetric"),
    ],
)
def test_bad_sizes(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        call()
