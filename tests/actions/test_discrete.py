"""Permutations, graphs and cyclic shifts: bit-exact, torch.roll and networkx as oracles."""

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import erlangen as er
from erlangen.actions import Graph, Permuted, Rolled
from erlangen.errors import ActionError, DtypeError, ShapeError


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_rolled_is_torch_roll(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    group = er.Shifts(rows, columns)
    g = group.sample(3, generator=generator)
    x = torch.randn(3, 2, rows, columns, generator=generator)
    moved = Rolled().on(group).act(g, x)
    for i in range(3):
        assert torch.equal(moved[i], torch.roll(x[i], tuple(g[i].tolist()), (-2, -1)))


def test_rolled_along_a_chosen_axis():
    x = torch.arange(24).reshape(2, 6, 2)
    moved = Rolled((-2,)).on(er.Shifts(6)).act(torch.tensor([2]), x)
    assert torch.equal(moved, torch.roll(x, 2, 1))


@given(st.integers(1, 7), st.integers(0, 2**31))
def test_permuted_law_and_matrix(n, seed):
    generator = torch.Generator().manual_seed(seed)
    group = er.Symmetric(n)
    g, h = group.sample(4, generator=generator), group.sample(4, generator=generator)
    x = torch.randn(4, n, 3, generator=generator, dtype=torch.float64)
    action = Permuted().on(group)
    assert torch.equal(action.act(group.compose(g, h), x), action.act(g, action.act(h, x)))
    assert torch.equal(action.act(g, x), group.linear(g, dtype=torch.float64) @ x)
    assert torch.equal(action.act(g, x)[0, g[0]], x[0])


def test_graph_action_is_relabelling(generator):
    """adj, features and edge_index move together, as networkx relabels nodes."""
    graph = nx.gnp_random_graph(8, 0.4, seed=1)
    adj = torch.from_numpy(nx.to_numpy_array(graph))
    edges = torch.tensor(list(graph.edges)).T
    features = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    g = er.Symmetric(8).sample(1, generator=generator)[0]
    moved = Graph().on(er.Symmetric(8)).act(g, {"adj": adj, "edge_index": edges, "x": features})
    relabelled = nx.relabel_nodes(graph, {i: int(g[i]) for i in range(8)})
    expected = torch.from_numpy(nx.to_numpy_array(relabelled, nodelist=range(8)))
    assert torch.equal(moved["adj"], expected)
    assert {frozenset(edge) for edge in moved["edge_index"].T.tolist()} == {
        frozenset(edge) for edge in relabelled.edges
    }
    assert torch.equal(moved["x"][g], features)


def test_graph_batches(generator):
    group = er.Symmetric(5)
    g = group.sample((3, 1), generator=generator)
    x = {
        "adj": torch.randn(1, 4, 5, 5, generator=generator),
        "x": torch.randn(1, 4, 5, 2, generator=generator),
        "edge_index": torch.randint(5, (1, 4, 2, 9), generator=generator),
        "mask": torch.ones(1, 4, 5, dtype=torch.bool),
        "edge_attr": torch.randn(1, 4, 9, generator=generator),
    }
    moved = Graph().on(group).act(g, x)
    assert moved["adj"].shape == (3, 4, 5, 5)
    assert moved["edge_index"].shape == (3, 4, 2, 9)
    assert moved["edge_attr"].shape == (3, 4, 9)
    one = Graph().on(group).act(g[2, 0], {"adj": x["adj"][0, 1], "edge_index": x["edge_index"][0, 1]})
    assert torch.equal(moved["adj"][2, 1], one["adj"])
    assert torch.equal(moved["edge_index"][2, 1], one["edge_index"])
    channels = torch.randn(5, 5, 3, generator=generator)
    by_channel = Graph(channels=True).on(group).act(g[0, 0], {"adj": channels})["adj"]
    assert torch.equal(by_channel[..., 0], Graph().on(group).act(g[0, 0], {"adj": channels[..., 0]})["adj"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Permuted().on(er.SO(3)), ActionError, r"use Symmetric\(n\)"),
        (lambda: Permuted(0), ActionError, "from the end"),
        (lambda: Permuted().on(er.Symmetric(3)).act(torch.arange(3), torch.zeros(4, 2)), ShapeError, "4 nodes"),
        (lambda: Graph().on(er.Symmetric(3)).act(torch.arange(3), torch.zeros(3, 3)), ActionError, "dict with keys"),
        (
            lambda: Graph().on(er.Symmetric(3)).act(torch.arange(3), {"weights": torch.zeros(3)}),
            ActionError,
            "'weights'",
        ),
        (lambda: Graph().on(er.Symmetric(3)).act(torch.arange(3), {"adj": torch.zeros(3, 4)}), ShapeError, "4 nodes"),
        (lambda: Rolled().on(er.SO(2)), ActionError, "Shifts"),
        (lambda: Rolled((1,)).on(er.Shifts(4)), ActionError, "negative axes"),
        (lambda: Rolled().on(er.Shifts(4)).act(torch.tensor([1]), torch.zeros(2, 5)), ShapeError, "shifts 4"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_shifts_are_whole_numbers():
    with pytest.raises(DtypeError, match="shifts by whole entries"):
        Rolled().on(er.Shifts(4)).act(torch.tensor([1.5]), torch.rand(3, 4))
