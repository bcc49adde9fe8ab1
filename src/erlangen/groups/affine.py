"""Groups with translations: R^n x| H for a group H that acts linearly on R^n.

Elements are homogeneous matrices ``[..., n + 1, n + 1]``, ``[[h, t], [0, 1]]``, which move points as ``h x +
t``. H is a group of ``[n, n]`` matrices, or a finite group of indices whose matrices `H.from_linear` reads
back. Algebra coordinates are those of H, then the n of the translation.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupElementError, GroupError, ShapeError, first_index
from erlangen.groups.base import Group, default_tol
from erlangen.groups.linear import CSO, SO, GLPlus, O, TrivialGroup
from erlangen.groups.matrix import DEFAULT_SCALE, check_size
from erlangen.groups.rotations import standard_normal
from erlangen.numerics import full_precision, matrix_log

DEFAULT_TRANSLATION_SCALE = 1.0
"""Standard deviation of sampled translations, in the units of the points."""


@runtime_checkable
class _ReadsMatrices(Protocol):
    """A group of indices that knows the element of a matrix."""

    def from_linear(self, M: Tensor, tol: float | None = None) -> tuple[Tensor, Tensor]: ...


class SemidirectProduct(Group):
    """The group R^n x| H of the maps ``x -> h x + t``.

    Proposal: h from `H.sample`, t normal with standard deviation `translation_scale`. Left Haar measure is
    ``|det h|^-1 dt dmu_H(h)``.

    Args:
        H: the linear part. Its elements are ``[n, n]`` matrices that `H.linear` returns unchanged, or indices
            with ``H.from_linear(M, tol) -> (index, ok)``, as the finite groups have.
        translation_scale: standard deviation of sampled translations, in the units of the points.
        name: text that `erlangen.group` parses; made from H without it.

    Raises:
        GroupError: H does not act linearly on some R^n, or its elements cannot be read off their matrices.
    """

    is_compact = False

    def __init__(
        self, H: Group, *, translation_scale: float = DEFAULT_TRANSLATION_SCALE, name: str | None = None
    ) -> None:
        n = H.space_dim
        if n < 1:
            raise GroupError(f"H = {H.name} does not act on any R^n, so R^n x| H is not defined")
        if not isinstance(H, _ReadsMatrices) and (H.shape != (n, n) or H.element_dtype is not None):
            raise GroupError(
                f"H = {H.name} has elements of shape {H.shape}, which cannot be read off its matrices; use a "
                f"group of [{n}, {n}] matrices, or give H a method from_linear(M, tol) -> (element, ok)"
            )
        if not (translation_scale > 0 and math.isfinite(translation_scale)):
            raise GroupError(f"translation_scale must be a positive number, got {translation_scale!r}")
        self.H, self.translation_scale = H, translation_scale
        self._reads_matrices = isinstance(H, _ReadsMatrices)  # a slow check, needed in every inverse
        option = _option("translation_scale", translation_scale, DEFAULT_TRANSLATION_SCALE)
        self.name = name or f"SemidirectProduct({H.name}{option})"
        self.space_dim, self.dim, self.shape = n, H.dim + n, (n + 1, n + 1)
        self.is_unimodular = H.is_unimodular and self._preserves_volume()

    # --- algebra --------------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The identity matrix ``[n + 1, n + 1]``."""
        return torch.eye(self.space_dim + 1, dtype=dtype, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The matrix product ``g @ h``."""
        with full_precision(g):
            return g @ h

    def inverse(self, g: Tensor) -> Tensor:
        """``x -> h^-1 x - h^-1 t``, with the inverse of H.

        Raises:
            GroupElementError: the linear part is not an element of H (finite H), or is singular.
        """
        inverse = self.H.linear(self.H.inverse(self.linear_element(g)), dtype=g.dtype)
        with full_precision(g):
            return self.join(inverse, -(inverse @ self.translation(g)[..., None])[..., 0])

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which matrices have the last row (0, ..., 0, 1), a finite translation and a linear part in H."""
        batch = self.batch_shape(g)
        if not g.is_floating_point():
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        tol = default_tol(g.dtype) if tol is None else tol
        last = self.identity(dtype=g.dtype, device=g.device)[-1]
        affine = ((g[..., -1, :] - last).abs() <= tol).all(-1) & torch.isfinite(g).all(-1).all(-1)
        return affine & self._read(g, tol)[1]

    # --- parts ----------------------------------------------------------------------------------------------
    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The linear part h, matrices ``[..., n, n]``; `dtype` has no effect on floating elements."""
        return g[..., :-1, :-1]

    def translation(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The translation t, ``[..., n]``."""
        return g[..., :-1, -1]

    def join(self, linear: Tensor, translation: Tensor) -> Tensor:
        """Elements of linear parts ``[..., n, n]`` and translations ``[..., n]``; leading dims broadcast."""
        n = self.space_dim
        if linear.shape[-2:] != (n, n) or translation.shape[-1:] != (n,):
            raise ShapeError(
                f"linear has shape {tuple(linear.shape)} and translation {tuple(translation.shape)}, "
                f"but {self.name} joins [..., {n}, {n}] with [..., {n}]"
            )
        batch = linear.shape[:-2]
        if batch != translation.shape[:-1]:
            batch = torch.broadcast_shapes(batch, translation.shape[:-1])
        top = torch.cat([linear.expand(*batch, n, n), translation[..., None].expand(*batch, n, 1)], -1)
        last = self.identity(dtype=top.dtype, device=top.device)[-1:].expand(*batch, 1, n + 1)
        return torch.cat([top, last], -2)

    def linear_element(self, g: Tensor) -> Tensor:
        """The linear part as elements ``[..., *H.shape]`` of H.

        Raises:
            GroupElementError: H is a group of indices, and a linear part is none of its matrices.
        """
        self.batch_shape(g)
        if not self._reads_matrices:
            return self.linear(g)
        # Products of many elements drift apart by round-off: the element of a finite group is still clear.
        element, ok = self._read(g, 1e-3)
        if not torch.compiler.is_compiling() and not bool(ok.all()):
            index = first_index(~ok)
            raise GroupElementError(
                f"the linear part of g{list(index) if index else ''} is no element of {self.H.name}: "
                f"{self.linear(g)[index].tolist()}"
            )
        return element

    def _read(self, g: Tensor, tol: float) -> tuple[Tensor, Tensor]:
        """Elements of H, and which of them are ones up to `tol`."""
        h = self.linear(g)
        if not self._reads_matrices:
            return h, self.H.contains(h, tol)
        assert isinstance(self.H, _ReadsMatrices)
        return self.H.from_linear(h, tol)

    # --- Lie algebra ----------------------------------------------------------------------------------------
    @cached_property
    def _basis(self) -> Tensor:
        n = self.space_dim
        basis = torch.zeros(self.dim, n + 1, n + 1, dtype=torch.float64)
        basis[: self.H.dim, :n, :n] = self._linear_algebra
        basis[self.H.dim :, :n, n] = torch.eye(n, dtype=torch.float64)
        return basis

    @cached_property
    def _linear_algebra(self) -> Tensor:
        """The algebra of H as matrices on R^n, ``[H.dim, n, n]``."""
        n, d = self.space_dim, self.H.dim
        if d == 0:
            return torch.zeros(0, n, n, dtype=torch.float64)
        if not isinstance(self.H, _ReadsMatrices):
            return self.H.lie_algebra
        step = 0.1  # close enough to 0 for the principal logarithm, far enough for full accuracy
        return matrix_log(self.H.linear(self.H.exp(step * torch.eye(d, dtype=torch.float64)))) / step

    @property
    def lie_algebra(self) -> Tensor:
        """Basis of the algebra, float64 ``[dim, n + 1, n + 1]``: that of H, then the unit translations."""
        return self._basis

    @property
    def discrete_generators(self) -> Tensor:
        """Those of H, without translation, float64 ``[k, n + 1, n + 1]``."""
        linear = self.H.linear(self.H.discrete_generators, dtype=torch.float64).double()
        return self.join(linear, linear.new_zeros(self.space_dim))

    def exp(self, a: Tensor) -> Tensor:
        """``[[exp A, V(A) v], [0, 1]]`` for coordinates ``[..., dim]`` of A, then v.

        ``V(A) = sum A^k / (k + 1)!`` is the left Jacobian.
        """
        self._check_coordinates(a)
        translation = torch.linalg.matrix_exp(self.hat(a))[..., :-1, -1]
        d = self.H.dim
        h = self.H.exp(a[..., :d]) if d > 0 else self.H.identity(device=a.device)
        return self.join(self.H.linear(h, dtype=a.dtype).to(a), translation)

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]``: the logarithm of H, then ``V(A)^-1 t``.

        As accurate as `H.log`: for SE(2) and SE(3) it holds up to the rotation angle pi.

        Raises:
            GroupElementError: something is no element, or its linear part is not connected to the identity of H.
            MatrixFunctionError: the linear part has no principal logarithm.
        """
        self._check_log(g)
        n = self.space_dim
        a = self._log_linear(g)
        with full_precision(g):
            A = torch.einsum("...d,dij->...ij", a, self._linear_algebra.to(g))
        # exp of [[A, I], [0, 0]] is [[exp A, V(A)], [0, I]].
        block = torch.cat([A, torch.eye(n, dtype=g.dtype, device=g.device).expand_as(A)], -1)
        V = torch.linalg.matrix_exp(torch.cat([block, torch.zeros_like(block)], -2))[..., :n, n:]
        return torch.cat([a, torch.linalg.solve(V, self.translation(g)[..., None])[..., 0]], -1)

    def _log_linear(self, g: Tensor) -> Tensor:
        h = self.linear_element(g)
        if self.H.dim > 0:
            return self.H.log(h)
        moved = (self.linear(g) - self.identity().to(g)[:-1, :-1]).abs().amax((-2, -1))
        bad = moved > default_tol(g.dtype)
        if bool(bad.any()):
            index = first_index(bad)
            raise GroupElementError(
                f"the linear part of g{list(index) if index else ''} is not the identity, and {self.H.name} "
                "is discrete, so the element has no logarithm"
            )
        return g.new_zeros(*g.shape[:-2], 0)

    # --- elements and measure -------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Random elements ``[*n, n + 1, n + 1]`` from the proposal; drawn in float64, then cast."""
        size = (n,) if isinstance(n, int) else tuple(n)
        place = device or (torch.get_default_device() if generator is None else generator.device)
        h = self.H.sample(size, generator=generator, dtype=torch.float64)
        t = self.translation_scale * standard_normal((*size, self.space_dim), generator)
        g = self.join(self.H.linear(h, dtype=torch.float64).to(t), t)
        return g.to(dtype=dtype or torch.get_default_dtype(), device=place)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``log_haar_weight`` of H, ``- log|det h|``, ``+ |t|^2 / (2 translation_scale^2)``."""
        weight = self.H.log_haar_weight(self.linear_element(g)).to(g)
        volume = torch.linalg.slogdet(self.linear(g)).logabsdet
        return weight - volume + self.translation(g).square().sum(-1) / (2 * self.translation_scale**2)

    def _key(self) -> tuple[object, ...]:
        return (type(self), self.name, self.H)

    def _preserves_volume(self) -> bool:
        """Whether |det h| = 1 for all of H: on the algebra (trace 0) and on the discrete generators."""
        traces = self._linear_algebra.diagonal(dim1=-2, dim2=-1).sum(-1)
        generators = self.H.linear(self.H.discrete_generators, dtype=torch.float64).double()
        volumes = torch.linalg.det(generators).abs() - 1
        return bool((traces.abs() < 1e-9).all()) and bool((volumes.abs() < 1e-9).all())


class Translation(SemidirectProduct):
    """Translations of R^n; proposal normal with standard deviation `scale` (in the units of the points)."""

    def __init__(self, n: int, scale: float = DEFAULT_TRANSLATION_SCALE) -> None:
        check_size("Translation", n, 1, 10_000)
        option = _option("scale", scale, DEFAULT_TRANSLATION_SCALE)
        super().__init__(TrivialGroup(n), translation_scale=scale, name=f"Translation({n}{option})")


class _Isometries(SemidirectProduct):
    """R^n x| H for a compact H, under the name of the class."""

    H_of: ClassVar[type[SO] | type[O]]

    def __init__(self, n: int, *, translation_scale: float = DEFAULT_TRANSLATION_SCALE) -> None:
        option = _option("translation_scale", translation_scale, DEFAULT_TRANSLATION_SCALE)
        super().__init__(self.H_of(n), translation_scale=translation_scale, name=f"{type(self).__name__}({n}{option})")


class SE(_Isometries):
    """Rotations and translations of R^n, n >= 2: R^n x| SO(n)."""

    H_of = SO


class E(_Isometries):
    """Rotations, reflections and translations of R^n, n >= 1: R^n x| O(n)."""

    H_of = O


class _Scaled(SemidirectProduct):
    """R^n x| H for an H that is not compact and has a proposal, under the name of the class."""

    H_of: ClassVar[type[CSO] | type[GLPlus]]

    def __init__(
        self,
        n: int,
        *,
        scale: float = DEFAULT_SCALE,
        translation_scale: float = DEFAULT_TRANSLATION_SCALE,
    ) -> None:
        option = _option("scale", scale, DEFAULT_SCALE) + _option(
            "translation_scale", translation_scale, DEFAULT_TRANSLATION_SCALE
        )
        H = self.H_of(n, scale=scale)
        super().__init__(H, translation_scale=translation_scale, name=f"{type(self).__name__}({n}{option})")


class Similarity(_Scaled):
    """Rotations, scalings and translations of R^n, n >= 2: R^n x| (R+ x SO(n)).

    `scale` is the width of the proposal of `CSO`.
    """

    H_of = CSO


class Affine(_Scaled):
    """Orientation-preserving affine maps of R^n: R^n x| GL+(n).

    `scale` is the width of the proposal of `GLPlus`.
    """

    H_of = GLPlus


def _option(name: str, value: float, default: float) -> str:
    """The part of a name that a keyword adds where it is not the default."""
    return "" if value == default else f", {name}={value:g}"
