"""Neighbours against brute force, against scipy's periodic boxes and against the shells of a lattice."""

import pytest
import torch
from scipy.spatial import cKDTree

from erlangen.errors import ErlangenError, GroupError, NotFiniteError, ShapeError
from erlangen.geometry import edge_vectors, knn_graph, periodic_radius_graph, radius_graph


def cloud(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pairs(edges):
    return set(map(tuple, edges.T.tolist()))


def brute(pos, radius, batch, loop=False):
    near = torch.cdist(pos, pos) <= radius
    same = batch[:, None] == batch
    near &= same
    if not loop:
        near.fill_diagonal_(False)
    return pairs(near.nonzero().T)


SIZES = ([7], [5, 1, 9, 3], [40] * 30, [600, 700])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("loop", [False, True])
def test_radius_graph_is_brute_force(sizes, loop):
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    pos = cloud(len(batch), 3)
    edges = radius_graph(pos, 0.8, batch, loop=loop)
    assert pairs(edges) == brute(pos, 0.8, batch, loop)
    assert len(pairs(edges)) == edges.shape[1]
    assert edges.T.tolist() == sorted(edges.T.tolist(), key=lambda edge: edge[::-1])


@pytest.mark.parametrize("sizes", SIZES[2:], ids=lambda s: f"{len(s)}x{s[0]}")
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_knn_graph_is_brute_force(sizes, dim):
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    pos = cloud(len(batch), dim)
    edges = knn_graph(pos, 6, batch)
    distances = torch.cdist(pos, pos).masked_fill(batch[:, None] != batch, torch.inf).fill_diagonal_(torch.inf)
    assert torch.equal(edges[0].view(-1, 6), distances.topk(6, largest=False).indices)
    assert torch.equal(edges[1], torch.arange(len(pos)).repeat_interleave(6))
    looped = knn_graph(pos, 7, batch, loop=True)
    assert torch.equal(looped[0].view(-1, 7)[:, 0], torch.arange(len(pos)))
    assert torch.equal(looped[0].view(-1, 7)[:, 1:], edges[0].view(-1, 6))


def test_coincident_points_never_choose_themselves():
    pos = torch.zeros(9, 3)
    edges = knn_graph(pos, 3)
    assert edges.shape == (2, 27)
    assert bool((edges[0] != edges[1]).all())
    assert radius_graph(pos, 1e-9).shape == (2, 72)


def test_small_graphs_are_an_error_or_give_what_they_have():
    batch = torch.tensor([0, 0, 0, 1, 1, 3])
    pos = cloud(6, 2)
    with pytest.raises(ErlangenError, match="graph 1 has 2 points, too few for k = 2"):
        knn_graph(pos, 2, batch)
    edges = knn_graph(pos, 2, batch, fewer=True)
    assert torch.equal(torch.bincount(edges[1], minlength=6), torch.tensor([2, 2, 2, 1, 1, 0]))
    assert bool((batch[edges[0]] == batch[edges[1]]).all())


def test_float32_and_empty_and_far_away():
    pos = cloud(50, 3, dtype=torch.float32)
    assert torch.equal(radius_graph(pos, 1.0), radius_graph(pos.double(), 1.0))
    assert radius_graph(pos[:0], 1.0).shape == knn_graph(pos[:0], 2).shape == (2, 0)
    far = pos.double() + 1e6
    assert pairs(knn_graph(far, 3)) == pairs(knn_graph(pos.double(), 3))


def images(pos, radius, cell, periodic):
    """Every image within twelve cells."""
    steps = torch.cartesian_prod(*(torch.arange(-12, 13) if p else torch.zeros(1, dtype=torch.int64) for p in periodic))
    vectors = pos - pos[:, None] + (steps.to(cell) @ cell)[:, None, None]
    near = (vectors.norm(dim=-1) <= radius).nonzero().tolist()
    return {(i, j, *steps[k].tolist()) for k, i, j in near if i != j or bool(steps[k].any())}


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("periodic", [True, False, "mixed"])
def test_periodic_edges_are_all_images(dim, periodic):
    generator = torch.Generator().manual_seed(dim)
    cell = torch.eye(dim, dtype=torch.float64) + 0.4 * torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    pos = 1.5 * torch.randn(6, dim, generator=generator, dtype=torch.float64)
    axes = [True, False, True][:dim] if periodic == "mixed" else [periodic] * dim
    edges, shift = periodic_radius_graph(pos, 1.7, cell, periodic=axes if periodic == "mixed" else periodic)
    found = {(*edge, *step) for edge, step in zip(edges.T.tolist(), shift.tolist(), strict=True)}
    assert found == images(pos, 1.7, cell, axes)
    lengths = edge_vectors(pos, edges, shift, cell).norm(dim=-1)
    assert bool((lengths <= 1.7 + 1e-9).all())
    assert len(found) == edges.shape[1]
    rows = torch.cat([edges.flip(0).T, shift.flip(1)], 1).tolist()  # by target, source, and the last wall first
    assert rows == sorted(rows)


@pytest.mark.parametrize("periodic", [False, True])
def test_radius_graphs_agree_with_vesin(periodic):
    vesin = pytest.importorskip("vesin")
    cell = torch.tensor([[6.0, 0.0, 0.0], [1.0, 5.0, 0.0], [-1.0, 2.0, 7.0]], dtype=torch.float64)
    pos = cloud(150, 3) @ cell
    calculator = vesin.NeighborList(cutoff=2.1, full_list=True)
    box = cell if periodic else torch.zeros(3, 3)
    source, target, walls = calculator.compute(
        points=pos.numpy(), box=box.double().numpy(), periodic=periodic, quantities="ijS"
    )
    expected = {(int(i), int(j), *map(int, step)) for i, j, step in zip(source, target, walls, strict=True)}
    if periodic:
        edges, shift = periodic_radius_graph(pos, 2.1, cell)
    else:
        edges = radius_graph(pos, 2.1)
        shift = torch.zeros(edges.shape[1], 3, dtype=torch.int64)
    assert {(*edge, *step) for edge, step in zip(edges.T.tolist(), shift.tolist(), strict=True)} == expected
    assert len(expected) == edges.shape[1]


def test_periodic_box_agrees_with_scipy():
    box = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)
    pos = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * box
    edges, _ = periodic_radius_graph(pos, 1.0, torch.diag(box))
    tree = cKDTree(pos.numpy(), boxsize=box.numpy())
    expected = {p for i, j in tree.query_pairs(1.0) for p in ((i, j), (j, i))}
    assert pairs(edges) == expected


def test_periodic_graphs_of_a_batch_have_their_own_cells():
    cells = torch.stack([torch.eye(3, dtype=torch.float64) * 2, torch.eye(3, dtype=torch.float64) * 3])
    pos = cloud(9, 3)
    batch = torch.tensor([0] * 4 + [1] * 5)
    edges, shift = periodic_radius_graph(pos, 1.4, cells, batch)
    for graph, rows in ((0, slice(0, 4)), (1, slice(4, 9))):
        own, walls = periodic_radius_graph(pos[rows], 1.4, cells[graph])
        mine = batch[edges[1]] == graph
        assert torch.equal(edges[:, mine] - rows.start, own)
        assert torch.equal(shift[mine], walls)
    vectors = edge_vectors(pos, edges, shift, cells, batch)
    assert bool((vectors.norm(dim=-1) <= 1.4).all())


def test_shells_of_a_cubic_lattice():
    """Numbers of neighbours of a cubic lattice: 6, 12, 8, 6, 24 at squared distances 1, 2, 3, 4, 5."""
    pos = torch.zeros(1, 3)
    edges, shift = periodic_radius_graph(pos, 5**0.5 + 1e-3, torch.eye(3))
    squares = edge_vectors(pos, edges, shift, torch.eye(3)).square().sum(-1).round().long()
    assert torch.bincount(squares).tolist() == [0, 6, 12, 8, 6, 24]


def test_edge_vectors_carry_gradients():
    pos = cloud(5, 3).requires_grad_()
    edges, shift = periodic_radius_graph(pos, 2.0, torch.eye(3, dtype=torch.float64) * 3)
    cell = (torch.eye(3, dtype=torch.float64) * 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, c: edge_vectors(p, edges, shift, c), (pos, cell))


BAD = {
    "radius": (lambda: radius_graph(torch.zeros(3, 2), 0.0), ErlangenError, "radius = 0.0; give a positive"),
    "infinite": (lambda: radius_graph(torch.zeros(3, 2), float("inf")), ErlangenError, "radius"),
    "k": (lambda: knn_graph(torch.zeros(3, 2), 0), ErlangenError, "k = 0"),
    "nan": (lambda: radius_graph(torch.full((3, 2), torch.nan), 1.0), NotFiniteError, "pos"),
    "shape": (lambda: radius_graph(torch.zeros(2, 3, 2), 1.0), ShapeError, "pos has shape"),
    "order": (lambda: radius_graph(torch.zeros(2, 2), 1.0, torch.tensor([1, 0])), ShapeError, "ascending order"),
    "flat": (lambda: periodic_radius_graph(torch.zeros(2, 2), 1.0, torch.ones(2, 2)), GroupError, "linearly dependent"),
    "cell": (lambda: periodic_radius_graph(torch.zeros(2, 2), 1.0, torch.eye(3)), ShapeError, "cell has shape"),
    "axes": (
        lambda: periodic_radius_graph(torch.zeros(2, 2), 1.0, torch.eye(2), periodic=[True]),
        ShapeError,
        "one for each of the 2",
    ),
    "half": (
        lambda: edge_vectors(torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int64), cell=torch.eye(2)),
        ShapeError,
        "belong together",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
