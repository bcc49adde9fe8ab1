"""Three-dimensional flat gravity at null infinity: vacua, the vectors that keep them, charges, finite motions, matching.

Schöller (2020); Prohazka, Salzer and Schöller (2017). A vacuum solution is two functions on the circle, the mass aspect Theta
and the angular momentum aspect Xi. BMS3 acts on them by supertranslations T and superrotations Y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import sympy as sp
import torch
from torch import Tensor

from erlangen.equations.circle import CircleMap, derivative
from erlangen.errors import DtypeError, ErlangenError, ShapeError, UnknownNameError, check_finite

Infinity = Literal["future", "past"]

u, r, phi = COORDINATES = sp.symbols("u r phi")
"""Time, radius and angle; at past infinity u stands for the advanced time v."""


# --- symbols: metrics and the vectors that preserve them --------------------------------------------------------------
def vacuum(theta: sp.Expr, xi: sp.Expr, at: Infinity = "future") -> sp.Matrix:
    """The metric in Bondi's gauge, with ``N = Xi + u Theta'/2``; symmetric, 3 x 3, in (u, r, phi).

    ``Theta du^2 -+ 2 du dr + 2 N du dphi + r^2 dphi^2``, the upper sign at future infinity.

    Args:
        theta, xi: functions of `phi`; any solve Einstein's equations.
        at: "future" or "past".

    Raises:
        UnknownNameError: `at` is neither.
    """
    sign = _sign(at)
    N = xi + u * sp.diff(theta, phi) / 2
    return sp.Matrix([[theta, -sign, N], [-sign, 0, 0], [N, 0, r**2]])


def preserving_vector(T: sp.Expr, Y: sp.Expr, theta: sp.Expr, xi: sp.Expr, at: Infinity = "future") -> sp.Matrix:
    """The vector field of a supertranslation and a superrotation that keeps the form of a vacuum, components (u, r, phi).

    With ``f = T + u Y'``: ``f d_u + (-r Y' +- f'' - N f'/r) d_r + (Y -+ f'/r) d_phi``, the upper sign at future infinity.

    Raises:
        UnknownNameError: `at` is neither "future" nor "past".
    """
    sign = _sign(at)
    N = xi + u * sp.diff(theta, phi) / 2
    f = T + u * sp.diff(Y, phi)
    slope = sp.diff(f, phi)
    return sp.Matrix([f, -r * sp.diff(Y, phi) + sign * sp.diff(f, phi, 2) - N * slope / r, Y - sign * slope / r])


def ricci(metric: sp.Matrix) -> sp.Matrix:
    """Ricci's tensor of a metric in (u, r, phi)."""
    inverse = metric.inv()
    n = range(3)
    first = [[[sp.diff(metric[i, j], x) for x in COORDINATES] for j in n] for i in n]
    gamma = [
        [
            [
                sp.expand(sum(inverse[i, m] * (first[m][j][k] + first[m][k][j] - first[j][k][m]) for m in n) / 2)
                for k in n
            ]
            for j in n
        ]
        for i in n
    ]

    def entry(j: int, k: int) -> sp.Expr:
        parts = [
            sp.diff(gamma[i][j][k], COORDINATES[i]) - sp.diff(gamma[i][j][i], COORDINATES[k])
            + sp.Add(*(gamma[i][i][m] * gamma[m][j][k] - gamma[i][k][m] * gamma[m][j][i] for m in n))
            for i in n
        ]  # fmt: skip
        return sp.simplify(sp.Add(*parts))

    return sp.Matrix(3, 3, entry)


def lie_derivative(metric: sp.Matrix, vector: sp.Matrix) -> sp.Matrix:
    """The change of a metric in (u, r, phi) along a vector field."""
    n = range(3)
    return sp.Matrix(
        3, 3,
        lambda i, j: sp.expand(
            sum(
                vector[k] * sp.diff(metric[i, j], COORDINATES[k])
                + metric[k, j] * sp.diff(vector[k], COORDINATES[i])
                + metric[i, k] * sp.diff(vector[k], COORDINATES[j])
                for k in n
            )
        ),
    )  # fmt: skip


def change(T: sp.Expr, Y: sp.Expr, theta: sp.Expr, xi: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """``(dTheta, dXi)``: ``Y Theta' + 2 Y' Theta - 2 Y'''`` and ``Y Xi' + 2 Y' Xi + T Theta'/2 + T' Theta - T'''``."""

    def d(f: sp.Expr, n: int = 1) -> sp.Expr:
        return sp.diff(f, phi, n)

    return (
        Y * d(theta) + 2 * d(Y) * theta - 2 * d(Y, 3),
        Y * d(xi) + 2 * d(Y) * xi + T * d(theta) / 2 + d(T) * theta - d(T, 3),
    )


def bracket(first: tuple[sp.Expr, sp.Expr], second: tuple[sp.Expr, sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """``[(T1, Y1), (T2, Y2)] = (Y1 T2' - Y2 T1' + T1 Y2' - T2 Y1', Y1 Y2' - Y2 Y1')``: the algebra of BMS3."""
    (T1, Y1), (T2, Y2) = first, second

    def d(f: sp.Expr) -> sp.Expr:
        return sp.diff(f, phi)

    return Y1 * d(T2) - Y2 * d(T1) + T1 * d(Y2) - T2 * d(Y1), Y1 * d(Y2) - Y2 * d(Y1)


def charge(T: sp.Expr, Y: sp.Expr, theta: sp.Expr, xi: sp.Expr, G: sp.Expr | float = 1) -> sp.Expr:
    """``Q[T, Y] = integral of (Theta T + 2 Xi Y) dphi / (16 pi G)``; Minkowski space, Theta = -1, has energy -1/(8 G)."""
    return sp.integrate(sp.expand(theta * T + 2 * xi * Y), (phi, 0, 2 * sp.pi)) / (16 * sp.pi * G)


def central_term(first: tuple[sp.Expr, sp.Expr], second: tuple[sp.Expr, sp.Expr], G: sp.Expr | float = 1) -> sp.Expr:
    """``K_12 = -integral of (T1 Y2''' + Y1 T2''') dphi / (8 pi G)``."""
    (T1, Y1), (T2, Y2) = first, second
    density = sp.expand(T1 * sp.diff(Y2, phi, 3) + Y1 * sp.diff(T2, phi, 3))
    return -sp.integrate(density, (phi, 0, 2 * sp.pi)) / (8 * sp.pi * G)


# --- numbers: finite motions of vacua ---------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Vacuum:
    """A vacuum solution by its aspects on an even grid of angles.

    >>> import math, torch
    >>> from erlangen.equations import CircleMap
    >>> defect = Vacuum.constant(theta=-0.25, xi=0.1)
    >>> moved = defect.superrotated(CircleMap.from_modes(sine=[0.3]))
    >>> from erlangen.equations.circle import hill_trace
    >>> abs(float(hill_trace(moved.theta) - hill_trace(defect.theta))) < 1e-9  # the orbit is the same
    True

    Args:
        theta, xi: float64 ``[n]`` at ``2 pi k / n``, of periodic functions.

    Raises:
        DtypeError, ShapeError, NotFiniteError: they are no finite float64 of one length.
    """

    theta: Tensor
    xi: Tensor

    def __post_init__(self) -> None:
        if self.theta.ndim != 1 or self.theta.shape != self.xi.shape:
            raise ShapeError(f"theta {tuple(self.theta.shape)} and xi {tuple(self.xi.shape)}; pass [n] and [n]")
        for name, f in (("theta", self.theta), ("xi", self.xi)):
            if f.dtype != torch.float64:
                raise DtypeError(f"{name} has dtype {f.dtype}; pass float64")
            check_finite(f, name)

    @classmethod
    def constant(cls, theta: float, xi: float = 0.0, points: int = 256) -> Vacuum:
        """A space at rest: Minkowski's for -1, conical defects above it, cosmologies from 0 on."""
        return cls(*(torch.full((points,), value, dtype=torch.float64) for value in (theta, xi)))

    def supertranslated(self, a: Tensor) -> Vacuum:
        """After the finite supertranslation T = a ``[n]``: ``Xi + a Theta'/2 + a' Theta - a'''``.

        Raises:
            ShapeError: `a` is on another grid.
        """
        self._check("a", a)
        first = derivative(a)
        bent = derivative(derivative(first))
        return Vacuum(self.theta, self.xi + a * derivative(self.theta) / 2 + first * self.theta - bent)

    def superrotated(self, g: CircleMap) -> Vacuum:
        """After a diffeomorphism: ``(g')^2 Theta(g) - 2 {g; phi}`` and ``(g')^2 Xi(g)``.

        Raises:
            ShapeError: `g` is on another grid.
        """
        self._check("g.shift", g.shift)
        square = g.slopes()[0].square()
        return Vacuum(square * g.values(self.theta) - 2 * g.schwarzian(), square * g.values(self.xi))

    def matched(self) -> Vacuum:
        """The aspects at the other null infinity: both at the antipode, ``Theta(phi + pi)`` and ``+Xi(phi + pi)``.

        Raises:
            ShapeError: the number of angles is odd, so that antipodes are not on the grid.
        """
        return Vacuum(antipodal(self.theta), antipodal(self.xi))

    def charge(self, T: Tensor, Y: Tensor, G: float = 1.0) -> Tensor:
        """``Q[T, Y]``, by the mean over the grid, which is exact where modes of the products are below its length.

        Raises:
            ShapeError: `T` or `Y` is on another grid.
        """
        self._check("T", T)
        self._check("Y", Y)
        return (self.theta * T + 2 * self.xi * Y).mean() / (8 * G)

    def _check(self, name: str, f: Tensor) -> None:
        if f.shape != self.theta.shape:
            raise ShapeError(f"{name} has shape {tuple(f.shape)}; pass {tuple(self.theta.shape)}, as Theta has")


def antipodal(f: Tensor) -> Tensor:
    """``f(phi + pi)`` on an even grid ``[n]``.

    Raises:
        ShapeError: n is odd.
    """
    if len(f) % 2:
        raise ShapeError(f"{len(f)} angles: antipodes are not on the grid; give an even number")
    return f.roll(-len(f) // 2)


def celestial_map(lorentz: Tensor, at: Infinity = "future", points: int = 256) -> CircleMap:
    """Where a Lorentz transformation takes the directions of light that goes out, or comes in.

    Args:
        lorentz: float64 ``[3, 3]`` on (t, x, y), in the connected component.
        at: at "past" infinity rays come in, and the momentum of the angle phi is ``(1, -n(phi))``.
        points: of the grid.

    Raises:
        UnknownNameError: `at` is neither "future" nor "past".
        ErlangenError: `lorentz` is no Lorentz transformation of the connected component.
    """
    sign = _sign(at)
    metric = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    L = lorentz.double()
    # A boost of rapidity s has entries of the size e^s, and their squares cancel.
    if L.shape != (3, 3) or not float((L.mT @ metric @ L - metric).abs().max()) < 1e-6 * float(L.abs().max()) ** 2:
        raise ErlangenError(f"lorentz {tuple(lorentz.shape)} does not keep -t^2 + x^2 + y^2; pass [3, 3] on (t, x, y)")
    if float(L[0, 0]) < 0 or float(torch.linalg.det(L)) < 0:
        raise ErlangenError("lorentz turns time back or is a mirror; pass one of the connected component")
    angle = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    rays = torch.stack([torch.ones_like(angle), sign * angle.cos(), sign * angle.sin()])
    _, x, y = L @ rays
    moved = torch.atan2(sign * y, sign * x)
    turned = torch.remainder(moved - angle + math.pi, 2 * math.pi) - math.pi
    # Angles may jump by a whole turn from point to point; a map of the circle does not.
    jumps = (turned.diff() / (2 * math.pi)).round().cumsum(0) * (2 * math.pi)
    return CircleMap(turned - torch.cat([torch.zeros(1, dtype=torch.float64), jumps]))


def _sign(at: Infinity) -> int:
    if at not in get_args(Infinity):
        raise UnknownNameError(f"at = {at!r}: choose 'future' or 'past'")
    return 1 if at == "future" else -1
