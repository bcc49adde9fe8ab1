"""The contract of a linear representation, and the algebra of sums, products and homs.

A representation is a small immutable object of one group: it knows how elements move vectors ``[..., size]``, and it
never holds a matrix larger than those of its leaves. ``+``, ``n *``, ``@``, ``.dual`` and ``>>`` build larger ones:

    V, S = reps.V(group), reps.Scalar(group)
    features = 16 * S + 8 * V + V @ V          # a direct sum; V @ V has the row-major entries of an [n, n] tensor
    maps = V >> features                       # linear maps [features.size, V.size]: g moves Q to rho(g) Q rho(g)^-1

Broadcasting is that of `erlangen.actions`: the batch dimensions of ``g`` stand against the first dimensions of ``x``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erlangen.actions.base import broadcast_lead
from erlangen.errors import RepresentationError, ShapeError, check_floating, is_whole
from erlangen.groups import Group

Move = Callable[[Tensor], Tensor]

if TYPE_CHECKING:
    from erlangen.reps.decompose import Decomposition


class Rep(ABC):
    """A linear representation of a group on R^size.

    Attributes:
        group: the group that acts.
        size: dimension of the space.
        name: text such as ``2*Scalar + V@V``.
    """

    group: Group
    size: int
    name: str

    # --- how elements act ----------------------------------------------------------------------------------
    def apply(self, g: Tensor, x: Tensor) -> Tensor:
        """The moved vectors ``rho(g) x``, factor by factor: no matrix of the whole space is formed.

        Args:
            g: elements ``[*batch, *group.shape]``.
            x: vectors ``[*lead, *middle, size]``, floating; `batch` and `lead` have equal length and broadcast. Each
                element moves everything in `middle`.

        Returns:
            ``[*broadcast, *middle, size]`` in the dtype of x.

        Raises:
            ShapeError: g has no elements of the group, x has another size, or the two do not broadcast.
            DtypeError: x is not floating.
        """
        return self._apply(g, self._checked(x, len(self.group.batch_shape(g))))

    def dapply(self, a: Tensor, x: Tensor) -> Tensor:
        """The derivative ``drho(a) x``: as `apply`, with algebra coordinates ``[*batch, dim]`` for the elements."""
        return self._dapply(self._coordinates(a), self._checked(x, a.ndim - 1))

    def rho(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Matrices ``[..., size, size]`` of elements ``[..., *group.shape]``.

        `dtype` is that of g for floating elements unless given, else torch's default dtype.
        """
        eye = self._eye(len(self.group.batch_shape(g)), dtype or _floating(g), g.device)
        return self._apply(g, eye).mT

    def drho(self, a: Tensor) -> Tensor:
        """Matrices ``[..., size, size]`` of algebra coordinates ``[..., dim]``: d/dt rho(exp(t a)) at t = 0."""
        return self._dapply(self._coordinates(a), self._eye(a.ndim - 1, a.dtype, a.device)).mT

    @abstractmethod
    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The trace of ``rho(g)``, shape ``[...]``, from the characters of the parts; `dtype` as in `rho`."""

    @abstractmethod
    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        """`apply` without checks; the result has the broadcast leading dimensions."""

    @abstractmethod
    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        """`dapply` without checks."""

    # --- algebra -------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def dual(self) -> Rep:
        """The representation ``rho(g^-1)^T`` on linear functions; itself where rho is orthogonal."""

    @cached_property
    def is_orthogonal(self) -> bool:
        """Whether all ``rho(g)`` are orthogonal matrices, to 1e-9, seen on the generators of the leaves."""
        return self._is_orthogonal()

    @abstractmethod
    def _is_orthogonal(self) -> bool:
        """The answer that `is_orthogonal` keeps."""

    def __add__(self, other: Rep) -> Sum:
        return Sum([*self.summands(), *other.summands()])

    def __rmul__(self, n: int) -> Sum:
        if not is_whole(n, 1):
            raise RepresentationError(f"n * {self.name} needs an integer n of at least 1, got {n!r}")
        return Sum(list(self.summands()) * n if isinstance(self, Sum) else [(n, self)])

    def __matmul__(self, other: Rep) -> Rep:
        factors = [f for f in (*self.factors(), *other.factors()) if not f.is_unit]
        self._check_same_group(other, "@")
        return self if not factors else factors[0] if len(factors) == 1 else Product(factors)

    def __rshift__(self, other: Rep) -> Hom:
        return Hom(self, other)

    def restrict(self, subgroup: Group) -> Rep:
        """The same vectors under a subgroup; see `erlangen.reps.embedding` for what counts as one.

        Raises:
            RepresentationError: the group is no subgroup, or none whose elements can be found in this group.
        """
        from erlangen.reps.transfer import restrict

        return restrict(self, subgroup)

    def inflate(self, product: Group, factor: int | None = None) -> Rep:
        """The same vectors under a `DirectProduct` of which this group is a factor; the others do not act.

        ``V(S).inflate(S_x_O, 0) @ V(O).inflate(S_x_O, 1)`` moves n points in R^3 by permutations and rotations.

        Args:
            product: the direct product.
            factor: which factor; may be left out where only one equals this group.

        Raises:
            RepresentationError: the group is no product, or has no such factor, or several.
        """
        from erlangen.reps.transfer import inflate

        return inflate(self, product, factor)

    def induce(self, group: Group) -> Rep:
        """The representation of a larger finite group that is induced by this one; size times the index.

        Raises:
            RepresentationError: a group is infinite, or this one is no subgroup of the other.
        """
        from erlangen.reps.transfer import Induced

        return Induced(self, group)

    def decompose(self) -> Decomposition:
        """Irreducible parts and a change of basis to them, for finite groups, SO(2), SO(3) and O(3).

        Raises:
            RepresentationError: another group, or a representation that is not orthogonal.
        """
        from erlangen.reps.decompose import decompose

        return decompose(self)

    # --- structure -----------------------------------------------------------------------------------------
    @property
    def is_unit(self) -> bool:
        """Whether this is the one-dimensional trivial representation `Scalar`."""
        return False

    def summands(self) -> Sequence[tuple[int, Rep]]:
        """Runs ``(multiplicity, part)`` of the direct sum, in order; one run if it is no sum."""
        return [(1, self)]

    def factors(self) -> Sequence[Rep]:
        """Factors of the tensor product, in order; one if it is no product."""
        return [self]

    @abstractmethod
    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """Text that determines the matrices of algebra coordinates ``[k, dim]`` and of elements ``[m, *shape]``."""

    def _check_same_group(self, other: Rep, operation: str) -> None:
        if self.group != other.group:
            raise RepresentationError(
                f"{self.name} {operation} {other.name}: the first is a representation of {self.group.name}, the second "
                f"of {other.group.name}; bring both to one group with .restrict(subgroup) or .inflate(product)"
            )

    def _checked(self, x: Tensor, lead: int) -> Tensor:
        check_floating(x, "x")
        if x.ndim < lead + 1 or x.shape[-1] != self.size:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, but {self.name} of {self.group.name} moves vectors [..., {self.size}] "
                f"with {lead} leading axes for the batch of g"
            )
        return x

    def _coordinates(self, a: Tensor) -> Tensor:
        if a.ndim < 1 or a.shape[-1] != self.group.dim:
            raise ShapeError(
                f"a has shape {tuple(a.shape)}, but {self.group.name} has algebra coordinates [..., {self.group.dim}]"
            )
        return a

    def _eye(self, lead: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.eye(self.size, dtype=dtype, device=device).reshape(*[1] * lead, self.size, self.size)

    def _key(self) -> tuple[object, ...]:
        """What equality and hash compare."""
        return (type(self), self.group)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rep) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"{self.name} of {self.group.name}"


class Sum(Rep):
    """Direct sum: the parts' vectors side by side. Made by ``+`` and ``n *``."""

    def __init__(self, runs: Sequence[tuple[int, Rep]]) -> None:
        for _, rep in runs[1:]:
            runs[0][1]._check_same_group(rep, "+")
        self.runs = tuple(_merged(runs))
        self.group = runs[0][1].group
        self.size = sum(n * rep.size for n, rep in self.runs)
        self.name = " + ".join(rep.name if n == 1 else f"{n}*{_grouped(rep, Hom)}" for n, rep in self.runs)

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        return torch.cat([rep._apply(g, part).flatten(-2) for rep, part in self._split(x)], -1)

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.cat([rep._dapply(a, part).flatten(-2) for rep, part in self._split(x)], -1)

    def _split(self, x: Tensor) -> Iterator[tuple[Rep, Tensor]]:
        """Each run's part of the vectors, ``[..., n, size]``."""
        for (n, rep), part in zip(self.runs, x.split([n * rep.size for n, rep in self.runs], -1), strict=True):
            yield rep, part.unflatten(-1, (n, rep.size))

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Sum of the parts' characters."""
        return torch.stack([n * rep.character(g, dtype=dtype) for n, rep in self.runs]).sum(0)

    @property
    def dual(self) -> Rep:
        """The sum of the duals."""
        return self if self.is_orthogonal else Sum([(n, rep.dual) for n, rep in self.runs])

    def _is_orthogonal(self) -> bool:
        return all(rep.is_orthogonal for _, rep in self.runs)

    def summands(self) -> Sequence[tuple[int, Rep]]:
        """The runs of equal parts."""
        return self.runs

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """The parts' fingerprints with their multiplicities."""
        return "+".join(f"{n}({rep.fingerprint(a, h)})" for n, rep in self.runs)

    def _key(self) -> tuple[object, ...]:
        return (type(self), *self.runs)


class Product(Rep):
    """Tensor product: vectors are the row-major entries of tensors ``[s_1, ..., s_k]``. Made by ``@``."""

    def __init__(self, factors: Sequence[Rep]) -> None:
        self.parts = tuple(factors)
        self.group = factors[0].group
        self.sizes = tuple(f.size for f in factors)
        self.size = math.prod(self.sizes)
        self.name = "@".join(_grouped(f, Sum, Hom) for f in factors)

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        for axis, factor in enumerate(self.parts):
            x = self._along(axis, x, lambda part, f=factor: f._apply(g, part))
        return x

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        terms = [self._along(i, x, lambda part, f=f: f._dapply(a, part)) for i, f in enumerate(self.parts)]
        return torch.stack(terms).sum(0)

    def _along(self, axis: int, x: Tensor, move: Move) -> Tensor:
        """Move one axis of the tensors; the axes before and after it ride along as middle dimensions."""
        before, after = math.prod(self.sizes[:axis]), math.prod(self.sizes[axis + 1 :])
        tensors = x.unflatten(-1, (before, self.sizes[axis], after))
        return move(tensors.mT).mT.flatten(-3)

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Product of the factors' characters."""
        return torch.stack([f.character(g, dtype=dtype) for f in self.parts]).prod(0)

    @property
    def dual(self) -> Rep:
        """The product of the duals, in the same order."""
        return self if self.is_orthogonal else Product([f.dual for f in self.parts])

    def _is_orthogonal(self) -> bool:
        return all(f.is_orthogonal for f in self.parts)

    def factors(self) -> Sequence[Rep]:
        """The factors."""
        return self.parts

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """The factors' fingerprints."""
        return "@".join(f"({f.fingerprint(a, h)})" for f in self.parts)

    def _key(self) -> tuple[object, ...]:
        return (type(self), *self.parts)


class Hom(Rep):
    """Linear maps ``[target.size, source.size]`` as row-major vectors: g moves Q to ``rho_t(g) Q rho_s(g)^-1``.

    Made by ``source >> target``. The maps that every element leaves alone are the equivariant ones.

    Raises:
        RepresentationError: the two belong to different groups.
    """

    def __init__(self, source: Rep, target: Rep) -> None:
        source._check_same_group(target, ">>")
        self.source, self.target = source, target
        self.group, self.size = target.group, target.size * source.size
        self.tensor = target @ source.dual
        self.name = f"{_grouped(source, Hom)} >> {_grouped(target, Hom)}"

    def _apply(self, g: Tensor, x: Tensor) -> Tensor:
        return self.tensor._apply(g, x)

    def _dapply(self, a: Tensor, x: Tensor) -> Tensor:
        return self.tensor._dapply(a, x)

    def character(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """``chi_target(g) chi_source(g^-1)``."""
        return self.tensor.character(g, dtype=dtype)

    @property
    def dual(self) -> Rep:
        """The dual of ``target @ source.dual``."""
        return self if self.is_orthogonal else Hom(self.source.dual, self.target.dual)

    def _is_orthogonal(self) -> bool:
        return self.tensor.is_orthogonal

    def factors(self) -> Sequence[Rep]:
        """Factors of ``target @ source.dual``."""
        return self.tensor.factors()

    def fingerprint(self, a: Tensor, h: Tensor) -> str:
        """That of ``target @ source.dual``."""
        return self.tensor.fingerprint(a, h)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.source, self.target)


# --- helpers ---------------------------------------------------------------------------------------------------------
def spread(batch: tuple[int, ...], x: Tensor) -> Tensor:
    """x ``[*lead, ...]`` expanded to the common shape of `batch` and its first dimensions."""
    lead = len(batch)
    return x.expand(*broadcast_lead(batch, tuple(x.shape[:lead])), *x.shape[lead:])


def digest(*tensors: Tensor) -> str:
    """SHA-256 of shapes and values of tensors on the CPU in float64; both zeros count as one."""
    total = hashlib.sha256()
    for t in tensors:
        total.update(str(tuple(t.shape)).encode() + (t.to("cpu", torch.float64) + 0.0).contiguous().numpy().tobytes())
    return total.hexdigest()


def generators(group: Group) -> tuple[Tensor, Tensor]:
    """Unit algebra coordinates ``[dim, dim]`` and discrete generators ``[k, *shape]``, floating ones in float64."""
    h = group.discrete_generators
    return torch.eye(group.dim, dtype=torch.float64), h.double() if h.is_floating_point() else h


def _merged(runs: Sequence[tuple[int, Rep]]) -> Iterator[tuple[int, Rep]]:
    for rep, same in itertools.groupby(runs, lambda run: run[1]):
        yield sum(n for n, _ in same), rep


def _grouped(rep: Rep, *kinds: type[Rep]) -> str:
    return f"({rep.name})" if isinstance(rep, kinds) else rep.name


def _floating(g: Tensor) -> torch.dtype:
    return g.dtype if g.is_floating_point() else torch.get_default_dtype()
