"""Irreps of SO(2), SO(3) and O(3) as representations, and the invariants of their tensor products in closed form.

>>> from erlangen.groups import O
>>> from erlangen.reps import Irreps, V, equivariant_basis
>>> Irreps("16x0e+8x1o")(O(3))
16*Scalar + 8*1o of O(3)
>>> equivariant_basis(Irreps("1o+2e")(O(3)) @ V(O(3)) >> V(O(3))).shape     # 2e x 1o -> 1o
torch.Size([1, 3, 24])
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.errors import IrrepsError, RepresentationError, is_whole
from erlangen.groups import SO, Cyclic, Group, O
from erlangen.irreps.coupling import MAX_COUPLING_DEGREE, wigner_3j
from erlangen.irreps.irreps import Irrep, Irreps
from erlangen.irreps.wigner import MAX_WIGNER_DEGREE
from erlangen.reps.base import Rep, Sum
from erlangen.reps.leaves import MatrixRep, Scalar, Vector
from erlangen.reps.solver import canonical, check_entries

_Part = tuple[int, tuple[Irrep, ...]]  # where a part of a factor begins, and the irreps whose tensors it holds


class Irreducible(MatrixRep):
    """One irrep of degree l >= 1, size 2l + 1, by `erlangen.irreps.wigner_D`; order m = -l..l as in e3nn.

    Rotations alone do not see the parity: under SO(3) the name is ``l=1`` where it is ``1o`` or ``1e`` under O(3).

    Raises:
        RepresentationError: the group is neither SO(3) nor O(3).
        IrrepsError: the degree is larger than 12.
    """

    def __init__(self, group: Group, irrep: Irrep) -> None:
        _check_group(group, str(irrep))
        if irrep.l > MAX_WIGNER_DEGREE:
            raise IrrepsError(f"irrep {irrep}: Wigner matrices have degrees up to {MAX_WIGNER_DEGREE}")
        proper = isinstance(group, SO)
        # The parity of harmonics is the one that needs no determinant.
        self.irrep = Irrep(irrep.l, (-1) ** irrep.l) if proper else irrep
        super().__init__(group, irrep.dim, f"l={irrep.l}" if proper else str(irrep))

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """The Wigner matrix, times the determinant where the parity is not that of harmonics."""
        return self.irrep.D_from_matrix(self.group.linear(g, dtype=dtype), check=False)

    def _is_orthogonal(self) -> bool:
        return True

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.irrep)


class Frequency(MatrixRep):
    """The irrep of SO(2) on R^2 of a frequency k >= 1: the rotation by an angle t acts as the rotation by ``k t``.

    Args:
        group: ``SO(2)``, or ``Cyclic(n)`` for the same matrices under its rotations.
        frequency: k.

    Raises:
        RepresentationError: the group is no group of planar rotations, or k is no positive integer.
    """

    def __init__(self, group: Group, frequency: int) -> None:
        if not (isinstance(group, Cyclic) or (isinstance(group, SO) and group.space_dim == 2)):
            raise RepresentationError(f"group is {group!r}; frequencies belong to SO(2) and Cyclic(n)")
        if not is_whole(frequency, 1):
            raise RepresentationError(
                f"frequency = {frequency!r}: give an integer of at least 1 (Scalar has frequency 0)"
            )
        super().__init__(group, 2, f"F{frequency}")
        self.frequency = frequency

    def matrix(self, g: Tensor, dtype: torch.dtype) -> Tensor:
        """A power of the rotation matrix, so that quarter turns stay exact."""
        return torch.linalg.matrix_power(self.group.linear(g, dtype=dtype), self.frequency)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.group, self.frequency)


def direct_sum(irreps: Irreps, group: Group) -> Rep:
    """``Irreps.__call__``: the blocks as written; trivial irreps are `Scalar`."""
    _check_group(group, str(irreps))
    runs = [(block.mul, _irreducible(group, block.ir)) for block in irreps if block.mul]
    if not runs:
        raise RepresentationError(
            f"irreps {str(irreps)!r} hold nothing, and a representation has at least one dimension"
        )
    return runs[0][1] if len(runs) == 1 and runs[0][0] == 1 else Sum(runs)


def irreducible(group: Group, label: int | tuple[int, int]) -> Rep:
    """The irrep of SO(2) by its frequency, of SO(3) by its degree, of O(3) by (degree, parity)."""
    if isinstance(label, tuple):
        return _irreducible(group, Irrep(*label))
    if group.space_dim == 2:
        return Frequency(group, label) if label else Scalar(group)
    return _irreducible(group, Irrep(label, (-1) ** label))


def rotation_invariants(rep: Rep) -> Tensor | None:
    """Orthonormal invariants, float64 ``[dims, size]``, of a tensor product of irreps of SO(3) or O(3).

    Factors may be irreps, `V`, `Pseudovector`, `Scalar`, or sums of these and of their products. Irreps l1, ..., lk are
    coupled one after the other with 3j symbols, through every sequence of degrees that ends in 0 (for two irreps this is
    Schur's lemma). Sequences give orthonormal invariants; the basis returned is the `canonical` one of their span,
    equal to that of the solver.

    Returns:
        None for other groups and representations, and where a degree in between is larger than 16.

    Raises:
        RepresentationError: the basis has more than 20 million numbers.
    """
    if not _is_spatial(rep.group):
        return None
    parts = [_parts(factor) for factor in rep.factors()]
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    blocks = [block for block in itertools.product(*known) if _even(block, rep.group)]
    degrees = [[ir.l for _, irreps in block for ir in irreps] for block in blocks]
    if any(_highest(ls) > MAX_COUPLING_DEGREE for ls in degrees):
        return None
    dims = sum(_count(ls) for ls in degrees)
    check_entries(dims, rep.size, rep)
    basis = torch.zeros(dims, *(factor.size for factor in rep.factors()), dtype=torch.float64)
    row = 0
    for block, ls in zip(blocks, degrees, strict=True):
        invariants = _couple(ls)
        sizes = [math.prod(ir.dim for ir in irreps) for _, irreps in block]
        where = [slice(start, start + size) for (start, _), size in zip(block, sizes, strict=True)]
        basis[(slice(row, row + len(invariants)), *where)] = invariants.reshape(-1, *sizes)
        row += len(invariants)
    return canonical(basis.flatten(1))


# --- recognising irreps ----------------------------------------------------------------------------------------------
def _irreducible(group: Group, irrep: Irrep) -> Rep:
    trivial = irrep.l == 0 and (irrep.p == 1 or isinstance(group, SO))
    return Scalar(group) if trivial else Irreducible(group, irrep)


def _parts(factor: Rep) -> list[_Part] | None:
    """What a factor of a tensor product is a direct sum of, with multiplicity; None if it is not known."""
    parts, start = list[_Part](), 0
    for n, summand in factor.summands():
        irreps = [_irrep(f) for f in summand.factors()]
        known = tuple(ir for ir in irreps if ir is not None)
        if len(known) < len(irreps):
            return None
        parts += [(start + copy * summand.size, known) for copy in range(n)]
        start += n * summand.size
    return parts


def _irrep(leaf: Rep) -> Irrep | None:
    if leaf.is_unit:
        return Irrep(0, 1)
    if isinstance(leaf, Irreducible):
        return leaf.irrep
    if isinstance(leaf, Vector):
        return Irrep(1, 1 if leaf.power else -1)
    return None


def _even(block: Sequence[_Part], group: Group) -> bool:
    """Whether the inversion, if it is in the group, leaves the tensors of these parts alone."""
    return isinstance(group, SO) or math.prod(ir.p for _, irreps in block for ir in irreps) == 1


def _is_spatial(group: Group) -> bool:
    return isinstance(group, SO | O) and group.space_dim == 3


def _check_group(group: Group, irreps: str) -> None:
    if not _is_spatial(group):
        raise RepresentationError(
            f"irreps {irreps} are representations of SO(3) and O(3), not of {getattr(group, 'name', repr(group))}; for a "
            f"subgroup write Irreps({irreps!r})(O(3)).restrict(group), for a product .inflate(group)"
        )


# --- coupling --------------------------------------------------------------------------------------------------------
def _reachable(degrees: Sequence[int]) -> list[dict[int, int]]:
    """For each number of leading factors, the degrees in their product with the number of ways to each."""
    ways = [{0: 1}]
    for l in degrees:
        following: dict[int, int] = {}
        for before, count in ways[-1].items():
            for L in range(abs(before - l), before + l + 1):
                following[L] = following.get(L, 0) + count
        ways.append(following)
    return ways


def _count(degrees: Sequence[int]) -> int:
    """Number of invariants in the product of these degrees."""
    return _reachable(degrees)[-1].get(0, 0)


def _needed(degrees: Sequence[int]) -> list[set[int]]:
    """Degrees after each number of factors through which 0 can still be reached with the others."""
    forward, backward = _reachable(degrees), _reachable(degrees[::-1])[::-1]
    return [set(before) & set(after) for before, after in zip(forward, backward, strict=True)]


def _highest(degrees: Sequence[int]) -> int:
    """Largest degree that couplings to 0 pass through."""
    return max((L for Ls in _needed(degrees) for L in Ls), default=0)


def _couple(degrees: Sequence[int]) -> Tensor:
    """Orthonormal invariants of the product of these degrees, float64 ``[dims, product of (2l + 1)]``."""
    states = {0: torch.ones(1, 1, 1, dtype=torch.float64)}  # degree: [ways, entries so far, order]
    entries = 1
    for l, needed in zip(degrees, _needed(degrees)[1:], strict=True):
        entries *= 2 * l + 1
        coupled: dict[int, list[Tensor]] = {}
        for before, state in states.items():
            for L in range(abs(before - l), before + l + 1):
                if L in needed:
                    # The 3j symbol has norm 1 over all three orders; of each order of L it shall be 1.
                    C = math.sqrt(2 * L + 1) * wigner_3j(before, l, L, dtype=torch.float64)
                    coupled.setdefault(L, []).append(torch.einsum("wam,mnk->wank", state, C).flatten(1, 2))
        states = {L: torch.cat(found) for L, found in coupled.items()}
    return states[0][..., 0] if 0 in states else torch.zeros(0, entries, dtype=torch.float64)
