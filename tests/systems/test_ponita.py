"""Ponita: the contract in all its spaces, loops and closed forms, other grids, bad input."""

import itertools

import pytest
import torch
from torch import Tensor

from erlangen.errors import (
    DegenerateFrameError,
    DtypeError,
    ErlangenError,
    GroupError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.geometry import PairInvariants, knn_graph
from erlangen.groups import SO, E, Translation, sphere_grid
from erlangen.measure import assert_equivariant, equivariance_error
from erlangen.symmetry import Symmetry
from erlangen.systems.points.ponita import Ponita
from erlangen.systems.points.ponita._properties import (
    SPACES,
    clouds,
    network,
    random_errors,
)
from erlangen.systems.points.ponita._spaces import pairs_of_edges
from erlangen.systems.points.ponita.method import LARGEST
from erlangen.testing import check_layer

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=seeded(seed), dtype=F64)


def small(**options) -> Ponita:
    given = {"width": 6, "layers": 2, "basis": 5, "layer_scale": 1.0, "generator": seeded(1), **options}
    return Ponita(2, **given).double()


def layer() -> tuple[Ponita, dict[str, Tensor], dict[str, list[str]]]:
    """All spaces, and the mode that compiles, are tested below."""
    net = network(SPACES["12 directions"], 0)
    return net, clouds(net, 2, torch.float32, 0), {}


LAYERS = {"Ponita": layer}


# --- the contract ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["positions", "12 directions", "8 directions, plane", "edges", "edges, complete"])
def test_contract(name: str) -> None:
    """Compiled below; with edges as nodes it is not, since how many pairs there are is known only from the data."""
    net = network(SPACES[name], 0).double()
    check_layer(net, clouds(net, 2, F64, 0), skip=["compile"])


def test_compiles_without_a_break() -> None:
    torch.compiler.reset()
    net = small(scalars_out=1, directions=6, layers=1)
    x = {"pos": randn(2, 4, 3), "x": randn(2, 4, 2, seed=1)}
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))


def test_the_answer_for_a_graph_is_the_sum_over_its_nodes() -> None:
    node, graph = (small(scalars_out=2, vectors_out=1, vectors_in=1, level=level) for level in ("node", "graph"))
    x = {"pos": randn(3, 4, 3), "x": randn(3, 4, 2, seed=1), "vec": randn(3, 4, 1, 3, seed=2)}
    for key, value in graph(x).items():
        torch.testing.assert_close(value, node(x)[key].sum(1))
    assert_equivariant(graph, x)


@pytest.mark.parametrize("directions", [0, 6, "edges"])
def test_lists_of_edges_and_neighbors_give_the_same_as_complete_graphs(directions) -> None:
    net = small(scalars_out=2, directions=directions, edge_features=1, level="graph")
    x = {"pos": randn(3, 4, 3), "x": randn(3, 4, 2, seed=1), "edge_attr": randn(3, 4, 4, 1, seed=2)}
    expected = net(x)["x"]
    batch = torch.arange(3).repeat_interleave(4)
    edges = knn_graph(x["pos"].flatten(0, 1), 3, batch)
    attr = x["edge_attr"][batch[edges[0]], edges[0] % 4, edges[1] % 4]
    flat = {"pos": x["pos"].flatten(0, 1), "x": x["x"].flatten(0, 1)}
    torch.testing.assert_close(net(flat | {"edge_attr": attr}, edges, batch)["x"], expected)
    neighbors = edges[0].view(3, 4, 3) % 4
    near = {**x, "neighbors": neighbors, "edge_attr": attr.view(3, 4, 3, 1)}
    torch.testing.assert_close(net(near)["x"], expected)


def test_a_loop_over_edges_as_oriented_points_gives_the_same() -> None:
    """One block on three points, pair by pair."""
    net = small(scalars_out=1, vectors_out=1, vectors_in=1, directions="edges", layers=1, complete=True)
    pos, s, v = randn(3, 3), randn(3, 2, seed=1), randn(3, 1, 3, seed=2)
    oriented = [
        (t, torch.nn.functional.normalize(pos[k] - pos[t], dim=0)) for t, k in itertools.permutations(range(3), 2)
    ]
    h = torch.stack([net.embed(torch.cat([s[t], v[t] @ o])) for t, o in oriented])
    invariants, block = PairInvariants("R^3xS^2", complete=True), net.blocks[0]
    out = []
    for (i, o_i), own in zip(oriented, h, strict=True):
        total = block.conv.bias.clone()
        for (j, o_j), sent in zip(oriented, h, strict=True):
            total = total + block.conv.spatial @ net.space.basis(invariants(pos[i], pos[j], o_i, o_j)) * sent
        out.append(net.read[0](own + block.scale * block.mix(block.norm(total))))
    found = net({"pos": pos[None], "x": s[None], "vec": v[None]})
    for node in range(3):
        mine = [(answer, o) for answer, (t, o) in zip(out, oriented, strict=True) if t == node]
        torch.testing.assert_close(found["x"][0, node, 0], sum(a[0] for a, _ in mine) / 2)
        torch.testing.assert_close(found["vec"][0, node, 0], 3 * sum(a[1] * o for a, o in mine) / 2)


def test_pairs_of_edges_by_brute_force() -> None:
    edges = torch.tensor([[0, 1, 2, 1, 3], [1, 0, 1, 2, 0]])  # node 3 has no edge to it
    joined = {(int(s), int(t)) for s, t in edges.T} | {(k, k) for k in range(4)}
    expected = {(a, b) for a in range(5) for b in range(5) if (int(edges[1, a]), int(edges[1, b])) in joined}
    found = [tuple(pair) for pair in pairs_of_edges(edges, 4).T.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize(("dim", "directions"), [(3, 12), (3, 6), (2, 5)])
def test_constant_fiber_kernels_and_radial_kernels_are_the_network_on_positions(dim: int, directions: int) -> None:
    """Where no kernel sees a direction, features are those of PNITA, at every direction."""
    options = {"scalars_out": 3, "dim": dim, "degree": 1, "cutoff": 3.0}
    plain, grid = small(directions=0, **options), small(directions=directions, **options)
    grid.embed.load_state_dict(plain.embed.state_dict())
    grid.read.load_state_dict(plain.read.state_dict())
    radial = plain.space.basis

    class Radial(torch.nn.Module):
        cutoff = radial.cutoff

        def forward(self, numbers: Tensor, lengths: Tensor) -> Tensor:
            return radial(numbers.norm(dim=-1, keepdim=True), lengths)

    class Constant(torch.nn.Module):
        def forward(self, cosine: Tensor) -> Tensor:
            return torch.ones(*cosine.shape[:-1], 5, dtype=cosine.dtype)

    grid.space.basis, grid.space.fiber = Radial(), Constant()
    with torch.no_grad():
        for ours, theirs in zip(grid.blocks, plain.blocks, strict=True):
            ours.load_state_dict(theirs.state_dict(), strict=False)
            ours.conv.fiber.fill_(1 / 5)
    x = {"pos": randn(2, 4, dim), "x": randn(2, 4, 2, seed=1)}
    torch.testing.assert_close(grid(x)["x"], plain(x)["x"])


def test_blocks_start_as_the_identity_and_vectors_pass_through() -> None:
    """A small layer scale leaves linear maps, so that a vector comes out as a multiple of itself."""
    net = small(vectors_in=1, vectors_out=1, layer_scale=0.0)
    x = {"pos": randn(2, 4, 3), "x": torch.zeros(2, 4, 2, dtype=F64), "vec": randn(2, 4, 1, 3, seed=2)}
    factor = sum((read[0].weight @ net.embed[0].weight[:, 2]) for read in net.read) / 2
    torch.testing.assert_close(net(x)["vec"], factor * x["vec"])


# --- symmetry --------------------------------------------------------------------------------------------------------
def test_mirror_images_stay_apart_only_with_complete_invariants() -> None:
    mirror = E(3).join(torch.diag(torch.tensor([-1.0, 1, 1], dtype=F64)), torch.zeros(3, dtype=F64))[None]
    errors = {}
    for complete in (False, True):
        net = small(scalars_out=2, directions="edges", complete=complete)
        x = {"pos": randn(2, 5, 3), "x": randn(2, 5, 2, seed=1)}
        symmetry = Symmetry(E(3), input={"pos": "points", "x": "invariant"}, output={"x": "invariant"})
        errors[complete] = float(equivariance_error(net, symmetry, x, elements=mirror))
    assert errors[False] < 1e-12
    assert errors[True] > 1e-6


def test_more_directions_are_more_equivariant() -> None:
    errors = random_errors(1, 4, 0)
    assert list(errors) == sorted(errors, reverse=True)
    assert errors[-1] < 0.25 * errors[0]  # the sphere is filled
    assert errors[1] > 1e-3  # the control: on 12 directions it is not exact


def test_the_same_parameters_serve_other_grids() -> None:
    net = small(vectors_in=1, vectors_out=1, directions=6)
    x = {"pos": randn(2, 4, 3), "x": randn(2, 4, 2, seed=1), "vec": randn(2, 4, 1, 3, seed=2)}
    back = net.with_directions(20).with_directions(6)
    torch.testing.assert_close(back(x)["vec"], net(x)["vec"])
    assert str(net.with_directions(12).symmetry.group.name) == "Icosahedral"
    assert net.with_directions(16).symmetry.group == Translation(3)
    turned = net.with_directions(net.space.directions @ SO(3).sample(1, generator=seeded(), dtype=F64)[0].mT)
    assert float((turned(x)["vec"] - net(x)["vec"]).detach().norm()) > 1e-6
    with pytest.raises(GroupError, match="no grid"):
        small(scalars_out=1, directions=0).with_directions(6)


def test_the_grid_is_saved_with_the_parameters() -> None:
    grids = [sphere_grid(16, method, dtype=F64) for method in ("repulsion", "fibonacci")]
    first, second = (small(scalars_out=2, directions=grid, generator=seeded(k)) for k, grid in enumerate(grids))
    second.load_state_dict(first.state_dict())
    x = {"pos": randn(2, 4, 3), "x": randn(2, 4, 2, seed=1)}
    torch.testing.assert_close(second(x)["x"], first(x)["x"], rtol=0, atol=0)
    assert torch.equal(Ponita(1, scalars_out=1, directions=16).space.directions, grids[0])


def test_calibration_keeps_the_spread_in_every_layer() -> None:
    net = small(scalars_out=1, directions=6)
    x = {"pos": 3 * randn(8, 5, 3), "x": randn(8, 5, 2, seed=1)}
    net.calibrate_(x)
    found = []
    for block in net.blocks:
        block.conv.register_forward_hook(lambda _, args, out: found.append(float((out.std() / args[0].std()).detach())))
    net(x)
    assert found == pytest.approx([1.0, 1.0], rel=1e-6)


# --- gradients -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("directions", [0, 6, "edges"])
def test_gradients(directions) -> None:
    net = small(scalars_out=1, directions=directions, cutoff=4.0)
    pos, x = randn(1, 3, 3).requires_grad_(), randn(1, 3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, s: net({"pos": p, "x": s})["x"], [pos, x])


def test_gradients_are_finite_where_points_coincide_or_edges_follow_a_direction() -> None:
    net = small(scalars_out=1, directions=6)
    pos = torch.tensor([[[0.0, 0, 0], [0, 0, 0], [0, 0, 2.0]]], dtype=F64, requires_grad=True)
    net({"pos": pos, "x": randn(1, 3, 2)})["x"].sum().backward()
    assert bool(torch.isfinite(pos.grad).all())


def test_points_beyond_the_cutoff_have_no_effect() -> None:
    near = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [9.0, 0, 0]]], dtype=F64)
    far = near.clone()
    far[0, 2] = torch.tensor([0.0, 7.0, 0.0])
    for directions in (0, 6, "edges"):
        net, x = small(scalars_out=1, directions=directions, cutoff=3.0), randn(1, 3, 2)
        a, b = (net({"pos": pos, "x": x})["x"][0, :2] for pos in (near, far))
        if directions == "edges":  # an edge to a far point is itself a point that is near
            assert not torch.allclose(a, b)
        else:
            torch.testing.assert_close(a, b)


# --- bad input -------------------------------------------------------------------------------------------------------
ONE = {"pos": torch.zeros(2, 3, 3), "x": torch.zeros(2, 3, 2)}
FLAT = {"pos": torch.zeros(3, 3), "x": torch.zeros(3, 2)}
EDGES = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Ponita(1, scalars_out=1, dim=4), GroupError, "dim = 4"),
        (lambda: Ponita(1, scalars_out=1, directions=3), GroupError, "at least 4"),
        (lambda: Ponita(1, scalars_out=1, directions=2, dim=2), GroupError, "at least 3"),
        (lambda: Ponita(1, scalars_out=1, directions=7, grid="platonic"), GroupError, "4, 6, 8, 12 or 20"),
        (lambda: Ponita(1, scalars_out=1, dim=2, grid="repulsion"), GroupError, "leave grid= out"),
        (lambda: Ponita(1, scalars_out=1, directions="all"), GroupError, "'edges'"),
        (lambda: Ponita(1, scalars_out=1, directions=torch.ones(5, 3)), GroupError, "unit vectors"),
        (lambda: Ponita(1, vectors_out=1, directions=0), ErlangenError, "hold no directions"),
        (lambda: Ponita(0, 1, scalars_out=1, directions=0), ErlangenError, "hold no directions"),
        (lambda: Ponita(0, scalars_out=1), ErlangenError, "something must come in"),
        (lambda: Ponita(1), ErlangenError, "something go out"),
        (lambda: Ponita(1, scalars_out=1, level="edge"), UnknownNameError, "node or graph"),
        (lambda: Ponita(1, scalars_out=1, width=0), ErlangenError, "width = 0"),
        (lambda: Ponita(1, scalars_out=1, cutoff=0.0), ErlangenError, "cutoff = 0.0"),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: net({"x": ONE["x"]}), ShapeError, "pos is missing"),
        (lambda net: net({**ONE, "pos": torch.zeros(2, 3, 2)}), ShapeError, r"pass \[\.\.\., N, 3\]"),
        (lambda net: net({"pos": ONE["pos"]}), ShapeError, "x is missing"),
        (lambda net: net({**ONE, "vec": torch.zeros(2, 3, 1, 3)}), ShapeError, "built without it"),
        (lambda net: net({**ONE, "pos": ONE["pos"].long()}), DtypeError, "pos"),
        (lambda net: net({**ONE, "pos": ONE["pos"] * torch.nan}), NotFiniteError, "pos"),
        (lambda net: net(FLAT, EDGES), ShapeError, "batch is missing"),
        (lambda net: net({**ONE, "neighbors": torch.zeros(2, 4, 1).long()}), ShapeError, "neighbors"),
        (lambda net: net({**ONE, "neighbors": torch.zeros(2, 3, 1)}), DtypeError, "neighbors"),
        (lambda net: net({**ONE, "edge_attr": torch.zeros(2, 3, 3, 1)}), ShapeError, "edge_attr"),
        (lambda net: net(torch.zeros(1, 5, 3)), ShapeError, "x is a Tensor"),
        (
            lambda net: net({"pos": randn(1, 5, 3), "x": randn(1, 5, 2), "neighbors": torch.full((1, 5, 2), 9)}),
            ShapeError,
            "neighbors ranges from 9 to 9",
        ),
        (
            lambda net: net(
                {"pos": randn(5, 3), "x": randn(5, 2)}, torch.tensor([[0, 1], [1, -1]]), torch.zeros(5).long()
            ),
            ShapeError,
            "edge_index ranges from -1 to 1",
        ),
        (lambda net: net({"pos": torch.zeros(1, 4000, 3), "x": torch.zeros(1, 4000, 2)}), ErlangenError, "4000 points"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    assert LARGEST < 4000**2 * 12 * 32
    with pytest.raises(error, match=message):
        call(Ponita(2, scalars_out=1, level="graph"))


def test_vectors_need_their_shape() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3, 2, 3\)"):
        Ponita(0, 2, scalars_out=1)({"pos": ONE["pos"], "vec": torch.zeros(2, 3, 3, 2)})


def test_neighbors_at_one_place_have_no_direction() -> None:
    with pytest.raises(DegenerateFrameError, match="no direction"):
        Ponita(2, scalars_out=1, directions="edges")(ONE)
