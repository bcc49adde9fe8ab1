"""Layers on sub-graphs: ego-networks by networkx, merging by a loop, whole graphs by the layer on all pairs."""

import networkx as nx
import pytest
import torch
from torch import nn

from erlangen.errors import DtypeError, ErlangenError, ShapeError
from erlangen.groups import Symmetric
from erlangen.nn import PermutationLinear, SubgraphLinear, ego_subgraphs, whole_graphs
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

F64 = torch.float64


def batch_of(graphs):
    """Edges, graphs of nodes, and their number, of networkx graphs."""
    joined = nx.disjoint_union_all(graphs)
    edges = torch.tensor([*joined.edges, *((v, u) for u, v in joined.edges)], dtype=torch.int64).reshape(-1, 2).T
    return edges, torch.arange(len(graphs)).repeat_interleave(torch.tensor([len(g) for g in graphs])), len(graphs)


def random_graphs(count, nodes=9):
    return [nx.gnp_random_graph(nodes, 0.25, seed=k) for k in range(count)]


def randn(*shape, dtype=F64):
    return torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_ego_networks_are_those_of_networkx(hops):
    graphs = random_graphs(70)
    edges, batch, count = batch_of(graphs)
    found = ego_subgraphs(edges, batch, count, hops)
    members = found.members.split(found.sizes.tolist())
    rows = found.rows.split(found.sizes.square().tolist())
    for k, graph in enumerate(graphs):
        for node in graph:
            mine = members[9 * k + node]
            assert (mine - 9 * k).tolist() == sorted(nx.ego_graph(graph, node, hops))
            assert found.pairs[:, rows[9 * k + node]].T.tolist() == torch.cartesian_prod(mine, mine).tolist() or (
                len(mine) == 1 and found.pairs[:, rows[9 * k + node]].T.tolist() == [[int(mine), int(mine)]]
            )


def test_merging_is_the_mean_of_a_loop():
    edges, batch, count = batch_of(random_graphs(4))
    found = ego_subgraphs(edges, batch, count)
    layer = SubgraphLinear({"adj": 2, "x": 3}, {"adj": 2, "x": 1, "y": 2}, sizes=(2, 3)).double()
    x = {"adj": randn(found.pairs.shape[1], 2), "x": randn(len(batch), 3)}
    out = layer(x, found)
    number = {tuple(pair): k for k, pair in enumerate(found.pairs.T.tolist())}
    sums = {key: torch.zeros_like(value) for key, value in out.items()}
    times = {key: torch.zeros(len(value), 1, dtype=F64) for key, value in out.items()}
    for s, members in enumerate(found.members.split(found.sizes.tolist())):
        rows = torch.tensor([[number[int(u), int(v)] for v in members] for u in members])
        weights = layer.maps[str(len(members)) if len(members) in (2, 3) else "other"]
        part = weights({"adj": x["adj"][rows], "x": x["x"][members]})
        for key, index in (("adj", rows), ("x", members), ("y", torch.tensor(s))):
            sums[key][index] += part[key]
            times[key][index] += 1
    for key, value in out.items():
        torch.testing.assert_close(value, sums[key] / times[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("build", ["whole", "far"])
def test_whole_graphs_give_the_layer_on_all_pairs(build):
    graphs = [nx.cycle_graph(5), nx.path_graph(3)]
    edges, batch, count = batch_of(graphs)
    found = whole_graphs(batch, count) if build == "whole" else ego_subgraphs(edges, batch, count, hops=5)
    layer = SubgraphLinear({"adj": 2}, {"adj": 3, "x": 2}).double()
    assert isinstance(layer.maps["other"], PermutationLinear)
    x = randn(25 + 9, 2)
    out = layer({"adj": x}, found)
    for rows, nodes, n in ((slice(0, 25), slice(0, 5), 5), (slice(25, 34), slice(5, 8), 3)):
        wanted = layer.maps["other"]({"adj": x[rows].view(n, n, 2)})
        torch.testing.assert_close(out["adj"][rows], wanted["adj"].flatten(0, 1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(out["x"][nodes], wanted["x"], rtol=1e-12, atol=1e-12)


class OnWheels(nn.Module):
    """The layer on the ego-networks of a fixed graph that all permutations of 4 nodes leave alone, for a batch of features."""

    def __init__(self):
        super().__init__()
        self.layer = SubgraphLinear({"adj": 3, "x": 3}, {"adj": 2, "x": 4}, sizes=(4,))

    def forward(self, x):
        count = len(x["x"])
        edges, _, _ = batch_of([nx.complete_graph(4)])
        edges = (edges + 4 * torch.arange(count)[:, None, None]).movedim(0, 1).flatten(1)
        found = ego_subgraphs(edges, torch.arange(count).repeat_interleave(4), count)
        out = self.layer({"adj": x["adj"].reshape(-1, 3), "x": x["x"].reshape(-1, 3)}, found)
        return {"adj": out["adj"].view(count, 4, 4, 2), "x": out["x"].view(count, 4, 4)}


def test_contract():
    sym = Symmetry(Symmetric(4), input="graph(channels=True)", output="graph(channels=True)")
    x = {"adj": randn(3, 4, 4, 3, dtype=torch.float32), "x": randn(3, 4, 3, dtype=torch.float32)}
    skip = ["vmap", "compile"]  # ego-networks are found by scipy
    check_layer(OnWheels(), x, sym, skip=skip)
    check_layer(
        OnWheels().double(), {key: value.double() for key, value in x.items()}, sym, tol=1e-12, skip=[*skip, "dtype"]
    )


def test_gradients():
    edges, batch, count = batch_of([nx.lollipop_graph(3, 2)])
    found = ego_subgraphs(edges, batch, count)
    layer = SubgraphLinear({"adj": 2}, {"adj": 1, "x": 1, "y": 1}, sizes=(3,)).double()
    x = randn(found.pairs.shape[1], 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(layer({"adj": x}, found).values()), x)


def test_sizes_choose_weights():
    edges, batch, count = batch_of([nx.star_graph(3)])  # ego-networks of 4, 2, 2 and 2 nodes
    found = ego_subgraphs(edges, batch, count)
    assert found.common_sizes(0.5) == (2,)
    assert found.common_sizes(0.0) == (2, 4)
    layer = SubgraphLinear({"adj": 1}, {"y": 1}, sizes=(2,)).double()
    x = {"adj": torch.ones(found.pairs.shape[1], 1, dtype=F64)}
    before = layer(x, found)["y"]
    with torch.no_grad():
        layer.maps["other"].weights["adj_to_y"].add_(1)
    assert (layer(x, found)["y"] != before).flatten().tolist() == [True, False, False, False]


def test_nothing_is_fine():
    none = torch.zeros(2, 0, dtype=torch.int64)
    for found in (ego_subgraphs(none, none[0], 0), whole_graphs(none[0], 0), whole_graphs(none[0], 3)):
        out = SubgraphLinear({"adj": 2}, {"adj": 1, "x": 3, "y": 4})({"adj": torch.zeros(0, 2)}, found)
        assert {key: tuple(value.shape) for key, value in out.items()} == {"adj": (0, 1), "x": (0, 3), "y": (0, 4)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SubgraphLinear({"y": 1}, {"y": 1}), ErlangenError, "sub-graphs read pairs"),
        (lambda: SubgraphLinear({"adj": 1}, {"y": 1}, sizes=(0,)), ErlangenError, "sizes = "),
        (lambda: ego_subgraphs(torch.zeros(2, 0).long(), torch.zeros(3).long(), 1, 0), ErlangenError, "hops = 0"),
        (lambda: whole_graphs(torch.tensor([1, 0]), 2), ShapeError, "ascending"),
        (lambda: whole_graphs(torch.tensor([0, 2]), 2), ShapeError, "names graph 2"),
        (lambda: whole_graphs(torch.zeros(2), 1), DtypeError, "int64"),
        (
            lambda: SubgraphLinear({"adj": 1}, {"y": 1})(
                {"adj": torch.zeros(3, 1)}, whole_graphs(torch.tensor([0]), 1)
            ),
            ShapeError,
            r"'adj': \(1, 1\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
