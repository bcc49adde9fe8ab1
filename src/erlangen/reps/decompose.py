"""Irreducible parts and the change of basis to them, for finite groups and for rotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import RepresentationError
from erlangen.groups import SO, O, planar_rotation
from erlangen.groups.base import order_text
from erlangen.reps.base import Rep, Sum
from erlangen.reps.finite import Table
from erlangen.reps.irreducible import irreducible
from erlangen.reps.leaves import TableRep
from erlangen.reps.maps import equivariant_basis

Label = int | tuple[int, int]
"""Finite group: running number; SO(2): frequency; SO(3): l; O(3): (l, parity)."""

MAX_TABLE = 50_000_000
"""Largest number of entries of all matrices of a finite group together: 400 MB."""
_TYPES = {1: "real", 2: "complex", 4: "quaternionic"}
_GAP = 1e-5  # eigenvalues of a random symmetric matrix with norm 1 this close are one eigenspace


@dataclass(frozen=True)
class Decomposition:
    """What a representation is made of.

    Attributes:
        multiplicities: how often each irreducible part occurs. Real irreducible parts of SO(2) are the frequencies
            k = 0 (size 1) and k > 0 (size 2); of SO(3) the degrees l (size 2l + 1); of O(3) the pairs (l, parity),
            parity 1 or -1 (the vectors are (1, -1)).
        irreps: the irreducible representations (real, orthogonal) by label.
        types: "real", "complex" or "quaternionic" by label: what commutes with the irrep.
        basis: the orthogonal matrix B, float64 ``[size, size]``, with ``rho(g) = B @ parts.rho(g) @ B.mT``.
    """

    multiplicities: dict[Label, int]
    irreps: dict[Label, Rep]
    types: dict[Label, str]
    basis: Tensor

    @property
    def parts(self) -> Rep:
        """The direct sum of the irreducible parts, equal ones side by side."""
        return Sum([(self.multiplicities[label], irrep) for label, irrep in self.irreps.items()])


def decompose(rep: Rep) -> Decomposition:
    """`Rep.decompose`."""
    if isinstance(rep.group, SO | O) and (rep.group.space_dim, type(rep.group)) in ((2, SO), (3, SO), (3, O)):
        return _decompose_rotations(rep)
    if rep.group.order == float("inf"):
        raise RepresentationError(
            f"{rep!r}: decompose knows finite groups, SO(2), SO(3) and O(3); restrict to one of these first"
        )
    return _decompose_finite(rep)


# --- rotations -------------------------------------------------------------------------------------------------------
def _decompose_rotations(rep: Rep) -> Decomposition:
    """Multiplicities from characters, columns from the equivariant maps of each irrep into `rep`."""
    _check_orthogonal(rep)
    counts = _rotation_multiplicities(rep)
    irreps = {label: irreducible(rep.group, label) for label in counts}
    columns = [_copies(irrep, rep, counts[label]) for label, irrep in irreps.items()]
    planar = rep.group.space_dim == 2
    types = {label: "complex" if planar and label else "real" for label in counts}
    return Decomposition(counts, irreps, types, torch.cat(columns, -1))


def _copies(irrep: Rep, rep: Rep, count: int) -> Tensor:
    """Orthonormal columns ``[size, count * irrep.size]``: images of equivariant maps, orthogonal to each other.

    A map between orthogonal representations, the first of which is irreducible, is a multiple of an isometry (Schur).
    Maps of complex type have images in common, so what the columns span already is taken off before the next is chosen.
    """
    maps = equivariant_basis(irrep >> rep)
    columns = maps.new_zeros(rep.size, 0)
    for _ in range(count):
        rest = maps - columns @ (columns.mT @ maps)
        largest = rest[int(rest.flatten(1).norm(dim=-1).argmax())]
        columns = torch.cat([columns, largest / largest[:, 0].norm()], -1)
    return columns


def _check_orthogonal(rep: Rep) -> None:
    if not rep.is_orthogonal:
        raise RepresentationError(
            f"{rep!r} is not orthogonal, as decompose needs: the parts of another basis are not orthogonal to each other. "
            "Change the basis so that all matrices are orthogonal"
        )


def _rotation_multiplicities(rep: Rep) -> dict[Label, int]:
    n = rep.group.space_dim
    weights = _weights(lambda t: rep.character(_turn(t, n)), rep)
    if n == 2:
        return {k: m for k, m in enumerate(weights) if m}
    proper = _differences(weights)
    if isinstance(rep.group, SO):
        return {degree: m for degree, m in enumerate(proper) if m}
    # The inversion is parity times identity, so its characters count the even parts minus the odd ones.
    signed = _differences(_weights(lambda t: rep.character(-_turn(t, n)), rep))
    signed += [0] * (len(proper) - len(signed))
    found: dict[Label, int] = {}
    for degree, (total, difference) in enumerate(zip(proper, signed, strict=True)):
        for parity in (1, -1):
            if total + parity * difference:
                found[degree, parity] = (total + parity * difference) // 2
    return found


def _turn(t: Tensor, n: int) -> Tensor:
    """Rotations ``[..., n, n]`` by the angles t in the plane of the first two axes."""
    R = torch.eye(n, dtype=t.dtype).repeat(*t.shape, 1, 1)
    R[..., :2, :2] = planar_rotation(t)
    return R


def _weights(character: Callable[[Tensor], Tensor], rep: Rep) -> list[int]:
    """Fourier coefficients of a character that is a trigonometric polynomial in the angle, from frequency 0 on."""
    check = 2 * torch.pi * torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    count = 32
    while count <= 4096:
        angles = 2 * torch.pi / count * torch.arange(count, dtype=torch.float64)
        cosine = torch.fft.rfft(character(angles)).real / count
        rounded = cosine.round()
        frequencies = torch.arange(len(rounded), dtype=torch.float64)
        doubled = torch.where(frequencies > 0, 2 * rounded, rounded)
        value = (doubled * (check[:, None] * frequencies).cos()).sum(-1)
        if float((value - character(check)).abs().max()) < 1e-6 * rep.size:
            return [int(c) for c in rounded]
        count *= 2
    raise RepresentationError(f"{rep!r}: its character is no polynomial of degree below 2048 in the angle")


def _differences(weights: list[int]) -> list[int]:
    """Multiplicity of degree l: weight l occurs once in every degree from l on."""
    return [a - b for a, b in zip(weights, [*weights[1:], 0], strict=True)]


# --- finite groups ---------------------------------------------------------------------------------------------------
def _decompose_finite(rep: Rep) -> Decomposition:
    _check_orthogonal(rep)
    table = Table.of(rep.group)
    if int(rep.group.order) * rep.size**2 > MAX_TABLE:
        raise RepresentationError(
            f"{rep!r}: {order_text(rep.group)} matrices [{rep.size}, {rep.size}] are more than {MAX_TABLE:,} numbers; "
            "decompose the summands or factors one by one, or restrict to a smaller group"
        )
    matrices = rep.rho(table.elements, dtype=torch.float64).double()
    generator = torch.Generator().manual_seed(1872)
    spaces = _irreducible_spaces(matrices, generator)
    characters = [torch.einsum("ai,gab,bi->g", U, matrices, U) for U in spaces]
    groups = _isomorphic(characters)
    irreps: dict[Label, Rep] = {}
    types: dict[Label, str] = {}
    columns: list[Tensor] = []
    for label, members in enumerate(groups):
        first = spaces[members[0]]
        small = first.mT @ matrices @ first
        irreps[label] = TableRep(rep.group, small, f"irrep{label}")
        types[label] = _TYPES[round(float(characters[members[0]].square().mean()))]
        columns += [first, *(_aligned(spaces[i], first, matrices, small, generator) for i in members[1:])]
    counts: dict[Label, int] = {label: len(members) for label, members in enumerate(groups)}
    return Decomposition(counts, irreps, types, torch.cat(columns, -1))


def _irreducible_spaces(matrices: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Orthonormal columns ``[size, d]`` of irreducible invariant subspaces that are orthogonal to each other.

    They are the eigenspaces of a random symmetric matrix that commutes with the group: on the m copies of one part it is
    a random Hermitian m x m matrix over the reals, complex numbers or quaternions, with m distinct eigenvalues.
    """
    size = matrices.shape[-1]
    X = torch.randn(size, size, generator=generator, dtype=torch.float64)
    commuting = _average(matrices, X + X.mT, matrices)
    values, vectors = torch.linalg.eigh((commuting + commuting.mT) / 2)
    cuts = ((values[1:] - values[:-1]) > _GAP * float(values.abs().max())).nonzero().flatten() + 1
    return list(vectors.tensor_split(cuts.tolist(), -1))


def _average(left: Tensor, X: Tensor, right: Tensor) -> Tensor:
    """Mean over the group of ``left(g) X right(g)^T``."""
    return torch.einsum("gab,bc,gdc->ad", left, X, right) / len(left)


def _isomorphic(characters: list[Tensor]) -> list[list[int]]:
    """Indices of equal characters together: small dimensions first, then the order of appearance."""
    groups: list[list[int]] = []
    for i in sorted(range(len(characters)), key=lambda i: round(float(characters[i][0]))):
        for members in groups:
            if float((characters[i] - characters[members[0]]).abs().max()) < 1e-6:
                members.append(i)
                break
        else:
            groups.append([i])
    return groups


def _aligned(space: Tensor, first: Tensor, matrices: Tensor, small: Tensor, generator: torch.Generator) -> Tensor:
    """The columns of `space`, turned so that the group moves them by the same matrices as those of `first`."""
    X = torch.randn(space.shape[-1], first.shape[-1], generator=generator, dtype=torch.float64)
    intertwiner = _average(space.mT @ matrices @ space, X, small)
    U, _, Vh = torch.linalg.svd(intertwiner)  # a multiple of an orthogonal matrix, by Schur's lemma
    return space @ (U @ Vh)
