"""What semiclassics is compared with: series in the coupling, Monte Carlo in three dimensions, an oscillator in one."""

from __future__ import annotations

import functools
from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import NDArray

from erlangen.errors import ErlangenError, check_integer

MONTE_CARLO = (0.519, 1.236, 2.109, 3.108)
"""Dimensions of the lowest operators of charge 1 to 4 in the O(2) model in three dimensions."""


@functools.cache
def leading_coefficients(order: int) -> tuple[float, ...]:
    """Of (gQ)^n in Delta_LO / Q, n = 0 ... order, from the saddle's series by Lagrange's inversion.

    >>> [round(c, 6) for c in leading_coefficients(2)]
    [1.0, 0.333333, -0.222222]
    """
    # u = 1 + x, x (2 + 3x + x^2) = y: [y^n] u = (1/n) [x^(n-1)] (2 + 3x + x^2)^(-n), and (2 + 3x + x^2) = (1 + x)(2 + x).
    out = [Fraction(1)]
    for n in range(1, order + 1):
        terms = (
            (-1) ** (n - 1)
            * comb(n + a - 1, a)
            * comb(n + n - 1 - a - 1, n - 1 - a)
            * Fraction(1, 2 ** (n + n - 1 - a))
            for a in range(n)
        )
        out.append(
            sum(terms, Fraction(0)) / n * Fraction(4, 3) ** n / (n + 1)
        )  # Delta_LO / Q is the mean of u over charges below Q
    return tuple(float(c) for c in out)


def leading_series(gQ: float, order: int) -> float:
    """Delta_LO / Q as a polynomial in gQ."""
    return float(np.polyval(leading_coefficients(order)[::-1], gQ))


def oscillator_energies(charges: int, quartic: float, *, size: int = 240) -> NDArray[np.float64]:
    """Lowest energies E(Q), Q = 0 ... charges, of ``(p^2 + r^2)/2 + quartic r^4`` in the plane, at angular momentum Q.

    >>> oscillator_energies(2, 0.0).round(12).tolist()
    [1.0, 2.0, 3.0]

    Diagonalised in states of the harmonic oscillator; r^4 is squared in a larger basis, so that it is exact in the kept one.
    """
    check_integer("charges", charges, 0)
    if not quartic >= 0:
        raise ErlangenError(f"quartic = {quartic}: below zero there is no ground state")
    found: list[float] = []
    for Q in range(charges + 1):
        n = np.arange(size + 2)
        r2 = np.diag(2.0 * n + Q + 1) - np.diag(s := np.sqrt((n[:-1] + 1.0) * (n[:-1] + Q + 1)), 1) - np.diag(s, -1)
        hamiltonian = np.diag(2.0 * n[:size] + Q + 1) + quartic * (r2 @ r2)[:size, :size]
        found.append(float(np.linalg.eigvalsh(hamiltonian)[0]))
    return np.array(found)
