"""Subgraph permutation equivariant networks: closed forms, known graphs, bad inputs, protocols, and the smoke run."""

import dataclasses
import math
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch.nn.functional import elu

from erlangen.data import GraphData, connected_graphs, drug_like_smiles, molecular_graphs
from erlangen.errors import DataError, ErlangenError, ErlangenWarning, UnknownNameError
from erlangen.groups import Symmetric
from erlangen.survey.claims import Result
from erlangen.survey.ledger import discover_systems, run
from erlangen.symmetry import Symmetry
from erlangen.systems.graphs import _ego_networks as network
from erlangen.systems.graphs import _families as families
from erlangen.systems.graphs import _spen_learning as learning
from erlangen.systems.graphs import _spen_memory as memory
from erlangen.systems.graphs import spen as system
from erlangen.systems.graphs.spen import SPEN, GlobalT2, NodeNetwork, spen_separator
from erlangen.testing import check_layer


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
def test_input_features_by_hand():
    data = graph([(0, 1), (1, 2)], 3, labels=[1, 0, 1], kinds=[0, 1])
    net = SPEN(2, 1, 4, edge_labels=2).double()
    subgraphs = net.subgraphs(data)
    found = network.pair_features(data, subgraphs.pairs, 2, 2, net)
    table = {tuple(pair): row.tolist() for pair, row in zip(subgraphs.pairs.T.tolist(), found, strict=True)}
    half = math.sqrt(0.5)
    assert table[0, 0] == [0, 0, 1, 0, 0]
    assert table[1, 1] == [0, 1, 0, 0, 0]
    assert table[0, 1] == pytest.approx([half, 0, 0, 1, 0])
    assert table[2, 1] == pytest.approx([half, 0, 0, 0, 1])
    assert table[0, 2] == [0] * 5  # both are in the ego-network of node 1


@pytest.mark.parametrize("hidden", [("adj", "x"), ("adj",), ("x",)])
@pytest.mark.parametrize("per_node", [False, True])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_renumbering(hidden, per_node, dtype, tol):
    edges = list(nx.gnp_random_graph(12, 0.3, seed=1).edges)
    order = torch.randperm(12).tolist()
    data = graph(edges, 12, labels=[k % 3 for k in range(12)])
    old = {new: k for k, new in enumerate(order)}
    moved = graph([(order[u], order[v]) for u, v in edges], 12, labels=[old[k] % 3 for k in range(12)])
    net = SPEN(3, 4, 8, sizes=(4, 5), hidden=hidden, per_node=per_node).to(dtype).eval()
    with torch.no_grad():
        out, other = net(data), net(moved)
    assert out.dtype == dtype
    assert out.shape == ((12 if per_node else 1), 4)
    assert float((out - (other[order] if per_node else other)).abs().max()) <= tol * float(out.abs().max())


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


def test_batch_norm_reads_only_what_exists():
    norm, x = torch.nn.BatchNorm1d(2).double(), torch.randn(2, 3, 2, dtype=torch.float64)
    exists = torch.tensor([[True, True, False], [True, False, False]])
    out = network.padded_norm(norm, x, exists)
    rows = x[exists]
    torch.testing.assert_close(out[exists], (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt())
    assert float(out[~exists].detach().abs().max()) == 0


def test_separator_keeps_the_contract():
    adj = connected_graphs(5)[5:15].double()
    sym = Symmetry(Symmetric(5), input="graph", output="invariant")

    class OnGraphs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = spen_separator(1, 0)

        def forward(self, x):
            return self.net(x["adj"])

    # Edges are on or off, so there are no gradients; ego-networks are found by scipy; the answer is float64 always.
    skip = ["gradient", "double_backward", "vmap", "compile", "dtype"]
    check_layer(OnGraphs(), {"adj": adj}, sym, skip=skip)


# --- bad input -------------------------------------------------------------------------------------------------------
def test_isolated_nodes_and_sizes_never_seen():
    net = SPEN(1, 2, 4, sizes=(2, 3), per_node=True).eval()
    out = net(graph([(0, 1)], 4))  # sizes 2, 2, 1, 1: the last are of no size that has weights
    torch.testing.assert_close(out[2], out[3])
    assert bool(torch.isfinite(net(graph([(0, k) for k in range(1, 9)], 9))).all())


def test_empty_batch_and_empty_graph():
    for net in (SPEN(1, 2, 4), GlobalT2(1, 2, 4)):
        assert net.eval()(PATH[[]]).shape == (0, 2)
        empty = dataclasses.replace(PATH, y=torch.zeros(2, dtype=torch.int64))
        with pytest.raises(DataError, match="graph 1 of the batch has no nodes"):
            net(empty)


def test_directed_graphs():
    one_way = GraphData(
        torch.tensor([[0, 1, 1], [1, 0, 2]]), torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(3).long(), torch.zeros(1)
    )  # fmt: skip
    with pytest.raises(DataError, match="edge 1 -> 2 has no reverse"):
        SPEN(1, 2, 4)(one_way)
    out = SPEN(1, 2, 4, undirected=False).eval()(one_way)
    assert bool(torch.isfinite(out).all())


def test_hubs_are_announced():
    star = graph([(0, k) for k in range(1, 12)], 12)
    with pytest.warns(ErlangenWarning, match=r"12 nodes, more than limit = 10: .* 12\^2 x"):
        SPEN(1, 2, 4, limit=10)(star)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SPEN(1, 2, hops=0), ErlangenError, "hops = 0"),
        (lambda: SPEN(1, 2, layers=1), ErlangenError, "layers = 0"),
        (lambda: SPEN(1, 2, hidden=("y",)), ErlangenError, "give some of adj, x"),
        (lambda: SPEN(1, 2, hidden=()), ErlangenError, "give some of adj, x"),
        (lambda: SPEN(1, 2)(graph([(0, 1)], 2, labels=[0, 1])), DataError, "label 1"),
        (lambda: SPEN(1, 2, edge_labels=2)(graph([(0, 1)], 2, kinds=[2])), DataError, "an edge has the label 2"),
        (lambda: NodeNetwork("GAT", 1, 2), UnknownNameError, "GIN, GCN"),
        (lambda: learning.ring_molecules(8000, 0), DataError, "ask for fewer"),
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- separation ------------------------------------------------------------------------------------------------------
def test_known_graphs():
    for adj, wanted in (
        (families.decalin_and_bicyclopentyl(), [nx.Graph(nx.cycle_graph(10)), None]),
        (families.two_triangles_and_hexagon(), [nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.cycle_graph(6)]),
    ):  # fmt: skip
        if wanted[1] is None:
            wanted[0].add_edge(0, 5)
            wanted[1] = nx.disjoint_union(nx.cycle_graph(5), nx.cycle_graph(5))
            wanted[1].add_edge(0, 5)
        for matrix, expected in zip(adj, wanted, strict=True):
            assert nx.is_isomorphic(nx.from_numpy_array(matrix.numpy()), expected)
    for matrix, skip in zip(families.circular_skip_links(), families.SKIPS, strict=True):
        assert nx.is_isomorphic(nx.from_numpy_array(matrix.numpy()), nx.circulant_graph(41, [1, skip]))


# --- memory ----------------------------------------------------------------------------------------------------------
def test_peaks_of_known_programs():
    x = torch.ones(1000, requires_grad=True)
    with memory.Allocations() as found:
        y = x.detach().exp()
        z = y + 1
        del y
        w = z.view(10, 100).T
        z = w.contiguous()
    assert found.peak == 2 * 4000
    assert z.shape == (100, 10)
    assert 2 * 4000 <= memory.peak_bytes(lambda: x.exp()) <= 3 * 4000 + 64


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
