"""Subgraph permutation equivariant networks: closed forms, known graphs, bad inputs, protocols, and the smoke run."""

import dataclasses
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch.nn.functional import elu

from erlangen.data import GraphData, drug_like_smiles, molecular_graphs
from erlangen.errors import DataError, UnknownNameError
from erlangen.survey.claims import Result
from erlangen.survey.ledger import discover_systems, run
from erlangen.systems.graphs import _spen_learning as learning
from erlangen.systems.graphs import _spen_memory as memory
from erlangen.systems.graphs import spen as system
from erlangen.systems.graphs.spen import SPEN, GlobalT2, NodeNetwork


def graph(edges, nodes, labels=None, kinds=None):
    """One undirected graph."""
    both = [*edges, *((v, u) for u, v in edges)]
    return GraphData(
        torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T,
        torch.zeros(nodes, dtype=torch.int64),
        torch.tensor(labels or [0] * nodes),
        torch.tensor((kinds or [0] * len(edges)) * 2, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
    )


PATH = graph([(0, 1), (1, 2)], 3)


# --- the experiment --------------------------------------------------------------------------------------------------
def test_smoke_run():
    assert discover_systems()["spen"] == "erlangen.systems.graphs.spen"
    entry = run("spen", "smoke", 0)
    holds = {claim["id"]: claim["holds"] for claim in entry["claims"]}
    assert holds.pop("published-benchmarks") is None
    trained = [name for name in holds if "-not-below-" in name or "-folds-" in name]
    for name in trained:
        assert holds.pop(name) in (True, False)  # a few steps of training settle nothing
    assert len(trained) == 6
    assert [name for name, verdict in holds.items() if not verdict] == []
    for part in ("molecules", "cross-validation"):
        models = {row["model"] for row in entry["rows"] if row["part"] == part}
        assert models == {*learning.MODELS, "WL kernel"}
    memory, accuracy = system.figure(Result.from_dict(entry)).axes
    assert len(memory.lines) == 2
    assert "WL kernel" in [label.get_text() for label in accuracy.get_yticklabels()]


def test_tu_set_in_cross_validation(shared_data: Path):
    data = system.tu_graphs(shared_data / "tu_graphs" / "MUTAG.txt")
    assert len(data) == 188
    few = data[torch.arange(0, 188, 6)]
    rows = learning.fold_rows("MUTAG", few, 1, 3, 0)
    assert [row["model"] for row in rows] == [*learning.MODELS, "WL kernel"]
    assert {claim.id for claim in learning.fold_claims(rows)} == {"mutag-folds-standard", "mutag-folds-strict"}


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["SPEN", "T(2)", "GIN", "GCN"])
def test_answers_do_not_depend_on_the_batch(kind):
    data = molecular_graphs([*drug_like_smiles(6), "C", "CC"])
    net = {
        "SPEN": lambda: SPEN(12, 2, 8, edge_labels=4, sizes=(3,)),
        "T(2)": lambda: GlobalT2(12, 2, 8, edge_labels=4),
    }.get(kind, lambda: NodeNetwork(kind, 12, 2, 8, edge_labels=4))()
    net.double()(data)  # running means of batch normalisation are not what they begin with
    net.eval()
    alone = torch.cat([net(data[[k]]) for k in range(len(data))])
    torch.testing.assert_close(alone, net(data), rtol=1e-12, atol=1e-12)


def test_everything_reached_is_the_global_network():
    """With one set of weights and without norms, ego-networks of the whole graph are the network on all pairs."""
    data = graph(list(nx.lollipop_graph(4, 2).edges), 6)
    ours = SPEN(1, 3, 5, hops=6, norm=False, generator=torch.Generator().manual_seed(0)).double().eval()
    theirs = GlobalT2(1, 3, 5, norm=False, activation=elu, generator=torch.Generator().manual_seed(0)).double().eval()
    torch.testing.assert_close(ours(data), theirs(data), rtol=1e-12, atol=1e-12)


# --- bad input -------------------------------------------------------------------------------------------------------
def test_empty_batch_and_empty_graph():
    for net in (SPEN(1, 2, 4), GlobalT2(1, 2, 4)):
        assert net.eval()(PATH[[]]).shape == (0, 2)
        empty = dataclasses.replace(PATH, y=torch.zeros(2, dtype=torch.int64))
        with pytest.raises(DataError, match="graph 1 of the batch has no nodes"):
            net(empty)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NodeNetwork("GAT", 1, 2), UnknownNameError, "GIN, GCN"),
        (lambda: learning.ring_molecules(8000, 0), DataError, "ask for fewer"),
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- memory ----------------------------------------------------------------------------------------------------------
def test_slopes():
    assert memory.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    rows = [{"nodes": n, "SPEN": 5.0 * n} for n in (10, 20)]
    assert memory.extrapolated(rows, "SPEN", 40) == pytest.approx(200 * 2**20)


# --- learning --------------------------------------------------------------------------------------------------------
def test_no_batch_has_one_graph_alone():
    for graphs in range(2, 200):
        size = learning.batch_size(graphs)
        assert all(part > 1 for part in [min(size, graphs - k) for k in range(0, graphs, size)])
        assert learning.BATCH <= size <= learning.BATCH + 2


def test_folds_hold_their_share():
    y = torch.tensor([0] * 33 + [1] * 17)
    fold = learning.folds_of(y, 10, 0)
    assert torch.bincount(fold).tolist() == [5] * 10
    assert set(torch.bincount(fold[y == 1], minlength=10).tolist()) <= {1, 2}


def test_protocols_by_hand():
    tested, held = [[50.0, 90.0, 60.0], [70.0, 60.0, 100.0]], [[0.0, 1.0, 2.0], [3.0, 2.0, 1.0]]
    assert learning.protocols(tested, held) == ([60.0, 100.0], [60.0, 70.0])


def test_balanced_molecules():
    data = learning.ring_molecules(60, 0)
    assert torch.bincount(data.y).tolist() == [30, 30]
    assert int(data.y[:30].sum()) not in (0, 30)  # classes are mixed


def test_kernel_ridge_against_its_normal_equations():
    features = torch.randn(12, 5, dtype=torch.float64)
    y, train, others = (features[:, 0] > 0).long(), torch.arange(8), torch.arange(8, 12)
    answers = learning.kernel_answers([features @ features.mT], y, train, others)
    target = torch.nn.functional.one_hot(y[train]).double()
    for answer, penalty in zip(answers, learning.PENALTIES, strict=True):
        weights = torch.linalg.solve(
            features[train].mT @ features[train] + penalty * torch.eye(5),
            features[train].mT @ (target - target.mean(0)),
        )
        assert torch.equal(answer, (target.mean(0) + features[others] @ weights).argmax(-1))
