"""Icosahedral shells of triangles, and what rotations do to their vertices, edges and faces, by whole numbers.

>>> shell = icosahedral_shell(2, 1)
>>> shell.T, len(shell.pos), len(shell.edges), len(shell.faces)
(7, 72, 210, 140)
>>> import erlangen as er
>>> er.groups.orbits(shell.moved("faces")).max() + 1  # kinds of triangles with the whole symmetry
tensor(3)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, GroupError, UnknownNameError, check_integer
from erlangen.groups import Icosahedral

Part = Literal["vertices", "edges", "faces", "half_edges"]

LARGEST = 10_000
"""Triangulation number from which shells are refused."""

_Key = tuple[tuple[int, int], ...]
"""A vertex as corners of the icosahedron with whole weights of sum T."""


@dataclass(frozen=True, eq=False)
class IcosahedralShell:
    """The (h, k) triangulation of the icosahedron by Caspar and Klug (1962); made by `icosahedral_shell`.

    Attributes:
        h, k: steps along two directions of the triangular lattice, 60 degrees apart, from one five-fold vertex to the next.
        corners: of the icosahedron ``[12, 3]``, as `erlangen.groups.Icosahedral` turns them, with lattice edges of length 1.
        weights: of the corners at each vertex, whole numbers of sum T ``[V, 12]``, in at most three of the corners; exact.
        faces: vertices of each triangle, int64 ``[20 T, 3]``, counterclockwise from outside.
        edges: int64 ``[30 T, 2]``.
    """

    h: int
    k: int
    corners: Tensor
    weights: Tensor
    faces: Tensor
    edges: Tensor

    @property
    def T(self) -> int:
        """The triangulation number ``h^2 + h k + k^2``."""
        return self.h**2 + self.h * self.k + self.k**2

    @property
    def pos(self) -> Tensor:
        """Vertices on the flat facets, float64 ``[10 T + 2, 3]``; the lattice has edges of length 1."""
        return self.weights.to(torch.float64) @ self.corners / self.T

    @property
    def half_edges(self) -> Tensor:
        """Vertices from and to, int64 ``[60 T, 2]``; number ``3 f + s`` is side s of face f, from its corner s to the next."""
        return torch.stack([self.faces, self.faces.roll(-1, 1)], -1).flatten(0, 1)

    @cached_property
    def twins(self) -> Tensor:
        """The half-edge on the other side of each, int64 ``[60 T]``."""
        sides = self.half_edges
        order = {(a, b): n for n, (a, b) in enumerate(sides.tolist())}
        return torch.tensor([order[b, a] for a, b in sides.tolist()])

    @property
    def coordination(self) -> Tensor:
        """Triangles at each vertex, int64 ``[V]``: five at the corners of the icosahedron, else six."""
        return torch.bincount(self.faces.flatten(), minlength=len(self.weights))

    def moved(self, part: Part, elements: Tensor | None = None) -> Tensor:
        """Where rotations take each vertex, edge, face or half-edge, int64 ``[order, N]``.

        Args:
            part: "vertices", "edges", "faces" or "half_edges".
            elements: of `erlangen.groups.Icosahedral`, int64 ``[order]``; all 60 without it. The elements of a subgroup are
                in `erlangen.groups.subgroups_up_to_conjugacy`.

        Raises:
            UnknownNameError: there is no such part.
            GroupError: numbers that are no elements.
        """
        if part not in get_args(Part):
            raise UnknownNameError(f"part = {part!r}: choose {', '.join(get_args(Part))}")
        elements = torch.arange(60) if elements is None else elements
        if elements.ndim != 1 or not bool(Icosahedral().contains(elements).all()):
            raise GroupError("elements must be int64 [order], from 0 to 59, of er.groups.Icosahedral()")
        if part == "vertices":
            return self._vertices[elements]
        if part == "edges":
            return self._edges[elements]
        sides = self._half_edges[elements]
        return sides[:, ::3] // 3 if part == "faces" else sides

    # Where all 60 elements move things.
    @cached_property
    def _vertices(self) -> Tensor:
        return _moved_vertices(self.weights, self.corners)

    @cached_property
    def _edges(self) -> Tensor:
        return _numbers_of(self._vertices[:, self.edges].sort(-1).values, self.edges.sort(-1).values)

    @cached_property
    def _half_edges(self) -> Tensor:
        return _numbers_of(self._vertices[:, self.half_edges], self.half_edges)


def icosahedral_shell(h: int, k: int = 0) -> IcosahedralShell:
    """The shell whose five-fold vertices are h steps and k steps, after a turn to the left, apart.

    Raises:
        ErlangenError: h or k is negative or no whole number, both are zero, or T is larger than `LARGEST`.
    """
    check_integer("h", h, 0)
    check_integer("k", k, 0)
    total = h * h + h * k + k * k
    if not 0 < total <= LARGEST:
        raise ErlangenError(f"h = {h}, k = {k}: T = {total}, but 1 to {LARGEST} is possible")
    corners, facets = _icosahedron()
    across = {(a, b): facet for facet in facets for a, b in _sides(facet)}
    keys: dict[_Key, int] = {}
    faces: dict[tuple[int, ...], None] = {}
    for facet in facets:
        for triangle in _triangles(h, k):
            vertices = [_key(weights, facet, across) for weights in triangle]
            face = [keys.setdefault(key, len(keys)) for key in vertices]
            start = face.index(min(face))
            faces.setdefault(tuple(face[start:] + face[:start]))
    weights = torch.zeros(len(keys), 12, dtype=torch.int64)
    for key, row in keys.items():
        for corner, weight in key:
            weights[row, corner] = weight
    table = torch.tensor(list(faces))
    edges = torch.stack([table, table.roll(-1, 1)], -1).flatten(0, 1).sort(-1).values.unique(dim=0)
    length = (corners[facets[0][0]] - corners[facets[0][1]]).norm()
    return IcosahedralShell(h, k, corners * (math.sqrt(total) / length), weights, table, edges)


# --- the icosahedron --------------------------------------------------------------------------------------------------
def _icosahedron() -> tuple[Tensor, list[tuple[int, int, int]]]:
    """Corners ``[12, 3]`` in the order of `Icosahedral`, and facets counterclockwise from outside."""
    phi = (1 + math.sqrt(5)) / 2
    first = torch.tensor([[0.0, a, b * phi] for a in (1, -1) for b in (1, -1)], dtype=torch.float64)
    corners = torch.cat([first.roll(s, 1) for s in range(3)])
    near = ((corners[:, None] - corners[None]).norm(dim=-1) - 2).abs() < 1e-9
    facets = [
        (a, b, c) if float(torch.linalg.det(corners[[a, b, c]])) > 0 else (a, c, b)
        for a, b, c in itertools.combinations(range(12), 3)
        if near[a, b] and near[b, c] and near[a, c]
    ]
    return corners, facets


def _sides(facet: tuple[int, int, int]) -> list[tuple[int, int]]:
    a, b, c = facet
    return [(a, b), (b, c), (c, a)]


# --- the lattice ------------------------------------------------------------------------------------------------------
def _triangles(h: int, k: int) -> list[list[tuple[int, int, int]]]:
    """Lattice triangles with their centroid in a facet, corners counterclockwise as weights of the facet's corners, sum T.

    Lattice points are ``x u + y v`` with v turned by 60 degrees from u; the facet is 0, (h, k), (-k, h + k).
    """
    total = h * h + h * k + k * k
    reach = range(-(h + k) - 1, h + k + 2)
    found: list[list[tuple[int, int, int]]] = []
    for x, y in itertools.product(reach, reach):
        for corners in (((x, y), (x + 1, y), (x, y + 1)), ((x + 1, y), (x + 1, y + 1), (x, y + 1))):
            weights = [_weights(p, q, h, k, total) for p, q in corners]
            if min(sum(column) for column in zip(*weights, strict=True)) >= 0:
                found.append(weights)
    return found


def _weights(x: int, y: int, h: int, k: int, total: int) -> tuple[int, int, int]:
    """T times the barycentric coordinates of a lattice point in the facet 0, (h, k), (-k, h + k)."""
    # (x, y) = b (h, k) + c (-k, h + k), solved by Cramer's rule: the determinant is T.
    b, c = x * (h + k) + y * k, h * y - k * x
    return total - b - c, b, c


def _key(
    weights: tuple[int, int, int], facet: tuple[int, int, int], across: dict[tuple[int, int], tuple[int, int, int]]
) -> _Key:
    """The vertex by corners of the icosahedron. A point beyond one side lies in the facet across, unfolded into the plane."""
    negative = [s for s in range(3) if weights[s] < 0]
    assert len(negative) <= 1, "a lattice triangle whose centroid is in a facet reaches beyond one side at most"
    parts = dict(zip(facet, weights, strict=True))
    if negative:
        # Two facets unfold to a rhombus, in which the corner left behind is A + B - D.
        s = negative[0]
        a, b, c = facet[s - 2], facet[s - 1], facet[s]
        (d,) = set(across[b, a]) - {a, b}
        lack = parts.pop(c)
        parts = {a: parts[a] + lack, b: parts[b] + lack, d: -lack}
    return tuple(sorted((corner, weight) for corner, weight in parts.items() if weight))


# --- moves ------------------------------------------------------------------------------------------------------------
def _moved_vertices(weights: Tensor, corners: Tensor) -> Tensor:
    """Where all rotations take the vertices, int64 ``[60, V]``."""
    turned = corners @ Icosahedral().matrices.mT  # [60, 12, 3]
    to = torch.cdist(turned, corners[None]).argmin(-1)  # [60, 12]
    moved = torch.zeros(60, *weights.shape, dtype=torch.int64).scatter_(
        2, to[:, None].expand(-1, len(weights), -1), weights.expand(60, -1, -1)
    )
    return _numbers_of(moved, weights)


def _numbers_of(rows: Tensor, table: Tensor) -> Tensor:
    """For rows ``[..., N, C]`` their places ``[..., N]`` in a table ``[N, C]`` of the same rows in another order."""
    # Rows are found by a number made of theirs, modulo 2^64; the comparison in the end makes that exact.
    factors = torch.randint(2**62, (table.shape[1],), generator=torch.Generator().manual_seed(0))
    keys, order = (table * factors).sum(-1).sort()
    place = order[torch.searchsorted(keys, (rows * factors).sum(-1)).clamp(max=len(table) - 1)]
    assert torch.equal(table[place], rows), "a rotation takes vertices, edges and faces to such"
    return place
