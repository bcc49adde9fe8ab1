"""Subgroups of a finite group up to conjugacy, and orbits of what it permutes.

>>> import erlangen as er
>>> [(str(found), found.count) for found in subgroups_up_to_conjugacy(er.groups.Tetrahedral())]
[('C1', 1), ('C2', 3), ('C3', 4), ('D2', 1), ('T', 1)]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import DtypeError, GroupError, ShapeError
from erlangen.groups.finite import FiniteMatrixGroup

LARGEST = 256
"""Elements of the largest group whose subgroups are listed."""

MOST = 20_000
"""Subgroups from which a list is refused: elementary abelian groups have very many."""


@dataclass(frozen=True)
class SubgroupClass:
    """All subgroups that are ``g H g^-1`` for one H.

    Attributes:
        parent: the group.
        members: the elements of each of them, ascending, int64 indices ``[count, order]`` into those of the parent.
        name: the Schoenflies symbol of a group of rotations of space (C1, C5, D3, T, O, I); else its order.
    """

    parent: FiniteMatrixGroup
    members: Tensor
    name: str

    @property
    def order(self) -> int:
        """Elements of each of them."""
        return self.members.shape[1]

    @property
    def count(self) -> int:
        """How many there are; the parent over the normalizer of any one."""
        return self.members.shape[0]

    def group(self, k: int = 0) -> FiniteMatrixGroup:
        """The k-th of them as a group of its own.

        Raises:
            GroupError: there are not so many.
        """
        if not 0 <= k < self.count:
            raise GroupError(f"k = {k}: there are {self.count} subgroups {self.name} in {self.parent.name}, from 0 on")
        return FiniteMatrixGroup(f"{self.name} in {self.parent.name}", self.parent.matrices[self.members[k]])

    def __str__(self) -> str:
        return self.name


def subgroups_up_to_conjugacy(group: FiniteMatrixGroup) -> list[SubgroupClass]:
    """All subgroups, in classes of conjugate ones, the smallest first.

    Every subgroup is the closure of a smaller one and of one element more, so that all are reached from the trivial one.

    Raises:
        GroupError: the group has no table of matrices, more than `LARGEST` elements, or more than `MOST` subgroups.
    """
    if not isinstance(group, FiniteMatrixGroup):
        raise GroupError(
            f"group is {getattr(group, 'name', type(group).__name__)}; give a FiniteMatrixGroup, such as Icosahedral(), or "
            "FiniteMatrixGroup(name, matrices)"
        )
    order = int(group.order or 0)
    if order > LARGEST:
        raise GroupError(f"{group.name} has {order} elements; subgroups are listed up to {LARGEST}")
    every = torch.arange(order)
    table: list[list[int]] = group.compose(every[:, None], every[None]).tolist()
    inverse: list[int] = group.inverse(every).tolist()
    found = {frozenset([0])}
    waiting = [frozenset([0])]
    while waiting:
        smaller = waiting.pop()
        for g in range(order):
            if g not in smaller and (larger := _closure(smaller, g, table)) not in found:
                found.add(larger)
                waiting.append(larger)
        if len(found) > MOST:
            raise GroupError(f"{group.name} has more than {MOST} subgroups; they are not listed")
    classes: list[SubgroupClass] = []
    while found:
        first = min(found, key=lambda one: (len(one), sorted(one)))
        conjugate = {frozenset(table[table[g][h]][inverse[g]] for h in first) for g in range(order)}
        found -= conjugate
        members = torch.tensor(sorted(sorted(one) for one in conjugate))
        classes.append(SubgroupClass(group, members, _symbol(group.matrices[members[0]])))
    return classes


def orbits(moved: Tensor) -> Tensor:
    """The number of the orbit that each of N things is in, int64 ``[N]``; orbits are numbered by their first member.

    >>> orbits(torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3]])).tolist()
    [0, 0, 1, 2]

    Args:
        moved: where the elements of a group move the things, int64 ``[order, N]``, or where some generators do.

    Raises:
        DtypeError, ShapeError: `moved` is no int64 ``[order, N]``.
        GroupError: a row is no permutation.
    """
    _check_moved(moved)
    count = moved.shape[1]
    label = torch.arange(count, device=moved.device)
    while True:
        # Labels only fall, and each step takes the least one to all that one step reaches, and back.
        lower = label
        for row in moved:
            lower = torch.minimum(lower, lower[row])
            lower = lower.scatter_reduce(0, row, lower, "amin")
        if torch.equal(lower, label):
            return label.unique(return_inverse=True)[1]
        label = lower


def burnside(moved: Tensor) -> int:
    """The number of orbits as the mean number of things that an element leaves in place (Cauchy, Frobenius, "Burnside").

    Args:
        moved: where all elements of a group move N things, int64 ``[order, N]``.

    Raises:
        DtypeError, ShapeError: `moved` is no int64 ``[order, N]``.
        GroupError: a row is no permutation, or the rows are no group, so that the mean is no whole number.
    """
    _check_moved(moved)
    fixed = int((moved == torch.arange(moved.shape[1], device=moved.device)).sum())
    if fixed % len(moved):
        raise GroupError(f"moved has {len(moved)} rows that leave {fixed} things in place: they are no group")
    return fixed // len(moved)


def _check_moved(moved: Tensor) -> None:
    if moved.dtype != torch.int64:
        raise DtypeError(f"moved has dtype {moved.dtype}; pass int64")
    if moved.ndim != 2 or 0 in moved.shape:
        raise ShapeError(f"moved has shape {tuple(moved.shape)}; pass [order, N]")
    wrong = (moved.sort(1).values != torch.arange(moved.shape[1], device=moved.device)).any(1)
    if bool(wrong.any()):
        raise GroupError(f"moved[{int(wrong.nonzero()[0])}] is no permutation of {moved.shape[1]} things")


def _closure(members: frozenset[int], g: int, table: list[list[int]]) -> frozenset[int]:
    """The smallest subgroup that holds another subgroup and an element."""
    generators = [*members, g]
    reached, frontier = {0}, [0]
    while frontier:
        new = {table[a][b] for a in frontier for b in generators} - reached
        reached |= new
        frontier = list(new)
    return frozenset(reached)


def _symbol(matrices: Tensor) -> str:
    """The Schoenflies symbol of rotations of space ``[order, 3, 3]``; the order of any other group."""
    order = len(matrices)
    if matrices.shape[1] != 3 or not bool((torch.linalg.det(matrices) > 0).all()):
        return f"order {order}"
    angle = torch.acos(((matrices.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))
    highest = round(float(2 * torch.pi / angle[angle > 1e-6].min())) if order > 1 else 1
    if order == highest:
        return f"C{order}"
    # The order of the sharpest turn tells all others apart: dihedral groups have twice as many elements, solids more.
    return {12: "T", 24: "O", 60: "I"}[order] if order > 2 * highest else f"D{highest}"
