"""The contract of a group: plain tensors in, plain tensors out.

An element is a tensor of shape ``group.shape``; a batch of elements has shape ``[..., *group.shape]``. There is no
element class, so every operation is a batched tensor operation that runs on any device.

- Matrix Lie groups (`SO`, `SL`, ...): elements are ``[n, n]`` matrices.
- Groups with translations (`SE`, `Affine`, ...): elements are ``[n + 1, n + 1]`` homogeneous matrices.
- Finite point groups (`Cyclic`, `Dihedral`, `Octahedral`, ...): elements are int64 indices of shape ``[]``; `linear`
  gives their matrices.
- `Symmetric(n)`: elements are int64 permutations of shape ``[n]``, ``g[i]`` the place to which ``i`` moves.

Left actions, column matrices: ``linear(compose(g, h)) == linear(g) @ linear(h)``; data are row vectors, so a point
moves as ``x @ linear(g).mT + translation(g)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupElementError, GroupError, OrbitError, ShapeError, first_index
from erlangen.numerics import full_precision
from erlangen.tracing import is_traced

if TYPE_CHECKING:
    from erlangen.groups.ranges import Range

MAX_ENUMERATION = 50_000
"""Largest number of elements that `Group.elements` lists; larger orbits are sampled."""


class Group(ABC):
    """A group whose elements are tensors.

    Attributes:
        name: text that `erlangen.group` parses back to the same group.
        dim: dimension as a Lie group; 0 for finite groups.
        order: number of elements; ``math.inf`` for infinite groups.
        is_compact: whether Haar measure is finite; `sample` then draws from it.
        shape: shape of one element.
        space_dim: n of the space R^n on which `linear` and `translation` act; 0 if the group has no such action.
        element_dtype: ``None`` for floating elements (any floating dtype), ``torch.int64`` for indices and
            permutations.
    """

    name: str
    dim: int = 0
    order: float = math.inf
    is_compact: bool = True
    is_unimodular: bool = True
    shape: tuple[int, ...] = ()
    space_dim: int = 0
    element_dtype: torch.dtype | None = None

    # --- algebra -------------------------------------------------------------------------------------------------
    @abstractmethod
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The neutral element, shape ``[*shape]``."""

    @abstractmethod
    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The product gh (first h, then g), batched with broadcasting."""

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """The inverse element, batched."""

    @abstractmethod
    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Boolean tensor ``[...]``: which elements of the batch belong to the group, up to `tol`."""

    # --- how the group moves R^n ---------------------------------------------------------------------------------
    @abstractmethod
    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Matrices ``[..., n, n]`` of the linear part, a homomorphism. `dtype` matters for index elements only."""

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor | None:
        """Translation vectors ``[..., n]``, or ``None`` for a group that fixes the origin."""
        return None

    # --- elements ------------------------------------------------------------------------------------------------
    @abstractmethod
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Random elements ``[*n, *shape]``: from Haar measure if compact, else from the documented proposal."""

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Log of d(left Haar)/d(proposal) at g, up to one constant per group, shape ``[...]``; zero if compact.

        Averages over samples weighted by ``exp(log_haar_weight)`` are integrals against left Haar measure.
        """
        if not self.is_compact:
            raise GroupError(f"{self.name} has no tractable Haar density for its proposal")
        return torch.zeros(self.batch_shape(g), dtype=_floating(g), device=g.device)

    def elements(self, *, device: torch.device | str | None = None) -> Tensor:
        """All elements of a finite group ``[order, *shape]``, the identity first."""
        if self.order == math.inf:  # not math.isinf: an int beyond the range of floats is a valid order
            raise OrbitError(f"{self.name} is infinite and cannot be listed; use .sample(n) or .grid(n)")
        if self.order > MAX_ENUMERATION:
            size = order_text(self)
            raise OrbitError(
                f"{self.name} has {size} elements, more than the {MAX_ENUMERATION:,} that are listed at most; "
                "use .sample(n)"
            )
        return self._elements(torch.device(device or "cpu"))

    def _elements(self, device: torch.device) -> Tensor:
        raise GroupError(f"{self.name} cannot list its elements; use .sample(n)")

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """n quasi-uniform elements ``[n, *shape]``, deterministic. Groups without one raise `GroupError`."""
        raise GroupError(f"{self.name} has no quasi-uniform grid; use .sample(n, generator=...)")

    def within(
        self,
        limit: float | None = None,
        *,
        degrees: float | None = None,
        distance: float | None = None,
        factor: float | None = None,
    ) -> Range:
        """The elements near the identity: a set, and no group, for `erlangen.Symmetry`.

        >>> import erlangen as er
        >>> near = er.SO(3).within(degrees=15)
        >>> near.contains(near.sample(5)).all()
        tensor(True)

        Audits, augmentation and `discover` visit these elements alone. What has no limit is unlimited:
        ``SE(2).within(degrees=15)`` shifts as `SE` does. In names: "SO(3) within 15 degrees", "Translation(2) within 3 pixels",
        "SE(2) within 15 degrees and 3", "Scaling(2) within factor 1.2".

        Args:
            limit: `distance`, of groups of shifts alone (`Translation`, `Shifts`).
            degrees: largest angle of a rotation, of SO, SE, CSO, Similarity, circles of rotations, and finite groups without
                mirrors; in R^4 and R^5 of every plane that turns.
            distance: largest length of a shift, in the units of the points, in pixels of images.
            factor: largest scaling; its inverse is the smallest.

        Raises:
            GroupError: the group has no such elements, or a limit is out of range.
        """
        from erlangen.groups.ranges import make_range

        return make_range(self, limit, degrees, distance, factor)

    # --- Lie algebra ---------------------------------------------------------------------------------------------
    @property
    def lie_algebra(self) -> Tensor:
        """Basis of the Lie algebra, float64 ``[dim, m, m]``; empty for finite groups."""
        return torch.zeros(0, 0, 0, dtype=torch.float64)

    @property
    def discrete_generators(self) -> Tensor:
        """Elements ``[k, *shape]`` that generate the group together with ``exp`` of its algebra."""
        return self.identity()[None][:0]

    def exp(self, a: Tensor) -> Tensor:
        """Group element of algebra coordinates ``[..., dim]`` in the basis `lie_algebra`."""
        raise GroupError(f"{self.name} has no Lie algebra (dim 0), so no exponential map")

    def log(self, g: Tensor) -> Tensor:
        """Principal coordinates ``[..., dim]`` with ``exp(log(g)) == g``; an error where no such one exists.

        What is not in the group, by more than a thousandth, is refused with `GroupElementError` (not under a tracer).
        """
        raise GroupError(f"{self.name} has no Lie algebra (dim 0), so no logarithm")

    def hat(self, a: Tensor) -> Tensor:
        """Algebra matrices ``[..., m, m]`` of coordinates ``[..., dim]``."""
        self._check_coordinates(a)
        with full_precision(a):
            return torch.einsum("...d,dij->...ij", a, self.lie_algebra.to(a))

    def vee(self, A: Tensor) -> Tensor:
        """Coordinates ``[..., dim]`` of algebra matrices ``[..., m, m]``; the left inverse of `hat`."""
        basis = self.lie_algebra.to(A).flatten(1)
        with full_precision(A):
            return A.flatten(-2) @ torch.linalg.pinv(basis)

    def adjoint(self, g: Tensor) -> Tensor:
        """Matrices ``[..., dim, dim]`` of Ad(g): A -> g A g^-1 on algebra coordinates."""
        basis = self.lie_algebra.to(g)
        with full_precision(g):
            moved = g[..., None, :, :] @ basis @ self.inverse(g)[..., None, :, :]
        return self.vee(moved).mT

    def modular_function(self, g: Tensor) -> Tensor:
        """Delta(g) with mu(A g) = Delta(g) mu(A) for left Haar measure mu: ``|det Ad(g^-1)|``, shape ``[...]``."""
        if self.is_unimodular:
            return torch.ones(self.batch_shape(g), dtype=_floating(g), device=g.device)
        return torch.linalg.det(self.adjoint(self.inverse(g))).abs()

    # --- checks --------------------------------------------------------------------------------------------------
    def batch_shape(self, g: Tensor) -> torch.Size:
        """Leading dimensions of a batch of elements; `ShapeError` when the trailing ones are not an element's."""
        k = len(self.shape)
        if g.ndim < k or tuple(g.shape[g.ndim - k :]) != self.shape:
            raise ShapeError(
                f"g has shape {tuple(g.shape)}, but elements of {self.name} have shape [..., "
                + ", ".join(map(str, self.shape))
                + "]"
            )
        return g.shape[: g.ndim - k]

    def check(self, g: Tensor, *, name: str = "g", tol: float | None = None) -> None:
        """Raise `GroupElementError`, naming the first offender, unless every element belongs to the group."""
        self.batch_shape(g)
        bad = ~self.contains(g, tol)
        if bool(bad.any()):
            index = first_index(bad)
            raise GroupElementError(
                f"{name}{list(index) if index else ''} is not an element of {self.name}: {g[index].tolist()}; make elements "
                "with .sample, .exp or .elements, in float64 where rounding adds up"
            )

    def _check_log(self, g: Tensor) -> None:
        """Refuse what is clearly no element; a logarithm of it would be one of something else. Not under a tracer."""
        self.batch_shape(g)
        if not is_traced():
            self.check(g.detach(), tol=loose_tol(g.dtype))

    def _check_coordinates(self, a: Tensor) -> None:
        if a.ndim < 1 or a.shape[-1] != self.dim:
            raise ShapeError(f"a has shape {tuple(a.shape)}, but {self.name} has algebra coordinates [..., {self.dim}]")

    def _key(self) -> tuple[object, ...]:
        """What equality and hash compare; a group that is built from more than its name says extends it."""
        return (type(self), self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return self.name


def _floating(g: Tensor) -> torch.dtype:
    return g.dtype if g.is_floating_point() else torch.get_default_dtype()


def default_tol(dtype: torch.dtype) -> float:
    """Tolerance of membership tests: 1e-9 in float64, 1e-4 in float32 and below."""
    return 1e-9 if dtype == torch.float64 else 1e-4


def loose_tol(dtype: torch.dtype) -> float:
    """Tolerance within which logarithms and converters take a matrix for a rounded element.

    1e-3, as products of many elements drift and printed ones have few digits; more for the half precisions.
    """
    return max(1e-3, 8 * torch.finfo(dtype).eps) if dtype.is_floating_point else 0.0


def order_text(group: Group) -> str:
    """The order for people; Python refuses to write out integers of thousands of digits."""
    return f"{group.order:,}" if group.order < 10**15 else f"about 10^{math.log10(group.order):.0f}"
