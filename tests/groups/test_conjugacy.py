"""Subgroups up to conjugacy against counts of the literature, orbits against networkx."""

from __future__ import annotations

import networkx
import pytest
import torch

import erlangen as er
from erlangen.errors import DtypeError, GroupError, ShapeError
from erlangen.groups import SO, Cyclic, Dihedral, Icosahedral, Octahedral, Tetrahedral, burnside, orbits
from erlangen.groups import subgroups_up_to_conjugacy as classes_of


@pytest.mark.parametrize(
    ("group", "classes", "subgroups"),
    [
        (Tetrahedral(), 5, 10),
        (Octahedral(), 11, 30),
        (Octahedral(True), 33, 98),
        (Icosahedral(), 9, 59),
        (Icosahedral(True), 22, 164),
    ],
    ids=str,
)
def test_counts_of_polyhedral_groups(group: er.groups.FiniteMatrixGroup, classes: int, subgroups: int) -> None:
    found = classes_of(group)
    assert (len(found), sum(one.count for one in found)) == (classes, subgroups)
    assert [one.order for one in found] == sorted(one.order for one in found)


@pytest.mark.parametrize("n", range(1, 13))
def test_dihedral_groups_have_divisors_and_their_sum(n: int) -> None:
    """A subgroup of D_n is cyclic, one for each divisor d of n, or dihedral, d of them: tau(n) + sigma(n)."""
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    assert sum(one.count for one in classes_of(Dihedral(n))) == len(divisors) + sum(divisors)
    assert [one.order for one in classes_of(Cyclic(n))] == divisors


def test_the_icosahedral_rotations() -> None:
    """Numbers of each kind: 15 two-fold, 10 three-fold, 6 five-fold axes, and so on."""
    found = {str(one): (one.order, one.count) for one in classes_of(Icosahedral())}
    assert found == {
        "C1": (1, 1), "C2": (2, 15), "C3": (3, 10), "D2": (4, 5), "C5": (5, 6), "D3": (6, 10), "D5": (10, 6), "T": (12, 5),
        "I": (60, 1),
    }  # fmt: skip


@pytest.mark.parametrize("group", [Octahedral(True), Icosahedral(), Dihedral(6)], ids=str)
def test_members_are_closed_and_conjugate(group: er.groups.FiniteMatrixGroup) -> None:
    for one in classes_of(group):
        for row in one.members:
            assert torch.equal(group.compose(row[:, None], row[None]).unique(), row)
        traces = [group.matrices[row].diagonal(dim1=-2, dim2=-1).sum(-1).sort().values for row in one.members]
        for trace in traces:
            torch.testing.assert_close(trace, traces[0])
        assert int(one.group(one.count - 1).order or 0) == one.order
        assert int(group.order or 0) % (one.order * one.count) == 0  # the normalizer lies between


def test_normal_subgroups_stand_alone() -> None:
    """A class of one is normal: of the cube group C1, D2 on the axes of the cube, T and all."""
    normal = [str(one) for one in classes_of(Octahedral()) if one.count == 1]
    assert normal == ["C1", "D2", "T", "O"]


def test_orbits_are_connected_components(generator: torch.Generator) -> None:
    moved = torch.stack([torch.randperm(30, generator=generator) for _ in range(1)])
    few = torch.arange(30).clone()
    few[:6] = few[:6].roll(1)
    for rows in (moved, few[None], torch.cat([few[None], few.flip(0)[None]])):
        graph = networkx.Graph()
        graph.add_nodes_from(range(30))
        graph.add_edges_from((i, int(row[i])) for row in rows for i in range(30))
        parts = sorted(map(min, networkx.connected_components(graph)))
        label = orbits(rows)
        assert [int((label == k).nonzero()[0]) for k in range(len(parts))] == parts
        for part in networkx.connected_components(graph):
            assert len(label[list(part)].unique()) == 1


def test_burnside_counts_necklaces() -> None:
    """Two colours on six beads that may be turned: 14 necklaces; turned over as well: 13 bracelets."""
    strings = torch.cartesian_prod(*[torch.arange(2)] * 6)
    weights = 2 ** torch.arange(5, -1, -1)
    turned = [(strings.roll(s, 1) * weights).sum(1) for s in range(6)]
    over = [(strings.flip(1).roll(s, 1) * weights).sum(1) for s in range(6)]
    for rows, count in ((turned, 14), (turned + over, 13)):
        moved = torch.stack(rows)
        assert burnside(moved) == count == int(orbits(moved).max()) + 1


def test_what_is_refused() -> None:
    with pytest.raises(GroupError, match=r"SO\(3\).*FiniteMatrixGroup"):
        classes_of(SO(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(GroupError, match="up to 256"):
        classes_of(Cyclic(257))
    cube = classes_of(Octahedral())
    with pytest.raises(GroupError, match="from 0 on"):
        cube[1].group(9)
    with pytest.raises(DtypeError, match="int64"):
        orbits(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="order, N"):
        orbits(torch.arange(3))
    with pytest.raises(GroupError, match="no permutation"):
        burnside(torch.tensor([[0, 0]]))
    with pytest.raises(GroupError, match="no group"):
        burnside(torch.tensor([[0, 1, 2], [1, 2, 0]]))
