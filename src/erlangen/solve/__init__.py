"""Equations solved and differentiated: fixed points, derivatives by nudges."""

from erlangen.solve.derivatives import asymmetry, nudged_derivative
from erlangen.solve.fixed_points import FixedPoint, fixed_point

__all__ = ["FixedPoint", "asymmetry", "fixed_point", "nudged_derivative"]
