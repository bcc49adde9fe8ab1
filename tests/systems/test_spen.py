"""Subgraph permutation equivariant networks: closed forms, known graphs, bad inputs, and protocols."""

import dataclasses
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, one_hot

from erlangen import nn as layers
from erlangen.data import (
    GraphData,
    circular_skip_links,
    connected_graphs,
    drug_like_smiles,
    molecular_graphs,
    tu_graphs,
)
from erlangen.errors import DataError, UnknownNameError
from erlangen.groups import Symmetric
from erlangen.measure import accuracy
from erlangen.nn import SPEN
from erlangen.survey import Run, Sizes, Table
from erlangen.symmetry import Symmetry
from erlangen.systems.graphs.spen import _memory as memory
from erlangen.systems.graphs.spen import experiment as system
from erlangen.systems.graphs.spen.data import (
    BATCH,
    GraphSet,
    batch_size,
    fold_split,
    folds_of,
    has_fused_rings,
    molecules,
    skip_links,
)
from erlangen.systems.graphs.spen.rivals import (
    BatchNormSPEN,
    ColorKernel,
    FromAdjacency,
    GlobalT2,
    NodeNetwork,
    ridge_scores,
)


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


def layer():
    """On adjacency matrices, which are a batch. Edges are on or off, and ego-networks are found by scipy."""

    class SPEN(layers.SPEN):
        def forward(self, x):
            return super().forward(GraphData.from_adjacency(x["adj"]))

    sym = Symmetry(Symmetric(5), input="graph", output="invariant")
    net = SPEN(1, 2, 4, generator=torch.Generator().manual_seed(0))
    skip = ["double_backward", "vmap", "compile"]
    return net, {"adj": connected_graphs(5)[5:15].float()}, {"symmetry": sym, "skip": skip}


LAYERS = {"SPEN": layer}


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
        (lambda: molecules(has_fused_rings, 100).balanced(400, 0), DataError, "ask for fewer"),
        (lambda: folds_of(torch.zeros(9), 10, 0), DataError, "9 graphs, but 10 folds"),
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
        size = batch_size(graphs, graphs + 1)
        for count in (graphs, graphs + 1):
            assert all(part > 1 for part in [min(size, count - k) for k in range(0, count, size)])
        assert BATCH <= size <= BATCH + 4


def test_folds_hold_their_share():
    y = torch.tensor([0] * 33 + [1] * 17)
    fold = folds_of(y, 10, 0)
    assert torch.bincount(fold).tolist() == [5] * 10
    assert set(torch.bincount(fold[y == 1], minlength=10).tolist()) <= {1, 2}
    index = torch.arange(100)[50:]
    splits = [fold_split(torch.cat([y, y]), index, fold, k) for k in range(10)]
    assert torch.cat([split.test[0] for split in splits]).sort().values.tolist() == index.tolist()
    for split, after in zip(splits, [*splits[1:], splits[0]], strict=True):
        assert torch.equal(split.validation[0], after.test[0])
        assert torch.cat([x for x, _ in split]).sort().values.tolist() == index.tolist()
        assert all(torch.equal(torch.cat([y, y])[x], classes) for x, classes in split)


def test_protocols_by_hand():
    """The means over two folds are 60, 75 and 80, so the third epoch counts for both."""
    curves = [[50.0, 90.0, 60.0], [70.0, 60.0, 100.0]]
    rows = [{"model": "a", "seed": k, "curve": curve} for k, curve in enumerate(curves)]
    found = system.best_epochs(Table("toy", rows, Run("full")))
    assert [row["accuracy"] for row in found] == [60.0, 100.0]


def test_standard_errors_over_folds_by_hand():
    """Differences of -1 and -3 have the mean -2 and the standard error 1."""
    accuracies = {"SPEN": (80.0, 60.0), "GIN": (81.0, 63.0), "GCN": (70.0, 70.0)}
    rows = [{"model": m, "seed": k, "accuracy": a} for m, pair in accuracies.items() for k, a in enumerate(pair)]
    claim = system.not_different("toy", "Accuracy", Table("toy", rows, Run("full")), "accuracy")
    assert claim.measured == pytest.approx(-2)
    assert claim.threshold == ">= -2"


def test_balanced_molecules():
    graphs = molecules(has_fused_rings, 60)
    index = graphs.balanced(60, 0)
    y = graphs.data.y[index]
    assert len(index.unique()) == 60
    assert torch.bincount(y).tolist() == [30, 30]
    assert int(y[:30].sum()) not in (0, 30)  # classes are mixed


def test_skip_links_are_learned_from_one_copy_each():
    (adj, kinds), _, (others, answers) = skip_links(Sizes(10, 0, 20), 0)
    assert kinds.tolist() == list(range(10))
    assert torch.bincount(answers).tolist() == [2] * 10
    net = FromAdjacency(layers.SPEN(1, 10, 8, hops=2, generator=torch.Generator().manual_seed(0))).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(net(others), net(adj)[answers])


def test_kernel_ridge_against_its_normal_equations():
    features = torch.randn(12, 5, dtype=torch.float64)
    target = one_hot((features[:8, 0] > 0).long()).double()
    for penalty in system.PENALTIES:
        weights = torch.linalg.solve(
            features[:8].mT @ features[:8] + penalty * torch.eye(5), features[:8].mT @ (target - target.mean(0))
        )
        found = ridge_scores(features @ features.mT, target, penalty)
        torch.testing.assert_close(found, target.mean(0) + features @ weights)


def test_kernel_learns_what_colours_tell():
    graphs = molecules(has_fused_rings, 100)
    split = graphs.split(Sizes(60, 20, 20), 0)
    model = ColorKernel(graphs.data, **graphs.labels)
    model.learn(split, 1e-3)
    assert accuracy(model, *split.train) == 100  # with a small penalty it fits what it learns from
    assert accuracy(model, *split.test) in model.curve


def test_tu_set_in_cross_validation(shared_data: Path):
    data = tu_graphs(shared_data / "tu_graphs" / "MUTAG.txt")
    assert len(data) == 188
    few = torch.arange(0, 188, 6)
    budget = dataclasses.replace(system.BUDGETS["smoke"], folds=3)
    part = system.folds_part(Run(budget=budget), "MUTAG", GraphSet(data), few)
    assert [row["model"] for row in part.rows] == [
        "SPEN",
        "SPEN, batch normalisation",
        "T(2)",
        "GIN",
        "GCN",
        "WL kernel",
    ]
    assert {claim.id for claim in part.claims} == {
        "mutag-folds-standard",
        "mutag-folds-strict",
        "mutag-folds-strict-same-norm",
    }
    assert len(part.runs) == 18


# --- batch normalisation ---------------------------------------------------------------------------------------------
def test_batch_normalisation_is_before_every_activation() -> None:
    """In training mode what an activation reads has mean 0 and variance 1 over the rows of the batch."""
    net = BatchNormSPEN(1, 2, 4, layers=2, generator=torch.Generator().manual_seed(0)).double()
    seen: list[Tensor] = []

    def note(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return torch.relu(x)

    net.activation = note
    net(GraphData.from_adjacency(circular_skip_links((2, 3)).double()))
    assert len(seen) == 3  # pairs, nodes, and the numbers per ego-network
    for x in seen[:2]:
        torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1], dtype=x.dtype), atol=1e-9, rtol=0)
        assert float(x.var(0, unbiased=False).max()) < 1 + 1e-9


def test_batch_normalisation_keeps_the_symmetry() -> None:
    net = BatchNormSPEN(1, 2, 4, layers=2, generator=torch.Generator().manual_seed(0)).double().eval()
    generator = torch.Generator().manual_seed(1)
    adj = torch.triu((torch.rand(2, 9, 9, generator=generator) < 0.4).double(), 1)
    adj = adj + adj.mT
    order = torch.randperm(9, generator=generator)
    answer, renumbered = (net(GraphData.from_adjacency(a)).detach() for a in (adj, adj[:, order][:, :, order]))
    torch.testing.assert_close(renumbered, answer, rtol=1e-12, atol=1e-12)
    assert float((answer[0] - answer[1]).abs().max()) > 1e-6
