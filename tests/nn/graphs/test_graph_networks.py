"""Message passing networks: exact symmetry, closed forms at set weights, and the Weisfeiler-Leman test as judge of GIN."""

from collections import Counter

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

from erlangen.data import connected_graphs, strongly_regular_graphs
from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups import E, Symmetric
from erlangen.measure import assert_equivariant, equivariance_error
from erlangen.nn import EGNN, GIN, MessagePassing
from erlangen.nn.edges import complete_edges
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size, generator=seeded(seed), dtype=dtype)


def close(a: Tensor, b: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol * float(b.detach().abs().max()))


def system(*, velocity: bool, edges: bool, dim: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    parts = [randn(4, 5, 2, dtype=dtype), randn(4, 5, dim, seed=1, dtype=dtype)]
    parts += [randn(4, 5, dim, seed=2, dtype=dtype)] * velocity + [randn(4, 5, 5, 3, seed=3, dtype=dtype)] * edges
    return tuple(parts)


def egnn(*, velocity: bool, edges: bool, dim: int = 3) -> EGNN:
    net = EGNN(2, 4, 8, layers=3, edge_features=3 * edges, velocity=velocity, dim=dim, generator=seeded())
    with torch.no_grad():
        for layer in net.layers:  # as after some training, so that points really move
            layer.along[-1].weight.mul_(100)
    return net


# --- EGNN ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("velocity", [False, True])
def test_egnn_keeps_the_contract(velocity: bool, edges: bool, dim: int) -> None:
    net = egnn(velocity=velocity, edges=edges, dim=dim)
    ran = check_layer(net, system(velocity=velocity, edges=edges, dim=dim))
    assert {"vmap", "compile", "symmetry"} <= set(ran)
    double = system(velocity=velocity, edges=edges, dim=dim, dtype=torch.float64)
    check_layer(net.double(), double, tol=1e-12, skip=["dtype", "compile"])


def test_egnn_moves_points_and_is_not_invariant_by_accident() -> None:
    net, data = egnn(velocity=True, edges=True), system(velocity=True, edges=True)
    h, pos, vel = (part.detach() for part in net(data))
    assert float((pos - data[1]).norm() / data[1].norm()) > 1e-2
    wrong = Symmetry(E(3), input=net.symmetry.input.action, output="invariant")
    assert equivariance_error(lambda x: net(x)[1], wrong, data) > 1e-2
    assert h.shape == (4, 5, 4)
    assert vel.shape == (4, 5, 3)


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
def test_egnn_is_exact_over_a_hundred_motions(dtype: torch.dtype, tol: float) -> None:
    net = egnn(velocity=True, edges=True).to(dtype)
    assert_equivariant(net, system(velocity=True, edges=True, dtype=dtype), tol=tol, elements=100)


def test_egnn_by_hand() -> None:
    """Two points, one layer, set weights: the step is the edge times the set number."""
    net = EGNN(1, 1, 1, layers=1, velocity=True).double()
    layer = net.layers[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        layer.along[-1].bias.fill_(0.25)
        layer.keep[-1].bias.fill_(2.0)
    pos, vel = randn(1, 2, 3, dtype=torch.float64), randn(1, 2, 3, seed=1, dtype=torch.float64)
    _, moved, speed = net(torch.ones(1, 2, 1, dtype=torch.float64), pos, vel)
    apart = pos - pos.flip(1)
    close(speed, 2 * vel + 0.25 * apart)
    close(moved, pos + 2 * vel + 0.25 * apart)


def test_graphs_of_two_sizes_in_one() -> None:
    net = egnn(velocity=True, edges=True).double()
    (x, pos, vel, attr), apart = system(velocity=True, edges=True, dtype=torch.float64), complete_edges(1, 5)
    first = net((x[:1], pos[:1], vel[:1], attr[:1]))
    small = (x[1:2, :3], pos[1:2, :3], vel[1:2, :3], attr[1:2, :3, :3])
    second = net(small)
    edges = torch.cat([apart, complete_edges(1, 3) + 5], 1)
    features = torch.cat([attr[0][apart[0], apart[1]], attr[1][tuple(complete_edges(1, 3))]])
    nodes = [torch.cat([a[0], b[1, :3]]) for a, b in ((x, x), (pos, pos), (vel, vel))]
    shuffled = torch.randperm(edges.shape[1], generator=seeded())
    both = net(*nodes, features[shuffled], edges[:, shuffled])
    for whole, one, two in zip(both, first, second, strict=True):
        close(whole, torch.cat([one[0], two[0]]))


def test_edges_have_directions() -> None:
    """Node 1 hears from node 0, not the other way round."""
    net = MessagePassing(1, 1, 4, layers=1, generator=seeded()).double()
    x = randn(2, 1, dtype=torch.float64)
    edge = torch.tensor([[0], [1]])
    other = torch.stack([x[0] + 1, x[1]])
    assert not torch.equal(net(x, edge_index=edge)[1], net(other, edge_index=edge)[1])
    other = torch.stack([x[0], x[1] + 1])
    assert torch.equal(net(x, edge_index=edge)[0], net(other, edge_index=edge)[0])


@pytest.mark.parametrize("velocity", [False, True])
def test_order_of_nodes_does_not_matter(velocity: bool) -> None:
    net = egnn(velocity=velocity, edges=True).double()
    data = system(velocity=velocity, edges=True, dtype=torch.float64)
    order = torch.randperm(5, generator=seeded())
    moved = (*(part[:, order] for part in data[:-1]), data[-1][:, order][:, :, order])
    for out, expected in zip(net(moved), net(data), strict=True):
        close(out, expected[:, order])


# --- plain networks --------------------------------------------------------------------------------------------------
def test_message_passing_keeps_the_contract() -> None:
    nodes = Symmetry(Symmetric(5), input="permuted", output="permuted")
    check_layer(MessagePassing(3, 2, 8, layers=2, generator=seeded()), randn(4, 5, 3), nodes)
    rest = ["symmetry"]  # features of edges are permuted in both axes: tested by hand below
    net = MessagePassing(3, 2, 8, layers=2, edge_features=2, generator=seeded())
    data = (randn(4, 5, 3), randn(4, 5, 5, 2, seed=1))
    check_layer(net, data, nodes, skip=rest)
    order = torch.randperm(5, generator=seeded())
    net.double()
    x, attr = (part.double() for part in data)
    close(net(x[:, order], attr[:, order][:, :, order]), net(x, attr)[:, order])


def test_message_passing_does_not_know_space() -> None:
    net = MessagePassing(3, 3, 8, layers=2, generator=seeded())
    assert equivariance_error(net, Symmetry(E(3), input="points", output="points"), randn(4, 5, 3)) > 0.1


def test_a_message_by_hand() -> None:
    """The split first layer equals a linear layer on what is concatenated."""
    net = MessagePassing(2, 1, 4, layers=1, edge_features=3, generator=seeded()).double()
    layer = net.layers[0]
    h, attr = randn(5, 4, dtype=torch.float64), randn(6, 3, seed=1, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
    whole = nn.functional.linear(
        torch.cat([h[edges[0]], h[edges[1]], attr], -1), layer.edge.first.weight, layer.edge.first.bias
    )
    close(layer.edge(h, edges, attr), layer.edge.rest(whole))


def test_a_node_without_neighbours() -> None:
    for net in (MessagePassing(2, 1, 4), EGNN(2, 1, 4)):
        x, pos = randn(3, 1, 2), randn(3, 1, 3)
        out = net(x) if isinstance(net, MessagePassing) else net(x, pos)[0]
        assert out.shape == (3, 1, 1)
        assert bool(out.isfinite().all())


# --- GIN -------------------------------------------------------------------------------------------------------------
def gin(features: int = 1) -> GIN:
    return GIN(features, 8, 32, layers=4, activation=nn.Tanh, generator=seeded()).double()


def test_gin_keeps_the_contract() -> None:
    adj = connected_graphs(5)[:6]
    graphs = Symmetry(Symmetric(5), input="graph", output="invariant")
    check_layer(GIN(2, 3, 8, layers=2, generator=seeded()), {"adj": adj, "x": randn(6, 5, 2)}, graphs)


def test_gin_of_lists_of_edges() -> None:
    net, adj = gin(2), connected_graphs(5)[-3:]
    x = randn(3, 5, 2, dtype=torch.float64)
    graph, target, source = adj.nonzero(as_tuple=True)
    edges = torch.stack([source, target]) + 5 * graph
    batch = torch.arange(3).repeat_interleave(5)
    out = net(x.flatten(0, 1), edge_index=edges, batch=batch)
    close(out, net(x, adj))
    close(net(x[0], edge_index=edges[:, graph == 0]), out[:1])
    close(net({"x": x.flatten(0, 1), "edge_index": edges, "batch": batch}), out)


def refined_colours(g: "nx.Graph[int]") -> str:
    nx.set_node_attributes(g, "", "colour")
    return nx.weisfeiler_lehman_graph_hash(g, node_attr="colour", iterations=6)


def test_gin_separates_what_colour_refinement_separates() -> None:
    """The classes of outputs are those of networkx's refinement, on all connected graphs of six nodes."""
    adj = connected_graphs(6)
    out = gin()(torch.ones(len(adj), 6, 1, dtype=torch.float64), adj)
    ours = [tuple(row) for row in ((out / out.abs().max()) * 1e8).round().long().tolist()]
    refined = [refined_colours(nx.from_numpy_array(a.numpy())) for a in adj]
    assert len(set(ours)) == len(set(refined)) == len(set(zip(ours, refined, strict=True)))
    assert max(Counter(refined).values()) == 2  # the test is not empty: the prism and K_{3,3}, for example


@pytest.mark.parametrize("nodes", [16, 28])
def test_gin_fails_on_strongly_regular_graphs(nodes: int) -> None:
    adj = strongly_regular_graphs(nodes)
    out = gin()(torch.ones(len(adj), nodes, 1, dtype=torch.float64), adj)
    close(out, out[:1].expand_as(out), 1e-12)


# --- bad input -------------------------------------------------------------------------------------------------------
X, POS = torch.ones(2, 5, 2), torch.ones(2, 5, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EGNN(2, 1, layers=0), ErlangenError, "layers = 0"),
        (lambda: MessagePassing(0, 1), ErlangenError, "in_features = 0"),
        (lambda: GIN(1, -1), ErlangenError, "out_features = -1"),
        (lambda: EGNN(2, 1)(X[..., :1], POS), ShapeError, r"pass \[..., N, 2\]"),
        (lambda: EGNN(2, 1)(X), ShapeError, "pos is missing"),
        (lambda: EGNN(2, 1)(X, POS[:, :4]), ShapeError, r"pos is of shape \(2, 4, 3\)"),
        (lambda: EGNN(2, 1)(X, POS, POS), ShapeError, "velocity=True in the network"),
        (lambda: EGNN(2, 1, velocity=True)(X, POS), ShapeError, "vel is missing"),
        (lambda: EGNN(2, 1, edge_features=1)(X, POS), ShapeError, r"edge_attr is missing, but needs \(2, 5, 5, 1\)"),
        (lambda: MessagePassing(2, 1)(X, torch.ones(2, 5, 5, 1)), ShapeError, "edge_features= in the network"),
        (lambda: MessagePassing(2, 1)(X, edge_index=torch.zeros(2, 1).long()), ShapeError, "all graphs in one"),
        (lambda: GIN(2, 1)(X), ShapeError, "either adj"),
        (lambda: GIN(2, 1)(X, torch.ones(2, 4, 4)), ShapeError, "does not fit x"),
        (lambda: GIN(2, 1)(X, edge_index=torch.zeros(2, 1).long()), ShapeError, "with edge_index it must be"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


# --- masks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("edges", [False, True])
def test_masked_nodes_are_not_there(edges: bool) -> None:
    """A padded batch gives each graph what it gets alone, and what stands in the padding does not matter."""
    net = egnn(velocity=True, edges=edges)
    x, pos, vel, *attr = system(velocity=True, edges=edges)
    mask = torch.ones(x.shape[:-1], dtype=torch.bool)
    mask[0, 2:] = False
    out = net(x, pos, vel, *attr, mask=mask)
    small = net(x[:1, :2], pos[:1, :2], vel[:1, :2], *(a[:1, :2, :2] for a in attr))
    for full, alone in zip(out, small, strict=True):
        close(full[0, :2], alone[0], 1e-5)
    whole = net(x, pos, vel, *attr)
    for full, every in zip(out, whole, strict=True):
        close(full[1:], every[1:], 1e-5)
    filled = net(*(torch.where(mask[..., None], a, 7.0) for a in (x, pos, vel)), *attr, mask=mask)
    for full, other in zip(out, filled, strict=True):
        close(full[mask], other[mask], 1e-5)
    plain = MessagePassing(2, 3, 8, generator=seeded())
    h = randn(2, 4, 2)
    keep = torch.tensor([[True, True, True, False], [True] * 4])
    close(plain(h, mask=keep)[0, :3], plain(h[:1, :3])[0], 1e-5)


def test_masks_that_do_not_fit() -> None:
    net = MessagePassing(2, 3, 8)
    with pytest.raises(ShapeError, match="pass bool"):
        net(torch.zeros(2, 4, 2), mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ShapeError, match="none together with edge_index"):
        net(torch.zeros(4, 2), edge_index=torch.zeros(2, 1, dtype=torch.int64), mask=torch.ones(4, dtype=torch.bool))
