"""Representations of one group made from those of another: restricted, inflated, induced."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.errors import RepresentationError
from erlangen.groups import SO, Cyclic, DirectProduct, Group
from erlangen.reps.base import Product, Rep, Sum, digest, generators
from erlangen.reps.embedding import Embedding, embedding
from erlangen.reps.finite import Table
from erlangen.reps.leaves import ORTHOGONAL_TOL, MatrixRep, Scalar

_STEP = 0.1  # along a one-parameter subgroup: inside the reach of principal logarithms, far from rounding


class Pullback(Rep):
    """A representation through a homomorphism: an element g of `group` moves vectors as ``map(g)`` does.

    Args:
        rep: the representation that does the work.
        group: the group whose elements come in.
        through: the homomorphism, elements ``[..., *group.shape]`` to ``[..., *rep.group.shape]``, batched.
        name: text that names the result.
    """

    def __init__(self, rep: Rep, group: Group, through: Embedding, name: str) -> None:
        self.rep, self.group, self.through = rep, group, through
        self.size, self.name = rep.size, name

    @cached_property
    def pushforward(self) -> Tensor:
        """The homomorphism on algebra coordinates, float64 ``[group.dim, rep.group.dim]``."""
        if self.group.dim == 0 or self.rep.group.dim == 0:
            return torch.zeros(self.group.dim, self.rep.group.dim, dtype=torch.float64)
        a = _STEP * torch.eye(self.group.dim, dtype=torch.float64)
        return self.rep.group.log(self.through(self.group.exp(a))) / _STEP

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        return self.rep._apply(self.through(g), x)

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return self.rep._dapply(a @ self.pushforward.to(a), x)

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The character of the image."""
        dtype = dtype or (g.dtype if g.is_floating_point() else torch.get_default_dtype())
        return self.rep.character(self.through(g), dtype=dtype).to(dtype)

    @property
    def dual(self) -> Rep:
        """The dual, through the same map."""
        return self if self.is_orthogonal else Pullback(self.rep.dual, self.group, self.through, f"({self.name}).dual")

    def _is_orthogonal(self) -> bool:
        if self.rep.is_orthogonal:
            return True
        a, h = generators(self.group)
        skew, unit = self.drho(a), self.rho(h, dtype=torch.float64)
        away = [(skew + skew.mT).abs(), (unit @ unit.mT - torch.eye(self.size, dtype=torch.float64)).abs()]
        return all(bool((t <= ORTHOGONAL_TOL).all()) for t in away)

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """That of the images."""
        return self.rep.fingerprint(a @ self.pushforward.to(a), self.through(h))

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.rep, self.group, self.name)


def restrict(rep: Rep, subgroup: Group) -> Rep:
    """`Rep.restrict`."""
    if subgroup == rep.group:
        return rep
    return _pull(rep, subgroup, embedding(subgroup, rep.group), f"restricted to {subgroup.name}")


def about_y(rep: Rep, group: Group) -> Rep:
    """A representation of SO(3) or O(3) restricted to rotations about y, as one of planar rotations: ``SO(2)`` or ``Cyclic(n)``.

    >>> from erlangen.groups import SO
    >>> from erlangen.irreps import Irreps
    >>> about_y(Irreps("1x2e")(SO(3)), SO(2)).size
    5

    The y axis is the polar axis of harmonics: the rotation by t turns the entries (+m, -m) of every degree by ``m t``, so that
    degree l holds the frequencies 0 to l once each. In space it takes z to x, for positive t.

    Raises:
        RepresentationError: a group of another kind.
    """
    if rep.group.space_dim != 3 or group.space_dim != 2 or not (isinstance(group, (SO, Cyclic))):
        raise RepresentationError(
            f"about_y takes a representation of SO(3) or O(3) to SO(2) or Cyclic(n), not from {rep.group.name} to {group.name}"
        )
    return _pull(rep, group, _AboutY(group), "about y")


class _AboutY:
    """Rotations about y of planar ones; a class, so that layers can be pickled."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def __call__(self, g: Tensor) -> Tensor:
        plane = self.group.linear(g, dtype=g.dtype if g.is_floating_point() else torch.float64)
        turn = plane.new_zeros(*plane.shape[:-2], 3, 3)
        turn[..., 1, 1] = 1
        for i, row in enumerate((2, 0)):  # the plane is spanned by z and x
            for j, column in enumerate((2, 0)):
                turn[..., row, column] = plane[..., i, j]
        return turn


def inflate(rep: Rep, product: Group, factor: int | None) -> Rep:
    """`Rep.inflate`."""
    if not isinstance(product, DirectProduct):
        raise RepresentationError(f"inflate needs a DirectProduct, got {product!r}; for a subgroup use .restrict(...)")
    places = [i for i, f in enumerate(product.factors) if f == rep.group and factor in (None, i)]
    if len(places) != 1:
        wanted = f"{rep.group.name} {'not at all' if not places else f'at the places {places}'}"
        raise RepresentationError(
            f"{product.name} has the factor {wanted}, factor={factor!r}; "
            + ("choose one of them with factor=" if places else "give a product that contains it at that place")
        )
    place = places[0]
    return _pull(rep, product, lambda g: product.split(g)[place], f"inflated from factor {place}")


def _pull(rep: Rep, group: Group, through: Embedding, how: str) -> Rep:
    """Sums and products stay what they are, so that their parts are still seen (and solved for) one by one."""
    if isinstance(rep, Sum):
        return Sum([(n, _pull(part, group, through, how)) for n, part in rep.runs])
    if isinstance(rep, Product):
        return Product([_pull(part, group, through, how) for part in rep.parts])
    return Scalar(group) if rep.is_unit else Pullback(rep, group, through, f"({rep.name} {how})")


class Induced(MatrixRep):
    """Induced representation of a finite group: functions f on G with values in the representation of H.

    Block c of the vectors belongs to the left coset ``r_c H`` of its first element r_c; g moves block c to the block of
    ``g r_c = r_d h`` and applies ``rho(h)`` (Serre, Linear Representations of Finite Groups, section 7.1).

    Raises:
        RepresentationError: a group is infinite, or that of `rep` is no subgroup of `group`.
    """

    def __init__(self, rep: Rep, group: Group) -> None:
        self.rep = rep
        self.table = Table.of(group)
        self.labels, self.first = self.table.cosets(rep.group)
        super().__init__(group, len(self.first) * rep.size, f"({rep.name} induced to {group.name})")

    @cached_property
    def _positions(self) -> Tensor:
        """For each element of G, its index among the elements of H, or -1."""
        inside = Table.of(self.rep.group).elements
        places = self.table.index(embedding(self.rep.group, self.group)(inside))
        positions = torch.full((len(self.table.elements),), -1)
        positions[places] = torch.arange(len(inside))
        return positions

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """Block permutation matrices ``[..., size, size]``."""
        lifted = g.reshape(*self.group.batch_shape(g), 1, *self.group.shape)
        first = self.table.elements[self.first].to(g.device)
        moved = self.group.compose(lifted, first)
        target = self.labels.to(g.device)[self.table.index(moved)]
        h = self.table.index(self.group.compose(self.group.inverse(first[target]), moved))
        inner = Table.of(self.rep.group).elements.to(g.device)[self._positions.to(g.device)[h]]
        blocks = self.rep.rho(inner, dtype=dtype)
        where = F.one_hot(target, len(first)).to(dtype)
        return torch.einsum("...cd,...cij->...dicj", where, blocks).flatten(-4, -3).flatten(-2)

    def _is_orthogonal(self) -> bool:
        return self.rep.is_orthogonal

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """Digest of the matrices."""
        return f"{len(a)},{digest(self.rho(h, dtype=torch.float64))}"

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.rep)
