"""Subgroups: given by an embedding, or as the stabilizer of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupError, ShapeError, check_finite
from erlangen.groups.affine import SE, E, SemidirectProduct
from erlangen.groups.base import Group, default_tol
from erlangen.groups.closure import snap
from erlangen.groups.finite import FiniteMatrixGroup
from erlangen.groups.linear import SO, O


class Subgroup(Group):
    """A group that acts through a larger one: the image of `child` under a homomorphism into `parent`.

    Elements, products, samples and algebra coordinates are those of `child`; `linear` and `translation` are
    those of the embedded element. With ``Subgroup(O(3), O(2), embed)``, rotations about an axis act on R^3.

    Args:
        parent: the group that is embedded into.
        child: the group whose elements are used.
        embed: maps elements ``[..., *child.shape]`` to ``[..., *parent.shape]``, batched.
        name: what the subgroup is called; two subgroups are equal if parents, children, names and `embed`
            are.

    Raises:
        GroupError: on 8 sampled pairs, `embed` leaves the parent or is not a homomorphism.
        ShapeError: `embed` returns elements of another shape.
    """

    def __init__(
        self, parent: Group, child: Group, embed: Callable[[Tensor], Tensor], *, name: str | None = None
    ) -> None:
        self.parent, self.child, self.embed = parent, child, embed
        self.name = name or f"Subgroup({parent.name}, {child.name})"
        self.dim, self.order, self.shape = child.dim, child.order, child.shape
        self.is_compact, self.is_unimodular = child.is_compact, child.is_unimodular
        self.element_dtype = child.element_dtype
        self.space_dim = parent.space_dim
        self._check_homomorphism()

    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The neutral element of the child."""
        return self.child.identity(dtype=dtype, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The product in the child."""
        return self.child.compose(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        """The inverse in the child."""
        return self.child.inverse(g)

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Membership in the child."""
        return self.child.contains(g, tol)

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Linear part ``[..., n, n]`` of the embedded element."""
        dtype = self._action_dtype(g, dtype)
        return self.parent.linear(self.embed(g), dtype=dtype).to(dtype)

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor | None:
        """Translation ``[..., n]`` of the embedded element, or None if the parent has none."""
        dtype = self._action_dtype(g, dtype)
        moved = self.parent.translation(self.embed(g), dtype=dtype)
        return None if moved is None else moved.to(dtype)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Samples of the child."""
        return self.child.sample(n, generator=generator, dtype=dtype, device=device)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """Weight of the child's proposal."""
        return self.child.log_haar_weight(g)

    def modular_function(self, g: Tensor) -> Tensor:
        """Modular function of the child (not of the parent)."""
        return self.child.modular_function(g)

    def _elements(self, device: torch.device) -> Tensor:
        return self.child.elements(device=device)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """Grid of the child."""
        return self.child.grid(n, dtype=dtype, device=device)

    @property
    def lie_algebra(self) -> Tensor:
        """The child's basis pushed forward to the parent's matrices, float64 ``[dim, m, m]``.

        Where the parent's elements are not matrices, the child's own basis.
        """
        if len(self.parent.shape) != 2 or self.dim == 0:
            return self.child.lie_algebra
        return tangent_at_identity(self.child, self.embed)

    @property
    def discrete_generators(self) -> Tensor:
        """Generators of the child."""
        return self.child.discrete_generators

    def exp(self, a: Tensor) -> Tensor:
        """Exponential of the child."""
        return self.child.exp(a)

    def log(self, g: Tensor) -> Tensor:
        """Logarithm of the child."""
        return self.child.log(g)

    def adjoint(self, g: Tensor) -> Tensor:
        """Adjoint action on the child's coordinates."""
        return self.child.adjoint(g)

    def _action_dtype(self, g: Tensor, dtype: torch.dtype | None) -> torch.dtype:
        return g.dtype if g.is_floating_point() else dtype or torch.get_default_dtype()

    def _check_homomorphism(self) -> None:
        generator = torch.Generator().manual_seed(0)
        g, h = self.child.sample((2, 8), generator=generator, dtype=torch.float64)
        image = self.embed(torch.stack([g, h, self.child.compose(g, h)]))
        if image.shape != (3, 8, *self.parent.shape):
            raise ShapeError(
                f"{self.name}: embed returns shape {tuple(image.shape)} for a batch (3, 8) of "
                f"{self.child.name}; it must keep batch dimensions and return "
                f"(3, 8, {', '.join(map(str, self.parent.shape))})"
            )
        tol = default_tol(image.dtype)
        if not bool(self.parent.contains(image, tol).all()):
            raise GroupError(f"{self.name}: embed leaves {self.parent.name}, for example embed({g[0].tolist()})")
        apart = (self.parent.compose(image[0], image[1]) - image[2]).abs().to(torch.float64)
        scale = image.abs().max().clamp(min=1)
        if float(apart.max()) > tol * float(scale) ** 2:
            raise GroupError(
                f"{self.name}: embed is not a homomorphism: embed(g) embed(h) and embed(gh) differ by "
                f"{float(apart.max()):.2g} for g = {g[0].tolist()} and other samples"
            )

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name, self.parent, self.child, self.embed)


def tangent_at_identity(group: Group, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Derivative at 0 of ``embed(exp(a))``: the basis pushed forward, float64 ``[dim, *image shape]``."""
    with torch.inference_mode(False):
        zero = torch.zeros(group.dim, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda a: embed(group.exp(a)), zero)
    assert isinstance(jacobian, Tensor)
    return jacobian.movedim(-1, 0)


def Stabilizer(group: Group, vectors: Tensor | Sequence[float] | Sequence[Sequence[float]]) -> Group:
    """The elements whose linear part fixes given vectors.

    For example ``Stabilizer(O(3), [0, 0, 1])`` holds the rotations about the vertical and the vertical
    mirrors, and ``Stabilizer(E(3), [0, 0, 1])`` all translations as well: what is left of E(3) where
    gravity acts.

    Args:
        group: SO(n), O(n), SE(n), E(n), or a `FiniteMatrixGroup`.
        vectors: ``[n]`` or ``[k, n]``, not all zero.

    Returns:
        For SO and O a `StabilizerGroup` of matrices ``[n, n]``; for SE and E a `SemidirectProduct` of it,
        with all translations; for a finite group the `FiniteMatrixGroup` of the elements that fix the
        vectors.

    Raises:
        ShapeError, NotFiniteError: the vectors do not fit the group's space.
        GroupError: all vectors are zero, or the group is of another kind.
    """
    fixed = torch.atleast_2d(torch.as_tensor(vectors).detach().cpu())
    fixed = fixed if fixed.is_floating_point() else fixed.to(torch.float64)
    n = group.space_dim
    if fixed.ndim != 2 or fixed.shape[0] == 0 or fixed.shape[1] != n:
        raise ShapeError(f"vectors has shape {tuple(fixed.shape)}, but {group.name} needs [{n}] or [k, {n}]")
    check_finite(fixed, "vectors")
    if not bool(fixed.any()):
        raise GroupError(f"vectors are all zero, which every element fixes: use {group.name} itself")
    if isinstance(group, SO | O):
        return StabilizerGroup(group, fixed)
    if isinstance(group, SE | E):
        assert isinstance(group.H, SO | O)
        inner = StabilizerGroup(group.H, fixed)
        return SemidirectProduct(inner, translation_scale=group.translation_scale)
    if isinstance(group, FiniteMatrixGroup):
        moved = (fixed.to(torch.float64) @ group.matrices.mT - fixed).abs().amax((-2, -1))
        keeps = moved <= default_tol(fixed.dtype) * fixed.abs().max()
        return FiniteMatrixGroup(_stabilizer_name(group, fixed), group.matrices[keeps])
    raise GroupError(
        f"Stabilizer knows SO, O, SE, E and finite matrix groups, not {group.name}; give the subgroup "
        f"by its embedding: Subgroup({group.name}, child, embed)"
    )


class StabilizerGroup(Group):
    """The rotations, or rotations and reflections, of R^n that fix vectors of rank r; made by `Stabilizer`.

    Elements are matrices ``[n, n]``: ``I + F (h - I) F^T`` with h in SO(n - r) or O(n - r) and the columns
    of F an orthonormal basis of the complement. For a single vector in R^3 the algebra coordinate is the
    angle about it, by the right-hand rule.
    """

    def __init__(self, ambient: SO | O, vectors: Tensor) -> None:
        n = ambient.space_dim
        self.ambient = ambient
        self.name = _stabilizer_name(ambient, vectors)
        basis, rank = _adapted_basis(vectors)
        free = n - rank
        self._span = basis[:, :rank]
        if free >= 2:
            self._inner: Group = type(ambient)(free)
        else:
            flips = [1.0, -1.0] if isinstance(ambient, O) and free == 1 else [1.0]
            table = torch.tensor(flips, dtype=torch.float64)[:, None, None]
            self._inner = FiniteMatrixGroup(self.name, table)
        # Without a complement the trivial group of one direction stands in: h = 1 leaves it where it is.
        self._free = basis[:, n - max(free, 1) :]
        self.dim, self.order = self._inner.dim, self._inner.order
        self.shape = ambient.shape
        self.space_dim = n

    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The unit matrix ``[n, n]``."""
        return self.ambient.identity(dtype=dtype, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The matrix product."""
        return g @ h

    def inverse(self, g: Tensor) -> Tensor:
        """The transpose."""
        return g.mT

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which matrices belong to the ambient group and fix the vectors (scaled to length 1)."""
        inside = self.ambient.contains(g, tol)
        if not g.is_floating_point():
            return inside
        span = self._span.to(g)
        moved = (g @ span - span).abs().amax((-2, -1))
        return inside & (moved <= (default_tol(g.dtype) if tol is None else tol))

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The element itself."""
        return self.ambient.linear(g, dtype=dtype)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Haar-distributed matrices ``[*n, *shape]``."""
        inner = self._inner.sample(n, generator=generator, dtype=torch.float64, device=device)
        return self._embed(inner).to(dtype or torch.get_default_dtype())

    def _elements(self, device: torch.device) -> Tensor:
        return self._embed(self._inner.elements(device=device)).to(torch.get_default_dtype())

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """Grid of SO(n - r) or O(n - r), embedded: ``[n, *shape]``."""
        inner = self._inner.grid(n, dtype=torch.float64, device=device)
        return self._embed(inner).to(dtype or torch.get_default_dtype())

    @property
    def lie_algebra(self) -> Tensor:
        """Basis of SO(n - r) in the complement, float64 ``[dim, n, n]``."""
        if self.dim == 0:
            return torch.zeros(0, *self.shape, dtype=torch.float64)
        return self._free @ self._inner.lie_algebra @ self._free.mT

    @property
    def discrete_generators(self) -> Tensor:
        """A reflection of the complement for O, none for SO; float64 ``[k, n, n]``."""
        return self._embed(self._inner.discrete_generators)

    def exp(self, a: Tensor) -> Tensor:
        """Rotations of the complement, of coordinates ``[..., dim]``."""
        return self._embed(self._inner.exp(a))

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]`` in the complement; the exceptions of `SO.log` and `O.log`."""
        self._check_log(g)
        free = self._free.to(g)
        return self._inner.log(free.mT @ g @ free)

    def _embed(self, inner: Tensor) -> Tensor:
        h = self._inner.linear(inner, dtype=torch.float64)
        free = self._free.to(h)
        unit = self.identity(dtype=h.dtype, device=h.device)
        return unit - free @ free.mT + free @ h @ free.mT


def _adapted_basis(vectors: Tensor) -> tuple[Tensor, int]:
    """Orthonormal columns ``[n, n]``, float64, of which the first `rank` span the vectors, with determinant
    1.

    The rank counts singular values above rounding in the vectors' dtype. A single vector is the first column.
    """
    basis, values, _ = torch.linalg.svd(vectors.to(torch.float64).mT, full_matrices=True)
    rounding = max(vectors.shape) * torch.finfo(vectors.dtype).eps
    rank = int((values > rounding * values[0]).sum())
    if rank == 1:
        first = vectors[vectors.norm(dim=-1).argmax()].to(torch.float64)
        basis[:, 0] *= torch.sign(first @ basis[:, 0])
    if rank < len(basis):
        basis[:, -1] *= torch.linalg.det(basis).sign()
    return snap(basis), rank


def _stabilizer_name(group: Group, vectors: Tensor) -> str:
    return f"Stabilizer({group.name}, {vectors.tolist()})"
