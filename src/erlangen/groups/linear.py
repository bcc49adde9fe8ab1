"""Matrix Lie groups that fix the origin: SO, O, SL, GL+, scalings, the conformal group, Lorentz.

Elements are matrices ``[..., n, n]`` that act on columns. Bases of the Lie algebras are orthogonal; their
normalisation and order stand in each class. Compact groups sample from Haar measure. The others sample from a
proposal around the identity whose width is the keyword `scale`, and `log_haar_weight` is the exact log
density of Haar measure against that proposal, up to one constant per group.
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.errors import GroupElementError, GroupError, first_index
from erlangen.groups.finite import FiniteMatrixGroup
from erlangen.groups.grids import check_count, circle_angles, so3_grid
from erlangen.groups.matrix import (
    DEFAULT_SCALE,
    MAX_ORTHOGONAL,
    MatrixGroup,
    check_size,
    is_close,
    is_orthogonal,
    reflection,
    scaled_name,
    skew_basis,
    symmetric_basis,
)
from erlangen.groups.rotations import (
    axis_angle_to_matrix,
    draw_device,
    matrix_to_axis_angle,
    planar_rotation,
    quaternion_to_matrix,
    random_rotations,
    standard_normal,
)
from erlangen.numerics import full_precision, log_sinhc, matrix_log, safe_norm, sym_exp

LORENTZ_ROUNDING = 16.0
"""Rotations next to a boost that are smaller than this, in units of rounding of its largest entry, are rounding."""


class TrivialGroup(MatrixGroup):
    """The identity alone, acting on R^n; the linear part of `Translation`."""

    def __init__(self, n: int) -> None:
        check_size("TrivialGroup", n, 1, 10_000)
        super().__init__(f"TrivialGroup({n})", torch.zeros(0, n, n, dtype=torch.float64))
        self.order = 1

    def inverse(self, g: Tensor) -> Tensor:
        """The element itself."""
        return g

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        return is_close(g, self.identity(dtype=g.dtype, device=g.device), tol)

    def _elements(self, device: torch.device) -> Tensor:
        return self.identity(device=device)[None]

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        return self.identity(dtype=torch.float64, device=draw_device(generator)).repeat(*size, 1, 1)


class SO(MatrixGroup):
    """Rotations of R^n, n >= 2.

    The basis generates unit angular velocity: for n = 2 the coordinate is the angle, for n = 3 the
    coordinates are the rotation vector (axis times angle), for n >= 4 they are the angles in the planes (i,
    j), i < j, in lexicographic order, positive from e_i to e_j.
    """

    _bounded = True

    def __init__(self, n: int) -> None:
        check_size("SO", n, 2, MAX_ORTHOGONAL)
        super().__init__(f"SO({n})", partial(skew_basis, n), dim=n * (n - 1) // 2, n=n)

    def inverse(self, g: Tensor) -> Tensor:
        """The transpose."""
        return g.transpose(-2, -1)

    def exp(self, a: Tensor) -> Tensor:
        """Rotations of coordinates ``[..., dim]``: closed forms for n = 2 and 3 (Rodrigues)."""
        self._check_coordinates(a)
        if self.space_dim == 2:
            return planar_rotation(a[..., 0])
        if self.space_dim == 3:
            return axis_angle_to_matrix(a)
        return super().exp(a)

    def log(self, g: Tensor) -> Tensor:
        """Angle in (-pi, pi] for n = 2, rotation vector for n = 3, generic logarithm for n >= 4.

        For n <= 3 every rotation has one; at exactly pi in R^3 one of the two is returned.

        Raises:
            GroupElementError: something that is no rotation.
            MatrixFunctionError: n >= 4 and a rotation turns some plane by pi (to about 1e-7).
        """
        self._check_log(g)
        if self.space_dim == 2:
            return torch.atan2(g[..., 1, 0] - g[..., 0, 1], g[..., 0, 0] + g[..., 1, 1])[..., None]
        if self.space_dim == 3:
            return matrix_to_axis_angle(g)
        return super().log(g)

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        return is_orthogonal(g, tol) & (_volume(g) > 0)

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        return random_rotations(self.space_dim, size, generator)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """n rotations: equidistant from the identity on for SO(2), a super-Fibonacci spiral for SO(3)."""
        if self.space_dim > 3:
            return super().grid(n)
        points = (
            planar_rotation(circle_angles(n))
            if self.space_dim == 2
            else quaternion_to_matrix(so3_grid(n, dtype=torch.float64))
        )
        return points.to(dtype=dtype or torch.get_default_dtype(), device=device or torch.get_default_device())


class O(MatrixGroup):  # noqa: E742 - the group's name
    """Rotations and reflections of R^n, n >= 2: SO(n) and one reflection, in the basis of `SO`.

    ``O(1)`` changes the sign of a line: a `FiniteMatrixGroup` of two elements, with indices as all finite groups.
    """

    _bounded = True

    # Copies are made without n.
    def __new__(cls, n: int = 0) -> Self:
        """O(n); a finite group for n = 1, which has no algebra."""
        if cls is O and n == 1:
            signs = FiniteMatrixGroup("O(1)", torch.tensor([[[1.0]], [[-1.0]]], dtype=torch.float64))
            return cast("Self", signs)
        return super().__new__(cls)

    def __init__(self, n: int) -> None:  # pyright: ignore[reportInconsistentConstructor]
        check_size("O", n, 2, MAX_ORTHOGONAL)
        super().__init__(f"O({n})", partial(skew_basis, n), dim=n * (n - 1) // 2, n=n)
        self._rotations = SO(n)

    @property
    def discrete_generators(self) -> Tensor:
        """The reflection ``diag(-1, 1, ..., 1)``, float64 ``[1, n, n]``."""
        return reflection(self.space_dim)[None]

    def inverse(self, g: Tensor) -> Tensor:
        """The transpose."""
        return g.transpose(-2, -1)

    def exp(self, a: Tensor) -> Tensor:
        """The rotation ``SO(n).exp(a)``; the exponential reaches no reflection."""
        return self._rotations.exp(a)

    def log(self, g: Tensor) -> Tensor:
        """Coordinates of rotations, as `SO.log`.

        Raises:
            GroupElementError: an element has determinant -1, or something is no element.
        """
        self._check_log(g)
        flipped = torch.linalg.det(g) < 0
        if bool(flipped.any()):
            index = first_index(flipped)
            raise GroupElementError(
                f"g{list(index) if index else ''} has determinant -1: reflections are not connected to the "
                f"identity of {self.name}, so they have no logarithm; compose with a reflection first"
            )
        return self._rotations.log(g)

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        return is_orthogonal(g, tol)

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        rotations = random_rotations(self.space_dim, size, generator)
        device = rotations.device
        flip = torch.rand(size, generator=generator, dtype=torch.float64, device=device) < 0.5
        return torch.where(flip[..., None, None], rotations @ reflection(self.space_dim).to(device), rotations)

    def grid(self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """The first half (rounded up) rotations of `SO.grid`, the rest times a reflection (-I in R^3)."""
        if self.space_dim > 3:
            return super().grid(n)
        check_count(n)
        rotations = self._rotations.grid(n - n // 2, dtype=dtype, device=device)
        if n == 1:
            return rotations
        rest = self._rotations.grid(n // 2, dtype=dtype, device=device)
        flip = reflection(2).to(rest) if self.space_dim == 2 else -self.identity().to(rest)
        return torch.cat([rotations, rest @ flip])


class _PolarSampled(MatrixGroup):
    """A group of matrices ``exp(X) R``, X in a space of symmetric matrices, R in SO(n).

    Proposal: X Gaussian with standard deviation `scale` in an orthonormal basis, R Haar.
    """

    is_compact = False

    def __init__(self, name: str, symmetric: Tensor, scale: float) -> None:
        skew = skew_basis(symmetric.shape[-1]) / math.sqrt(2)
        super().__init__(scaled_name(name, scale), torch.cat([symmetric, skew]))
        self.scale, self._symmetric = scale, symmetric

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        a = self.scale * standard_normal((*size, self._symmetric.shape[0]), generator)
        X = torch.einsum("...d,dij->...ij", a, self._symmetric.to(a))
        return sym_exp(X) @ random_rotations(self.space_dim, size, generator)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``sum_{i<j} log(sinh|l_i - l_j| / |l_i - l_j|) + |l|^2 / (2 scale^2)``, l the log singular values.

        In the coordinates (X, R) Haar measure is ``prod_{i<j} sinh|l_i - l_j| / |l_i - l_j| dX dR``
        (Helgason, Groups and Geometric Analysis, ch. I, theorem 5.8, written as a density on symmetric
        matrices); the second term divides by the Gaussian.
        """
        self.batch_shape(g)
        logs = torch.linalg.svdvals(g).log()
        i, j = torch.triu_indices(self.space_dim, self.space_dim, offset=1, device=g.device)
        haar = log_sinhc(logs[..., i] - logs[..., j]).sum(-1)
        return haar + logs.square().sum(-1) / (2 * self.scale**2)


class GLPlus(_PolarSampled):
    """Matrices with positive determinant, n >= 1.

    Basis: symmetric matrices (diagonal units, then ``(E_ij + E_ji) / sqrt 2``, i < j), then those of `SO`
    over ``sqrt 2``; orthonormal. Proposal: ``exp(X) R`` with X symmetric, Gaussian with standard deviation
    `scale` in that basis, and R Haar in SO(n).
    """

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("GL+", n, 1)
        super().__init__(f"GL+({n})", symmetric_basis(n), scale)

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        return torch.linalg.det(g) > 0


class SL(_PolarSampled):
    """Matrices with determinant 1, n >= 2.

    Basis and proposal as for `GLPlus`, with traceless X: the diagonal units are replaced by
    ``diag(1, .., 1, -k, 0, ..) / sqrt(k (k + 1))``.
    """

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("SL", n, 2)
        super().__init__(f"SL({n})", symmetric_basis(n, traceless=True), scale)

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        size = torch.linalg.matrix_norm(g) / math.sqrt(self.space_dim)
        return (torch.linalg.det(g) - 1).abs() <= tol * size**self.space_dim


class Scaling(MatrixGroup):
    """Isotropic scalings ``s I`` of R^n, s > 0; the coordinate is ``log s``.

    Proposal: log s normal with mean 0 and standard deviation `scale`.
    """

    is_compact = False

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("Scaling", n, 1, 10_000)
        super().__init__(scaled_name(f"Scaling({n})", scale), torch.eye(n, dtype=torch.float64)[None])
        self.scale = scale

    def inverse(self, g: Tensor) -> Tensor:
        """``I / s``."""
        self.batch_shape(g)
        return g[..., :1, :1].reciprocal() * self.identity(dtype=g.dtype, device=g.device)

    def exp(self, a: Tensor) -> Tensor:
        """``e^a I`` for coordinates ``[..., 1]``."""
        self._check_coordinates(a)
        return a.exp()[..., None] * self.identity(dtype=a.dtype, device=a.device)

    def log(self, g: Tensor) -> Tensor:
        """``log s``, shape ``[..., 1]``; `GroupElementError` for what is no multiple of I by a positive number."""
        self._check_log(g)
        return g[..., :1, 0].log()

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        s = g[..., :1, :1]
        eye = self.identity(dtype=g.dtype, device=g.device)
        return (s[..., 0, 0] > 0) & is_close(g, s * eye, tol * s[..., 0, 0])

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        return self.exp(self.scale * standard_normal((*size, 1), generator))

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``(log s)^2 / (2 scale^2)``: Haar measure is ds / s."""
        return self.log(g)[..., 0].square() / (2 * self.scale**2)


class CSO(MatrixGroup):
    """Conformal special orthogonal group R+ x SO(n), n >= 2: rotations times scalings.

    Coordinates: ``log s``, then those of `SO`. Proposal: log s normal with standard deviation `scale`, R
    Haar.
    """

    is_compact = False

    def __init__(self, n: int, *, scale: float = DEFAULT_SCALE) -> None:
        check_size("CSO", n, 2)
        eye = torch.eye(n, dtype=torch.float64)[None]
        super().__init__(scaled_name(f"CSO({n})", scale), torch.cat([eye, skew_basis(n)]))
        self.scale = scale
        self._rotations: MatrixGroup = SO(n)

    def inverse(self, g: Tensor) -> Tensor:
        """``R^T / s``."""
        return g.transpose(-2, -1) / self._factor(g).square()

    def exp(self, a: Tensor) -> Tensor:
        """``e^a0 R(a1, ...)`` for coordinates ``[..., dim]``."""
        self._check_coordinates(a)
        return a[..., :1, None].exp() * self._rotations.exp(a[..., 1:])

    def log(self, g: Tensor) -> Tensor:
        """``log s`` and the coordinates of the rotation; the same exceptions as `SO.log`."""
        self._check_log(g)
        s = self._factor(g)
        return torch.cat([s[..., 0].log(), self._rotations.log(g / s)], -1)

    def _factor(self, g: Tensor) -> Tensor:
        """s, shape ``[..., 1, 1]``: the Frobenius norm over sqrt n."""
        return safe_norm(g, dim=(-2, -1), keepdim=True) / math.sqrt(self.space_dim)

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        s = self._factor(g)
        return (s[..., 0, 0] > 0) & self._rotations._satisfies(g / torch.where(s > 0, s, 1.0), tol)

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        s = (self.scale * standard_normal(size, generator)).exp()
        return s[..., None, None] * random_rotations(self.space_dim, size, generator)

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``(log s)^2 / (2 scale^2)``: Haar measure is ds / s times that of SO(n)."""
        self.batch_shape(g)
        return self._factor(g)[..., 0, 0].log().square() / (2 * self.scale**2)


class Lorentz(MatrixGroup):
    """SO+(1, q): linear maps of (t, x_1, ..., x_q) that keep ``-t^2 + |x|^2``, orientation and time's arrow.

    Coordinates: rapidities of the q boosts, then those of SO(q). Proposal: a boost with rapidity vector
    ``N(0, scale^2 I_q)`` times a Haar rotation.

    Args:
        p: number of time dimensions; only 1.
        q: number of space dimensions, at least 1.
        scale: standard deviation of the rapidities.
    """

    is_compact = False

    def __init__(self, p: int = 1, q: int = 3, *, scale: float = DEFAULT_SCALE) -> None:
        if p != 1:
            raise GroupError(f"Lorentz(p, q) needs p = 1 time dimension, got p = {p!r}; write Lorentz(1, q)")
        check_size("Lorentz(1, q)", q, 1)
        basis = torch.zeros(q + q * (q - 1) // 2, 1 + q, 1 + q, dtype=torch.float64)
        boost = torch.arange(q)
        basis[boost, 0, 1 + boost] = basis[boost, 1 + boost, 0] = 1.0
        basis[q:, 1:, 1:] = skew_basis(q)
        super().__init__(scaled_name(f"Lorentz(1,{q})", scale), basis)
        self.scale = scale

    @cached_property
    def metric(self) -> Tensor:
        """``diag(-1, 1, ..., 1)``, float64 ``[1 + q, 1 + q]``."""
        return reflection(self.space_dim)

    def inverse(self, g: Tensor) -> Tensor:
        """``eta g^T eta`` with the metric eta."""
        signs = self.metric.diagonal().to(g)
        return signs[:, None] * g.transpose(-2, -1) * signs

    def _satisfies(self, g: Tensor, tol: float) -> Tensor:
        metric = self.metric.to(g)
        size = g.square().sum((-2, -1))
        kept = is_close(g.mT @ metric @ g, metric, tol * size)
        # The determinant of the spatial block has the sign of the whole one, and rounding cannot turn it over.
        return kept & (torch.linalg.det(g[..., 1:, 1:]) > 0) & (g[..., 0, 0] > 0)

    def log(self, g: Tensor) -> Tensor:
        """Coordinates ``[..., dim]`` of the principal logarithm: rapidities, then rotations.

        A boost of rapidity r holds e^r and e^-r, and rounding of the one drowns the other. So the element is taken apart
        first: its first column is a boost, known to all digits, and the rest a rotation, which is made one again. Where that
        is the identity up to the rounding of g, the rapidities are the inverse hyperbolic sine of the column.

        Raises:
            GroupElementError: something that is no element.
            MatrixFunctionError: an element has no principal logarithm (rotations by pi).
        """
        self._check_log(g)
        dtype, q = g.dtype, self.space_dim - 1
        rounding = torch.finfo(dtype).eps
        g = g if g.device.type == "mps" else g.double()
        with full_precision(g):
            column, block = g[..., 1:, :1], g[..., 1:, 1:]
            square = column.square().sum(-2, keepdim=True)
            cosh = (1 + square).sqrt()
            eye = torch.eye(q, dtype=g.dtype, device=g.device)
            rotation = block - column @ (column.mT @ block) / (cosh * (1 + cosh))
            for _ in range(4):  # Newton's steps to the closest orthogonal matrix; rounding is far inside of their reach
                rotation = rotation @ (3 * eye - rotation.mT @ rotation) / 2
            boost = torch.cat(
                [torch.cat([cosh, column.mT], -1), torch.cat([column, eye + column @ column.mT / (1 + cosh)], -1)], -2
            )
            wide = F.pad(rotation, (1, 0, 1, 0)) + self._time(g)
            still = (rotation - eye).detach().abs().amax((-2, -1)) <= LORENTZ_ROUNDING * rounding * cosh.detach()[
                ..., 0, 0
            ]
            rapidity = (column * _asinh_ratio(square))[..., 0]
            pure = torch.cat([rapidity, torch.zeros_like(g[..., :1, 0]).expand(*rapidity.shape[:-1], self.dim - q)], -1)
            # Beyond e^15 no matrix function resolves the element in float64; a pure boost needs none.
            far = (still & (cosh[..., 0, 0] > 1e6))[..., None, None]
            element = torch.where(far, self.identity(dtype=g.dtype, device=g.device), boost @ wide)
            general = self.vee(matrix_log(element))
        # The value of the closed form, with the derivative by rotations of the general one.
        exact = torch.where(far[..., 0], pure, general + (pure - general).detach())
        return torch.where(still[..., None], exact, general).to(dtype)

    def _time(self, g: Tensor) -> Tensor:
        """The unit matrix of the time axis."""
        unit = torch.zeros(self.shape, dtype=g.dtype, device=g.device)
        unit[0, 0] = 1
        return unit

    def _draw(self, size: tuple[int, ...], generator: Generator | None) -> Tensor:
        q = self.space_dim - 1
        rapidity = self.scale * standard_normal((*size, q), generator)
        rotation = torch.zeros(*size, 1 + q, 1 + q, dtype=torch.float64, device=rapidity.device)
        rotation[..., 0, 0] = 1
        rotation[..., 1:, 1:] = random_rotations(q, size, generator)
        rest = rapidity.new_zeros(*size, self.dim - q)
        return self.exp(torch.cat([rapidity, rest], -1)) @ rotation

    def log_haar_weight(self, g: Tensor) -> Tensor:
        """``(q - 1) log(sinh|eta| / |eta|) + |eta|^2 / (2 scale^2)``, eta the rapidity of the boost."""
        self.batch_shape(g)
        rapidity = torch.asinh(safe_norm(g[..., 1:, 0]))
        return (self.space_dim - 2) * log_sinhc(rapidity) + rapidity.square() / (2 * self.scale**2)


def _asinh_ratio(square: Tensor) -> Tensor:
    """``asinh(s) / s`` as a smooth function of ``s^2``."""
    small = square < 1e-4
    near, s = torch.where(small, square, 0.0), torch.where(small, 1.0, square).sqrt()
    series = 1 - near / 6 * (1 - 9 * near / 20 * (1 - 25 * near / 42))
    return torch.where(small, series, torch.asinh(s) / s)


def _volume(g: Tensor) -> Tensor:
    """Determinants ``[...]``; in space by the triple product, at half the time."""
    if g.shape[-1] != 3:
        return torch.linalg.det(g)
    return (torch.linalg.cross(g[..., 0], g[..., 1]) * g[..., 2]).sum(-1)
