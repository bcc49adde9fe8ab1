"""What frames are made of, against numbers by hand: clouds, ties and their limits, padding, averages."""

import math
import re

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.actions import Part
from erlangen.enforce import calls, cloud, graph_orders, sort_frames
from erlangen.errors import GroupError, ModelError, NotFiniteError, OrbitError, ShapeError

SETS = er.Symmetry("Symmetric(3)", input="permuted", output="invariant")


def parts_of(symmetry, x):
    return cloud.geometric_parts(symmetry, x)


# --- clouds ----------------------------------------------------------------------------------------------------------
def test_a_cloud_is_centred_by_its_weights():
    """Masses 1 and 3 at 0 and 4 on a line, and one row that does not exist: the centre is at 3."""
    symmetry = er.Symmetry("E(2)", input={"pos": "points", "vel": "vectors"}, output="invariant")
    x = {
        "pos": torch.tensor([[[0.0, 1.0], [4.0, 1.0], [99.0, 7.0]]]),
        "vel": torch.tensor([[[1.0, -2.0], [3.0, 5.0], [8.0, 8.0]]]),
    }
    mask = torch.tensor([[1.0, 3.0, 0.0]])
    found = cloud.gather_cloud(parts_of(symmetry, x), mask, symmetry.group, centred=True)
    assert found.centre.tolist() == [[3.0, 1.0]]
    assert found.size.tolist() == [5.0]  # of what exists, before centring
    assert found.columns.mT.tolist() == [[[-3.0, 0], [1, 0], [0, 0], [1, -2], [3, 5], [0, 0]]]
    assert found.weights is not None
    assert found.weights.tolist() == [[1.0, 3, 0, 1, 3, 0]]
    assert found.columns.dtype == torch.float64
    still = cloud.gather_cloud(parts_of(symmetry, x), mask, symmetry.group, centred=False)
    assert still.centre.tolist() == [[0.0, 0.0]]
    assert still.columns[0, :, :3].mT.tolist() == [[0.0, 1.0], [4.0, 1.0], [0.0, 0.0]]
    plain = cloud.gather_cloud(
        parts_of(symmetry, {k: v[:, :2] for k, v in x.items()}), None, symmetry.group, centred=True
    )
    assert plain.weights is None
    assert plain.centre.tolist() == [[2.0, 1.0]]
    nothing = cloud.gather_cloud(parts_of(symmetry, x), 0 * mask, symmetry.group, centred=True)
    assert nothing.centre.tolist() == [[0.0, 0.0]]
    assert not nothing.columns.any()


def test_masks_belong_to_parts_of_their_length():
    symmetry = er.Symmetry("E(2)", input={"pos": "points", "pull": "vectors"}, output="invariant")
    x = {"pos": torch.ones(1, 3, 2), "pull": torch.ones(1, 1, 2)}
    found = cloud.gather_cloud(parts_of(symmetry, x), torch.tensor([[True, False, True]]), symmetry.group, centred=True)
    assert found.weights is not None
    assert found.weights.tolist() == [[1.0, 0.0, 1.0, 1.0]]
    with pytest.raises(ShapeError, match=r"one entry per row"):
        cloud.gather_cloud(parts_of(symmetry, x), torch.ones(1, 2), symmetry.group, centred=True)
    empty = parts_of(symmetry, {"pos": torch.ones(1, 0, 2), "pull": torch.ones(1, 0, 2)})
    with pytest.raises(ShapeError, match=r"no points \(n = 0\)"):
        cloud.gather_cloud(empty, None, symmetry.group, centred=False)
    gone = parts_of(symmetry, {"pos": torch.ones(1, 0, 2), "pull": torch.ones(1, 1, 2)})
    with pytest.raises(GroupError, match="holds no points, only vectors"):
        cloud.gather_cloud(gone, None, symmetry.group, centred=True)
    with pytest.raises(ShapeError, match="3 coordinates, but"):
        parts_of(symmetry, {"pos": torch.ones(1, 3, 3), "pull": torch.ones(1, 1, 2)})


def test_questions_about_actions():
    of = lambda text: er.Symmetry("O(3)", input=text, output="invariant").input.action  # noqa: E731
    assert cloud.has_parts(of("vectors + invariant"))
    assert not cloud.has_parts(of("invariant"))
    assert cloud.has_pseudovectors(of("vectors + pseudovectors"))
    assert not cloud.has_pseudovectors(of("vectors"))
    assert cloud.is_first_order(of({"a": "points", "b": "pseudovectors", "c": "invariant"}))
    assert not cloud.is_first_order(of({"a": "points", "b": "spd"}))


# --- sort frames -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("gap", "spaces"), [(1e-9, 2), (1e-6, 3)])
def test_eigenvalues_closer_than_1e_8_are_one(gap, spaces):
    """Two edges of weights 1 and 1 + gap: eigenvalues 0, 0, 2 and 2 + 2 gap, of vectors (1, -1) / sqrt 2 on each edge."""
    adj = torch.zeros(1, 4, 4, dtype=torch.float64)
    adj[0, 0, 1] = 2.0  # one direction of each: the symmetric part has half of it
    adj[0, 3, 2] = 2.0 * (1 + gap)
    half = math.sqrt(0.5)
    columns = [[half] * 4, [half, half, 0, 0], [0, 0, half, half], [0.0] * 4]
    if spaces == 2:
        columns = [[half] * 4, [half] * 4, [0.0] * 4, [0.0] * 4]
    expected = torch.tensor(columns, dtype=torch.float64).mT[None]
    torch.testing.assert_close(sort_frames.spectral_signature(adj), expected)
    torch.testing.assert_close(sort_frames.spectral_signature(1e-9 * adj), expected)  # the unit does not matter


def test_graphs_without_edges():
    expected = torch.eye(3, dtype=torch.float64)[:, :1].new_ones(1, 3, 1)
    signature = sort_frames.spectral_signature(torch.zeros(1, 3, 3))
    torch.testing.assert_close(signature, torch.cat([expected, torch.zeros(1, 3, 2, dtype=torch.float64)], -1))


@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize(
    ("dtype", "equal", "different"),
    [(torch.float32, 1e-4, 2e-4), (torch.float64, 2e-13, 3e-13), (torch.bfloat16, 0.0, 1 / 64)],
)
def test_features_within_rounding_tie_inside_of_other_frames(size, dtype, equal, different):
    """1024 units of rounding of the largest feature, 1.2e-4 and 2.3e-13, and at most a thousandth."""
    frame = sort_frames.SortFrame(SETS, tol=sort_frames.NESTED_TOL)
    for gap, count in ((equal, 2), (different, 1)):
        x = (size * torch.tensor([[1.0, 1.0 - gap, -0.5]], dtype=torch.float64)).to(dtype)
        assert frame(x).elements.shape[1] == count
        assert sort_frames.SortFrame(SETS)(x).elements.shape[1] == (1 if gap else 2)


def test_chains_of_small_steps_are_one_class():
    values = torch.tensor([[3.0, 0.0, 1.0, 2.0, 5.0, 4.5]])
    assert sort_frames._dense_ranks(values, 1.0).tolist() == [[0, 0, 0, 0, 1, 1]]
    assert sort_frames._dense_ranks(values, 0.75).tolist() == [[3, 0, 1, 2, 4, 4]]
    assert sort_frames._dense_ranks(values, 0).tolist() == [[3, 0, 1, 2, 5, 4]]
    assert sort_frames._dense_ranks(torch.tensor([[True, False, True]]), 0).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(("nodes", "limit", "listed"), [(3, 6, True), (3, 5, False), (7, 5040, True), (8, 5040, False)])
def test_frames_of_exactly_the_limit_are_listed(nodes, limit, listed):
    symmetry = er.Symmetry(f"Symmetric({nodes})", input="permuted", output="invariant")
    frame = sort_frames.SortFrame(symmetry, limit=limit)
    x = torch.stack([torch.arange(nodes), torch.zeros(nodes, dtype=torch.long)])
    if listed:
        found = frame(x)
        assert found.elements.shape == (2, math.factorial(nodes), nodes)
        assert len(found.elements[1].unique(dim=0)) == math.factorial(nodes)
        assert found.weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
        assert int((found.weights[0] > 0).sum()) == 1
        assert bool(found.gap.isinf().all())
    else:
        with pytest.raises(OrbitError, match=rf"sample 1 .*{re.escape(f'{math.factorial(nodes):.3g}')} permutations"):
            frame(x)
    assert sort_frames.SortFrame(symmetry).limit == 5040


def test_hopeless_sizes_are_named_by_their_order():
    symmetry = er.Symmetry("Symmetric(200)", input="permuted", output="invariant")
    digits = round(math.lgamma(201) / math.log(10))
    with pytest.raises(OrbitError, match=rf"10\^{digits} permutations"):
        sort_frames.SortFrame(symmetry)(torch.zeros(1, 200))


def test_samples_are_the_whole_frame_where_it_has_at_most_k(generator):
    frame = sort_frames.SortFrame(SETS)
    x = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    found = frame.sample(x, 6, generator)
    assert len(found.elements[0].unique(dim=0)) == 6
    assert found.weights.tolist() == [pytest.approx([1 / 6] * 6), pytest.approx([0.5, 0.5, 0, 0, 0, 0])]
    found = frame.sample(x, 5, generator)
    assert found.elements.shape == (2, 5, 3)
    assert found.weights.tolist() == [pytest.approx([0.2] * 5), pytest.approx([0.5, 0.5, 0, 0, 0])]
    small = sort_frames.SortFrame(SETS, limit=2)
    found = small.sample(x, 3, generator, whole=True)
    assert found.weights.tolist() == [pytest.approx([1 / 3] * 3), pytest.approx([0.5, 0.5, 0])]
    same = small.sample(x[[0, 0]], 3, generator, whole=True).elements
    assert torch.equal(same[0], same[1])  # all samples share the random keys
    apart = small.sample(x[[0] * 20], 3, generator).elements
    assert len(apart.unique(dim=0)) > 1
    assert not frame.is_enumerable


def test_masked_nodes_and_their_shapes(generator):
    frame = sort_frames.SortFrame(SETS)
    x = torch.tensor([[5.0, 1.0, 1.0]])
    assert frame(x, torch.tensor([[True, False, True]])).elements.tolist() == [[[2, 0, 1]]]
    with pytest.raises(ShapeError, match=r"mask has shape \(1, 2\); x needs \(1, 3\)"):
        frame(x, torch.ones(1, 2))
    with pytest.raises(ShapeError, match="x has 2 nodes"):
        frame(x[:, :2])


def test_orders_of_graphs_with_named_nodes():
    """Ordered pairs of five nodes, 20 of them, each followed by the others; an average with equal weights."""
    found = graph_orders.NamedNodes(5, 2)({"adj": torch.zeros(3, 5, 5)})
    pairs = {tuple(row[:2]) for row in found.elements[0].tolist()}
    assert len(pairs) == 20
    assert bool((found.elements.sort(-1).values == torch.arange(5)).all())
    assert found.weights.tolist() == [pytest.approx([0.05] * 20)]
    assert found.gap.tolist() == [math.inf] * 3


def test_sizes_of_sort_frames_by_their_ties():
    path = torch.diag(torch.ones(3), 1) + torch.diag(torch.ones(3), -1)
    full = torch.ones(4, 4) - torch.eye(4)
    star = torch.zeros(4, 4)
    star[0, 1:] = star[1:, 0] = 1
    sizes = graph_orders.sort_frame_sizes(torch.stack([path, full, star, 0 * full]))
    assert sizes.tolist() == [4, 24, 6, 24]  # two pairs, four, three, four nodes that tie


@pytest.mark.parametrize("nodes", [3, 5])
def test_averages_over_orders_reach_every_order(nodes):
    """A network that reads the first row of the adjacency: the average is a node's mean degree."""

    class First(nn.Module):
        def forward(self, x):
            return x["adj"][:, 0].sum(1, keepdim=True)

    adj = torch.ones(2, nodes, nodes, dtype=torch.float64) - torch.eye(nodes)
    adj[1, 0] = adj[1, :, 0] = 0
    named = graph_orders.averaged_outputs(graph_orders.average_orders(First(), nodes, 1), adj)
    torch.testing.assert_close(named[:, 0], adj.sum((1, 2)) / nodes)
    ties = graph_orders.averaged_outputs(graph_orders.average_orders(First(), nodes), adj)
    assert float(ties[0]) == pytest.approx(nodes - 1)
    assert float(ties[1]) in (pytest.approx(0), pytest.approx(nodes - 2))  # one kind of node is always first
    assert graph_orders.averaged_outputs(graph_orders.average_orders(First(), nodes), adj[:0]).shape[0] == 0


# --- calls of models -------------------------------------------------------------------------------------------------
def test_helpers_of_calls():
    assert calls.is_floating(torch.ones(1))
    assert not calls.is_floating(torch.ones(1, dtype=torch.long))
    assert not calls.is_floating(1.0)
    rows = torch.arange(6.0).view(2, 3)
    assert torch.equal(calls.Repeat(2, 4)(rows), rows[[0] * 4 + [1] * 4])
    assert calls.Repeat(3, 4)(rows) is rows
    assert calls.Repeat(2, 4)("text") == "text"
    scalar = torch.tensor(2.0)
    assert calls.Repeat(2, 4)(scalar) is scalar
    assert calls.flatten(rows[:, None], 4).shape == (8, 3)
    assert calls.flatten(rows[:, :, None], 3).shape == (6, 1)
    assert calls.flatten(None, 3) is None
    g = torch.eye(3)
    assert calls.as_wide_as(g, {"a": rows.double(), "b": rows}).dtype == torch.float64
    assert calls.as_wide_as(g.double(), rows).dtype == torch.float32
    assert calls.as_wide_as(g.double(), rows.long()).dtype == torch.float64
    assert calls.as_wide_as(torch.arange(3), rows.double()).dtype == torch.int64
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    assert calls.weighted_sum(values, weights).tolist() == [[2.5, 3.5], [5.0, 6.0]]
    assert calls.weighted_sum(values[..., 0], weights[:1]).tolist() == [2.5, 6.5]
    for bad, message in (("x", "returned a str"), (torch.tensor(1.0), "returned shape"), (rows.long(), "averaged")):
        with pytest.raises(ModelError, match=message):
            calls.check_output(bad, 2)
    with pytest.raises(ModelError, match=r"shape \(2, 3\) for a batch of 3"):
        calls.check_output(rows, 3)
    calls.check_output(rows, 2)
    calls.check_output(rows.to(torch.complex64), 2)


def test_whole_numbers_beside_points_stay_whole():
    """Kinds of atoms go into an embedding: they may be neither moved nor made floating."""

    class Atoms(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot(x["kind"], 3).to(x["pos"])[..., :1].mul(x["pos"][..., :1]).sum((1, 2))[:, None]

    symmetry = er.Symmetry("SE(3)", input={"pos": "points", "kind": "invariant"}, output="invariant")
    exact = er.symmetrize(Atoms(), symmetry)
    x = {"pos": torch.randn(4, 5, 3, dtype=torch.float64), "kind": torch.tensor([[0, 1, 2, 0, 1]] * 4)}
    g = symmetry.group.sample(4, dtype=torch.float64)
    torch.testing.assert_close(exact(symmetry.input.act(g, x)), exact(x))
    x["pos"][2, 1] = math.nan
    with pytest.raises(NotFiniteError, match="sample 2 of the batch"):
        exact(x)


def test_masks_are_weights_that_are_not_negative():
    symmetry = er.Symmetry("SO(3)", input="points", output="invariant")
    exact = er.symmetrize(lambda x, mask: x.sum((1, 2))[:, None], symmetry)
    x = torch.randn(2, 4, 3)
    exact(x, mask=torch.tensor([[0.0, 1.0, 2.0, 1.0]] * 2))
    exact(x, mask=torch.tensor([[False, True, True, True]] * 2))
    x[0, 0] = math.inf
    exact(x, mask=torch.tensor([[0, 1, 1, 1]] * 2))  # what does not exist need not be finite
    with pytest.raises(ShapeError, match=r"negative at \(0, 1\)"):
        exact(x, mask=torch.tensor([[0.0, -1.0, 2.0, 1.0]] * 2))
    for bad in (torch.ones(2), torch.ones(3, 4), torch.ones(2, 4, 1)):
        with pytest.raises(ShapeError, match=r"must be \[B, N\] with B = 2"):
            exact(x, mask=bad)
    assert isinstance(symmetry.input.parts(x)[0], Part)
