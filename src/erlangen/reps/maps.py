"""Equivariant linear maps between representations of any group.

>>> from erlangen.groups import O, Symmetric
>>> from erlangen.reps import PermutationTensor, T, equivariant_basis
>>> equivariant_basis(T(2)(O(3)) >> T(0)(O(3))).shape      # the trace
torch.Size([1, 1, 9])
>>> equivariant_basis(PermutationTensor(2)(Symmetric(5)) >> PermutationTensor(2)(Symmetric(5))).shape
torch.Size([15, 25, 25])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import RepresentationError, ShapeError
from erlangen.groups import Symmetric
from erlangen.reps.base import Hom, Rep, generators
from erlangen.reps.cache import cached
from erlangen.reps.irreducible import rotation_invariants
from erlangen.reps.leaves import Scalar
from erlangen.reps.partitions import partition_basis, partition_count, tensor_order
from erlangen.reps.solver import check_entries, invariant_vectors


@dataclass(frozen=True)
class Block:
    """Equivariant maps between `copies_in` copies of one part and `copies_out` copies of another.

    `basis` is ``[dims, out, in]`` float64, orthonormal; `start_in` and `start_out` are where the copies begin.
    """

    basis: Tensor
    copies_in: int
    copies_out: int
    start_in: int
    start_out: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the coefficients: one number per basis map and pair of copies."""
        return (len(self.basis), self.copies_out, self.copies_in)

    @property
    def rows(self) -> slice:
        """Rows of the whole matrix."""
        return slice(self.start_out, self.start_out + self.copies_out * self.basis.shape[1])

    @property
    def columns(self) -> slice:
        """Columns of the whole matrix."""
        return slice(self.start_in, self.start_in + self.copies_in * self.basis.shape[2])


@dataclass(frozen=True)
class HomBasis:
    """An orthonormal basis of the equivariant maps, kept as one small basis per pair of summands.

    Attributes:
        hom: ``source >> target``.
        blocks: one for each pair of summands between which there are maps.
    """

    hom: Hom
    blocks: tuple[Block, ...]

    @property
    def dims(self) -> int:
        """Number of basis maps."""
        return sum(d * m * n for d, m, n in (block.shape for block in self.blocks))

    def assemble(self, coefficients: Tensor) -> Tensor:
        """Maps ``[..., size_out, size_in]`` of coefficients ``[..., dims]``, in their dtype and on their device."""
        if coefficients.shape[-1:] != (self.dims,):
            raise ShapeError(f"coefficients has shape {tuple(coefficients.shape)}, but [..., {self.dims}] is needed")
        lead = coefficients.shape[:-1]
        W = coefficients.new_zeros(*lead, self.hom.target.size, self.hom.source.size)
        start = 0
        for block in self.blocks:
            d, m, n = block.shape
            part = coefficients[..., start : start + d * m * n].unflatten(-1, (d, m, n))
            maps = torch.einsum("...dmn,dij->...minj", part, block.basis.to(coefficients))
            W[..., block.rows, block.columns] = maps.flatten(-4, -3).flatten(-2)
            start += d * m * n
        return W

    def coefficients(self, W: Tensor) -> Tensor:
        """Inner products ``[..., dims]`` of matrices ``[..., size_out, size_in]`` with the basis maps."""
        if W.shape[-2:] != (self.hom.target.size, self.hom.source.size):
            raise ShapeError(
                f"W has shape {tuple(W.shape)}, but maps {self.hom.name} are "
                f"[..., {self.hom.target.size}, {self.hom.source.size}]"
            )
        parts = [W.new_zeros(*W.shape[:-2], 0)]
        for block in self.blocks:
            _, m, n = block.shape
            piece = W[..., block.rows, block.columns].unflatten(-1, (n, -1)).unflatten(-3, (m, -1))
            parts.append(torch.einsum("...minj,dij->...dmn", piece, block.basis.to(W)).flatten(-3))
        return torch.cat(parts, -1)

    def project(self, W: Tensor) -> Tensor:
        """The nearest equivariant maps (Frobenius) to matrices ``[..., size_out, size_in]``."""
        return self.assemble(self.coefficients(W))

    def dense(self) -> Tensor:
        """All basis maps, float64 ``[dims, size_out, size_in]``.

        Raises:
            RepresentationError: more than 20 million numbers.
        """
        check_entries(self.dims, self.hom.size, self.hom)
        return self.assemble(torch.eye(self.dims, dtype=torch.float64))


def hom_basis(hom: Hom) -> HomBasis:
    """The equivariant maps of ``source >> target`` pair by pair of summands: what layers keep.

    Maps Q satisfy ``rho_target(g) Q = Q rho_source(g)`` for all g. Between permutation tensors of `Symmetric(n)` they
    are in closed form (set partitions), and so are they between vectors, tensors and irreps of SO(3) and O(3) (3j
    symbols); otherwise the nullspace of the generators' constraints, cached on disk.

    Raises:
        RepresentationError: `hom` is no ``source >> target``, or a pair of summands is too large.
    """
    if not isinstance(hom, Hom):
        raise RepresentationError(f"hom is {hom!r}; write source >> target (invariant_basis(rep) takes one rep)")
    blocks: list[Block] = []
    start_out = 0
    for m, target in hom.target.summands():
        start_in = 0
        for n, source in hom.source.summands():
            basis = _pair_basis(source, target)
            if len(basis):
                blocks.append(Block(basis, n, m, start_in, start_out))
            start_in += n * source.size
        start_out += m * target.size
    return HomBasis(hom, tuple(blocks))


def equivariant_basis(hom: Hom) -> Tensor:
    """Orthonormal basis (Frobenius) of the equivariant maps, float64 ``[dims, size_out, size_in]``.

    Args:
        hom: ``rep_in >> rep_out``.

    Raises:
        RepresentationError: more than 20 million numbers; `hom_basis` keeps sums in small blocks.
    """
    return hom_basis(hom).dense()


def equivariant_projector(hom: Hom) -> Tensor:
    """Matrix of the orthogonal projection of maps onto the equivariant ones, float64 ``[N, N]``, N = out * in.

    It acts on row-major maps. For orthogonal representations of compact groups it is the average of
    ``rho_out(g) W rho_in(g)^-1`` over the group (the Reynolds operator); for others it is not. `HomBasis.project`
    projects without the matrix.

    Raises:
        RepresentationError: more than 20 million numbers.
    """
    check_entries(hom.size, hom.size, hom)
    Q = equivariant_basis(hom).flatten(1)
    return Q.mT @ Q


def invariant_basis(rep: Rep) -> Tensor:
    """Orthonormal basis of the vectors that every element leaves alone, float64 ``[dims, size]``.

    Raises:
        RepresentationError: as `equivariant_basis`.
    """
    return equivariant_basis(Scalar(rep.group) >> rep)[..., 0]


def _pair_basis(source: Rep, target: Rep) -> Tensor:
    """``[dims, out, in]`` between two representations that are not sums."""
    maps = source >> target
    group, k, m = maps.group, tensor_order(source), tensor_order(target)
    if isinstance(group, Symmetric) and k is not None and m is not None:
        check_entries(partition_count(k + m, group.n), maps.size, maps)
        basis = partition_basis(group.n, k + m)
    elif (closed := rotation_invariants(maps)) is not None:
        basis = closed
    else:
        text = f"{source.size},{target.size}: {maps.fingerprint(*generators(group))}"
        basis = cached(text, maps.size, lambda: invariant_vectors(maps))
    return basis.unflatten(-1, (target.size, source.size))
