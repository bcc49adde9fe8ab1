"""Dimensions at a fixed charge (Antipin et al. 2021): saddles on R x S^(d-1), and fixed points of the models.

Delta_Q = Delta_LO + Delta_0 + ..., as a series in the coupling g at fixed gQ. The state phi = f exp(-i mu t) has u = R mu with

    u^3 - u = y,  Delta_LO = (Q/4)(3u + 1/u),  d Delta_LO / dQ = u,                y = (4/3) g Q for O(N),

from the real solution u = 1 at y = 0; Delta_0 is `casimir` of the modes about it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erlangen.errors import ErlangenError, NotFiniteError, UnknownNameError, check_integer, is_whole
from erlangen.solve import root_branch
from erlangen.systems.physics.charge_convexity._casimir import Spectrum, casimir

Order = Literal["LO", "NLO"]
Quartic = Literal["g", "lambda/4!", "lambda/4"]
Complexes = NDArray[np.complex128]

BRANCH = 2 / (3 * math.sqrt(3))
"""Where two solutions meet: y = -BRANCH, u = 1/sqrt(3)."""


def saddle(y: ArrayLike) -> Complexes:
    """The branch of ``u^3 - u = y`` that begins at u = 1: real for ``y >= -BRANCH``, else with a positive imaginary part.

    >>> complex(saddle(6.0)), bool(abs(saddle(-1.0)).real > 0.5)
    ((2+0j), True)

    Args:
        y: any shape; complex values are reached on the straight line from zero.

    Raises:
        NotFiniteError: y is NaN or infinite.
        ErlangenError: a complex y whose line passes a branch point.
    """
    values = np.asarray(y, dtype=np.complex128)
    if not np.isfinite(values).all():
        raise NotFiniteError("y is NaN or infinite; give finite numbers")
    found = np.array([_saddle(one) for one in values.ravel()], dtype=np.complex128)
    return found.reshape(values.shape)


def closed_saddle(x: ArrayLike) -> Complexes:
    """The closed form in x = 6 g Q, for real x: Cardano's, with a complex intermediate where ``|x| < sqrt(3)``."""
    x = np.asarray(x, dtype=np.complex128)
    w = (x + np.sqrt(x * x - 3)) ** (1 / 3)
    return (3 ** (1 / 3) + w * w) / (3 ** (2 / 3) * w)


def _saddle(y: complex) -> complex:
    if y.imag == 0:
        u = complex(closed_saddle(4.5 * y.real))
        # The two forms of the root, above and below the cut, are conjugate to each other.
        u = complex(u.real, 0.0) if y.real >= -BRANCH else complex(u.real, abs(u.imag))
    else:
        steps = 40 + int(20 * math.log1p(abs(y)))
        path = y * np.linspace(0, 1, steps + 1)[1:] ** 3
        one = np.ones(steps)
        u = complex(root_branch(np.stack([one, 0 * one, -one, -path], 1), 1.0)[-1])
    slope = 3 * u * u - 1
    return u - (u**3 - u - y) / slope if abs(slope) > 1e-3 else u


def standard_coupling(value: complex, convention: Quartic) -> complex:
    """The coupling g of ``(4 pi)^2 g / 4! (phi^2)^2``, from that of another form of the potential of real fields.

    >>> standard_coupling(16 * math.pi**2, "lambda/4!"), round(standard_coupling(16 * math.pi**2, "lambda/4"), 12)
    (1.0, 6.0)

    Args:
        value: of the coupling.
        convention: "g"; "lambda/4!" for ``lambda (phi^2)^2 / 4!``; "lambda/4" for ``lambda (phi^2)^2 / 4``.
    """
    factors = {"g": 1.0, "lambda/4!": 1 / (4 * math.pi) ** 2, "lambda/4": 6 / (4 * math.pi) ** 2}
    if convention not in factors:
        raise UnknownNameError(f"convention = {convention!r}: choose one of {', '.join(get_args(Quartic))}")
    return value * factors[convention]


class _Quartic(ABC):
    """What models with a quartic potential share: y = slope * Q."""

    @property
    @abstractmethod
    def slope(self) -> complex:
        """y / Q."""

    @property
    @abstractmethod
    def spectrum(self) -> Spectrum:
        """The modes about the state."""

    def saddle(self, Q: ArrayLike) -> Complexes:
        """u = R mu at charges Q, real numbers above zero."""
        return saddle(self.slope * _charges(Q))

    def leading(self, Q: ArrayLike) -> Complexes:
        """Delta_LO = (Q/4)(3u + 1/u)."""
        u = self.saddle(Q)
        return _charges(Q) / 4 * (3 * u + 1 / u)

    def next_to_leading(self, Q: float, *, digits: int = 40) -> Any:
        """Delta_0, a number of mpmath with about so many digits."""
        return casimir(self.spectrum, self.precise_saddle(float(_charges(Q)), digits=digits), digits=digits)

    def precise_saddle(self, Q: float, *, digits: int = 40) -> Any:
        """u with so many digits."""
        from mpmath import mp

        with mp.workdps(digits + 10):
            y = mp.mpmathify(self.slope) * Q
            u = mp.mpmathify(complex(self.saddle(Q)))
            u = u.real if u.imag == 0 else u
            if abs(3 * u * u - 1) < 1e-6:
                raise ErlangenError(
                    f"Q = {Q}: u = {mp.nstr(u, 9)} is too near the branch point 1/sqrt(3) for Newton's method from double "
                    "precision; take another charge, or call casimir(spectrum, u, digits=) with a precise u"
                )
            for _ in range(7):
                u -= (u**3 - u - y) / (3 * u * u - 1)
            return u

    def dimensions(self, charges: ArrayLike, order: Order = "NLO", *, digits: int = 30) -> Complexes:
        """Delta_Q at whole charges, to leading order or with Delta_0.

        >>> VectorModel(2, 1.0).dimensions([1, 2]).real.round(4).tolist()
        [0.5066, 1.1879]
        """
        if order not in get_args(Order):
            raise UnknownNameError(f"order = {order!r}: choose 'LO' or 'NLO'")
        whole = np.atleast_1d(np.asarray(charges))
        for Q in whole.tolist():
            if not is_whole(Q, 1):
                raise ErlangenError(
                    f"charges contain {Q!r}; operators have whole charges from 1 on (leading() takes reals)"
                )
        found = self.leading(whole)
        if order == "NLO":
            found = found + np.array([complex(self.next_to_leading(Q, digits=digits)) for Q in whole.tolist()])
        return found


@dataclass(frozen=True)
class VectorModel(_Quartic):
    """O(N) with ``(4 pi)^2 g / 4! (phi^2)^2`` at its fixed point in 4 - eps or, above, 4 + eps dimensions.

    >>> round(VectorModel(2, 0.1).coupling, 6), round(VectorModel(2, 0.1, above=True).critical_charge, 6)
    (0.03, 9.622504)

    Args:
        N: real fields, at least 1 (at least 2 for a charge).
        eps: distance from four dimensions, above zero.
        above: 4 + eps, where the fixed point is g < 0.
        loops: of the beta function that fixes g: 1 or 2.
    """

    N: int
    eps: float
    above: bool = False
    loops: int = 1

    def __post_init__(self) -> None:
        check_integer("N", self.N, 1)
        _check_eps(self.eps, "4 + eps is above=True")
        if self.N < 2:
            raise ErlangenError("N = 1: a single real field has no charge; give N >= 2")
        if self.loops not in (1, 2):
            raise ErlangenError(f"loops = {self.loops}: the beta function is known here to 1 or 2 loops")

    @property
    def coupling(self) -> float:
        """g*."""
        eps, n = (-self.eps if self.above else self.eps), self.N
        return 3 * eps / (n + 8) + (9 * (3 * n + 14) * eps**2 / (n + 8) ** 3 if self.loops == 2 else 0.0)

    @property
    def slope(self) -> float:
        """y / Q = 4g/3."""
        return 4 * self.coupling / 3

    @property
    def spectrum(self) -> Spectrum:
        """One pair, and N - 2 real Goldstone modes."""
        return Spectrum(((1, 1),), ((self.N / 2 - 1, 1),))

    @property
    def critical_charge(self) -> float:
        """Above four dimensions, where u stops being real: at one loop Q_c = (N + 8) / (6 sqrt(3) eps); else infinite."""
        return BRANCH / -self.slope if self.slope < 0 else math.inf

    def epsilon_expansion(self, Q: ArrayLike, order: int = 2) -> NDArray[np.float64]:
        """Delta_Q as a polynomial in eps to first or second order: the textbook's rival, at the same fixed point."""
        q, n, eps = _charges(Q), self.N, (-self.eps if self.above else self.eps)
        found = q * (1 - eps / 2) + eps * q * (q - 1) / (n + 8)
        if order == 2:
            found = found + eps**2 * second_order(q, n)
        return found


def second_order(Q: Any, N: int) -> Any:
    """The coefficient of eps^2 in Delta_Q: Q^3 and Q^2 from semiclassics, Q from the anomalous dimension of phi at Q = 1."""
    c3 = -2 / (N + 8) ** 2
    c2 = 3 * (3 * N + 14) / (N + 8) ** 3 + (3 - N / 2) / (N + 8) ** 2
    return Q * (N + 2) / (4 * (N + 8) ** 2) + (Q**3 - Q) * c3 + (Q**2 - Q) * c2


def matrix_betas(u: complex, v: complex, N: int, M: int) -> tuple[complex, complex]:
    """One-loop terms of the beta functions of a = coupling / (4 pi)^2, without -eps a, of U(N) x U(M)."""
    return 4 * (N + M) * u * u + 24 * u * v, 4 * (N * M + 4) * v * v + 8 * (N + M) * u * v + 12 * u * u


@dataclass(frozen=True)
class MatrixModel(_Quartic):
    """U(N) x U(M) with ``u Tr(H^+ H)^2 + v (Tr H^+ H)^2``, u not zero, at a one-loop fixed point in 4 - eps dimensions.

    Charges are on s equal entries of the diagonal of H: s = 1 is that of a highest weight, s = min(N, M) the axial U(1).

    >>> MatrixModel(20, 2, 0.1).is_real, MatrixModel(4, 4, 0.1, complex_couplings=True).is_real
    (True, False)

    Args:
        N, M: rows and columns of H, at least 2 (where one is 1, both quartics are the same: use O(2NM)).
        eps: above zero.
        s: entries that carry the charge.
        solution: 0 or 1, of the two fixed points with u != 0.
        complex_couplings: accept that these are complex.
    """

    N: int
    M: int
    eps: float
    s: int = 1
    solution: int = 0
    complex_couplings: bool = False

    def __post_init__(self) -> None:
        check_integer("N", self.N, 1)
        check_integer("M", self.M, 1)
        _check_eps(self.eps, "this model is in 4 - eps dimensions")
        if min(self.N, self.M) == 1:
            raise ErlangenError(
                f"N = {self.N}, M = {self.M}: with one row or column both quartics coincide and only u + v is defined; use "
                f"VectorModel({2 * self.N * self.M}, eps)"
            )
        if not is_whole(self.s, 1, min(self.N, self.M)):
            raise ErlangenError(f"s = {self.s!r}: give a whole number from 1 to min(N, M) = {min(self.N, self.M)}")
        if self.solution not in (0, 1):
            raise ErlangenError(f"solution = {self.solution!r}: there are two fixed points with u != 0, 0 and 1")
        if not self.is_real and not self.complex_couplings:
            raise ErlangenError(
                f"N = {self.N}, M = {self.M}: the couplings of the fixed points are complex (N^2 + M^2 - 10NM + 24 < 0); pass "
                "complex_couplings=True to go on"
            )

    @property
    def discriminant(self) -> int:
        """Below zero where the couplings are complex."""
        return self.N**2 + self.M**2 - 10 * self.N * self.M + 24

    @property
    def is_real(self) -> bool:
        """Whether the fixed points are real."""
        return self.discriminant >= 0

    @property
    def couplings(self) -> tuple[complex, complex]:
        """u* and v* over (4 pi)^2."""
        n, k, eps = self.N + self.M, self.N * self.M, self.eps
        # u = (eps - 24 v)/(4n) in the beta function of v: a quadratic in v.
        a, b, c = 4 * (k + 4) - 48 + 432 / n**2, -eps + 2 * eps - 36 * eps / n**2, 3 * eps**2 / (4 * n**2)
        root = np.sqrt(complex(b * b - 4 * a * c))
        if self.is_real:
            root = complex(root.real)
        v = (-b + (1 if self.solution == 0 else -1) * root) / (2 * a)
        return (eps - 24 * v) / (4 * n), v

    @property
    def slope(self) -> complex:
        """y / Q = 8 (u + s v) / s, of couplings over (4 pi)^2."""
        u, v = self.couplings
        y = 8 * (u + self.s * v) / self.s
        return y if y.imag else complex(y.real)

    @property
    def spectrum(self) -> Spectrum:
        """That of `matrix_spectrum`."""
        u, v = self.couplings
        return matrix_spectrum(self.N, self.M, self.s, self.s * v / (u + self.s * v))


def matrix_spectrum(N: int, M: int, s: int, share: complex) -> Spectrum:
    """Modes of N x M matrices about s equal entries; `share` is s v / (u + s v), the double trace's part of the potential.

    The trace of the s x s block is the pair of O(2); its other s^2 - 1 Hermitian and anti-Hermitian directions pair with
    another gap; blocks beside it are Goldstones, and the opposite block feels the double trace alone.
    """
    if isinstance(share, complex) and share.imag == 0:
        share = share.real
    pairs, fields = (1, 1), (s * (N + M - 2 * s), 1)
    return Spectrum((pairs, (s * s - 1, 1 - share)), (fields, ((N - s) * (M - s), share)))


@dataclass(frozen=True)
class CubicModel:
    """O(N) with ``g1 sigma phi^2 / 2 + g2 sigma^3 / 6`` in 6 - eps dimensions, to leading order.

    The saddle is a quintic: with v = (u^2 - 4)/g1 for sigma, y = g1^2 Q / pi^3 = -u (u^2 - 4)(8 + r (u^2 - 4)), r = g2/g1.

    >>> model = CubicModel(2000, 0.1)
    >>> bool(abs(model.saddle([1e-9])[0] - 2) < 1e-6)  # a free field in six dimensions has dimension 2
    True

    Args:
        N: of O(N); real fixed points with g1 != 0 exist at one loop above 1038.
        eps: above zero.
    """

    N: int
    eps: float

    def __post_init__(self) -> None:
        check_integer("N", self.N, 1)
        _check_eps(self.eps, "this model is in 6 - eps dimensions")
        if cubic_discriminant(self.N) < 0:
            raise ErlangenError(f"N = {self.N}: the fixed point that large N has is complex here; give N >= 1039")

    @property
    def ratio(self) -> float:
        """g2*/g1*, the root of 10 r^3 - 12 r^2 - (2N + 8) r + 12 N that is 6 at large N."""
        roots = np.roots([10, -12, -(2 * self.N + 8), 12 * self.N])
        return float(roots[np.argmin(abs(roots - 6))].real)

    @property
    def coupling(self) -> float:
        """g1*^2 / (4 pi)^3."""
        r = self.ratio
        return 6 * self.eps / (self.N - 8 - 12 * r + r * r)

    @property
    def slope(self) -> float:
        """y / Q."""
        return 64 * self.coupling

    @property
    def critical_charge(self) -> float:
        """Where u stops being real: the largest y on the branch from u = 2."""
        turning = np.sqrt(np.roots(np.polyder(_quintic(self.ratio, 0.0))[::2]).real.max())
        return float(np.polyval(-_quintic(self.ratio, 0.0).real, turning)) / self.slope

    def saddle(self, Q: ArrayLike) -> Complexes:
        """u = R mu at charges Q in increasing order, all below or all beyond the critical one."""
        charges = np.atleast_1d(_charges(Q))
        found = np.empty(charges.shape, dtype=np.complex128)
        for k, y in enumerate((self.slope * charges).tolist()):
            beyond = y > self.slope * self.critical_charge
            # Beyond the branch point the path goes around it, above.
            t = np.sin(np.linspace(0, np.pi / 2, 200)) ** 2  # small steps at both ends
            path = y * t + (0.3j * y * t * (1 - t) if beyond else 0)
            u = root_branch(np.stack([_quintic(self.ratio, one) for one in path]), 2.0)[-1]
            found[k] = u if beyond else u.real
        return found

    def leading(self, Q: ArrayLike) -> Complexes:
        """Delta_LO: the energy of the saddle on S^5."""
        charges = np.atleast_1d(_charges(Q))
        u, r, y = self.saddle(charges), self.ratio, self.slope * charges
        K = u * u - 4  # g1 v; then f^2 g1^2 = y / u
        return charges / y * (0.5 * (u * u + 4 + K) * y / u + 2 * K**2 + r * K**3 / 6)


def _quintic(r: float, y: complex) -> NDArray[np.complex128]:
    return np.array([r, 0, 8 - 8 * r, 0, 16 * r - 32, y], dtype=np.complex128)


def cubic_discriminant(N: float) -> float:
    """Of the cubic for g2/g1 in 6 - eps; below zero where two of its three roots are complex."""
    a, b, c, d = 10.0, -12.0, -(2 * N + 8), 12.0 * N
    return 18 * a * b * c * d - 4 * b**3 * d + b * b * c * c - 4 * a * c**3 - 27 * a * a * d * d


def _charges(Q: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(Q, dtype=np.float64)
    if not np.isfinite(values).all() or (values <= 0).any():
        raise ErlangenError(f"Q = {Q}: give charges above zero")
    return values


def _check_eps(eps: float, remedy: str) -> None:
    if not (math.isfinite(eps) and eps > 0):
        raise ErlangenError(f"eps = {eps}: give a number above zero ({remedy})")
