"""Where the features of the network live: on positions, on positions and grid directions, or on edges as oriented points."""

from __future__ import annotations

from typing import NamedTuple, Protocol, cast

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import GroupError
from erlangen.geometry import PairInvariants, spatial_invariants
from erlangen.groups import SE, Cyclic, E, Group, Icosahedral, Octahedral, Tetrahedral, Translation
from erlangen.groups.grids import circle_grid, sphere_grid
from erlangen.nn import KernelBasis, lift_to_directions, segment_mean, vectors_of_directions
from erlangen.nn.edges import check_directions
from erlangen.numerics import safe_norm

SOLIDS = {4: Tetrahedral, 6: Octahedral, 8: Octahedral, 12: Icosahedral, 20: Icosahedral}
"""Rotations that permute the corners of the regular solids."""


class Cloud(NamedTuple):
    """Points of all graphs one after the other.

    Attributes:
        pos: ``[N, n]``.
        scalars: ``[N, S]``, or none.
        vectors: ``[N, V, n]``, or none.
        edges: int64 ``[2, E]``, source and target, without edges from a point to itself.
        edge_attr: ``[E, F]``, or none.
    """

    pos: Tensor
    scalars: Tensor | None
    vectors: Tensor | None
    edges: Tensor
    edge_attr: Tensor | None


class Lifted(NamedTuple):
    """What convolutions need, computed once for all layers.

    Attributes:
        features: ``[M, O, C]``, of nodes, or of edges as nodes.
        edges: int64 ``[2, E]`` between these.
        spatial: the kernel basis ``[E, O, basis]``.
        center: the kernel basis ``[basis]`` of a point with itself; none where `edges` hold such pairs.
        fiber: the kernel basis ``[O, O, basis]`` of pairs of directions, or none.
        directions: of the features ``[O, n]``, or of edges as nodes ``[M, n]``; none for positions.
        owner: the point ``[M]`` that an edge as node belongs to, or none.
    """

    features: Tensor
    edges: Tensor
    spatial: Tensor
    center: Tensor | None
    fiber: Tensor | None
    directions: Tensor | None
    owner: Tensor | None


class Space(Protocol):
    """Lifts clouds, and reads features of points off what was lifted."""

    group: Group
    has_fiber: bool

    def __call__(self, cloud: Cloud) -> Lifted:
        """Features, and the kernel bases."""
        ...

    def scalars(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """``[N, C]`` of features ``[M, O, C]``."""
        ...

    def vectors(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """``[N, C, n]`` of features ``[M, O, C]``."""
        ...


class Positions(nn.Module):
    """R^n: one feature vector for each point; kernels are functions of lengths. Exact for all motions and reflections."""

    has_fiber = False

    def __init__(
        self, dim: int, basis: int, *, degree: int, cutoff: float | None, extra: int, generator: Generator | None
    ) -> None:
        super().__init__()
        self.group = E(dim)
        self.basis = KernelBasis(1 + extra, basis, degree=degree, cutoff=cutoff, generator=generator)

    def forward(self, cloud: Cloud) -> Lifted:
        """Features ``[N, 1, S]``."""
        lengths = safe_norm(_differences(cloud))
        numbers = _joined(lengths[:, None], cloud.edge_attr)
        spatial = self.basis(numbers, None if self.basis.cutoff is None else lengths)
        features = cast("Tensor", cloud.scalars)[:, None]
        return Lifted(features, cloud.edges, spatial[:, None], _center(self.basis, numbers), None, None, None)

    def scalars(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """The features themselves."""
        return f[:, 0]

    def vectors(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """Never asked for: `Ponita` refuses vectors here."""
        raise GroupError("features of positions hold no directions; give directions= for vectors")


class Grid(nn.Module):
    """R^n x S^(n-1) with a fixed grid of directions, which is saved with the parameters.

    Exact for shifts and for rotations that permute the grid. The grid is kept in float64, and cast to the dtype of the
    input, so that a network that is turned into float64 has its digits.
    """

    has_fiber = True
    directions: Tensor

    def __init__(
        self,
        directions: Tensor,
        group: Group,
        basis: int,
        *,
        degree: int,
        cutoff: float | None,
        extra: int,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("directions", directions.double())
        self.basis = KernelBasis(2 + extra, basis, degree=degree, cutoff=cutoff, generator=generator)
        self.fiber = KernelBasis(1, basis, degree=degree, generator=generator)

    def forward(self, cloud: Cloud) -> Lifted:
        """Features ``[N, O, S + V]``."""
        directions = self.directions.to(cloud.pos)
        r, attr = _differences(cloud), cloud.edge_attr
        attr = None if attr is None else attr[:, None].expand(-1, len(directions), -1)
        numbers = _joined(spatial_invariants(r[:, None], directions), attr)
        lengths = None if self.basis.cutoff is None else safe_norm(r)[:, None]
        return Lifted(
            lift_to_directions(directions, cloud.scalars, cloud.vectors),
            cloud.edges,
            self.basis(numbers, lengths),
            _center(self.basis, numbers),
            self.fiber((directions @ directions.mT)[..., None]),
            directions,
            None,
        )

    def scalars(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """The mean over directions."""
        return f.mean(1)

    def vectors(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """As `vectors_of_directions`."""
        return vectors_of_directions(f, cast("Tensor", lifted.directions))


class EdgeDirections(nn.Module):
    """Every edge is a point of R^n x S^(n-1): at its target, looking at its source. Exact for all motions.

    Such points are neighbours where their targets are, or where they share their target, so there are about
    ``N (k + 1) k^2`` pairs for k neighbours of each point. Features of edges become scalars of these points.
    """

    has_fiber = False

    def __init__(
        self,
        dim: int,
        basis: int,
        *,
        complete: bool,
        degree: int,
        cutoff: float | None,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.invariants = PairInvariants("R^2xS^1" if dim == 2 else "R^3xS^2", complete=complete)
        self.group = SE(dim) if dim == 2 or complete else E(dim)
        self.basis = KernelBasis(self.invariants.size, basis, degree=degree, cutoff=cutoff, generator=generator)

    def forward(self, cloud: Cloud) -> Lifted:
        """Features ``[E, 1, S + V + F]``.

        Raises:
            DegenerateFrameError: two neighbours lie at one place.
        """
        source, owner = cloud.edges
        r = cloud.pos.index_select(0, source) - cloud.pos.index_select(0, owner)
        check_directions(r)
        directions = r / safe_norm(r, keepdim=True)
        parts = [None if x is None else x.index_select(0, owner) for x in (cloud.scalars, cloud.vectors)]
        scalars = [x for x in (parts[0], cloud.edge_attr) if x is not None]
        if parts[1] is not None:
            scalars.append((parts[1] * directions[:, None]).sum(-1))
        pairs = pairs_of_edges(cloud.edges, len(cloud.pos))
        senders, receivers = (directions.index_select(0, row) for row in pairs)
        far, here = (cloud.pos.index_select(0, owner.index_select(0, row)) for row in pairs)
        numbers = self.invariants(here, far, receivers, senders)
        lengths = None if self.basis.cutoff is None else safe_norm(far - here)
        spatial = self.basis(numbers, lengths)[:, None]
        return Lifted(torch.cat(scalars, -1)[:, None], pairs, spatial, None, None, directions, owner)

    def scalars(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """The mean over edges to a point; zero for a point without edges."""
        return segment_mean(f[:, 0], cast("Tensor", lifted.owner), nodes)

    def vectors(self, f: Tensor, lifted: Lifted, nodes: int) -> Tensor:
        """``n`` times the mean over edges of features times directions."""
        directions = cast("Tensor", lifted.directions)
        every = f[:, 0, :, None] * directions[:, None]
        return directions.shape[-1] * segment_mean(every, cast("Tensor", lifted.owner), nodes)


def grid_of(dim: int, count: int, method: str | None) -> tuple[Tensor, Group]:
    """Directions float64 ``[count, dim]``, and the largest known group that permutes them.

    Args:
        dim: 2, equidistant directions, which `Cyclic` permutes, or 3.
        count: at least 3 in the plane and 4 in space.
        method: as for `erlangen.groups.sphere_grid`; by default the corners of a regular solid where there is one, else
            "repulsion". Grids that are no solids have no rotations of their own: `Translation` is what is left.

    Raises:
        GroupError: too few directions, or as `sphere_grid`.
    """
    if count < dim + 1:
        raise GroupError(f"directions = {count}: they must span space evenly; give at least {dim + 1} for dim = {dim}")
    if dim == 2:
        if method is not None:
            raise GroupError(f"grid = {method!r}: directions of the plane are equidistant; leave grid= out")
        return circle_grid(count, dtype=torch.float64), Cyclic(count)
    method = ("platonic" if count in SOLIDS else "repulsion") if method is None else method
    directions = sphere_grid(count, method, dtype=torch.float64)
    return directions, SOLIDS[count]() if method == "platonic" else Translation(3)


def pairs_of_edges(edges: Tensor, nodes: int) -> Tensor:
    """Pairs of edges as oriented points, int64 ``[2, P]``: senders and receivers.

    Edge (t', s') sends to edge (t, s), both named by target and source, where ``t' = t`` or there is an edge from t' to t.

    Args:
        edges: int64 ``[2, E]``, source and target.
        nodes: number of nodes.
    """
    target = edges[1]
    loops = torch.arange(nodes, device=edges.device)
    far, here = torch.cat([edges, loops.expand(2, -1)], 1)
    degree = loops.new_zeros(nodes).index_add(0, target, torch.ones_like(target))
    first, order = degree.cumsum(0) - degree, target.argsort(stable=True)
    counts = degree[here] * degree[far]
    block = torch.repeat_interleave(counts)
    place = torch.arange(len(block), device=edges.device) - (counts.cumsum(0) - counts)[block]
    far, here = far[block], here[block]
    return torch.stack([order[first[far] + place % degree[far]], order[first[here] + place // degree[far]]])


def _differences(cloud: Cloud) -> Tensor:
    """``x_source - x_target`` along edges ``[E, n]``."""
    return cloud.pos.index_select(0, cloud.edges[0]) - cloud.pos.index_select(0, cloud.edges[1])


def _center(basis: KernelBasis, numbers: Tensor) -> Tensor:
    """The basis ``[basis]`` of a point with itself, whose invariants and edge features are zero, like `numbers` otherwise."""
    return basis(numbers.new_zeros(numbers.shape[-1]), None if basis.cutoff is None else numbers.new_zeros(()))


def _joined(numbers: Tensor, attr: Tensor | None) -> Tensor:
    return numbers if attr is None else torch.cat([numbers, attr], -1)
