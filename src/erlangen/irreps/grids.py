"""Grids on the sphere and on SO(3) that integrate polynomials exactly, and Fourier transforms on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import GridError, ShapeError, is_whole
from erlangen.irreps._recursion import degree_factor
from erlangen.irreps.cache import constant
from erlangen.irreps.harmonics import spherical_harmonics
from erlangen.irreps.wigner import wigner_D_all
from erlangen.numerics import full_precision


@dataclass(frozen=True)
class S2Grid:
    """Gauss-Legendre nodes in the cosine of the polar angle times uniform azimuths; polar axis y.

    >>> S2Grid.exact_for(4)
    S2Grid(polar=3, azimuthal=5)

    Attributes:
        polar: number of polar angles, at least 1.
        azimuthal: number of azimuths, at least 1.

    Raises:
        GridError: a number is not a positive integer.
    """

    polar: int
    azimuthal: int

    def __post_init__(self) -> None:
        _check_counts(self, polar=self.polar, azimuthal=self.azimuthal)

    @classmethod
    def exact_for(cls, degree: int) -> S2Grid:
        """The smallest such grid that integrates polynomials of a degree exactly.

        A transform up to degree L and back needs 2L, the product of signals of degrees L1 and L2 read up to degree
        L3 needs L1 + L2 + L3.
        """
        return cls(degree // 2 + 1, degree + 1)

    @property
    def size(self) -> int:
        """Number of points."""
        return self.polar * self.azimuthal

    @property
    def degree(self) -> int:
        """Largest degree of polynomials that the weights integrate exactly."""
        return min(2 * self.polar - 1, self.azimuthal - 1)

    @cached_property
    def points(self) -> Tensor:
        """Unit vectors, float64 ``[size, 3]``, the azimuth fastest, counted from z towards x."""
        y, _ = _gauss_legendre(self.polar)
        a = 2 * math.pi * torch.arange(self.azimuthal, dtype=torch.float64) / self.azimuthal
        radius = (1 - y.square()).sqrt()[:, None]
        return torch.stack([radius * a.sin(), y[:, None].expand(-1, self.azimuthal), radius * a.cos()], -1).flatten(
            0, 1
        )

    @cached_property
    def weights(self) -> Tensor:
        """Quadrature weights, float64 ``[size]``, with sum 4 pi."""
        _, w = _gauss_legendre(self.polar)
        return (w * 2 * math.pi / self.azimuthal).repeat_interleave(self.azimuthal)


LEBEDEV_DEGREES = (*range(3, 33, 2), *range(35, 132, 6))
"""Degrees of the rules of Lebedev and Laikov, Doklady Mathematics 59 (1999) 477, which scipy tabulates."""


@dataclass(frozen=True)
class LebedevGrid:
    """Points with octahedral symmetry: a third fewer than an `S2Grid` of the same degree.

    >>> LebedevGrid.exact_for(18).size, S2Grid.exact_for(18).size
    (146, 190)

    Attributes:
        degree: largest degree of polynomials that the weights integrate exactly, one of 3, 5, ..., 31, 35, 41, ..., 131.

    Raises:
        GridError: there is no rule of that degree.
    """

    degree: int

    def __post_init__(self) -> None:
        if self.degree not in LEBEDEV_DEGREES:
            raise GridError(f"LebedevGrid: degree is {self.degree!r}, but rules exist for {LEBEDEV_DEGREES}")

    @classmethod
    def exact_for(cls, degree: int) -> LebedevGrid:
        """The smallest rule that integrates polynomials of a degree exactly.

        Raises:
            GridError: the degree is above 131.
        """
        known = [d for d in LEBEDEV_DEGREES if d >= degree]
        if not known:
            raise GridError(
                f"no Lebedev rule integrates degree {degree}; the largest is 131; use S2Grid.exact_for({degree})"
            )
        return cls(known[0])

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.weights)

    @property
    def points(self) -> Tensor:
        """Unit vectors, float64 ``[size, 3]``."""
        return _lebedev(self.degree)[0]

    @property
    def weights(self) -> Tensor:
        """Quadrature weights, float64 ``[size]``, with sum 4 pi; a few rules (13, 25, 27) have negative ones."""
        return _lebedev(self.degree)[1]


@dataclass(frozen=True)
class SO3Grid:
    """Rotations ``Y(a) X(b) Y(c)``: uniform a and c, Gauss-Legendre in cos b.

    Attributes:
        polar: number of angles b.
        azimuthal: number of angles a, and of angles c.

    Raises:
        GridError: a number is not a positive integer.
    """

    polar: int
    azimuthal: int

    def __post_init__(self) -> None:
        _check_counts(self, polar=self.polar, azimuthal=self.azimuthal)

    @classmethod
    def exact_for(cls, degree: int) -> SO3Grid:
        """The smallest such grid that integrates matrix entries of ``D^l``, l <= degree, exactly.

        A transform up to degree L and back needs 2L.
        """
        return cls(degree // 2 + 1, degree + 1)

    @property
    def size(self) -> int:
        """Number of rotations."""
        return self.polar * self.azimuthal**2

    @property
    def degree(self) -> int:
        """Largest degree whose matrix entries the weights integrate exactly."""
        return min(2 * self.polar - 1, self.azimuthal - 1)

    @cached_property
    def rotations(self) -> Tensor:
        """Rotation matrices, float64 ``[size, 3, 3]``; c is the fastest index, then b."""
        cos, _ = _gauss_legendre(self.polar)
        sin, o, e = (1 - cos.square()).sqrt(), torch.zeros_like(cos), torch.ones_like(cos)
        X = torch.stack([e, o, o, o, cos, -sin, o, sin, cos], -1).unflatten(-1, (3, 3))
        a = 2 * math.pi * torch.arange(self.azimuthal, dtype=torch.float64) / self.azimuthal
        c, s, o, e = a.cos(), a.sin(), torch.zeros_like(a), torch.ones_like(a)
        Y = torch.stack([c, o, s, o, e, o, -s, o, c], -1).unflatten(-1, (3, 3))
        return (Y[:, None, None] @ X[None, :, None] @ Y[None, None, :]).flatten(0, 2)

    @cached_property
    def weights(self) -> Tensor:
        """Quadrature weights of Haar measure, float64 ``[size]``, with sum 1."""
        _, w = _gauss_legendre(self.polar)
        n = self.azimuthal
        return (w / 2 / n**2)[None, :, None].expand(n, -1, n).flatten()


def to_s2_grid(coefficients: Tensor, grid: S2Grid | LebedevGrid, normalization: str = "integral") -> Tensor:
    """Values ``[..., grid.size]`` of ``f = sum c_lm Y_lm`` for coefficients ``[..., (lmax + 1)^2]``: one matmul.

    Raises:
        ShapeError: the last dimension is no square.
    """
    lmax = _inferred_degree(coefficients)
    with full_precision(coefficients):
        return coefficients @ _s2_table(grid, lmax, normalization).to(coefficients).mT


def from_s2_grid(values: Tensor, grid: S2Grid | LebedevGrid, lmax: int, normalization: str = "integral") -> Tensor:
    """Coefficients ``[..., (lmax + 1)^2]`` of the projection of values ``[..., grid.size]``: one matmul.

    The inverse of `to_s2_grid` on signals of degree lmax.

    Raises:
        GridError: the grid cannot integrate degree 2 lmax; the message names the smallest grid that can.
        ShapeError: the last dimension is not the size of the grid.
    """
    _check_exact(grid, 2 * lmax, f"a transform up to degree {lmax}")
    _check_values(values, grid)
    with full_precision(values):
        return values @ _s2_dual(grid, lmax, normalization).to(values)


def to_so3_grid(coefficients: Tensor, grid: SO3Grid) -> Tensor:
    """Values ``[..., grid.size]`` of ``f(R) = sum_l sqrt(2l + 1) sum_mn F^l_mn D^l_mn(R)``.

    The functions ``sqrt(2l + 1) D^l_mn`` are orthonormal under Haar measure with total mass 1. The coefficients
    ``[..., sum_{l <= lmax} (2l + 1)^2]`` are the matrices F^0, F^1, ..., each flattened row by row.

    Raises:
        ShapeError: the last dimension is not such a sum.
    """
    lmax = _so3_degree(coefficients)
    with full_precision(coefficients):
        return coefficients @ _so3_table(grid, lmax).to(coefficients).mT


def at_rotations(coefficients: Tensor, R: Tensor, *, chunk: int = 8192) -> Tensor:
    """Values ``[..., n]`` at any rotations ``[n, 3, 3]`` of the function that `to_so3_grid` has on its grid.

    >>> from erlangen.groups import quaternion_to_matrix, so3_grid
    >>> R = quaternion_to_matrix(so3_grid(576, "healpix"))
    >>> at_rotations(torch.randn(2, 35), R).shape
    torch.Size([2, 576])

    Args:
        coefficients: as for `to_so3_grid`.
        R: rotations.
        chunk: so many rotations at once, whose table has ``sum (2l + 1)^2`` columns: 455 up to degree 6.

    Raises:
        ShapeError: the last dimension of the coefficients is no such sum, or R is no list of matrices.
        GridError: `chunk` is no positive integer.
    """
    lmax = _so3_degree(coefficients)
    if R.ndim != 3 or R.shape[1:] != (3, 3):
        raise ShapeError(f"R has shape {tuple(R.shape)}; give rotation matrices [n, 3, 3]")
    if not is_whole(chunk, 1):
        raise GridError(f"chunk = {chunk!r}; give a positive integer")
    with full_precision(coefficients):
        parts = [coefficients @ _so3_functions(part.to(coefficients), lmax).mT for part in R.split(chunk)]
        return torch.cat(parts, -1) if parts else coefficients.new_zeros(*coefficients.shape[:-1], 0)


def from_so3_grid(values: Tensor, grid: SO3Grid, lmax: int) -> Tensor:
    """Coefficients of `to_so3_grid` of the projection of values ``[..., grid.size]`` to degree lmax.

    Raises:
        GridError: the grid cannot integrate degree 2 lmax; the message names the smallest grid that can.
        ShapeError: the last dimension is not the size of the grid.
    """
    _check_exact(grid, 2 * lmax, f"a transform up to degree {lmax}")
    _check_values(values, grid)
    with full_precision(values):
        return values @ (_so3_table(grid, lmax) * grid.weights[:, None]).to(values)


@constant
def _s2_table(grid: S2Grid | LebedevGrid, lmax: int, normalization: str) -> Tensor:
    return spherical_harmonics(lmax, grid.points, normalize=False, normalization=normalization)


@constant
def _s2_dual(grid: S2Grid | LebedevGrid, lmax: int, normalization: str) -> Tensor:
    """Weighted harmonics whose inner product with a signal is its coefficient in the given normalisation."""
    # Y = k_l Y_orthonormal, so the coefficient is <f, Y_orthonormal> / k_l = <f, Y> / k_l^2.
    square = [degree_factor(l, normalization) ** 2 for l in range(lmax + 1) for _ in range(2 * l + 1)]
    return _s2_table(grid, lmax, normalization) / torch.tensor(square, dtype=torch.float64) * grid.weights[:, None]


@constant
def _so3_table(grid: SO3Grid, lmax: int) -> Tensor:
    return _so3_functions(grid.rotations, lmax)


def _so3_functions(R: Tensor, lmax: int) -> Tensor:
    """The orthonormal functions ``sqrt(2l + 1) D^l_mn`` at rotations ``[n, 3, 3]``: ``[n, sum (2l + 1)^2]``."""
    D = wigner_D_all(lmax, R, check=False)
    return torch.cat([math.sqrt(2 * l + 1) * D[l].flatten(1) for l in range(lmax + 1)], -1)


@constant
def _lebedev(degree: int) -> tuple[Tensor, Tensor]:
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(degree)
    return torch.from_numpy(points.T.copy()), torch.from_numpy(weights)


@constant
def _gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def _so3_size(lmax: int) -> int:
    return (lmax + 1) * (2 * lmax + 1) * (2 * lmax + 3) // 3


def _so3_degree(coefficients: Tensor) -> int:
    size = coefficients.shape[-1] if coefficients.ndim else 0
    lmax = next((l for l in range(size) if _so3_size(l) >= size), 0)
    if _so3_size(lmax) != size:
        raise ShapeError(
            f"coefficients has shape {tuple(coefficients.shape)}, but its last dimension must be "
            f"sum (2l + 1)^2 = 1, 10, 35, 84, ...; the next is {_so3_size(lmax)} for degrees 0..{lmax}"
        )
    return lmax


def _inferred_degree(coefficients: Tensor) -> int:
    size = coefficients.shape[-1] if coefficients.ndim else 0
    root = math.isqrt(size)
    if root == 0 or root * root != size:
        raise ShapeError(
            f"coefficients has shape {tuple(coefficients.shape)}, but its last dimension must be (lmax + 1)^2: "
            f"{root * root} for lmax = {root - 1} or {(root + 1) ** 2} for lmax = {root}"
        )
    return root - 1


def _check_exact(grid: S2Grid | LebedevGrid | SO3Grid, degree: int, purpose: str) -> None:
    if grid.degree < degree:
        raise GridError(
            f"grid too coarse: {grid} integrates degree {grid.degree} exactly, but {purpose} needs {degree}; "
            f"the smallest grid is {type(grid).exact_for(degree)}"
        )


def _check_values(values: Tensor, grid: S2Grid | LebedevGrid | SO3Grid) -> None:
    if values.ndim == 0 or values.shape[-1] != grid.size:
        raise ShapeError(f"values has shape {tuple(values.shape)}, but {grid} needs [..., {grid.size}]")


def _check_counts(grid: object, **counts: int) -> None:
    for name, n in counts.items():
        if not is_whole(n, 1):
            raise GridError(f"{type(grid).__name__}: {name} is {n!r}, but a positive integer is needed")
