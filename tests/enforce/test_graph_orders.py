"""Averages over orders of nodes: named nodes against all orders, sizes of frames, and what names are good for."""

import networkx as nx
import torch

from erlangen.data import connected_graphs
from erlangen.enforce import SortFrame, average_orders, averaged_outputs, sort_frame_sizes
from erlangen.groups import Symmetric
from erlangen.measure import equal_pairs, equivariance_error
from erlangen.nn import NamedGIN, stretched
from erlangen.symmetry import Symmetry


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_named_nodes_are_the_frame_of_graphs_whose_nodes_all_tie() -> None:
    """A 5-cycle: all 120 orders sort its nodes; 20 of them are enough for a network that knows two nodes by name."""
    adj = torch.tensor(nx.to_numpy_array(nx.cycle_graph(5)))[None]
    network = stretched(NamedGIN(5, 2, generator=seeded()))
    every, few = average_orders(network, 5), average_orders(network, 5, 2)
    frames = few.frame({"adj": adj})
    assert frames.elements.shape == (1, 20, 5)
    assert every.frame({"adj": adj}).elements.shape == (1, 120, 5)
    assert len({tuple(row[:2]) for row in frames.elements[0].tolist()}) == 20
    torch.testing.assert_close(few({"adj": adj}), every({"adj": adj}), rtol=1e-12, atol=1e-12)


def test_named_nodes_are_exact_on_any_graph() -> None:
    adj = connected_graphs(6)[::7].double()
    model = average_orders(stretched(NamedGIN(6, 2, generator=seeded())), 6, 2)
    graphs_of = Symmetry(Symmetric(6), input="graph", output="invariant")
    assert float(equivariance_error(model, graphs_of, {"adj": adj}, elements=30, reduce="max")) < 1e-12


def test_frame_sizes_are_those_of_sort_frames() -> None:
    adj = connected_graphs(6).double()
    symmetry = Symmetry(Symmetric(6), input="graph", output="invariant")
    weights = SortFrame(symmetry)({"adj": adj}).weights
    assert torch.equal(sort_frame_sizes(adj), (weights > 0).sum(-1))


def test_epsilon_zero_confuses_graphs() -> None:
    """What the docstring of `NamedGIN` says, at 7 nodes: names do not help nodes that are one from the first layer on."""
    network = stretched(NamedGIN(7, generator=seeded()))
    with torch.no_grad():
        network.gin.eps.zero_()
    values = averaged_outputs(average_orders(network, 7), connected_graphs(7))
    assert equal_pairs(values, 1e-9)[0] == 3


def test_graphs_come_back_in_their_order() -> None:
    """Graphs are taken by the size of their frames; outputs are those of one graph at a time."""
    adj = connected_graphs(5)
    model = average_orders(stretched(NamedGIN(5, generator=seeded())), 5)
    alone = torch.cat([model({"adj": graph[None].double()}) for graph in adj]).detach()
    torch.testing.assert_close(averaged_outputs(model, adj), alone, rtol=1e-12, atol=1e-12)
    assert averaged_outputs(model, adj[:0]).shape == (0, 10)
