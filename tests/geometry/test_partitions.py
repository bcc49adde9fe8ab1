"""Partitions: order against sets, cells against scipy, mixtures against scipy densities and closed forms and bad input."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.stats import multivariate_normal

from erlangen.errors import DtypeError, ErlangenError, ErlangenWarning, NotFiniteError, ShapeError
from erlangen.geometry import (
    cluster_parts,
    farthest_points,
    fit_mixture,
    harden,
    is_refinement,
    merge_parts,
    mixed_points,
    mixture_step,
    same_cells,
    scattered_cells,
    voronoi,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_sets(labels: torch.Tensor) -> list[set[int]]:
    return [set(torch.nonzero(labels == j)[:, 0].tolist()) for j in labels.unique()]


# --- order -----------------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_is_that_of_sets(fine: list[int], random) -> None:
    coarse = [random.randint(0, 2) for _ in fine]
    a, b = torch.tensor([fine]), torch.tensor([coarse])
    expected = all(any(part <= whole for whole in as_sets(b[0])) for part in as_sets(a[0]))
    assert is_refinement(a, b).tolist() == [expected]
    mixed = [len({coarse[j] for j in range(len(fine)) if fine[j] == fine[i]}) > 1 for i in range(len(fine))]
    assert mixed_points(a, b).tolist() == [mixed]


def test_order_laws() -> None:
    labels = torch.randint(4, (50, 20), generator=generator())
    merged = merge_parts(labels, torch.randint(3, (50, 4), generator=generator(1)))
    assert bool(is_refinement(labels, labels).all())
    assert bool(is_refinement(labels, merged).all())
    assert bool(is_refinement(torch.arange(20).expand(50, 20), labels).all())
    assert bool(is_refinement(labels, torch.zeros_like(labels)).all())
    assert not bool(is_refinement(torch.zeros_like(labels), labels).any())
    assert is_refinement(labels[:0], labels[:0]).shape == (0,)


def test_merging_unites_whole_parts() -> None:
    assert merge_parts(torch.tensor([[0, 1, 2, 1]]), torch.tensor([[5, 0, 5]])).tolist() == [[5, 0, 5, 0]]


def test_harden() -> None:
    soft = torch.tensor([[[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]])
    assert harden(soft).tolist() == [[1, 0, 0]]
    labels = torch.randint(3, (2, 7), generator=generator())
    assert torch.equal(harden(torch.nn.functional.one_hot(labels, 3).double()), labels)


# --- cells -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_are_nearest_neighbours(dtype: torch.dtype) -> None:
    pos = torch.randn(4, 200, 3, generator=generator(), dtype=dtype)
    centres = torch.randn(4, 9, 3, generator=generator(1), dtype=dtype)
    labels = voronoi(pos, centres)
    for b in range(4):
        assert labels[b].tolist() == cKDTree(centres[b].numpy()).query(pos[b].numpy())[1].tolist()


def test_ties_go_to_the_first() -> None:
    assert voronoi(torch.zeros(1, 1, 1), torch.tensor([[[1.0], [-1.0]]])).tolist() == [[0]]


def test_farthest_points_by_brute_force() -> None:
    pos = torch.randn(5, 30, 3, generator=generator(), dtype=torch.float64)
    chosen = farthest_points(pos, 8, generator=generator(3))
    for b in range(5):
        D = torch.cdist(pos[b], pos[b])
        for i in range(1, 8):
            assert int(chosen[b, i]) == int(D[chosen[b, :i]].amin(0).argmax())
        assert len(set(chosen[b].tolist())) == 8
    assert torch.equal(chosen, farthest_points(pos, 8, generator=generator(3)))


def test_the_first_point_is_uniform() -> None:
    first = farthest_points(torch.randn(1, 4, 2).expand(4000, 4, 2), 1, generator=generator())[:, 0]
    counts = torch.bincount(first, minlength=4).double()
    assert float(((counts - 1000).square() / 1000).sum()) < 16.3  # chi-square with 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("count", "spacing"), [(200, 0.5), (12, 0.5), (12, 0.0), (1, 0.3)])
def test_scattered_cells_one_by_one(count: int, spacing: float) -> None:
    """Against a loop over the points in their random order."""
    pos = torch.randn(4, 90, 3, generator=generator(), dtype=torch.float64)
    labels = scattered_cells(pos, count, spacing, generator=generator(5))
    order = torch.rand(4, 90, generator=generator(5), dtype=torch.float64)
    for b in range(4):
        D = torch.cdist(pos[b], pos[b])
        centres: list[int] = []
        for i in order[b].argsort().tolist():
            if len(centres) < count and all(D[i, c] >= spacing for c in centres):
                centres.append(i)
        centres.sort()
        assert labels[b].tolist() == D[:, centres].argmin(1).tolist()


def test_scattered_cells_of_far_parts_do_not_notice_each_other() -> None:
    """Two clouds far apart, one of which turns: no cell changes. Cells of far points do."""
    pos = torch.randn(1, 120, 3, generator=generator(), dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator(1), dtype=torch.float64)).Q
    moved = torch.cat([pos[:, :60], pos[:, 60:] @ turn.mT + 100], 1)
    pos = torch.cat([pos[:, :60], pos[:, 60:] + 100], 1)
    cells = [scattered_cells(x, 120, 0.7, generator=generator(2)) for x in (pos, moved)]
    assert same_cells(*cells).all()
    chosen = [farthest_points(x, 20, generator=generator(2)) for x in (pos, moved)]
    far = [voronoi(x, x[:, c[0]]) for x, c in zip((pos, moved), chosen, strict=True)]
    assert not same_cells(*far)[:, 60:].all()


def test_coincident_points_are_one_cell() -> None:
    assert scattered_cells(torch.zeros(2, 5, 3), 4, 0.1).eq(0).all()


def test_same_cells_by_sets() -> None:
    before, after = (torch.randint(5, (20, 15), generator=generator(k)) for k in range(2))
    after = torch.where(torch.rand(20, 15, generator=generator(2)) < 0.9, before, after)
    same = same_cells(before, after)
    for b in range(20):
        for i in range(15):
            old, new = (set(torch.nonzero(t[b] == t[b, i])[:, 0].tolist()) for t in (before, after))
            assert bool(same[b, i]) == (old == new)
    assert 0 < float(same.double().mean()) < 1
    assert same_cells(before, 4 - before).all()


def test_only_existing_points() -> None:
    exists = torch.tensor([[True, False, True, False]])
    chosen = farthest_points(torch.randn(1, 4, 2), 4, exists=exists, generator=generator())
    assert set(chosen[0].tolist()) == {0, 2}


def test_coincident_points_and_too_many() -> None:
    pos = torch.zeros(2, 5, 3)
    assert voronoi(pos, pos.gather(1, farthest_points(pos, 3)[..., None].expand(-1, -1, 3))).eq(0).all()
    with pytest.warns(ErlangenWarning, match="count = 9, but there are 5 points"):
        assert farthest_points(torch.randn(2, 5, 3), 9).sort(1).values.tolist() == [[0, 1, 2, 3, 4]] * 2


# --- mixtures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variance", [None, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_likelihood_never_falls_and_is_right(variance: float | None, weighted: bool) -> None:
    x = torch.randn(20, 30, 2, generator=generator(), dtype=torch.float64)
    weights = torch.rand(20, 30, generator=generator(1), dtype=torch.float64) if weighted else None
    found = fit_mixture(x, 4, 15, weights=weights, variance=variance, generator=generator(2))
    assert found.log_likelihood.shape == (20, 16)
    assert float(found.log_likelihood.diff(dim=1).min()) > -1e-12
    assert float((found.log_likelihood[:, -1] - found.log_likelihood[:, 0]).min()) > 1e-3
    share = torch.full((20, 30), 1 / 30, dtype=x.dtype) if weights is None else weights / weights.sum(1, keepdim=True)
    for b in range(3):
        joint = np.stack([
            float(found.shares[b, c])
            * multivariate_normal(found.means[b, c].numpy(), float(found.variances[b, c]) * np.eye(2)).pdf(x[b].numpy())
            for c in range(4)
        ])  # fmt: skip
        expected = float((share[b].numpy() * np.log(joint.sum(0))).sum())
        assert abs(float(found.log_likelihood[b, -1]) - expected) < 1e-10
        np.testing.assert_allclose(found.responsibilities[b].numpy(), (joint / joint.sum(0)).T, atol=1e-10)


def test_one_component_is_mean_and_variance() -> None:
    x = torch.randn(3, 50, 2, generator=generator(), dtype=torch.float64)
    found = fit_mixture(x, 1, 1, generator=generator())
    torch.testing.assert_close(found.means[:, 0], x.mean(1))
    torch.testing.assert_close(found.variances[:, 0], x.var(1, correction=0).mean(1))
    again = mixture_step(x, found, torch.full((3, 50), 1 / 50, dtype=x.dtype))
    torch.testing.assert_close(again.means, found.means)


def test_gradients_of_the_mixture() -> None:
    x = torch.randn(1, 6, 2, generator=generator(), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: fit_mixture(t, 2, 2, generator=generator()).responsibilities, [x])


@pytest.mark.parametrize("k", [3, 5])
def test_parts_of_separate_bodies_are_united(k: int) -> None:
    """Votes at three distant places, twelve parts of which two are empty: the three bodies come out, never mixed."""
    body = torch.arange(3).repeat_interleave(40)[None]
    parts = body * 4 + torch.arange(120) % 3
    votes = torch.tensor([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])[body] + 0.1 * torch.randn(1, 120, 3)
    found = cluster_parts(votes, parts, 12, k, variance=0.25, generator=generator())
    assert is_refinement(parts, found.labels).tolist() == [True]
    assert is_refinement(found.labels, body).tolist() == [True]
    if k == 3:
        assert is_refinement(body, found.labels).tolist() == [True]
        assert float(found.uncertainty) < 1e-6


def test_uncertainty_of_equal_votes() -> None:
    found = cluster_parts(torch.zeros(1, 8, 3), torch.arange(8)[None] // 2, 4, 2, generator=generator())
    assert abs(float(found.uncertainty) - 0.5) < 1e-6


def test_parts_that_disagree_stay_as_they_are() -> None:
    """Four parts of two bodies, one across both: grouped, it spoils a body; apart, it is the only mixed one."""
    body = torch.arange(2).repeat_interleave(30)[None]
    parts = torch.arange(60)[None] // 10
    parts = torch.where((parts == 2) | (parts == 3), 2, parts)
    votes = torch.tensor([[0.0, 0, 0], [10, 0, 0]])[body] + 0.1 * torch.randn(1, 60, 3, generator=generator())
    across = parts == 2
    for apart, mixed in ((None, True), (0.75, False)):
        found = cluster_parts(votes, parts, 6, 2, variance=0.25, apart=apart, generator=generator())
        assert is_refinement(parts, found.labels).tolist() == [True]
        assert bool(mixed_points(found.labels, body)[~across].any()) == mixed
    assert found.labels[across].tolist() == [2 + 2] * 20
    assert set(found.labels[~across].tolist()) == {0, 1}
    assert float(found.uncertainty) < 1e-6
    none = cluster_parts(10 * torch.randn(1, 60, 3), parts, 6, 2, variance=0.25, apart=0.0, generator=generator())
    assert torch.equal(none.labels, parts + 2)
    assert float(none.uncertainty) == 0


# --- bad input -------------------------------------------------------------------------------------------------------
POS, LABELS = torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.long)
BAD = [
    (lambda: harden(torch.full((1, 2, 2), 0.3)), ShapeError, "sums to 0.6"),
    (lambda: harden(torch.tensor([[[1.5, -0.5]]])), ShapeError, "probabilities"),
    (lambda: harden(torch.full((1, 2, 2), torch.nan)), NotFiniteError, "assignment"),
    (lambda: harden(LABELS), DtypeError, "int64"),
    (lambda: harden(torch.zeros(2, 3, 0)), ShapeError, "k at least 1"),
    (lambda: is_refinement(LABELS, LABELS[:, :3]), ShapeError, "coarse has shape"),
    (lambda: is_refinement(LABELS - 1, LABELS), ShapeError, r"fine is -1 at \(0, 0\)"),
    (lambda: is_refinement(LABELS.float(), LABELS), DtypeError, "fine has dtype"),
    (lambda: mixed_points(LABELS, LABELS[:1]), ShapeError, "coarse has shape"),
    (lambda: is_refinement(LABELS[0], LABELS[0]), ShapeError, r"\[B, n\]"),
    (lambda: merge_parts(LABELS + 3, LABELS[:, :2]), ShapeError, "labels go from 0 to 1"),
    (lambda: merge_parts(LABELS, LABELS[:1]), ShapeError, "one batch"),
    (lambda: farthest_points(POS, 0), ShapeError, "count = 0"),
    (lambda: farthest_points(POS[:, :0], 1), ShapeError, "n at least 1"),
    (lambda: farthest_points(POS * torch.nan, 1), NotFiniteError, "pos has 24 values"),
    (lambda: farthest_points(POS, 1, exists=LABELS.bool()), ShapeError, "all points of sample 0"),
    (lambda: scattered_cells(POS, 0, 1.0), ShapeError, "count = 0"),
    (lambda: scattered_cells(POS, 3, -1.0), ErlangenError, "spacing = -1.0"),
    (lambda: scattered_cells(POS[:, :0], 3, 1.0), ShapeError, "n at least 1"),
    (lambda: scattered_cells(POS * torch.nan, 3, 1.0), NotFiniteError, "pos has 24 values"),
    (lambda: same_cells(LABELS, LABELS[:, :3]), ShapeError, "coarse has shape"),
    (lambda: voronoi(POS, POS[..., :2]), ShapeError, "centres"),
    (lambda: voronoi(POS, POS[:, :0]), ShapeError, "k > 0"),
    (lambda: fit_mixture(POS, 2, -1), ErlangenError, "steps = -1"),
    (lambda: fit_mixture(POS, 2, variance=0.0), ErlangenError, "variance = 0.0"),
    (lambda: fit_mixture(POS, 2, weights=torch.zeros(2, 4)), ShapeError, "some positive"),
    (lambda: cluster_parts(POS, LABELS + 5, 4, 2), ShapeError, "labels is 5"),
    (lambda: cluster_parts(POS, LABELS[:, :3], 4, 2), ShapeError, "one label per point"),
    (lambda: cluster_parts(POS, LABELS, 4, 2, apart=-1.0), ErlangenError, "apart = -1.0"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=itertools.count())
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
