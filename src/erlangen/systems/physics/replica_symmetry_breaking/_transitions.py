"""Transitions of the pure P-spin glass with J = 1 and P > 2, where q1 = 0: dynamic, static, and the end of one step."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from scipy import optimize

from erlangen.errors import ErlangenError, check_integer
from erlangen.systems.physics.replica_symmetry_breaking.method import DenseModel


class Glass(NamedTuple):
    """A solution with one step of breaking, at one temperature."""

    theta: float
    q2: float
    energy: float
    pressure: float
    replicon: float


def overlap(P: int, T: float, theta: float) -> float:
    """q2 of the glass at q1 = 0: the largest solution, or 0 where there is none."""
    model = DenseModel(P, 1.0, 1 / T)
    q = 0.999
    for _ in range(5000):
        new = model.update(0.0, 0.0, q, theta)[2]
        if abs(new - q) < 1e-13:
            break
        q = new
    return q if q > 0.05 else 0.0


def dynamic_temperature(P: int) -> float:
    """T_d: below it a state with q2 > 0 exists at theta = 1."""
    _check(P)

    def most(T: float) -> float:
        model = DenseModel(P, 1.0, 1 / T)
        found: Any = optimize.minimize_scalar(
            lambda q: q - model.update(0.0, 0.0, q, 1.0)[2],
            bounds=(0.4, 0.999),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return -float(found.fun)

    return _root(most, 0.6, 0.9)


def static_temperature(P: int) -> float:
    """T_c: below it theta < 1; dA/dtheta changes sign at theta = 1."""
    _check(P)

    def slope(T: float) -> float:
        return DenseModel(P, 1.0, 1 / T).theta_slope(0.0, 0.0, overlap(P, T, 1.0), 1.0)

    return _root(slope, 0.55, dynamic_temperature(P) - 1e-3)


@functools.cache
def glass_at(P: int, T: float) -> Glass:
    """The 1RSB glass at T below T_c, theta extremal."""
    _check(P)
    model = DenseModel(P, 1.0, 1 / T)
    # theta is about proportional to T; where q2 falls to zero there is no solution, and no sign.
    theta = _root(lambda th: model.theta_slope(0.0, 0.0, overlap(P, T, th), th), 0.8 * T, 1.0)
    x = (0.0, 0.0, overlap(P, T, theta), theta)
    return Glass(theta, x[2], model.energy(*x), model.pressure(*x), model.replicon(*x))


def gardner_temperature(P: int) -> float:
    """T_G: below it one step is not enough; the replicon changes sign."""
    return _root(lambda T: glass_at(P, T).replicon, 0.15, 0.4, 1e-7)


def _root(f: Any, low: float, high: float, xtol: float = 1e-10) -> float:
    return float(optimize.brentq(f, low, high, xtol=xtol))  # pyright: ignore[reportArgumentType]


def _check(P: int) -> None:
    check_integer("P", P, 2)
    if P == 2:
        raise ErlangenError(
            "P = 2: the SK model has no jump and q1 > 0; use DenseModel.solve and glass_ground_state(2)"
        )
