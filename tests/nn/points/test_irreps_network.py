"""`IrrepsNetwork`: symmetry under e3nn's matrices for every rule, forces, what is reached, counts of parameters."""

import math

import networkx as nx
import pytest
import torch
from e3nn import o3
from scipy import integrate, special
from torch import Tensor

from erlangen.errors import DegenerateFrameError, ErlangenError, IrrepsError, ShapeError
from erlangen.nn import IrrepsNetwork, TensorProduct, edge_harmonics
from erlangen.nn.edges import complete_edges, radial_basis, smooth_cutoff
from erlangen.testing import check_layer

BOTH = "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"
HIDDEN = {
    "cg": BOTH,
    "gaunt": BOTH,
    "vector": "4x0e+4x1o+4x1e+4x2e+4x2o",
    "matrix": "4x0e+4x1o+4x1e+4x2e",
}
IN = "3x0e+1o+1e"
OUT = {rule: "2x0e+1o+2e" if rule == "matrix" else "2x0e+0o+1o+2e" for rule in HIDDEN}


def network(
    rule: str, irreps_in: str = IN, irreps_out: str | None = None, layers: int = 3, **options: object
) -> IrrepsNetwork:
    generator = torch.Generator().manual_seed(1)
    options = {"cutoff": 4.0, "num_neighbors": 4.0, "generator": generator, **options}
    return IrrepsNetwork(irreps_in, HIDDEN[rule], irreps_out or OUT[rule], layers=layers, rule=rule, **options)  # type: ignore[arg-type]


def graph(dtype: torch.dtype, nodes: int = 12, edges: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Features of `IN`, positions and random edges between different nodes."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(nodes, o3.Irreps(IN).dim, generator=generator, dtype=dtype)
    pos = 1.5 * torch.randn(nodes, 3, generator=generator, dtype=dtype)
    source = torch.randint(nodes, (edges,), generator=generator)
    target = (source + torch.randint(1, nodes, (edges,), generator=generator)) % nodes
    return x, pos, torch.stack([source, target])


def motions(dtype: torch.dtype, count: int = 10) -> list[tuple[Tensor, Tensor]]:
    """Orthogonal matrices, every other one a reflection, and translations."""
    generator = torch.Generator().manual_seed(3)
    Q = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)).Q
    signs = torch.tensor([1.0, -1.0]).repeat(count)[:count] * torch.linalg.det(Q).sign()
    shifts = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return list(zip((Q * signs[:, None, None]).to(dtype), shifts.to(dtype), strict=True))


def matrix(irreps: str, Q: Tensor) -> Tensor:
    """The matrix of Q, from e3nn's harmonics at points and at moved points (its own matrices are of float32)."""
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blocks = []
    for mul, ir in o3.Irreps(irreps):
        before, after = (o3.spherical_harmonics(ir.l, p, normalize=False) for p in (points, points @ Q.double().mT))
        D = torch.linalg.lstsq(before, after).solution.mT
        blocks += [D * (1.0 if ir.p == (-1) ** ir.l else torch.linalg.det(Q.double()))] * mul
    return torch.block_diag(*blocks)


def moved(irreps: str, Q: Tensor, x: Tensor) -> Tensor:
    return x @ matrix(irreps, Q).to(x).mT


# --- symmetry --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("rule", HIDDEN)
def test_moves_with_the_euclidean_group(rule: str, dtype: torch.dtype, tol: float) -> None:
    net = network(rule).to(dtype)
    x, pos, edges = graph(dtype)
    y = net(x, pos, edges).detach()
    assert float(y.norm(dim=0).amin()) > 1e-3  # every output takes part, so that the test can fail
    for Q, shift in motions(dtype):
        expected = moved(OUT[rule], Q, y)
        actual = net(moved(IN, Q, x), pos @ Q.mT + shift, edges)
        assert float((actual - expected).detach().norm() / expected.norm()) < tol


@pytest.mark.parametrize("rule", HIDDEN)
def test_order_of_nodes_and_edges_does_not_matter(rule: str) -> None:
    net = network(rule).double()
    x, pos, edges = graph(torch.float64)
    nodes = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    order = torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(5))
    actual = net(x[nodes], pos[nodes], torch.argsort(nodes)[edges][:, order])
    torch.testing.assert_close(actual, net(x, pos, edges)[nodes], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rule", ["cg", "gaunt"])
def test_contract_of_layers(rule: str) -> None:
    torch.compiler.reset()
    net = IrrepsNetwork("2x0e", "2x0e+2x1o", "0e+1o", lmax_edge=1, layers=2, rule=rule, cutoff=5.0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(6)
    check_layer(net, (torch.randn(4, 3, 2, generator=generator), torch.randn(4, 3, 3, generator=generator)))


# --- what it computes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", HIDDEN)
def test_forces_are_finite_and_balanced(rule: str) -> None:
    net = network(rule, irreps_out="0e").double()
    x, pos, edges = graph(torch.float64)
    x = torch.cat([x[:, :3], torch.zeros_like(x[:, 3:])], -1)  # scalars alone, so that a turn of pos changes nothing
    pos.requires_grad_()
    (force,) = torch.autograd.grad(net(x, pos, edges).sum(), pos)
    assert bool(torch.isfinite(force).all())
    size = float(force.norm())
    assert size > 1e-2
    assert float(force.sum(0).norm()) < 1e-11 * size
    assert float(torch.linalg.cross(pos.detach(), force).sum(0).norm()) < 1e-10 * size


def test_forces_are_the_derivative() -> None:
    net = network("cg", irreps_in="0e", irreps_out="0e", layers=2).double()
    pos = torch.randn(4, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: net(torch.ones(4, 1, dtype=p.dtype), p), pos)


def test_complete_graphs_in_a_batch_are_explicit_edges() -> None:
    net = network("cg", irreps_in="2x0e")
    generator = torch.Generator().manual_seed(8)
    x, pos = torch.randn(3, 4, 2, generator=generator), torch.randn(3, 4, 3, generator=generator)
    each = [
        net(a, p, torch.tensor(list(nx.complete_graph(4, nx.DiGraph).edges)).T) for a, p in zip(x, pos, strict=True)
    ]
    torch.testing.assert_close(net(x, pos), torch.stack(each), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net((x, pos)), net(x, pos))


def test_features_of_edges_are_read_and_do_not_break_the_symmetry() -> None:
    net = network("cg", edge_features=2).double()
    generator = torch.Generator().manual_seed(5)
    x, pos = (torch.randn(2, 5, size, generator=generator, dtype=torch.float64) for size in (9, 3))
    attr = torch.randn(2, 5, 5, 2, generator=generator, dtype=torch.float64)
    check_layer(net, (x, pos, attr), skip=["compile"])
    edges = complete_edges(2, 5)
    listed = attr.flatten(0, 1)[edges[0], edges[1] % 5]
    flat = net(x.flatten(0, 1), pos.flatten(0, 1), edges, listed)
    torch.testing.assert_close(flat, net((x, pos, attr)).flatten(0, 1))
    torch.testing.assert_close(flat, net((x.flatten(0, 1), pos.flatten(0, 1), listed, edges)))
    other = attr.clone()
    other[0, 1, 2] += 1  # from node 1 to node 2 of the first graph
    apart = (net((x, pos, other)) - net((x, pos, attr))).abs().sum(-1).detach()
    assert float(apart[0].min()) > 1e-9  # through three layers everyone hears of it
    assert float(apart[1].max()) == 0
    with pytest.raises(ShapeError, match="edge_attr is missing"):
        net(x, pos)
    with pytest.raises(ShapeError, match="edge_features="):
        network("cg")(x.float(), pos.float(), edge_attr=attr.float())
    with pytest.raises(ErlangenError, match="edge_features = -1"):
        network("cg", edge_features=-1)


def test_nodes_beyond_the_cutoff_have_no_effect() -> None:
    net = network("cg", irreps_in="0e").double()
    x, pos = torch.ones(3, 1, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    alone = net(x[:2], pos[:2])
    far = net(x, torch.cat([pos[:2], torch.tensor([[0.0, 0.0, 4.1]], dtype=torch.float64)]))
    near = net(x, torch.cat([pos[:2], torch.tensor([[0.0, 0.0, 3.0]], dtype=torch.float64)]))
    torch.testing.assert_close(far[:2], alone, rtol=1e-12, atol=1e-12)
    assert float((near[:2] - alone).detach().abs().amax()) > 1e-6


def test_same_generator_same_network() -> None:
    first = network("cg")
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), network("cg").parameters(), strict=True))


@pytest.mark.parametrize("rule", HIDDEN)
def test_starts_with_outputs_of_order_one(rule: str) -> None:
    x, pos, edges = graph(torch.float32, nodes=200, edges=800)
    size = float(network(rule)(x, pos, edges).detach().square().mean().sqrt())
    assert 0.05 < size < 5


def test_number_of_parameters() -> None:
    """Maps as many as e3nn's; a weight for each channel and path (l1, l2, l3); a radial network without biases."""
    net = IrrepsNetwork("2x0e", "4x0e+4x1o", "1o", lmax_edge=1, layers=2, cutoff=3.0, num_basis=5, radial_neurons=7)
    # From scalars, paths 000 and 011; four gates, and a bias for each of the eight scalars.
    maps = [("2x0e", "4x0e"), ("4x0e+4x1o", "8x0e+4x1o"), ("2x0e", "8x0e")]
    counted = sum(o3.Linear(a, b).weight_numel for a, b in maps) + 8 + 5 * 7 + 7 * 4 * 2
    assert sum(p.numel() for p in net.layers[0].parameters()) == counted
    # 4x0e+4x1o to 1o: paths 011 and 101; 0e is not wanted, 1e is not either.
    maps = [("4x0e+4x1o", "4x0e+4x1o"), ("4x1o+4x1o", "1o"), ("4x1o", "1o")]
    counted = sum(o3.Linear(a, b).weight_numel for a, b in maps) + 5 * 7 + 7 * 4 * 2
    assert sum(p.numel() for p in net.layers[1].parameters()) == counted


# --- what is reached -------------------------------------------------------------------------------------------------
def test_hidden_irreps_appear_when_they_are_reached() -> None:
    net = network("cg", irreps_in="0e", irreps_out="0o", layers=4)
    assert [str(irreps) for irreps in net.hidden] == [
        "4x0e+4x1o+4x2e",
        "4x0e+4x1o+4x1e+4x2e+4x2o",
        BOTH,
    ]


def test_signals_never_reach_pseudoscalars() -> None:
    """Products of true signals are true signals, whatever is asked for."""
    for layers in (2, 5):
        with pytest.raises(IrrepsError, match=r"do not reach 0o.*rule=\"cg\""):
            network("gaunt", irreps_in="0e", irreps_out="0e+0o", layers=layers)
    assert network("vector", irreps_in="0e", irreps_out="0o").irreps_out.dim == 1


def test_rules_name_the_irreps_that_they_cannot_carry() -> None:
    with pytest.raises(IrrepsError, match="no polar vector field carries 0o"):
        IrrepsNetwork("0e", BOTH, "0e", rule="vector", layers=5, cutoff=3.0)
    with pytest.raises(IrrepsError, match="leads to 1x3e"):
        IrrepsNetwork("0e", "4x0e", "3e", lmax_edge=1, cutoff=3.0)


# --- edges -----------------------------------------------------------------------------------------------------------
def test_edge_harmonics_are_those_of_e3nn() -> None:
    vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    expected = o3.spherical_harmonics(list(range(5)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(edge_harmonics(vectors, 4), expected, rtol=1e-12, atol=1e-12)


def test_edges_without_direction_are_named() -> None:
    vectors = torch.ones(5, 3)
    vectors[3] = 0
    with pytest.raises(DegenerateFrameError, match=r"edge \[3\] has length zero"):
        edge_harmonics(vectors, 2)
    with pytest.raises(DegenerateFrameError, match="has length zero"):
        network("cg", irreps_in="0e")(torch.ones(3, 1), torch.zeros(3, 3))


def test_radial_functions() -> None:
    r = torch.linspace(0.01, 3.0, 50, dtype=torch.float64)
    basis = radial_basis(r, 3.0, 4)
    for n in range(1, 5):
        k = n * math.pi
        expected = math.sqrt(2 / 3) * k * torch.from_numpy(special.spherical_jn(0, k * r.numpy() / 3))
        torch.testing.assert_close(basis[:, n - 1], expected, rtol=1e-12, atol=1e-12)

        def square(u: float, n: int = n) -> float:
            return 3 * u * u * float(radial_basis(torch.tensor(3 * u, dtype=torch.float64), 3.0, 4)[n - 1]) ** 2

        assert integrate.quad(square, 0, 1)[0] == pytest.approx(1, abs=1e-9)


def test_cutoff_is_smooth() -> None:
    r = torch.tensor([0.0, 1.0, 2.0 - 1e-9, 2.0, 2.5], dtype=torch.float64, requires_grad=True)
    value = smooth_cutoff(r, 2.0)
    (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), r)
    torch.testing.assert_close(
        value[[0, 2, 3, 4]], torch.tensor([1.0, 0, 0, 0], dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert float(slope.detach()[2:].abs().amax()) < 1e-6
    assert float(bend[2:].abs().amax()) < 1e-6
    assert 0.5 < value[1].item() < 1


@pytest.mark.parametrize("nodes", [0, 1, 2, 5])
def test_complete_graphs(nodes: int) -> None:
    expected = nx.disjoint_union_all([nx.complete_graph(nodes, nx.DiGraph) for _ in range(3)])
    edges = complete_edges(3, nodes)
    assert edges.shape == (2, expected.number_of_edges())
    assert set(map(tuple, edges.T.tolist())) == set(expected.edges)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("x", "pos", "edges", "message"),
    [
        ((5, 2), (5, 3), None, "x has shape"),
        ((5, 1), (4, 3), None, r"pos is of shape \(4, 3\)"),
        ((5, 1), (5, 2), None, r"pos is of shape \(5, 2\)"),
        ((2, 5, 1), (2, 5, 3), (2, 4), "with edge_index it must be"),
        ((5, 1), (5, 3), (3, 4), "edge_index"),
    ],
)
def test_shapes_are_checked(
    x: tuple[int, ...], pos: tuple[int, ...], edges: tuple[int, ...] | None, message: str
) -> None:
    index = None if edges is None else torch.arange(math.prod(edges)).reshape(edges) % 5
    with pytest.raises(ShapeError, match=message):
        network("cg", irreps_in="0e")(torch.ones(x), torch.randn(pos), index)


def test_positions_are_needed() -> None:
    with pytest.raises(ShapeError, match="pos is missing"):
        network("cg", irreps_in="0e")(torch.ones(5, 1))


@pytest.mark.parametrize("name", ["layers", "cutoff", "channels", "num_basis", "radial_neurons", "num_neighbors"])
def test_numbers_are_positive(name: str) -> None:
    with pytest.raises(ErlangenError, match=rf"{name} = 0; give a positive number"):
        IrrepsNetwork("0e", "4x0e", "0e", **{"cutoff": 1.0, name: 0})  # type: ignore[arg-type]


def test_messages_are_those_of_the_product() -> None:
    """One layer without self-connection, by hand: sum over edges of the depthwise product, then one map."""
    net = IrrepsNetwork("0e", "1x0e", "1o", layers=1, cutoff=4.0, num_neighbors=3.0).double()
    x, pos = torch.randn(4, 1, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    layer = net.layers[0]
    expected = torch.zeros(4, 3, dtype=torch.float64)
    product = TensorProduct("0e", "0e+1o+2e", rule="cg", form="depthwise", keep=["1o"], weights="given")
    for s in range(4):
        for t in range(4):
            if s != t:
                v = pos[t] - pos[s]
                y = edge_harmonics(v, 2) * smooth_cutoff(v.norm(), 4.0)
                expected[t] += product(layer.up(x[s]), y, layer.radial(radial_basis(v.norm(), 4.0, 8)))
    torch.testing.assert_close(net(x, pos), layer.down(expected * layer.scale), rtol=1e-10, atol=1e-12)
