"""The next-to-leading term: half the sum of all frequencies on a sphere, by zeta functions, for any spectrum at a fixed charge.

With J = l(l + d - 2), u = R mu, m = (d - 2)/2 (conformal mass) and K = u^2 - m^2, all models have two kinds of modes:

    pairs     w_+ + w_-  of  w^2 = J + cK + 2u^2 +- sqrt(4 J u^2 + (cK + 2u^2)^2)      (c = 1: the phonon and the radial mode)
    complex   2 sqrt(J + m^2 + cK),  from w +- u                                       (c = 1: Goldstones of type I and II)

At large l the sum over one shell is c_1 l^(d-1) + c_2 l^(d-2) + ...; zeta(n - d) sums these powers, and the pole of zeta(5 - d)
at d = 4 is what the bare coupling cancels. At a fixed point no other finite piece is left: corrections of the saddle by d cancel
between the bare coupling and the pole.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from erlangen.errors import ErlangenError, check_integer

TERMS = 44
"""Powers of 1/l that sum the tail."""


@dataclass(frozen=True)
class Spectrum:
    """Modes about a state of fixed charge: how many of each kind, and their c; counts may be half-integer.

    >>> Spectrum(pairs=((1, 1.0),), fields=((0.5, 1.0),)).count  # O(3): a pair, and one real mode
    3.0
    """

    pairs: tuple[tuple[float, Any], ...]
    fields: tuple[tuple[float, Any], ...]

    @property
    def count(self) -> float:
        """Real fields in all."""
        return 2.0 * sum(count for count, _ in (*self.pairs, *self.fields))

    def shell(self, J: Any, u: Any, m2: Any, sqrt: Any) -> Any:
        """The sum of frequencies at one l, without its degeneracy."""
        K = u * u - m2
        total = 0
        for count, c in self.pairs:  # (w_+ + w_-)^2 = w_+^2 + w_-^2 + 2 w_+ w_-, so that nothing cancels
            total += count * sqrt(2 * (J + c * K + 2 * u * u) + 2 * sqrt(J * (J + 2 * c * K)))
        for count, c in self.fields:
            total += count * 2 * sqrt(J + m2 + c * K)
        return total


def casimir(spectrum: Spectrum, u: Any, *, digits: int = 40) -> Any:
    """Delta_0 in four dimensions: the finite part of half the sum of frequencies.

    >>> free = Spectrum(pairs=((1, 1.0),), fields=((1.0, 1.0),))
    >>> abs(casimir(free, 1)) < 1e-25  # a free field: no energy of the vacuum on S^3 in this scheme
    True

    Args:
        spectrum: the modes.
        u: R mu, real or complex, of mpmath or a number.
        digits: decimal digits of the arithmetic, of which two thirds are right in the result.

    Raises:
        ErlangenError: u is so near the branch point 1/sqrt(3) that half of these digits are lost.
    """
    from mpmath import mp

    check_integer("digits", digits, 20)
    with mp.workdps(digits + 10):
        u = mp.mpmathify(u)
        if abs(3 * u * u - 1) < mp.mpf(10) ** (-digits // 2):
            raise ErlangenError(
                f"u = {mp.nstr(u, 12)} is too near the branch point 1/sqrt(3), where digits are lost; "
                f"give more digits than {digits}"
            )
        c = _series(spectrum, u, mp.mpf(4), TERMS)
        h = mp.mpf(10) ** (-digits // 3)
        slope = (_series(spectrum, u, 4 - h, 5)[4] - _series(spectrum, u, 4 + h, 5)[4]) / (2 * h)
        total = sum(c[n - 1] * mp.zeta(n - 4) for n in range(1, 5)) + slope + mp.euler * c[4]
        cut = 8 * (1 + int(mp.ceil(abs(u))))
        total += spectrum.shell(mp.mpf(0), u, mp.mpf(1), mp.sqrt)
        for l in range(1, cut):
            shell = (l + 1) ** 2 * spectrum.shell(mp.mpf(l * (l + 2)), u, mp.mpf(1), mp.sqrt)
            total += shell - ((c[0] * l + c[1]) * l + c[2]) * l - c[3] - c[4] / l
        total += sum(c[n - 1] * _hurwitz(n - 4, cut, digits) for n in range(6, TERMS + 1))
        return total / 2


def casimir_pole(spectrum: Spectrum, u: Any) -> Any:
    """The coefficient of 1/eps in half the sum of frequencies, in d = 4 - eps: what the bare coupling has to cancel."""
    from mpmath import mp

    with mp.workdps(50):
        return _series(spectrum, mp.mpmathify(u), mp.mpf(4), 5)[4] / 2


@functools.lru_cache(maxsize=4096)
def _hurwitz(power: int, cut: int, digits: int) -> Any:
    from mpmath import mp

    with mp.workdps(digits + 10):
        return mp.zeta(power, cut)


def _series(spectrum: Spectrum, u: Any, d: Any, terms: int) -> list[Any]:
    """c_1, ... of one shell, degeneracy included: coefficients of powers of t = 1/l, times l^(d-1)."""
    from mpmath import mp

    m2, K = ((d - 2) / 2) ** 2, u * u - ((d - 2) / 2) ** 2

    def series(*low: Any) -> list[Any]:
        return [*low, *[mp.mpf(0)] * terms][:terms]

    total = series()
    for count, c in spectrum.pairs:
        # J (J + 2cK) t^4 = (1 + (d-2)t)(1 + (d-2)t + 2cK t^2)
        inner = _root(series(1, 2 * (d - 2), (d - 2) ** 2 + 2 * c * K, 2 * c * K * (d - 2)))
        outer = series(2, 2 * (d - 2), 2 * (c * K + 2 * u * u))
        outer = _root([a + 2 * b for a, b in zip(outer, inner, strict=True)])
        total = [a + count * b for a, b in zip(total, outer, strict=True)]
    for count, c in spectrum.fields:
        root = _root(series(1, d - 2, m2 + c * K))
        total = [a + 2 * count * b for a, b in zip(total, root, strict=True)]
    return _product(total, _degeneracy(d, terms))


def _degeneracy(d: Any, terms: int) -> list[Any]:
    """Of harmonics on S^(d-1), (2l + d - 2) Gamma(l + d - 2) / (Gamma(l + 1) Gamma(d - 1)) = l^(d-2) times this series in 1/l."""
    from mpmath import mp

    if d == 4:
        return [mp.mpf(1), mp.mpf(2), mp.mpf(1), *[mp.mpf(0)] * terms][:terms]
    log = [mp.mpf(0)] + [
        (-1) ** (k + 1) * (mp.bernpoly(k + 1, d - 2) - mp.bernpoly(k + 1, 1)) / (k * (k + 1)) for k in range(1, terms)
    ]
    ratio = [mp.mpf(1)]
    for n in range(1, terms):  # the exponential of a series
        ratio.append(mp.fdot([k * log[k] for k in range(1, n + 1)], ratio[n - 1 :: -1]) / n)
    head = [mp.mpf(2), d - 2, *[mp.mpf(0)] * terms][:terms]
    return [x / mp.gamma(d - 1) for x in _product(head, ratio)]


def _root(a: list[Any]) -> list[Any]:
    """The square root of a series."""
    from mpmath import mp

    root = [mp.sqrt(a[0])]
    for n in range(1, len(a)):
        root.append((a[n] - mp.fdot(root[1:n], root[n - 1 : 0 : -1])) / (2 * root[0]))
    return root


def _product(a: list[Any], b: list[Any]) -> list[Any]:
    from mpmath import mp

    return [mp.fdot(a[: n + 1], b[n::-1]) for n in range(len(a))]
