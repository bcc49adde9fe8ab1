"""The representations that others are built from: vectors, scalars, permutations, tables.

>>> from erlangen.groups import SO
>>> T(2, 1)(SO(3))
V@V@V of SO(3)
>>> V(SO(3)) @ V(SO(3)) >> Scalar(SO(3))
V@V >> Scalar of SO(3)
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from erlangen.actions.base import lead_view, matmul_rows
from erlangen.errors import RepresentationError, is_whole
from erlangen.groups import Group, Symmetric
from erlangen.groups.subgroups import tangent_at_identity
from erlangen.reps.base import Rep, digest, generators, spread
from erlangen.reps.finite import Table

ORTHOGONAL_TOL = 1e-9
"""How far generators may be from orthogonal (or skew) in a representation that counts as orthogonal."""


# --- kinds of leaves -------------------------------------------------------------------------------------------------
class MatrixRep(Rep):
    """A representation given by its matrices; subclasses say which. The base class for one of your own."""

    def __init__(self, group: Group, size: int, name: str) -> None:
        self.group, self.size, self.name = group, size, name

    @abstractmethod
    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """Matrices ``[..., size, size]`` of elements, in `dtype`; a homomorphism, smooth in floating elements."""

    @cached_property
    def tangents(self) -> Tensor:
        """Derivatives along the basis of the algebra, float64 ``[dim, size, size]``."""
        if self.group.dim == 0:
            return torch.zeros(0, self.size, self.size, dtype=torch.float64)
        return tangent_at_identity(self.group, lambda h: self.matrix(h, torch.float64))

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        return matmul_rows(x, self.matrix(g, x.dtype).to(x))

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return matmul_rows(x, torch.einsum("...d,dij->...ij", a.to(x), self.tangents.to(x)))

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Trace of the matrix."""
        return self.rho(g, dtype=dtype).diagonal(dim1=-2, dim2=-1).sum(-1)

    @property
    def dual(self) -> Rep:
        """``rho(g^-1)^T``."""
        return self if self.is_orthogonal else _Dual(self)

    def _is_orthogonal(self) -> bool:
        skew = (self.tangents + self.tangents.mT).abs() <= ORTHOGONAL_TOL
        M = self.matrix(generators(self.group)[1], torch.float64).double()
        unit = (M @ M.mT - torch.eye(self.size, dtype=torch.float64)).abs() <= ORTHOGONAL_TOL
        return bool(skew.all() & unit.all())

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """Digest of the matrices themselves."""
        return digest(self.drho(a), self.rho(h, dtype=torch.float64))


class _Dual(MatrixRep):
    """Dual of a leaf that is not orthogonal."""

    def __init__(self, primal: MatrixRep) -> None:
        super().__init__(primal.group, primal.size, f"{primal.name}.dual")
        self.primal = primal

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        return self.primal.matrix(self.group.inverse(g), dtype).mT

    @cached_property
    def tangents(self) -> Tensor:
        return -self.primal.tangents.mT

    @property
    def dual(self) -> Rep:
        return self.primal

    def _is_orthogonal(self) -> bool:
        return False

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.primal)


class PermutationRep(Rep):
    """A representation that permutes the basis vectors; elements move vectors by gathering, exactly."""

    def __init__(self, group: Group, size: int, name: str) -> None:
        self.group, self.size, self.name = group, size, name

    @abstractmethod
    def images(self, g: Tensor) -> Tensor:
        """Where each basis vector goes, int64 ``[..., size]``."""

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        source = self.images(g).argsort(-1)
        lead = source.ndim - 1
        x = spread(tuple(source.shape[:lead]), x)
        return x.gather(-1, lead_view(source, lead, x).expand(x.shape))

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(spread(tuple(a.shape[:-1]), x))

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Number of basis vectors that stay."""
        images = self.images(g)
        fixed = (images == torch.arange(self.size, device=images.device)).sum(-1)
        return fixed.to(dtype or torch.get_default_dtype())

    @property
    def dual(self) -> Rep:
        """Itself: permutation matrices are orthogonal."""
        return self

    def _is_orthogonal(self) -> bool:
        return True

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """Digest of the permutations."""
        return f"{len(a)},{digest(self.images(h))}"


# --- leaves ----------------------------------------------------------------------------------------------------------
class Scalar(Rep):
    """The trivial representation on R^1."""

    def __init__(self, group: Group) -> None:
        self.group, self.size, self.name = group, 1, "Scalar"

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        return spread(tuple(self.group.batch_shape(g)), x)

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(spread(tuple(a.shape[:-1]), x))

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """One."""
        dtype = dtype or (g.dtype if g.is_floating_point() else torch.get_default_dtype())
        return torch.ones(self.group.batch_shape(g), dtype=dtype, device=g.device)

    @property
    def dual(self) -> Rep:
        """Itself."""
        return self

    def _is_orthogonal(self) -> bool:
        return True

    @property
    def is_unit(self) -> bool:
        """True: ``Scalar @ rep`` is ``rep``."""
        return True

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """The same for all groups with as many generators."""
        return f"scalar {len(a)},{len(h)}"


class Vector(MatrixRep):
    """The linear part of the group's action on R^n; with `power` of its determinant in front."""

    def __init__(self, group: Group, power: int = 0) -> None:
        super().__init__(group, _space(group), "Pseudovector" if power else "V")
        self.power = power

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """The linear part times the power of its determinant."""
        M = self.group.linear(g, dtype=dtype)
        return M * torch.linalg.det(M)[..., None, None] ** self.power if self.power else M

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.power)


class _Places(PermutationRep):
    """The n places that `Symmetric(n)` permutes."""

    def __init__(self, group: Symmetric) -> None:
        super().__init__(group, group.n, "V")

    def images(self, g: Tensor) -> Tensor:
        self.group.batch_shape(g)
        return g.long()


class Homogeneous(MatrixRep):
    """Points of R^n with a coordinate 1 appended, size n + 1: ``[[h, t], [0, 1]]``, with the translations.

    For a group with translations this is what EMLP calls V. `V` is its linear part alone, under which displacements
    and velocities move.

    Raises:
        RepresentationError: the group does not act on any R^n.
    """

    def __init__(self, group: Group) -> None:
        super().__init__(group, _space(group) + 1, "Homogeneous")

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """The homogeneous matrix of the affine map."""
        linear, moved = self.group.linear(g, dtype=dtype), self.group.translation(g, dtype=dtype)
        column = torch.zeros_like(linear[..., :1]) if moved is None else moved[..., None].to(linear)
        last = torch.eye(self.size, dtype=linear.dtype, device=linear.device)[-1:]
        return torch.cat([torch.cat([linear, column], -1), last.expand(*linear.shape[:-2], 1, -1)], -2)


def V(group: Group) -> Rep:
    """Vectors of the R^n on which the group acts: its `linear` part, size ``group.space_dim``.

    For `Symmetric(n)` these are the n places. For groups with translations, see `Homogeneous`.

    Raises:
        RepresentationError: the group does not act on any R^n.
    """
    return _Places(group) if isinstance(group, Symmetric) else Vector(group)


def Pseudovector(group: Group) -> Rep:
    """Vectors times the determinant: the cross product of two vectors of R^3; equal to `V` under rotations.

    Raises:
        RepresentationError: the group does not act on any R^n.
    """
    return Vector(group, power=1)


@dataclass(frozen=True)
class T:
    """Tensors of rank (p, q), as in EMLP: ``T(p, q)(group)`` is p factors `V` times q factors ``V.dual``.

    Vectors of size n^(p + q) are the row-major entries of a tensor ``[n, ..., n]``; ``T(0)`` is `Scalar`.

    Raises:
        RepresentationError: p or q is negative or not an integer.
    """

    p: int
    q: int = 0

    def __post_init__(self) -> None:
        for name, value in (("p", self.p), ("q", self.q)):
            if not is_whole(value, 0):
                raise RepresentationError(f"T({self.p!r}, {self.q!r}): {name} must be an integer of at least 0")

    def __call__(self, group: Group) -> Rep:
        """The tensors of a group."""
        rep: Rep = Scalar(group)
        if self.p + self.q:
            vector = V(group)
            for factor in [vector] * self.p + [vector.dual] * self.q:
                rep = rep @ factor
        return rep


@dataclass(frozen=True)
class PermutationTensor:
    """Arrays ``[n, ..., n]`` with k axes, all of which `Symmetric(n)` permutes alike: n^k row-major entries.

    ``PermutationTensor(2)(Symmetric(n))`` are adjacency matrices, ``(1)`` node features, ``(0)`` a graph feature.

    Raises:
        RepresentationError: k is negative or not an integer, or the group is not `Symmetric`.
    """

    k: int

    def __call__(self, group: Group) -> Rep:
        """The arrays of a symmetric group."""
        if not isinstance(group, Symmetric):
            raise RepresentationError(f"PermutationTensor({self.k}) needs Symmetric(n), got {group!r}; use T({self.k})")
        return T(self.k)(group)


class Quotient(PermutationRep):
    """Functions on the left cosets G/H of a finite group, size order(G) / order(H).

    Basis vector c is the indicator of coset c; cosets are in the order of their first element in ``group.elements()``.

    Raises:
        RepresentationError: the group is infinite, or `subgroup` is no subgroup.
    """

    def __init__(self, group: Group, subgroup: Group) -> None:
        self.table = Table.of(group)
        self.subgroup = subgroup
        self.labels, self.first = self.table.cosets(subgroup)
        super().__init__(group, len(self.first), f"Quotient({subgroup.name})")

    def images(self, g: Tensor) -> Tensor:
        """The coset of ``g r`` for each coset's first element r."""
        first = self.table.elements[self.first].to(g.device)
        lifted = g.reshape(*self.group.batch_shape(g), 1, *self.group.shape)
        return self.labels.to(g.device)[self.table.index(self.group.compose(lifted, first))]

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.subgroup)


class Regular(PermutationRep):
    """Functions on a finite group, size its order: basis vector h, the h-th of ``elements()``, goes to ``gh``.

    Raises:
        RepresentationError: the group is infinite.
    """

    def __init__(self, group: Group) -> None:
        self.table = Table.of(group)
        super().__init__(group, int(group.order), "Regular")

    def images(self, g: Tensor) -> Tensor:
        """The index of ``g h`` for each element h."""
        lifted = g.reshape(*self.group.batch_shape(g), 1, *self.group.shape)
        return self.table.index(self.group.compose(lifted, self.table.elements.to(g.device)))


class TableRep(MatrixRep):
    """A representation of a finite group by a table of matrices, one for each of ``group.elements()``.

    Args:
        group: the finite group.
        matrices: float64 ``[order, size, size]``, a homomorphism.
        name: what it is called.
    """

    def __init__(self, group: Group, matrices: Tensor, name: str) -> None:
        self.table = Table.of(group)
        if matrices.ndim != 3 or len(matrices) != group.order or matrices.shape[1] != matrices.shape[2]:
            raise RepresentationError(
                f"{name}: matrices has shape {tuple(matrices.shape)}, but [{group.order}, size, size] is needed"
            )
        super().__init__(group, matrices.shape[-1], name)
        self.matrices = matrices.to(torch.float64)

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows of the table."""
        return self.matrices.to(g.device)[self.table.index(g)].to(dtype)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.name, digest(self.matrices))


def _space(group: Group) -> int:
    if group.space_dim < 1:
        raise RepresentationError(f"{group.name} does not act on any R^n, so it has no vectors; use Regular(group)")
    return group.space_dim
