"""Edges of what is kept, embedded and decomposed."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from erlangen import groups, reps
from erlangen.errors import RepresentationError
from erlangen.reps import cache, embedding, maps, solver


def test_memory_keeps_what_fits_and_always_the_last(monkeypatch):
    """Bases of 8 numbers, 64 bytes each, beside a limit of two and of none."""
    monkeypatch.setenv("ERLANGEN_CACHE", "off")
    assert cache.MEMORY_LIMIT == 256 * 1024 * 1024
    made = []
    for limit, kept in ((128, 2), (127, 1), (0, 1)):
        cache.clear_memory()
        made.clear()
        monkeypatch.setattr(cache, "MEMORY_LIMIT", limit)
        for text in ("a", "b", "c"):
            cache.cached(text, 8, lambda text=text: made.append(text) or torch.zeros(1, 8, dtype=torch.float64))
        assert len(cache._memory) == kept
        cache.cached("c", 8, lambda: made.append("c") or torch.zeros(1, 8, dtype=torch.float64))
        assert made == ["a", "b", "c"]
    cache.clear_memory()
    monkeypatch.setattr(cache, "MEMORY_LIMIT", 128)
    for text in ("a", "b", "a", "c", "a"):  # those used longest ago go first: b
        cache.cached(text, 8, lambda text=text: made.append(text) or torch.zeros(1, 8, dtype=torch.float64))
    assert made[3:] == ["a", "b", "c"]
    cache.clear_memory()


def test_groups_of_one_axis_and_of_none():
    """Scalings of a line are matrices [1, 1] with a positive determinant; what moves nothing has none."""
    small, large = groups.Scaling(1), groups.GLPlus(1)
    g = small.sample(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(large.linear(embedding(small, large)(g)), small.linear(g))
    nowhere = [SimpleNamespace(name=name, space_dim=0) for name in "AB"]  # groups of a user that move no R^n
    with pytest.raises(RepresentationError, match=r"A acts on R\^0 and B on R\^0"):
        embedding(*nowhere)
    with pytest.raises(RepresentationError, match=r"acts on R\^2 and O\(3\) on R\^3"):
        reps.V(groups.O(3)).restrict(groups.SO(2))


@pytest.mark.parametrize("degree", [15, 16, 17, 33])
def test_characters_of_high_degree_are_not_folded(degree):
    """32 angles cannot tell frequency 17 from 15: the check at other angles asks for more of them."""
    turns = reps.Frequency(groups.SO(2), degree)
    assert turns.decompose().multiplicities == {degree: 1}
    assert (turns + reps.Scalar(groups.SO(2))).decompose().multiplicities == {0: 1, degree: 1}


def test_limits_of_the_solver(monkeypatch):
    V = reps.V(groups.O(3))
    solver.check_entries(4_000, 5_000, V)
    with pytest.raises(RepresentationError, match="20,005,000 numbers, more than the 20,000,000"):
        solver.check_entries(4_001, 5_000, V)
    monkeypatch.setattr(solver, "MAX_ENTRIES", 36)  # 4 generators of O(3) with the 3 x 3 matrices of each half
    solver.Constraints(V @ V)
    monkeypatch.setattr(solver, "MAX_ENTRIES", 35)
    with pytest.raises(RepresentationError, match="a basis of 12 rows with 3 entries has 36 numbers, more than the 35"):
        solver.Constraints(V @ V)
    monkeypatch.undo()
    with pytest.raises(RepresentationError, match="road = 'fast'"):
        solver.invariant_vectors(V @ V, "fast")
    [trace] = solver.invariant_vectors(V @ V)
    torch.testing.assert_close(trace, torch.eye(3, dtype=torch.float64).flatten() / math.sqrt(3))


@pytest.mark.parametrize(("axes_in", "axes_out"), [(0, 1), (1, 1), (2, 1), (0, 2)])
def test_maps_of_permutation_tensors_are_indicators_of_orbits(axes_in, axes_out, monkeypatch):
    """Without the solver: tuples of indices are in one orbit where the same of their entries are equal."""
    monkeypatch.setattr(maps, "cached", None)
    n, group = 4, groups.Symmetric(4)
    rep = lambda k: reps.PermutationTensor(k)(group)  # noqa: E731
    found = reps.equivariant_basis(rep(axes_in) >> rep(axes_out)).flatten(1)
    patterns = {}
    for place, entries in enumerate(itertools.product(range(n), repeat=axes_in + axes_out)):
        patterns.setdefault(tuple(entries.index(e) for e in entries), []).append(place)
    expected = torch.zeros(len(patterns), n ** (axes_in + axes_out), dtype=torch.float64)
    for row, (_, places) in zip(expected, sorted(patterns.items()), strict=True):
        row[places] = 1 / math.sqrt(len(places))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("times", [-3, 1, 12])
def test_derivatives_through_a_map_that_turns_faster(times):
    """The vectors of the plane under g^k: k times the generator, also where a radian of it goes around twice."""
    plane = groups.SO(2)
    child = groups.Subgroup(plane, plane, lambda g: torch.linalg.matrix_power(g if times > 0 else g.mT, abs(times)))
    a = torch.eye(1, dtype=torch.float64)
    rep = reps.V(plane).restrict(child)
    torch.testing.assert_close(rep.drho(a), times * reps.V(plane).drho(a))
