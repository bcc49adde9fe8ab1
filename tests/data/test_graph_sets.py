"""Sets of graphs and molecules: indexing against networkx, both forms of the TU collection, chemistry that is known."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from erlangen.data import (
    GraphData,
    drug_like_smiles,
    fused_ring_systems,
    molecular_graphs,
    penalized_logp,
    structural_alerts,
    tu_graphs,
)
from erlangen.errors import DataError, DtypeError, ShapeError, UnknownNameError

FILE = """2
3 1
5 2 1 2
7 1 0
5 1 0
2 -1
7 1 1
9 1 0
"""
"""A path of three nodes whose middle comes first, and an edge."""


def random_graphs(count: int = 5) -> list[nx.Graph]:
    return [nx.gnp_random_graph(3 + k, 0.5, seed=k) for k in range(count)]


def collected(graphs: list[nx.Graph]) -> GraphData:
    first, edges, labels = 0, [], []
    for graph in graphs:
        pairs = [(first + a, first + b) for a, b in graph.edges]
        edges += pairs + [pair[::-1] for pair in pairs]
        labels += 2 * [a + b for a, b in graph.edges]
        first += len(graph)
    sizes = torch.tensor([len(graph) for graph in graphs])
    return GraphData(
        torch.tensor(edges).T,
        torch.arange(len(graphs)).repeat_interleave(sizes),
        torch.cat([torch.arange(n) for n in sizes.tolist()]),
        torch.tensor(labels),
        torch.arange(len(graphs)),
    )


def test_indexing_and_dense_form_against_networkx() -> None:
    graphs = random_graphs()
    data = collected(graphs)
    rows = [3, 0, 3, 4]
    dense = data[torch.tensor(rows)].dense()
    assert data[rows].y.tolist() == rows
    for adj, labels, mask, row in zip(*dense, rows, strict=True):
        n = len(graphs[row])
        want = torch.zeros(n, n, dtype=torch.int64)
        for a, b in graphs[row].edges:
            want[a, b] = want[b, a] = 1 + a + b
        assert torch.equal(adj[:n, :n], want)
        assert not adj[n:].any()
        assert not adj[:, n:].any()
        assert labels[:n].tolist() == list(range(n))
        assert mask.tolist() == [True] * n + [False] * (len(mask) - n)


def test_slices_and_masks_select_alike() -> None:
    data = collected(random_graphs())
    mask = torch.tensor([False, True, True, False, False])
    for field in ("edge_index", "batch", "node_labels", "edge_labels", "y"):
        assert torch.equal(getattr(data[1:3], field), getattr(data[mask], field))
    assert len(data[[]]) == 0
    assert data[[]].dense().adj.shape == (0, 0, 0)


def test_one_hot_names_what_is_too_small() -> None:
    data = collected(random_graphs())
    assert data.one_hot(7).argmax(1).tolist() == data.node_labels.tolist()
    with pytest.raises(DataError, match="labels = 3"):
        data.one_hot(3)


def test_adjacency_matrices_come_back_with_their_directions() -> None:
    adj = (torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    data = GraphData.from_adjacency(adj)
    assert torch.equal(data.dense().adj.float(), adj)
    assert data.sizes.tolist() == [5] * 4
    with pytest.raises(ShapeError, match=r"\[G, n, n\]"):
        GraphData.from_adjacency(adj[0])


def broken(**change: torch.Tensor) -> GraphData:
    fields = {
        "edge_index": torch.tensor([[0, 1], [1, 0]]),
        "batch": torch.tensor([0, 0, 1]),
        "node_labels": torch.zeros(3).long(),
        "edge_labels": torch.zeros(2).long(),
        "y": torch.zeros(2),
    }
    return GraphData(**{**fields, **change})


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"edge_index": torch.tensor([[0, 1], [1, 2]])}, DataError, "between two graphs"),
        ({"edge_index": torch.tensor([[0, 1], [1, 3]])}, DataError, "does not exist"),
        ({"batch": torch.tensor([0, 1, 0])}, DataError, "between two graphs"),
        ({"batch": torch.tensor([1, 1, 0])}, DataError, "ascending"),
        ({"batch": torch.tensor([0, 0, 2])}, DataError, "y has 2 rows"),
        ({"node_labels": torch.tensor([0, -1, 0])}, DataError, "node_labels"),
        ({"edge_labels": torch.zeros(3).long()}, ShapeError, "edge_labels"),
        ({"node_labels": torch.zeros(3)}, DtypeError, "node_labels"),
    ],
    ids=["between", "beyond", "mixed", "descending", "graphs", "negative", "shape", "dtype"],
)
def test_bad_graphs_are_named(change: dict[str, torch.Tensor], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        broken(**change)


def test_both_forms_of_the_tu_collection_agree(tmp_path) -> None:
    file = tmp_path / "toy.txt"
    file.write_text(FILE)
    folder = tmp_path / "TOY"
    folder.mkdir()
    tables = {
        "A": "1, 2\n2, 1\n1, 3\n3, 1\n4, 5\n5, 4\n5, 5\n",
        "graph_indicator": "1\n1\n1\n2\n2\n",
        "graph_labels": "1\n-1\n",
        "node_labels": "5\n7\n5\n7\n9\n",
    }
    for kind, text in tables.items():
        (folder / f"TOY_{kind}.txt").write_text(text)
    one, other = tu_graphs(file), tu_graphs(folder)
    assert one.y.tolist() == [1, 0]
    assert one.node_labels.tolist() == [0, 1, 0, 1, 2]
    assert one.edge_index.tolist() == [[0, 0, 1, 2, 3, 4], [1, 2, 0, 0, 4, 3]]
    for field in ("edge_index", "batch", "node_labels", "edge_labels", "y"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1\n2 0\n0 1 1\n", "ends too early"),
        ("1\n1 0\n0 1 3\n", "node 0"),
        ("one\n", "line 1"),
        ("1\n1 0\n0 2 0\n", "node 0"),
    ],
    ids=["short", "beyond", "words", "missing"],
)
def test_damaged_tu_files_are_named(tmp_path, text: str, word: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(DataError, match=word):
        tu_graphs(tmp_path / "bad.txt")
    with pytest.raises(DataError, match="no such"):
        tu_graphs(tmp_path / "none.txt")
    with pytest.raises(DataError, match="0 files"):
        tu_graphs(tmp_path)


def test_mutag_has_its_published_numbers(shared_data) -> None:
    data = tu_graphs(shared_data / "tu_graphs" / "MUTAG.txt")
    assert (len(data), data.y.bincount().tolist(), int(data.node_labels.max())) == (188, [63, 125], 6)
    assert float(data.sizes.float().mean()) == pytest.approx(17.93, abs=0.01)
    assert float(data.edge_counts.float().mean() / 2) == pytest.approx(19.79, abs=0.01)


# --- molecules --------------------------------------------------------------------------------------------------------
def test_molecules_are_the_graphs_that_chemistry_knows() -> None:
    data = molecular_graphs(["c1ccccc1O", "CC#N", "[Na+].[Cl-]".replace("[Na+]", "C")], torch.arange(3.0))
    assert data.sizes.tolist() == [7, 3, 2]
    assert data.edge_counts.tolist() == [14, 4, 0]
    assert data.node_labels.tolist() == [0] * 6 + [2, 0, 0, 1, 0, 5]
    assert data[[0]].edge_labels.bincount().tolist() == [2, 0, 0, 12]
    assert sorted(data[[1]].edge_labels.tolist()) == [0, 0, 2, 2]


def test_rings_alerts_and_logp() -> None:
    smiles = ["c1ccccc1", "c1ccc2ccccc2c1", "c1ccc2ccccc2c1.C1CC2CCC1C2", "C1CC12CC2", "C1CCCCCCC1"]
    assert fused_ring_systems(smiles).tolist() == [0, 1, 2, 1, 0]
    # A nitro group is on Brenk's list, phenol is not.
    assert structural_alerts(["c1ccccc1[N+](=O)[O-]", "c1ccccc1O"]).tolist() == [True, False]
    value = penalized_logp(smiles)
    assert value.dtype == torch.float64
    assert float(value.mean()) == pytest.approx(0, abs=1e-12)
    # Cyclooctane has the only ring beyond six atoms: two too many, which costs it the most.
    without = penalized_logp(smiles[:4])
    assert float(value[4]) < float(without.max())


def test_committed_molecules_can_be_read() -> None:
    smiles = drug_like_smiles()
    assert len(set(smiles)) == len(smiles) == 8000
    data = molecular_graphs(drug_like_smiles(200))
    assert 20 < float(data.sizes.float().mean()) < 23


def test_bad_molecules_are_named() -> None:
    with pytest.raises(DataError, match=r"smiles\[1\] = 'C\('"):
        molecular_graphs(["C", "C("])
    with pytest.raises(DataError, match="pass a list"):
        molecular_graphs("CC")
    with pytest.raises(DataError, match="Pt"):
        molecular_graphs(["[Pt]"])
    with pytest.raises(DataError, match="y has 1 rows"):
        molecular_graphs(["C", "C"], torch.zeros(1))
    with pytest.raises(UnknownNameError, match="BRENK"):
        structural_alerts(["C"], "brenk")
    with pytest.raises(DataError, match="count = 9000"):
        drug_like_smiles(9000)
