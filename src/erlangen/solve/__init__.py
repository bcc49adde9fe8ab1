"""Equations solved and differentiated: fixed points, derivatives by nudges, proximal maps, rates of convergence and growth."""

from erlangen.solve.derivatives import asymmetry, nudged_derivative
from erlangen.solve.fixed_points import FixedPoint, fixed_point
from erlangen.solve.proximal import power_prox
from erlangen.solve.rates import Rate, exponential_rate, power_rate

__all__ = [
    "FixedPoint",
    "Rate",
    "asymmetry",
    "exponential_rate",
    "fixed_point",
    "nudged_derivative",
    "power_prox",
    "power_rate",
]
