"""SPEN: features by hand, renumbered graphs, random networks as separators, and bad input."""

import math

import networkx as nx
import pytest
import torch

from erlangen.data import GraphData, connected_graphs
from erlangen.errors import DataError, ErlangenError, ErlangenWarning
from erlangen.groups import Symmetric
from erlangen.nn import SPEN, spen_separator
from erlangen.nn.graph_inputs import padded_norm, pair_features
from erlangen.symmetry import Symmetry
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


def test_input_features_by_hand():
    data = graph([(0, 1), (1, 2)], 3, labels=[1, 0, 1], kinds=[0, 1])
    net = SPEN(2, 1, 4, edge_labels=2).double()
    subgraphs = net.subgraphs(data)
    found = pair_features(data, subgraphs.pairs, 2, 2, net)
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


def test_batch_norm_reads_only_what_exists():
    norm, x = torch.nn.BatchNorm1d(2).double(), torch.randn(2, 3, 2, dtype=torch.float64)
    exists = torch.tensor([[True, True, False], [True, False, False]])
    out = padded_norm(norm, x, exists)
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
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()
