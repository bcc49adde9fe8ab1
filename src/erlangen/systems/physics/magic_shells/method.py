"""Designs of icosahedral shells: which triangles and edges are of one kind, and which vertices this leaves open to errors.

Tyukodi, Hayakawa, Hall, Rogers, Grason and Hagan (2025). A design is a subgroup of the rotations of the icosahedron: what it
moves to each other is made alike. A vertex on an axis of the subgroup is then a ring of like sectors, and nothing but elastic
energy counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, UnknownNameError, check_integer
from erlangen.geometry import IcosahedralShell
from erlangen.groups import Icosahedral, burnside, orbits, subgroups_up_to_conjugacy

AXES = {
    "C1": (), "C2": (2,), "C3": (3,), "D2": (2,), "C5": (5,), "D3": (2, 3), "D5": (2, 5), "T": (2, 3), "I": (2, 3, 5),
}  # fmt: skip
"""Orders of the axes of each subgroup of the rotations, up to conjugacy."""

ORDERS = {"C1": 1, "C2": 2, "C3": 3, "D2": 4, "C5": 5, "D3": 6, "D5": 10, "T": 12, "I": 60}
"""Elements of each."""


@cache
def _subgroups() -> dict[str, Tensor]:
    """The elements of one subgroup of each kind."""
    return {one.name: one.members[0] for one in subgroups_up_to_conjugacy(Icosahedral())}


@dataclass(frozen=True, eq=False)
class ShellDesign:
    """Kinds of triangles and edges of a shell under a subgroup of the rotations of the icosahedron.

    >>> from erlangen.geometry import icosahedral_shell
    >>> design = ShellDesign(icosahedral_shell(2, 1), "T")
    >>> design.species, design.interactions, design.is_safe
    (13, 18, True)

    Args:
        shell: what is to be assembled.
        symmetry: C1, C2, C3, D2, C5, D3, D5, T or I.

    Raises:
        UnknownNameError: there is no such subgroup.
    """

    shell: IcosahedralShell
    symmetry: str

    def __post_init__(self) -> None:
        if self.symmetry not in AXES:
            raise UnknownNameError(
                f"symmetry = {self.symmetry!r}; subgroups of the rotations of the icosahedron are {', '.join(AXES)}"
            )

    @cached_property
    def elements(self) -> Tensor:
        """Of the subgroup, as indices of `erlangen.groups.Icosahedral`."""
        return _subgroups()[self.symmetry]

    @cached_property
    def labels(self) -> Tensor:
        """The label of each half-edge, int64 ``[60 T]``: its orbit, so that its direction counts."""
        return orbits(self.shell.moved("half_edges", self.elements))

    @cached_property
    def partners(self) -> Tensor:
        """The label that each label binds, int64 ``[labels]``; its own for edges on a two-fold axis."""
        partners = torch.empty(int(self.labels.max()) + 1, dtype=torch.int64)
        partners[self.labels] = self.labels[self.shell.twins]
        return partners

    @cached_property
    def kinds(self) -> Tensor:
        """The species of each triangle, int64 ``[20 T]``."""
        return orbits(self.shell.moved("faces", self.elements))

    @cached_property
    def subunits(self) -> Tensor:
        """Labels of the three sides of each species, counterclockwise, int64 ``[species, 3]``; equal on a three-fold axis."""
        sides = self.labels.unflatten(0, (-1, 3))
        first = torch.stack([(self.kinds == kind).nonzero()[0, 0] for kind in range(self.species)])
        return sides[first]

    @property
    def species(self) -> int:
        """How many kinds of triangles."""
        return burnside(self.shell.moved("faces", self.elements))

    @property
    def interactions(self) -> int:
        """How many kinds of edges."""
        return burnside(self.shell.moved("edges", self.elements))

    @cached_property
    def vertex_axes(self) -> Tensor:
        """The order of the axis of the subgroup through each vertex, int64 ``[V]``; 1 where there is none."""
        moved = self.shell.moved("vertices", self.elements)
        return (moved == torch.arange(moved.shape[1])).sum(0)

    @property
    def is_safe(self) -> bool:
        """Whether no axis goes through a vertex, by the places of vertices."""
        return int(self.vertex_axes.max()) == 1

    def stars(self, vertex: int, largest: int = 8) -> list[int]:
        """Numbers of triangles that close up around a vertex with all sides bound as designed.

        All sequences of corners are tried that begin with one that this vertex has; nothing is known of axes here.

        Raises:
            ErlangenError: there is no such vertex, or `largest` is not positive.
        """
        check_integer("largest", largest, 1)
        if not 0 <= vertex < len(self.shell.weights):
            raise ErlangenError(f"vertex = {vertex}; the shell has vertices 0 to {len(self.shell.weights) - 1}")
        # At a corner one side leaves the vertex and the one before it enters; across it, the next triangle's side leaves.
        corners = {(int(s[k]), int(s[k - 1])) for s in self.subunits for k in range(3)}
        leaving = int((self.shell.half_edges[:, 0] == vertex).nonzero()[0, 0])
        begin = int(self.labels[leaving])
        found: list[int] = []
        ends = {enter for leave, enter in corners if leave == begin}
        for count in range(1, largest + 1):
            if any(int(self.partners[end]) == begin for end in ends):
                found.append(count)
            ends = {enter for end in ends for leave, enter in corners if leave == int(self.partners[end])}
        return found


def unsafe_axes(h: int, k: int) -> tuple[int, ...]:
    """Orders of axes of the icosahedron that go through vertices of the shell (h, k), in closed form.

    Five-fold ones always; three-fold ones where h and k agree modulo 3, two-fold ones where both are even.

    >>> unsafe_axes(2, 1), unsafe_axes(1, 1), unsafe_axes(2, 2)
    ((5,), (3, 5), (2, 3, 5))

    Raises:
        ErlangenError: there is no shell (h, k).
    """
    check_integer("h", h, 0)
    check_integer("k", k, 0)
    if h + k == 0:
        raise ErlangenError("h = 0, k = 0: five-fold vertices cannot be at one place; give a step at least")
    return (*((2,) if h % 2 == k % 2 == 0 else ()), *((3,) if (h - k) % 3 == 0 else ()), 5)


def best_symmetry(h: int, k: int) -> str:
    """The largest subgroup none of whose axes goes through a vertex: the design with the fewest subunits that is safe.

    >>> best_symmetry(2, 1), best_symmetry(1, 1), best_symmetry(2, 0), best_symmetry(2, 2)
    ('T', 'D2', 'C3', 'C1')

    Raises:
        ErlangenError: there is no shell (h, k).
    """
    unsafe = unsafe_axes(h, k)
    return max((name for name, axes in AXES.items() if not set(axes) & set(unsafe)), key=ORDERS.__getitem__)


def is_magic(h: int, k: int) -> bool:
    """Whether the tetrahedral design is safe, with a twelfth of the interactions of single addresses.

    >>> [h * h + h * k + k * k for h in range(1, 4) for k in range(h + 1) if is_magic(h, k)]
    [1, 7, 13, 19]

    Raises:
        ErlangenError: there is no shell (h, k).
    """
    return best_symmetry(h, k) == "T"
