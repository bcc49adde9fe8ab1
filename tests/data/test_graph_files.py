"""Graph files against networkx, and against sets written by hand, in which every table holds what can be told apart."""

import networkx as nx
import numpy as np
import pytest
import torch

import erlangen as er
from erlangen.data import (
    GraphData,
    fused_ring_systems,
    graph6_graphs,
    molecular_graphs,
    penalized_logp,
    structural_alerts,
    tu_graphs,
)
from erlangen.errors import ActionError, DataError, DtypeError, ShapeError

# --- graph6 and its kin ----------------------------------------------------------------------------------------------
SIZES = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 62, 63, 64, 70]


def random_graph(n, seed, kind=nx.Graph):
    return nx.gnp_random_graph(n, (0.2, 0.7)[seed % 2], seed=seed, directed=kind is nx.DiGraph)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("form", ["lines", "array", "text array"])
def test_graph6_and_sparse6_as_networkx_writes_them(tmp_path, n, header, form):
    graphs = [random_graph(n, seed) for seed in range(4)]
    write = [nx.to_graph6_bytes, nx.to_sparse6_bytes]
    words = [write[k % 2](graph, header=header) for k, graph in enumerate(graphs)]
    assert words[0].endswith(b"\n")  # as it is kept in arrays
    path = tmp_path / ("graphs.g6" if form == "lines" else "graphs.npy")
    if form == "lines":
        path.write_bytes(b"".join(words))
    else:
        np.save(path, np.array(words if form == "array" else [word.decode() for word in words]))
    for found, graph in zip(graph6_graphs(path), graphs, strict=True):
        assert found.tolist() == nx.to_numpy_array(graph, nodelist=range(n)).tolist()


def test_sparse6_counts_repeated_edges_and_keeps_loops(tmp_path):
    graph = nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 2), (3, 6)])
    graph.add_nodes_from(range(7))
    path = tmp_path / "a.s6"
    path.write_bytes(nx.to_sparse6_bytes(graph))
    [found] = graph6_graphs(path)
    assert found.tolist() == nx.to_numpy_array(graph, nodelist=range(7)).tolist()
    nx.write_sparse6(nx.from_sparse6_bytes(path.read_bytes().strip().removeprefix(b">>sparse6<<")), path)
    assert torch.equal(graph6_graphs(path)[0], found)


def test_sparse6_of_the_description(tmp_path):
    """The example of formats.txt: ":Fa@x^" has 7 nodes and the edges 0-1, 0-2, 1-2, 5-6."""
    (tmp_path / "a.s6").write_bytes(b":Fa@x^\n")
    [adj] = graph6_graphs(tmp_path / "a.s6")
    assert [tuple(edge) for edge in adj.triu().nonzero().tolist()] == [(0, 1), (0, 2), (1, 2), (5, 6)]


def digraph6(adj):
    """By the description: "&", the number of nodes, then all rows."""
    bits = adj.astype(int).reshape(-1)
    bits = np.pad(bits, (0, -len(bits) % 6)).reshape(-1, 6)
    return b"&" + bytes([len(adj) + 63]) + bytes((bits @ [32, 16, 8, 4, 2, 1] + 63).tolist())


@pytest.mark.parametrize("n", [1, 2, 5, 6, 13])
def test_digraph6(tmp_path, n):
    adj = nx.to_numpy_array(random_graph(n, 3, nx.DiGraph), nodelist=range(n))
    (tmp_path / "a.d6").write_bytes(b">>digraph6<<" + digraph6(adj) + b"\r\n" + digraph6(adj.T))
    found = graph6_graphs(tmp_path / "a.d6")
    assert [graph.tolist() for graph in found] == [adj.tolist(), adj.T.tolist()]
    (tmp_path / "b.d6").write_bytes(b"&DI?AO?")  # the example of formats.txt: 0->2, 0->4, 3->1, 3->4
    assert [tuple(edge) for edge in graph6_graphs(tmp_path / "b.d6")[0].nonzero().tolist()] == [
        (0, 2),
        (0, 4),
        (3, 1),
        (3, 4),
    ]


@pytest.mark.parametrize(
    "word", [b":~~~~~~~~", b"~~~~~~~~", b"~~?????~", b":~~~", b"&~", b";Fa@x^", b":", b"&", b"~~", b"~?"]
)
def test_texts_that_claim_too_much_or_end_too_early(tmp_path, word):
    (tmp_path / "a.g6").write_bytes(b"C~\n" + word)
    with pytest.raises(
        DataError, match=r"a\.g6', text 1: .* is no graph in|a\.g6, text 1: .* is no graph in|more than the limit"
    ):
        graph6_graphs(tmp_path / "a.g6")


# --- the TU collection -----------------------------------------------------------------------------------------------
TABLES = {
    # Graph 1 is a triangle 1-2-3, whose edge 1-2 is listed in both directions with labels of its own, 2-3 once, 1-3 twice
    # in one direction. Graph 2 is a lonely node, graph 3 an edge with a loop.
    "A": "1, 2\n2, 1\n2, 3\n3, 1\n3, 1\n5, 6\n6, 6\n",
    "graph_indicator": "1\n1\n1\n2\n3\n3\n",
    "graph_labels": "-1\n1\n-1\n",
    "graph_attributes": "0.5, 10\n1.5, 20\n2.5, 30\n",
    "node_labels": "7\n5\n7\n9\n5\n5\n",
    "node_attributes": "0.25,1\n1,2\n2,3\n3,4\n4,5\n5,6\n",
    "edge_labels": "4\n2\n3\n9\n2\n3\n4\n",
    "edge_attributes": "10\n20\n30\n40\n50\n60\n70\n",
}


def folder_of(path, **tables):
    for kind, text in (TABLES | tables).items():
        if text is not None:
            (path / f"SET_{kind}.txt").write_text(text)
    return path


def edges_of(data, values):
    return {tuple(edge): value for edge, value in zip(data.edge_index.T.tolist(), values.tolist(), strict=True)}


def test_every_table_is_read(tmp_path):
    data = tu_graphs(folder_of(tmp_path))
    assert data.y.tolist() == [0, 1, 0]
    assert data.graph_attributes.tolist() == [[0.5, 10], [1.5, 20], [2.5, 30]]
    assert data.node_labels.tolist() == [1, 0, 1, 2, 0, 0]
    assert data.node_attributes.tolist() == [[0.25, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6]]
    # Both directions of 1-2 keep their own; a direction that is not listed has that of the other; of 3-1 the first counts.
    wanted = {(0, 1): 2, (1, 0): 0, (1, 2): 1, (2, 1): 1, (2, 0): 3, (0, 2): 3, (4, 5): 1, (5, 4): 1}
    assert edges_of(data, data.edge_labels) == wanted
    by_edge = edges_of(data, data.edge_attributes[:, 0])
    assert by_edge == {(0, 1): 10, (1, 0): 20, (1, 2): 30, (2, 1): 30, (2, 0): 40, (0, 2): 40, (4, 5): 60, (5, 4): 60}


def test_attributes_follow_their_graphs(tmp_path):
    data = tu_graphs(folder_of(tmp_path))[[2, 0, 2]]
    assert data.graph_attributes[:, 0].tolist() == [2.5, 0.5, 2.5]
    assert data.node_attributes[:, 0].tolist() == [4, 5, 0.25, 1, 2, 4, 5]
    assert data.edge_attributes[:, 0].tolist() == [60, 60, 10, 40, 20, 30, 40, 30, 60, 60]


def test_regression_sets_have_targets(tmp_path):
    data = tu_graphs(folder_of(tmp_path, graph_labels=None))
    assert data.y.tolist() == [[0.5, 10], [1.5, 20], [2.5, 30]]
    (tmp_path / "SET_graph_attributes.txt").write_text("-0.5\n1e-3\n2\n")
    torch.testing.assert_close(tu_graphs(tmp_path).y, torch.tensor([-0.5, 1e-3, 2]))
    (tmp_path / "SET_graph_attributes.txt").unlink()
    with pytest.raises(DataError, match=r"neither SET_graph_labels\.txt nor SET_graph_attributes\.txt"):
        tu_graphs(tmp_path)


def test_labels_of_several_columns(tmp_path):
    """Equal rows are one label, and no column is lost: rows (1, 2), (1, 3), (2, 2) in this order."""
    data = tu_graphs(folder_of(
        tmp_path, node_labels="1,3\n1,2\n2,2\n1,2\n1,3\n2,2\n", graph_labels="5,1\n3,1\n5,0\n",
        edge_labels="1,3\n1,2\n2,2\n1,2\n1,2\n1,3\n1,3\n",
    ))  # fmt: skip
    assert data.node_labels.tolist() == [1, 0, 2, 0, 1, 2]
    assert data.y.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert edges_of(data, data.edge_labels)[0, 1] == 1
    assert edges_of(data, data.edge_labels)[1, 0] == 0


def test_sets_without_edges_labels_or_graphs(tmp_path):
    data = tu_graphs(
        folder_of(tmp_path, A="", edge_labels="", edge_attributes="\n", node_labels=None, node_attributes=None)
    )
    assert (len(data), data.edge_index.shape, data.sizes.tolist()) == (3, (2, 0), [3, 1, 2])
    assert data.node_attributes.shape == (6, 0)
    assert data.node_labels.tolist() == [0] * 6
    empty = tu_graphs(folder_of(tmp_path, **dict.fromkeys(TABLES, "")))
    assert (len(empty), len(empty.batch)) == (0, 0)
    assert len(empty[[]]) == 0


def test_numbers_as_other_programs_write_them(tmp_path):
    data = tu_graphs(folder_of(tmp_path, graph_labels="1.0\n-1.0\n1e0\n", node_attributes="1,2,\n" * 6))
    assert data.y.tolist() == [1, 0, 1]
    assert data.node_attributes.shape == (6, 2)
    with pytest.raises(DataError, match=r"SET_graph_labels\.txt cannot be read as integers.*'1\.5' is no integer"):
        tu_graphs(folder_of(tmp_path, graph_labels="1.5\n1\n1\n"))
    with pytest.raises(DataError, match=r"SET_node_labels\.txt has 2 rows of 1 numbers, which does not fit"):
        tu_graphs(folder_of(tmp_path, graph_labels="1\n1\n1\n", node_labels="1\n1\n"))
    with pytest.raises(DataError, match="an edge names a node that does not exist; there are 6"):
        tu_graphs(folder_of(tmp_path, A=TABLES["A"].replace("6, 6", "6, 7")))


def test_the_single_file_keeps_attributes(tmp_path):
    path = tmp_path / "set.txt"
    path.write_text("2\n2 1\n3 1 1 0.5 -2\n4 1 0 1.5 7e-1\n1 0\n3 0 2 3\n")
    data = tu_graphs(path)
    torch.testing.assert_close(data.node_attributes, torch.tensor([[0.5, -2], [1.5, 0.7], [2, 3]]))
    assert data.y.tolist() == [1, 0]
    path.write_text("1\n2 1\n3 1 1 0.5\n4 1 0\n")
    with pytest.raises(DataError, match="some nodes have 1 attributes and some 0"):
        tu_graphs(path)
    path.write_text("1\n1 1\n3 0\n1 0\n3 0\n")
    with pytest.raises(DataError, match="goes on after its 1 graphs"):
        tu_graphs(path)


# --- edges to nodes that do not exist --------------------------------------------------------------------------------
@pytest.mark.parametrize(("edge", "named"), [(5, "node 5"), (-1, "node -1"), (2**40, "node 1099511627776")])
@pytest.mark.parametrize("batched", [False, True])
def test_graphs_with_an_edge_to_nowhere_are_not_moved(edge, named, batched):
    sym = er.Symmetry("Symmetric(5)", input="graph", output="invariant")
    g = sym.group.sample(3, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[0, 1], [1, edge]])
    index = index.expand(3, 2, 2) if batched else index
    with pytest.raises(ActionError, match=f"edge_index names {named}, and there are 5, numbered from 0"):
        sym.input.act(g if batched else g[0], {"edge_index": index})


def test_edges_of_another_kind_are_named():
    sym = er.Symmetry("Symmetric(5)", input="graph", output="invariant")
    g = sym.group.sample(1)[0]
    with pytest.raises(DtypeError, match=r"edge_index has dtype torch\.int32; pass int64"):
        sym.input.act(g, {"edge_index": torch.zeros(2, 3, dtype=torch.int32)})
    with pytest.raises(ShapeError, match=r"edge_index has shape \(3, 2\); pass"):
        sym.input.act(g, {"edge_index": torch.zeros(3, 2).long()})


@pytest.mark.parametrize("edge", [3, -1, 2**40])
def test_graph_data_with_an_edge_to_nowhere(edge):
    zeros = [torch.zeros(n).long() for n in (3, 3, 2, 1)]
    with pytest.raises(DataError, match=r"edge_index names the nodes .*, and there are 3, numbered from 0"):
        GraphData(torch.tensor([[0, 1], [1, edge]]), *zeros)
    with pytest.raises(ShapeError, match=r"edge_attributes has shape \(3, 1\); pass \[2, F\]"):
        GraphData(torch.tensor([[0, 1], [1, 2]]), *zeros, edge_attributes=torch.zeros(3, 1))


# --- molecules -------------------------------------------------------------------------------------------------------
def test_isotopes_salts_and_hydrogen():
    pytest.importorskip("rdkit")
    data = molecular_graphs(["[2H]C", "C", "[13CH4]", "CC.O", "[2H]OC([2H])([2H])C", "C[NH3+]"])
    assert data.sizes.tolist() == [1, 1, 1, 3, 3, 2]
    assert data.edge_counts.tolist() == [0, 0, 0, 2, 4, 2]
    assert data.node_labels.tolist() == [0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 1]
    with pytest.raises(DataError, match=r"'\[Na\+\]\.\[Cl-\]': the element Na is not known here; known are C, N, O"):
        molecular_graphs(["[Na+].[Cl-]"])
    with pytest.raises(DataError, match=r"'\[H\]\[H\]' has no atom but hydrogen"):
        molecular_graphs(["C", "[H][H]"])


@pytest.mark.parametrize("call", [molecular_graphs, structural_alerts, fused_ring_systems, penalized_logp])
def test_what_is_no_text_is_named(call):
    pytest.importorskip("rdkit")
    for odd, kind in ((None, "NoneType"), (float("nan"), "float"), (b"C", "bytes"), (3, "int")):
        with pytest.raises(DataError, match=rf"smiles\[1\] = .* is a {kind}; pass texts"):
            call(["C", odd])


def test_no_molecules_at_all():
    pytest.importorskip("rdkit")
    data = molecular_graphs([])
    assert (len(data), data.edge_index.shape, len(data.batch)) == (0, (2, 0), 0)
    assert (structural_alerts([]).shape, structural_alerts([]).dtype) == ((0,), torch.bool)
    assert (fused_ring_systems([]).shape, fused_ring_systems([]).dtype) == ((0,), torch.int64)
    assert (penalized_logp([]).shape, penalized_logp([]).dtype) == ((0,), torch.float64)
    assert structural_alerts(np.array(["CCO"])).tolist() == [False]
