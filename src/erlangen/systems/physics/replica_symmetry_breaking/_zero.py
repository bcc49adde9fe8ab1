"""Zero temperature: where retrieval ends, and ground states of the glass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize, special

from erlangen.errors import ErlangenError, check_integer


def retrieval_capacity(P: int) -> tuple[float, float, float]:
    """alpha, y and m where the RS retrieval branch m = erf(y), y = sqrt(P / (2 P! alpha)) m^(P-1), ends; P >= 3.

    >>> [round(x, 5) for x in retrieval_capacity(3)]
    [0.1261, 0.98994, 0.83848]
    """
    check_integer("P", P, 2)
    if P == 2:
        raise ErlangenError("P = 2: the branch ends at y = 0, which is not Hopfield's model; use hopfield_capacity()")

    def minus(y: float) -> float:
        return -(math.erf(y) ** (2 * (P - 1))) / y**2

    found: Any = optimize.minimize_scalar(minus, bounds=(0.3, 4.0), method="bounded", options={"xatol": 1e-12})
    y = float(found.x)
    return P / (2 * math.factorial(P)) * -float(found.fun), y, math.erf(y)


def hopfield_capacity() -> tuple[float, float]:
    """alpha and m where retrieval of Hopfield's model (P = 2, with its soft Gaussian part) ends at T = 0.

    >>> [round(x, 5) for x in hopfield_capacity()]
    [0.13791, 0.96742]
    """

    def minus(y: float) -> float:
        return -(math.erf(y) / y - 2 / math.sqrt(math.pi) * math.exp(-y * y))

    found: Any = optimize.minimize_scalar(minus, bounds=(0.5, 4.0), method="bounded", options={"xatol": 1e-12})
    return float(found.fun) ** 2 / 2, math.erf(float(found.x))


def retrieval_energy(P: int, alpha: float) -> float:
    """Energy by spin of the RS retrieval state at T = 0.

    Raises:
        ErlangenError: there is none at this load.
    """
    if alpha > retrieval_capacity(P)[0]:
        raise ErlangenError(f"alpha = {alpha}: retrieval ends at {retrieval_capacity(P)[0]:.6g} for P = {P}")
    m, scale = 1.0, math.sqrt(P / (2 * math.factorial(P) * alpha))
    for _ in range(100_000):
        new = math.erf(scale * m ** (P - 1))
        if abs(new - m) < 1e-15:
            break
        m = new
    h, s = P * m ** (P - 1), math.sqrt(P * math.factorial(P) * alpha)
    size = s * math.sqrt(2 / math.pi) * math.exp(-(h * h) / (2 * s * s)) + h * math.erf(h / (s * math.sqrt(2)))
    return -(size - (P - 1) * m**P)


def glass_pressure(P: int, x: float, q1: float) -> float:
    """-e of the 1RSB glass with J = 1 at T = 0, q2 = 1, x = theta beta."""
    c1, v = P / 2 * q1 ** (P - 1), P / 2 * (1 - q1 ** (P - 1))
    z = np.linspace(-8.5, 8.5, 801) if c1 > 0 else np.zeros(1)
    w = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    a = math.sqrt(c1) * z
    both = [
        sign * x * a + x * x * v / 2 + special.log_ndtr(sign * a / math.sqrt(v) + x * math.sqrt(v)) for sign in (1, -1)
    ]
    return float(w @ np.logaddexp(both[0], both[1])) / x - x / 4 * (P - 1) * (1 - q1**P)


def glass_ground_state(P: int) -> tuple[float, float, float]:
    """e, x and q1 of the 1RSB glass with J = 1 at T = 0: -e is least over x, and over q1 for P = 2; q1 = 0 for P > 2.

    >>> [round(v, 4) for v in glass_ground_state(3)]
    [-0.8135, 1.3836, 0.0]
    """
    check_integer("P", P, 2)

    def of_x(x: float) -> tuple[float, float]:
        if P > 2:
            return glass_pressure(P, x, 0.0), 0.0
        inner: Any = optimize.minimize_scalar(
            lambda q: glass_pressure(P, x, q), bounds=(1e-6, 0.95), method="bounded", options={"xatol": 1e-9}
        )
        return float(inner.fun), float(inner.x)

    found: Any = optimize.minimize_scalar(
        lambda x: of_x(x)[0], bounds=(0.3, 4.0), method="bounded", options={"xatol": 1e-9}
    )
    x = float(found.x)
    value, q1 = of_x(x)
    return -value, x, q1


def ground_state_crossing(P: int) -> float:
    """alpha above which the 1RSB glass lies below the retrieval state at T = 0; infinite where retrieval ends before.

    >>> round(ground_state_crossing(4), 6), ground_state_crossing(3)
    (0.031714, inf)
    """
    end, glass = retrieval_capacity(P)[0], glass_ground_state(P)[0]

    def above(alpha: float) -> float:
        return retrieval_energy(P, alpha) - glass * math.sqrt(2 * math.factorial(P) * alpha)

    last = end * (1 - 1e-9)
    if above(last) < 0:
        return math.inf
    return float(optimize.brentq(above, end / 100, last, xtol=1e-14))  # pyright: ignore[reportArgumentType]
