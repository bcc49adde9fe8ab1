"""The shared part of the matrix Lie groups, and bases of their algebras."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Generator, Tensor

from erlangen.errors import GroupElementError, GroupError, first_index, is_whole
from erlangen.groups.base import Group, default_tol
from erlangen.numerics import full_precision, matrix_log

DEFAULT_SCALE = 0.5
"""Width of the sampling proposals of non-compact groups, in algebra coordinates."""


class MatrixGroup(Group):
    """What all groups of real ``[n, n]`` matrices share: product, exponential, generic logarithm.

    Args:
        name: text that `erlangen.group` parses.
        basis: orthogonal basis of the Lie algebra, ``[dim, n, n]``, or a function that makes it when it is asked for, which
            takes `dim` and `n`.
    """

    def __init__(self, name: str, basis: Tensor | Callable[[], Tensor], *, dim: int = 0, n: int = 0) -> None:
        self.name = name
        self._make_basis = basis
        self.dim, self.space_dim = (basis.shape[0], basis.shape[-1]) if isinstance(basis, Tensor) else (dim, n)
        self.shape = (self.space_dim, self.space_dim)

    @cached_property
    def _basis(self) -> Tensor:
        if isinstance(self._make_basis, Tensor):
            return self._make_basis
        if self.space_dim > MAX_DIMENSION:
            raise GroupError(
                f"{self.name}: a basis of its Lie algebra would have {self.dim * self.space_dim**2:.1e} numbers; use it for "
                f"n up to {MAX_DIMENSION}, samples and products beyond"
            )
        return self._make_basis()

    @cached_property
    def _dual(self) -> Tensor:
        return self._basis / self._basis.square().sum((-2, -1), keepdim=True)

    # --- algebra --------------------------------------------------------------------------------------------
    def identity(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The identity matrix ``[n, n]``."""
        return torch.eye(self.space_dim, dtype=dtype, device=device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The matrix product ``g @ h``."""
        with full_precision(g):
            return g @ h

    def inverse(self, g: Tensor) -> Tensor:
        """The inverse matrix. Raises `GroupElementError`, naming the batch index, for a singular matrix."""
        inverse, info = torch.linalg.inv_ex(g)
        bad = info != 0
        if bool(bad.any()):
            index = first_index(bad)
            raise GroupElementError(
                f"g{list(index) if index else ''} is singular, so not in {self.name}: {g[index].tolist()}"
            )
        return inverse

    def linear(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The element itself; `dtype` has no effect on floating elements."""
        return g

    def contains(self, g: Tensor, tol: float | None = None) -> Tensor:
        """Which matrices satisfy the equations of the group up to `tol`; none of an integer tensor."""
        batch = self.batch_shape(g)
        if not g.is_floating_point():
            return torch.zeros(batch, dtype=torch.bool, device=g.device)
        tol = default_tol(g.dtype) if tol is None else tol
        with full_precision(g):
            return torch.isfinite(g).all(-1).all(-1) & self._satisfies(g, tol)

    @abstractmethod
    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        """Boolean tensor ``[...]``: the defining equations of the group."""

    # --- Lie algebra ----------------------------------------------------------------------------------------
    @property
    def lie_algebra(self) -> Tensor:
        """Orthogonal basis, float64 ``[dim, n, n]``."""
        return self._basis

    def vee(self, A: Tensor) -> Tensor:
        """Coordinates ``[..., dim]`` of the orthogonal projection of ``[..., n, n]`` to the algebra."""
        with full_precision(A):
            return torch.einsum("dij,...ij->...d", self._dual.to(A), A)

    def exp(self, a: Tensor) -> Tensor:
        """Matrix exponential of ``hat(a)``, for coordinates ``[..., dim]``."""
        return torch.linalg.matrix_exp(self.hat(a))

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]`` of the principal matrix logarithm.

        Raises:
            GroupElementError: something that is no element.
            MatrixFunctionError: an element has an eigenvalue on (or too close to) the negative axis.
        """
        self._check_log(g)
        return self.vee(matrix_log(g))

    # --- elements -------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        *,
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Random matrices ``[*n, n, n]``; Haar measure for compact groups, else the proposal of the class.

        Drawn in float64 on the generator's device, then cast, so that all dtypes see the same elements.
        Without `device` they are on the generator's device, or on torch's default device without a generator.
        """
        size = (n,) if isinstance(n, int) else tuple(n)
        place = device or (torch.get_default_device() if generator is None else generator.device)
        return self._draw(size, generator).to(dtype=dtype or torch.get_default_dtype(), device=place)

    @abstractmethod
    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        """Float64 elements on the generator's device."""


# --- bases --------------------------------------------------------------------------------------------------
def skew_basis(n: int) -> Tensor:
    """Generators of the rotations of R^n, float64 ``[n (n - 1) / 2, n, n]``, entries 0 and +-1.

    For n = 3 those of the x, y and z axis; else those of the planes (i, j), i < j, in lexicographic order.
    """
    planes = [(1, 2), (2, 0), (0, 1)] if n == 3 else [(i, j) for i in range(n) for j in range(i + 1, n)]
    basis = torch.zeros(len(planes), n, n, dtype=torch.float64)
    for k, (i, j) in enumerate(planes):
        basis[k, j, i], basis[k, i, j] = 1.0, -1.0
    return basis


def symmetric_basis(n: int, *, traceless: bool = False) -> Tensor:
    """Orthonormal basis of symmetric matrices, float64 ``[n (n + 1) / 2, n, n]``, one less if traceless."""
    if traceless:
        rows = torch.tril(torch.ones(n - 1, n, dtype=torch.float64))
        k = torch.arange(1, n, dtype=torch.float64)
        rows[torch.arange(n - 1), torch.arange(1, n)] = -k
        diagonal = rows / (k * (k + 1)).sqrt()[:, None]
    else:
        diagonal = torch.eye(n, dtype=torch.float64)
    i, j = torch.triu_indices(n, n, offset=1)
    mixed = torch.zeros(len(i), n, n, dtype=torch.float64)
    mixed[torch.arange(len(i)), i, j] = mixed[torch.arange(len(i)), j, i] = math.sqrt(0.5)
    return torch.cat([torch.diag_embed(diagonal), mixed])


def reflection(n: int) -> Tensor:
    """``diag(-1, 1, ..., 1)``, float64 ``[n, n]``."""
    diagonal = torch.ones(n, dtype=torch.float64)
    diagonal[0] = -1
    return torch.diag(diagonal)


def is_close(g: Tensor, h: Tensor, tol: Tensor | float) -> Tensor:
    """Boolean tensor ``[...]``: whether matrices agree up to `tol` in every entry."""
    return (g - h).abs().amax((-2, -1)) <= tol


def is_orthogonal(g: Tensor, tol: float) -> Tensor:
    """Boolean tensor ``[...]``: whether ``g^T g`` is the identity up to `tol`."""
    return is_close(g.mT @ g, torch.eye(g.shape[-1], dtype=g.dtype, device=g.device), tol)


MAX_DIMENSION = 100
"""Largest matrices of a group with a basis of its Lie algebra: all of them have n^4 numbers, 0.8 GB for n = 100."""

MAX_ORTHOGONAL = 2_000
"""Largest matrices of `SO` and `O`, which need no basis to be drawn and multiplied."""


def check_size(name: str, n: int, least: int, most: int = MAX_DIMENSION) -> None:
    """Raise `GroupError` unless n is an integer from `least` to `most`."""
    if not is_whole(n, least):
        raise GroupError(f"{name} needs an integer dimension of at least {least}, got {n!r}")
    if n > most:
        raise GroupError(f"{name} can be built up to the dimension {most}, got {n}")


def scaled_name(name: str, scale: float) -> str:
    """Name of a group with a proposal: the scale is part of it where it is not the default."""
    if not (scale > 0 and math.isfinite(scale)):
        raise GroupError(f"{name}: scale must be a positive number, got {scale!r}")
    return name if scale == DEFAULT_SCALE else f"{name[:-1]}, scale={scale:g})"
