"""Subgroups: how the elements of one group are found in another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from erlangen.errors import RepresentationError
from erlangen.groups import FiniteMatrixGroup, Group, SemidirectProduct, Subgroup, Symmetric

Embedding = Callable[[Tensor], Tensor]


def embedding(subgroup: Group, group: Group) -> Embedding:
    """The map from elements ``[..., *subgroup.shape]`` to elements ``[..., *group.shape]``.

    Known are a group in itself; ``Subgroup(group, child, embed)``; and groups that move the same R^n by matrices of
    the larger one, such as ``Stabilizer(O(3), v)``, SO(3) or ``Octahedral()`` in O(3), SE(2) in E(2), SO(3) in SE(3),
    ``Cyclic(4)`` in ``Dihedral(4)``, or permutation matrices in ``Symmetric(n)``. Membership is checked on samples and
    generators.

    Raises:
        RepresentationError: no such map is known, or an element falls outside.
    """
    if subgroup == group:
        return _same
    if isinstance(subgroup, Subgroup) and subgroup.parent == group:
        return subgroup.embed
    if subgroup.space_dim != group.space_dim or group.space_dim == 0:
        raise RepresentationError(
            f"{subgroup.name} acts on R^{subgroup.space_dim} and {group.name} on R^{group.space_dim}, so one is not "
            f"a subgroup of the other by its matrices; give the embedding: Subgroup({group.name}, child, embed)"
        )
    embed = _by_matrices(subgroup, group)
    _check_inside(subgroup, group, embed)
    return embed


def _same(g: Tensor) -> Tensor:
    return g


def _by_matrices(subgroup: Group, group: Group) -> Embedding:
    """The element of `group` that moves R^n as the given one does."""

    def linear(g: Tensor) -> Tensor:
        return subgroup.linear(g, dtype=torch.float64)

    if isinstance(group, SemidirectProduct):

        def affine(g: Tensor) -> Tensor:
            M, t = linear(g), subgroup.translation(g, dtype=torch.float64)
            return group.join(M, M.new_zeros(group.space_dim) if t is None else t.to(M))

        return affine
    if isinstance(group, FiniteMatrixGroup):
        # A matrix of another group is no element: an index outside of the table says so to `contains`.
        return lambda g: _index_or_none(*group.from_linear(linear(g), tol=1e-6))
    if isinstance(group, Symmetric):
        return lambda g: linear(g).argmax(-2)
    if group.shape == (group.space_dim, group.space_dim) and group.element_dtype is None:
        return linear
    raise RepresentationError(
        f"elements of {subgroup.name} cannot be found in {group.name} by their matrices; give the embedding: "
        f"Subgroup({group.name}, child, embed)"
    )


def _index_or_none(index: Tensor, found: Tensor) -> Tensor:
    return torch.where(found, index, -1)


def _check_inside(subgroup: Group, group: Group, embed: Embedding) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = subgroup.sample(8, generator=generator, dtype=torch.float64)
    h = subgroup.discrete_generators
    checked = torch.cat([samples, h.to(samples)])
    image = embed(checked)
    moved = group.linear(image.clamp(min=0) if group.element_dtype is not None else image, dtype=torch.float64)
    apart = (moved.double() - subgroup.linear(checked, dtype=torch.float64).double()).abs().amax((-2, -1))
    bad = ~group.contains(image) | (apart > 1e-6 * (1 + moved.abs().amax((-2, -1))))
    translated = subgroup.translation(checked[:1]) is not None and group.translation(image[:1]) is None
    if translated or bool(bad.any()):
        example = "it translates" if translated else f"for example {checked[int(bad.nonzero()[0])].tolist()} is outside"
        raise RepresentationError(f"{subgroup.name} is no subgroup of {group.name} by its matrices: {example}")
