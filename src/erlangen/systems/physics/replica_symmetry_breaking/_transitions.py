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
    theta = _root(lambda th: _theta_slope(model, th), *_bracket(model))
    x = (0.0, 0.0, overlap(P, T, theta), theta)
    return Glass(theta, x[2], model.energy(*x), model.pressure(*x), model.replicon(*x))


def _theta_slope(model: DenseModel, theta: float) -> float:
    return model.theta_slope(0.0, 0.0, overlap(model.P, 1 / model.beta, theta), theta)


def _bracket(model: DenseModel) -> tuple[float, float]:
    """Where dA/dtheta changes sign with q2 > 0: from theta = 1 downwards, since at q2 = 0 it vanishes identically."""
    T, high = 1 / model.beta, 1.0
    if overlap(model.P, T, high) == 0 or _theta_slope(model, high) <= 0:
        raise ErlangenError(
            f"T = {T:.6g}: no glass with theta below 1 at P = {model.P}; T_c = {static_temperature(model.P):.6g}"
        )
    step = 0.05
    while step > 1e-9:
        low = (1 - step) * high
        if overlap(model.P, T, low) == 0:  # the state ends before: smaller steps
            step /= 2
        elif _theta_slope(model, low) < 0:
            return low, high
        else:
            high = low
    raise ErlangenError(f"T = {T:.6g}: the state ends at theta = {high:.6g} before dA/dtheta changes sign")


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
