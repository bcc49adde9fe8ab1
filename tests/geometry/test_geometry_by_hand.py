"""Edges of what is allowed, and small cases whose answer is known: neighbours, mixtures, tours, ego networks."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

import erlangen as er
from erlangen.errors import DtypeError, ErlangenError, ErlangenWarning, ShapeError
from erlangen.geometry import (
    PairInvariants,
    cluster_parts,
    color_kernel,
    ego_networks,
    farthest_points,
    fit_mixture,
    harden,
    knn_graph,
    optimal_tours,
    periodic_radius_graph,
    radius_graph,
    refined_colors,
    rewrite_tours,
    tour_lengths,
    voronoi,
)
from erlangen.geometry.tours import MAX_CITIES

LINE = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)


# --- neighbours ------------------------------------------------------------------------------------------------------
def test_one_neighbour_and_none():
    assert knn_graph(LINE, 1).tolist() == [[1, 0, 1], [0, 1, 2]]
    assert knn_graph(LINE, 1, loop=True).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert knn_graph(LINE, 2).tolist() == [[1, 2, 0, 2, 1, 0], [0, 0, 1, 1, 2, 2]]
    for k in (0, -1):
        with pytest.raises(ErlangenError, match="at least one neighbour"):
            knn_graph(LINE, k)
    with pytest.raises(ErlangenError, match="graph 0 has 3 points, too few for k = 3"):
        knn_graph(LINE, 3)
    assert knn_graph(LINE, 3, loop=True).shape == (2, 9)
    assert knn_graph(LINE, 9, fewer=True).shape == (2, 6)


def test_a_distance_of_exactly_the_radius_counts():
    assert radius_graph(LINE, 2.0).tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert radius_graph(LINE, math.nextafter(2.0, 0)).tolist() == [[1, 0], [0, 1]]
    cell = torch.tensor([[4.0]], dtype=torch.float64)
    edges, shift = periodic_radius_graph(LINE, 1.0, cell)
    assert edges.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]
    assert shift.tolist() == [[0], [1], [0], [-1]]  # pos[target] - pos[source] + 4 shift: 0 - 3 + 4 = 1
    assert periodic_radius_graph(LINE, 1.0, cell, periodic=False)[0].tolist() == [[1, 0], [0, 1]]
    for radius in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ErlangenError, match="give a positive number"):
            radius_graph(LINE, radius)


@pytest.mark.parametrize("sizes", [[3, 4], [700, 600]])  # one tree for all graphs, and one for each
def test_graphs_of_a_batch_at_the_same_place_do_not_meet(sizes):
    pos = torch.cat([torch.arange(float(n), dtype=torch.float64)[:, None] for n in sizes])
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    edges = radius_graph(pos, 1.0, batch)
    expected = [(a + s, a) for first, n in zip((0, sizes[0]), sizes, strict=True) for a in range(first, first + n)
                for s in (-1, 1) if first <= a + s < first + n]  # fmt: skip
    assert edges.T.tolist() == [list(edge) for edge in expected]
    edges, shift = periodic_radius_graph(pos, 1.5, torch.tensor([[2000.0]], dtype=torch.float64), batch)
    assert edges.T.tolist() == [list(edge) for edge in expected]
    assert not shift.any()


def test_single_points():
    one = LINE[:1]
    assert knn_graph(one, 1, fewer=True).shape == (2, 0)
    with pytest.raises(ErlangenError, match="graph 0 has 1 points, too few for k = 1"):
        knn_graph(one, 1)
    assert knn_graph(one, 1, loop=True).tolist() == [[0], [0]]
    assert radius_graph(one, 1.0).shape == (2, 0)
    assert radius_graph(one, 1.0, loop=True).tolist() == [[0], [0]]
    assert radius_graph(LINE[:0], 1.0).shape == (2, 0)
    batch = torch.tensor([0, 0, 1])  # the last one is alone in its graph, at the place of the first
    pos = torch.tensor([[0.0], [1.0], [0.0]])
    assert radius_graph(pos, 1.0, batch).tolist() == [[1, 0], [0, 1]]
    assert knn_graph(pos, 2, batch, fewer=True).tolist() == [[1, 0], [0, 1]]
    assert radius_graph(pos, 1.0, torch.tensor([0, 1, 1])).tolist() == [[2, 1], [1, 2]]


@pytest.mark.parametrize(
    ("batch", "error"),
    [([0, 0, 0], None), ([0, 1, 3], None), ([-1, 0, 0], ShapeError), ([0, 1, 0], ShapeError), ([0, 0], ShapeError)],
)
def test_batches_ascend_from_zero(batch, error):
    if error is None:
        assert radius_graph(LINE, 0.5, torch.tensor(batch)).shape == (2, 0)
    else:
        with pytest.raises(error, match="in ascending order from 0"):
            radius_graph(LINE, 0.5, torch.tensor(batch))


def test_points_need_axes_and_cells_need_directions():
    for shape in ((3,), (3, 0), (1, 3, 2)):
        with pytest.raises(ShapeError, match=r"pass \[N, n\]"):
            radius_graph(torch.zeros(shape), 1.0)
    cells = torch.tensor([[[1.0, 0], [0, 1]], [[1, 0], [1, 1e-10]]], dtype=torch.float64)
    with pytest.raises(ErlangenError, match="cell of graph 1 has linearly dependent"):
        periodic_radius_graph(torch.zeros(2, 2), 1.0, cells, torch.tensor([0, 1]))
    with pytest.raises(ErlangenError, match="cell of graph 0 has linearly dependent"):
        periodic_radius_graph(torch.zeros(2, 2), 1.0, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    cells = torch.tensor([[1e-8, 0.0], [0.0, 1e-8]], dtype=torch.float64)  # small, but not flat
    assert len(periodic_radius_graph(torch.zeros(1, 2), 1e-8, cells).shift) == 4
    with pytest.raises(ShapeError, match="cell has shape"):
        periodic_radius_graph(torch.zeros(2, 2), 1.0, torch.eye(2)[None], torch.tensor([0, 1]))


# --- invariants of pairs ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("space", ["SE(2)", "SE(3)", "R^2xS^1", "R^3xS^2", "R^n"])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 1, 3)])
def test_invariants_stand_on_the_last_axis(space, lead, generator):
    """However many axes lead: each pair by itself gives the same numbers, and rotations those of R_i^T r and R_i^T R_j."""
    n = 2 if "2" in space[:4] else 3
    pos = [torch.randn(*lead, n, generator=generator, dtype=torch.float64) for _ in range(2)]
    turns = [er.SO(n).sample(lead, generator=generator, dtype=torch.float64) for _ in range(2)] if lead else [
        er.SO(n).sample(1, generator=generator, dtype=torch.float64)[0] for _ in range(2)]  # fmt: skip
    oriented = turns if space[0] == "S" else [turn[..., 0] for turn in turns] if "x" in space else []
    invariants = PairInvariants(space)
    found = invariants(*pos, *oriented)
    assert found.shape == (*lead, invariants.size)
    flat = [t.reshape(-1, *t.shape[len(lead) :]) for t in (*pos, *oriented)]
    alone = torch.stack([invariants(*pair) for pair in zip(*flat, strict=True)])
    torch.testing.assert_close(found.reshape(-1, invariants.size), alone)
    if space[0] == "S":
        r = pos[1] - pos[0]
        expected = [np.linalg.inv(a) @ b for a, b in zip(flat[2].numpy(), flat[3].numpy(), strict=True)]
        moved = [np.linalg.inv(a) @ b for a, b in zip(flat[2].numpy(), r.reshape(-1, n).numpy(), strict=True)]
        np.testing.assert_allclose(
            alone.numpy(), [np.r_[m, e.ravel()] for m, e in zip(moved, expected, strict=True)], atol=1e-12
        )


# --- parts -----------------------------------------------------------------------------------------------------------
def test_one_farthest_point_and_none(generator):
    pos = torch.tensor([[[0.0], [1.0], [5.0]]])
    assert farthest_points(pos, 1, generator=generator).shape == (1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(farthest_points(pos, 3, generator=generator)[0].tolist()) == [0, 1, 2]
    with pytest.warns(ErlangenWarning, match="count = 4, but there are 3"):
        assert farthest_points(pos, 4, generator=generator).shape == (1, 3)
    with pytest.raises(ShapeError, match="count = 0"):
        farthest_points(pos, 0)
    with pytest.raises(ShapeError, match="exists is false for all points of sample 1"):
        farthest_points(pos.repeat(2, 1, 1), 1, exists=torch.tensor([[True] * 3, [False] * 3]))
    exists = torch.tensor([[True, True, False]])
    assert sorted(farthest_points(pos, 2, exists=exists, generator=generator)[0].tolist()) == [0, 1]


def test_rows_that_sum_to_one_within_a_ten_thousandth():
    assert harden(torch.tensor([[0.5, 0.50009]])).tolist() == [1]
    assert harden(torch.tensor([[1.00005, -0.00005]])).tolist() == [0]
    assert harden(torch.tensor([[0.5, 0.5]])).tolist() == [0]
    assert harden(torch.ones(3, 1)).tolist() == [0, 0, 0]
    for bad in ([0.5, 0.5002], [0.5, 0.4998], [1.0002, -0.0002]):
        with pytest.raises(ShapeError, match="rows are probabilities"):
            harden(torch.tensor([bad]))
    for bad in (torch.ones(2), torch.ones(2, 0)):
        with pytest.raises(ShapeError, match=r"pass \[..., n, k\]"):
            harden(bad)


def test_cells_of_two_centres():
    pos = torch.tensor([[[0.0, 0], [3, 0], [2, 9], [2, 0]]])
    centres = torch.tensor([[[0.0, 0], [4, 0]]])
    assert voronoi(pos, centres).tolist() == [[0, 1, 0, 0]]
    for bad in ((pos[0], centres), (pos, centres[:, :0]), (pos, centres[..., :1]), (pos, centres.repeat(2, 1, 1))):
        with pytest.raises(ShapeError, match="k > 0"):
            voronoi(*bad)


@pytest.mark.parametrize("variance", [None, 2.0])
def test_one_step_of_the_mixture_is_that_of_the_textbook(variance, generator):
    """Bishop, Pattern Recognition, section 9.2.2, for round Gaussians, by scipy's densities."""
    x = torch.tensor([[[0.0, 0.0], [1.0, 0.5], [4.0, 4.0], [5.0, 3.0]]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 2.0, 1.0, 4.0]], dtype=torch.float64)
    start, found = (
        fit_mixture(x, 2, steps, weights=weights, variance=variance, generator=generator.manual_seed(0))
        for steps in (0, 1)
    )
    rows, shares = x[0].numpy(), (weights[0] / 8).numpy()
    mean = shares @ rows
    spread = (shares * ((rows - mean) ** 2).sum(1)).sum() / 2  # along each of two axes
    first = spread / 2 if variance is None else variance
    assert start.variances[0].tolist() == pytest.approx([first] * 2)
    assert start.shares.tolist() == [[0.5, 0.5]]

    def expected(pi, means, variances):
        joint = np.stack(
            [p * stats.multivariate_normal(m, v).pdf(rows) for p, m, v in zip(pi, means, variances, strict=True)], 1
        )
        return joint / joint.sum(1, keepdims=True), shares @ np.log(joint.sum(1))

    r, likelihood = expected([0.5, 0.5], start.means[0].numpy(), start.variances[0].numpy())
    np.testing.assert_allclose(start.responsibilities[0].numpy(), r)
    assert start.log_likelihood.tolist() == [[pytest.approx(likelihood)]]
    mass = shares[:, None] * r
    means = mass.T @ rows / mass.sum(0)[:, None]
    squares = ((rows[:, None] - means) ** 2).sum(-1)
    variances = (mass * squares).sum(0) / (2 * mass.sum(0)) if variance is None else np.full(2, variance)
    np.testing.assert_allclose(found.means[0].numpy(), means)
    np.testing.assert_allclose(found.shares[0].numpy(), mass.sum(0))
    np.testing.assert_allclose(found.variances[0].numpy(), variances)
    assert found.log_likelihood[0, 1].item() == pytest.approx(expected(mass.sum(0), means, variances)[1])
    assert fit_mixture(x, 2).log_likelihood.shape == (1, 4)  # three steps by default


def test_variances_have_a_floor(generator):
    x = torch.zeros(1, 3, 2, dtype=torch.float64)
    for steps in (0, 2):
        assert fit_mixture(x, 2, steps, generator=generator).variances.tolist() == [[1e-6, 1e-6]]
        assert fit_mixture(x, 2, steps, floor=0.5, generator=generator).variances.tolist() == [[0.5, 0.5]]
    for bad in ({"steps": -1}, {"floor": 0.0}, {"variance": 0.0}, {"floor": -1.0}):
        with pytest.raises(ErlangenError, match="steps >= 0, the others positive"):
            fit_mixture(x, 2, **bad)
    fit_mixture(x, 2, weights=torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    for bad in ([[0.0, 0.0, 0.0]], [[1.0, -1.0, 1.0]], [[1.0, 1.0]]):
        with pytest.raises(ShapeError, match="not negative, some positive"):
            fit_mixture(x, 2, weights=torch.tensor(bad, dtype=torch.float64))


def test_votes_are_averaged_by_part(generator):
    """Three parts of 1, 2 and 1 points with mean votes 0, 1 and 10, an empty one, and two groups of small variance."""
    votes = torch.tensor([[[0.0], [0.0], [2.0], [10.0]]])
    labels = torch.tensor([[0, 1, 1, 3]])
    found = cluster_parts(votes, labels, 4, 2, variance=0.1, generator=generator)
    a, b, c, d = found.labels[0].tolist()
    assert a == b == c != d
    assert found.uncertainty.tolist() == pytest.approx([0.0], abs=1e-6)
    assert found.responsibilities.shape == (1, 4, 2)
    wide = cluster_parts(votes, labels, 4, 2, variance=1e9, generator=generator)
    assert wide.uncertainty.tolist() == pytest.approx([0.5], abs=1e-3)
    with pytest.raises(ShapeError, match="labels is 3"):
        cluster_parts(votes, labels, 3, 2)


# --- tours -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [3, MAX_CITIES])
def test_tours_of_the_fewest_and_the_most_cities(n, generator):
    """Cities on a circle, shuffled: the polygon is the shortest tour, 2 n sin(pi / n)."""
    angle = 2 * math.pi * torch.randperm(n, generator=generator).double() / n
    pos = torch.stack([angle.cos(), angle.sin()], -1)[None]
    tours = optimal_tours(pos)
    assert tours[0, 0] == 0
    assert tour_lengths(pos, tours).tolist() == pytest.approx([2 * n * math.sin(math.pi / n)])
    assert MAX_CITIES == 14
    for bad in (2, 15):
        with pytest.raises(ShapeError, match="3 <= n <= 14"):
            optimal_tours(torch.zeros(1, bad, 2))
    assert optimal_tours(torch.zeros(0, 5, 1)).shape == (0, 5)


def test_all_ways_to_write_a_tour_are_equally_likely(generator):
    """Three cities: six ways, each of which is all starts and both directions."""
    written = rewrite_tours(torch.arange(3).expand(6000, 3), generator)
    ways, counts = written.unique(dim=0, return_counts=True)
    assert len(ways) == 6
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    four = rewrite_tours(torch.tensor([[0, 2, 1, 3]]).expand(2000, 4), generator)
    steps = {tuple(row) for row in four.tolist()}
    assert len(steps) == 8
    assert all((row.index(0) - row.index(1)) % 4 == 2 for row in map(list, steps))  # 0 and 1 stay opposite


# --- graphs ----------------------------------------------------------------------------------------------------------
def test_ego_networks_of_a_directed_path():
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    for hops in (1, 2, 3):
        found = ego_networks(edges, 5, hops)
        expected = [list(range(max(0, v - hops), v + 1)) for v in range(4)] + [[4]]
        assert found.members.split(found.sizes.tolist())[0].tolist() == expected[0]
        assert [part.tolist() for part in found.members.split(found.sizes.tolist())] == expected
        assert found.ego.tolist() == [v for v, part in enumerate(expected) for _ in part]
    assert ego_networks(edges, 4).sizes.tolist() == [1, 2, 2, 2]
    for bad in (torch.tensor([[0, 4], [1, 1]]), torch.tensor([[0, -1], [1, 1]])):
        with pytest.raises(ErlangenError, match="but nodes = 4"):
            ego_networks(bad, 4)
    with pytest.raises(DtypeError):
        ego_networks(edges.int(), 4)
    for bad in (edges[0], edges[:1], edges.T):
        with pytest.raises(ShapeError, match=r"pass \[2, E\]"):
            ego_networks(bad, 4)


def test_kernel_of_colours_by_hand():
    """Graphs with colours (0, 0, 1) and (0, 1, 1), then all different: counts (2, 1) and (1, 2) and nothing in common."""
    colors = torch.tensor([[0, 0, 1, 0, 1, 1], [0, 1, 2, 3, 4, 5]])
    kernel = color_kernel(colors, torch.tensor([0, 0, 0, 1, 1, 1]), 3)
    assert kernel[0].tolist() == pytest.approx([1.0, 4 / 8, 0.0])
    assert kernel.diagonal().tolist() == pytest.approx([1.0, 1.0, 0.0])
    torch.testing.assert_close(kernel, kernel.mT)
    for bad in ((colors[0], torch.zeros(6)), (colors, torch.zeros(5))):
        with pytest.raises(ShapeError, match="must be"):
            color_kernel(*bad, 2)


def test_rounds_of_refinement():
    path = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    ends = refined_colors(path, torch.zeros(5, dtype=torch.long))
    assert [len(row.unique()) for row in ends] == [1, 2, 3]
    assert refined_colors(path, torch.zeros(5, dtype=torch.long), rounds=1).shape == (2, 5)
    assert refined_colors(path, torch.tensor([7, 7, 9, 7, 7]), rounds=4)[0].tolist() == [0, 0, 1, 0, 0]
    assert refined_colors(path[:, :0], torch.zeros(0, dtype=torch.long)).shape == (1, 0)
    with pytest.raises(ErlangenError, match="rounds"):
        refined_colors(path, torch.zeros(5, dtype=torch.long), rounds=0)
