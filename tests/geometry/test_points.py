"""Clouds: choices against loops by hand, scipy and numpy; orders, masks, motions, gradients and bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import NearestNDInterpolator
from scipy.spatial import cKDTree
from torch import Tensor

import erlangen as er
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.geometry import (
    ball_groups,
    farthest_points,
    interpolate_points,
    knn_graph,
    knn_groups,
    take_points,
    voxel_points,
)
from erlangen.geometry.points import _walk

DOUBLE = torch.float64


def cloud(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def masks(*shape: int, seed: int = 7) -> Tensor:
    there = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    there[:, 0] = True
    return there


def moves(count: int) -> Tensor:
    return er.E(3).sample(count, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)


# --- farthest points -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("masked", [False, True])
def test_farthest_points_by_hand(dtype: torch.dtype, masked: bool) -> None:
    pos, exists = cloud(3, 40, 3, dtype=dtype), masks(3, 40) if masked else None
    start = torch.tensor([0, 0, 0])
    chosen = farthest_points(pos, 12, exists=exists, start=start)
    for b in range(3):
        rows = range(40) if exists is None else torch.nonzero(exists[b])[:, 0].tolist()
        taken = [0]
        while len(taken) < 12:
            far = {i: min(float((pos[b, i] - pos[b, j]).double().square().sum()) for j in taken) for i in rows}
            taken.append(max(far, key=far.get))
        assert chosen[b].tolist() == taken
    assert torch.equal(_walk(pos, start, 12, exists), chosen)


def test_large_clouds_are_thinned_in_blocks() -> None:
    pos = cloud(5, 9000, 3, dtype=torch.float32)
    start = torch.arange(5)
    assert torch.equal(farthest_points(pos, 20, start=start), _walk(pos, start, 20, None))


def test_ties_go_to_the_first_and_coincident_points_repeat() -> None:
    square = torch.tensor([[[0.0, 0], [1, 0], [0, 1], [1, 1]]])
    assert farthest_points(square, 4, start=torch.tensor([0])).tolist() == [[0, 3, 1, 2]]
    assert farthest_points(torch.zeros(1, 3, 2), 3, start=torch.tensor([2])).tolist() == [[2, 0, 0]]


def test_start_at_the_centre_moves_with_the_cloud() -> None:
    pos, exists = cloud(6, 30, 3), masks(6, 30)
    chosen = farthest_points(pos, 8, exists=exists, start="centre")
    moved = er.actions.Points().on(er.E(3)).act(moves(6), pos)
    assert torch.equal(farthest_points(moved, 8, exists=exists, start="centre"), chosen)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    shuffled = farthest_points(pos[:, order], 8, exists=exists[:, order], start="centre")
    assert torch.equal(order[shuffled], chosen)
    padded = torch.where(exists[..., None], pos, 1e6)
    assert torch.equal(farthest_points(padded, 8, exists=exists, start="centre"), chosen)


# --- groups ----------------------------------------------------------------------------------------------------------
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 100), st.booleans())
@settings(max_examples=40)
def test_groups_by_hand(n: int, k: int, seed: int, ball: bool) -> None:
    pos, centres, exists = cloud(2, n, 2, seed=seed), cloud(2, 5, 2, seed=seed + 1), masks(2, n, seed=seed)
    exists[1] = exists[1] & (seed % 5 > 0)  # sometimes a cloud without points
    radius = 0.8 if ball else math.inf
    groups = ball_groups(pos, centres, 0.8, k, exists=exists) if ball else knn_groups(pos, centres, k, exists=exists)
    for b, c in itertools.product(range(2), range(5)):
        far = (pos[b] - centres[b, c]).norm(dim=-1)
        want = [i for i in far.argsort().tolist() if bool(exists[b, i]) and float(far[i]) <= radius][:k]
        assert groups.index[b, c][groups.exists[b, c]].tolist() == want
        assert groups.exists[b, c].tolist() == [True] * len(want) + [False] * (k - len(want))
        assert set(groups.index[b, c, len(want) :].tolist()) <= {want[0] if want else 0}


def test_radius_is_inclusive() -> None:
    groups = ball_groups(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0]]]), 1.0, 2)
    assert groups.exists.tolist() == [[[True, True]]]


def test_groups_are_the_edges_of_the_graph() -> None:
    pos = cloud(1, 50, 3)
    source, target = knn_graph(pos[0], 4, loop=True)
    assert torch.equal(knn_groups(pos, pos, 4).index[0].flatten(), source)
    assert torch.equal(torch.arange(50).repeat_interleave(4), target)


def test_groups_move_and_permute() -> None:
    pos, centres = cloud(4, 60, 3), cloud(4, 9, 3, seed=1)
    groups = ball_groups(pos, centres, 1.0, 8)
    act, g = er.actions.Points().on(er.E(3)).act, moves(4)
    moved = ball_groups(act(g, pos), act(g, centres), 1.0, 8)
    assert torch.equal(moved.index, groups.index)
    assert torch.equal(moved.exists, groups.exists)
    order, places = (torch.randperm(m, generator=torch.Generator().manual_seed(m)) for m in (60, 9))
    shuffled = ball_groups(pos[:, order], centres[:, places], 1.0, 8)
    there = groups.exists[:, places]
    assert torch.equal(order[shuffled.index][there], groups.index[:, places][there])
    assert torch.equal(take_points(pos, groups.index)[1, 2, 3], pos[1, groups.index[1, 2, 3]])


# --- voxels ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("masked", [False, True])
def test_voxels_by_hand(masked: bool) -> None:
    pos, x, size = 2 * cloud(3, 200, 3), cloud(3, 200, 4, seed=1), 0.7
    exists = masks(3, 200) if masked else torch.ones(3, 200, dtype=torch.bool)
    voxels = voxel_points(pos, size, exists=exists if masked else None)
    pooled = voxels.pool(x)
    for b in range(3):
        cells: dict[tuple[int, ...], list[int]] = {}
        for i in torch.nonzero(exists[b])[:, 0].tolist():
            cells.setdefault(tuple(math.floor(float(v) / size) for v in pos[b, i]), []).append(i)
        assert int(voxels.exists[b].sum()) == len(cells)
        for j, cell in enumerate(sorted(cells)):
            torch.testing.assert_close(voxels.pos[b, j], pos[b, cells[cell]].mean(0))
            torch.testing.assert_close(pooled[b, j], x[b, cells[cell]].mean(0))
            assert set(voxels.labels[b, cells[cell]].tolist()) == {j}
        assert voxels.pos[b, len(cells) :].abs().sum() == 0
        assert (voxels.labels[b] == -1).tolist() == (~exists[b]).tolist()


def test_voxels_move_with_their_lattice() -> None:
    """Under shifts by cells and turns of the cube, and under any motion of points and origin by a shift."""
    pos, size = cloud(1, 300, 3), 0.5
    voxels = voxel_points(pos, size)
    cube = er.Octahedral(inversion=True)
    for g in (5, 30, 47):
        R = cube.linear(torch.tensor(g), dtype=DOUBLE)
        moved = voxel_points(pos @ R.mT + torch.tensor([1.0, -2.5, 0.5], dtype=DOUBLE), size)
        want = voxels.pos @ R.mT + torch.tensor([1.0, -2.5, 0.5], dtype=DOUBLE)
        assert moved.pos.shape == want.shape
        distance, _ = cKDTree(want[0].numpy()).query(moved.pos[0].numpy())
        assert distance.max() < 1e-12
    shift = torch.tensor([0.123, 4.5, -0.77], dtype=DOUBLE)
    torch.testing.assert_close(voxel_points(pos + shift, size, origin=shift).pos, voxels.pos + shift)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    shuffled = voxel_points(pos[:, order], size)
    torch.testing.assert_close(shuffled.pos, voxels.pos)
    assert torch.equal(shuffled.labels, voxels.labels[:, order])


# --- interpolation ---------------------------------------------------------------------------------------------------
def test_interpolation_by_the_formula() -> None:
    pos, sources, values, exists = cloud(2, 20, 3), cloud(2, 15, 3, seed=1), cloud(2, 15, 4, seed=2), masks(2, 15)
    ours = interpolate_points(pos, sources, values, 3, exists=exists)
    for b, i in itertools.product(range(2), range(20)):
        far = (sources[b] - pos[b, i]).norm(dim=-1).masked_fill(~exists[b], torch.inf)
        near = far.argsort()[:3]
        w = 1 / far[near].square()
        torch.testing.assert_close(ours[b, i], (w[:, None] * values[b, near]).sum(0) / w.sum())


def test_interpolation_at_sources_and_with_one() -> None:
    sources, values = cloud(1, 30, 2), cloud(1, 30, 5, seed=1)
    torch.testing.assert_close(interpolate_points(sources, sources, values), values)
    pos = cloud(1, 40, 2, seed=2)
    want = NearestNDInterpolator(sources[0].numpy(), values[0].numpy())(pos[0].numpy())
    np.testing.assert_allclose(interpolate_points(pos, sources, values, 1)[0], want)
    twice = torch.cat([sources, sources], 1)
    means = interpolate_points(sources, twice, torch.cat([values, values + 2], 1), 2)
    torch.testing.assert_close(means, values + 1)


def test_interpolation_laws() -> None:
    pos, sources, values = cloud(4, 20, 3), cloud(4, 15, 3, seed=1), cloud(4, 15, 2, seed=2)
    ours = interpolate_points(pos, sources, values)
    act, g = er.actions.Points().on(er.E(3)).act, moves(4)
    torch.testing.assert_close(interpolate_points(7 * act(g, pos), 7 * act(g, sources), values), ours)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(interpolate_points(pos, sources[:, order], values[:, order]), ours)
    ones = interpolate_points(pos, sources, torch.ones(4, 15, 1, dtype=DOUBLE))
    torch.testing.assert_close(ones, torch.ones_like(ones))


def test_gradients() -> None:
    pos, sources, values = (
        t.requires_grad_() for t in (cloud(2, 4, 2), cloud(2, 6, 2, seed=1), cloud(2, 6, 3, seed=2))
    )
    assert torch.autograd.gradcheck(interpolate_points, (pos, sources, values))
    assert torch.autograd.gradcheck(lambda p: voxel_points(p, 1.0).pos, sources)
    interpolate_points(sources, sources.detach(), values.detach()).sum().backward()
    assert bool(torch.isfinite(sources.grad).all())


# --- what is refused -------------------------------------------------------------------------------------------------
X = torch.zeros(2, 4, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: farthest_points(X, 2, start="first"), UnknownNameError, "'random' or 'centre'"),
        (lambda: farthest_points(X, 2, start=torch.tensor([0, 4])), ShapeError, "row of each cloud"),
        (lambda: farthest_points(X, 2, start=torch.tensor([0])), ShapeError, "row of each cloud"),
        (
            lambda: farthest_points(
                X, 2, exists=torch.tensor([[True, False, True, True]] * 2), start=torch.tensor([0, 1])
            ),
            ShapeError,
            "does not exist",
        ),
        (lambda: farthest_points(X, 2, exists=torch.ones(2, 4)), ShapeError, "pass bool"),
        (lambda: farthest_points(X.long(), 2), DtypeError, "pos has dtype"),
        (lambda: knn_groups(X, X, 0), ErlangenError, "k = 0"),
        (lambda: knn_groups(X, X[:1], 1), ShapeError, "centres"),
        (lambda: knn_groups(X[0], X, 1), ShapeError, "pos has shape"),
        (lambda: knn_groups(X, X + torch.inf, 1), NotFiniteError, "centres has"),
        (lambda: ball_groups(X, X, 0.0, 1), ErlangenError, "radius = 0"),
        (lambda: take_points(X, torch.zeros(2, 3)), DtypeError, "pass int64"),
        (lambda: take_points(X, torch.zeros(3, 3).long()), ShapeError, "of one batch"),
        (lambda: voxel_points(X, -1.0), ErlangenError, "size = -1"),
        (lambda: voxel_points(X + 1e9, 1e-9), ErlangenError, "cannot be counted"),
        (lambda: voxel_points(X, 1.0, origin=torch.zeros(2)), ShapeError, "origin has shape"),
        (lambda: voxel_points(X, 1.0).pool(X[:, :2]), ShapeError, "a row for each"),
        (lambda: interpolate_points(X, X, X[:, :2]), ShapeError, "values"),
        (lambda: interpolate_points(X, X, X, exists=torch.zeros(2, 4, dtype=torch.bool)), ShapeError, "all points"),
    ],
)
def test_bad_input(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
