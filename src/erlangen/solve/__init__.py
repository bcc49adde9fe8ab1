"""Equations solved and differentiated: fixed points, derivatives by nudges, proximal maps, rates of convergence and growth;
roots followed along a path; least squares and linear constraints in batches; proofs by intervals; normal expectations; exact
linear algebra modulo primes; search by mixtures that evolve, without derivatives.
"""

from erlangen.solve.branches import root_branch
from erlangen.solve.derivatives import asymmetry, nudged_derivative
from erlangen.solve.evolution import BoxMixture, Evolved, evolve_mixture
from erlangen.solve.fixed_points import FixedPoint, fixed_point
from erlangen.solve.gaussian import log_cosh, normal_nodes
from erlangen.solve.intervals import Proof, prove_positive
from erlangen.solve.modular import (
    PRIMES,
    modular_inverse,
    modular_matmul,
    modular_nullspace,
    modular_rank,
    rational_from_residues,
)
from erlangen.solve.nonlinear import Fitted, least_squares, project_linear
from erlangen.solve.proximal import power_prox
from erlangen.solve.rates import Rate, exponential_rate, power_rate

__all__ = [
    "BoxMixture",
    "Evolved",
    "PRIMES",
    "Fitted",
    "FixedPoint",
    "Proof",
    "Rate",
    "asymmetry",
    "evolve_mixture",
    "exponential_rate",
    "fixed_point",
    "least_squares",
    "log_cosh",
    "modular_inverse",
    "modular_matmul",
    "modular_nullspace",
    "modular_rank",
    "normal_nodes",
    "nudged_derivative",
    "power_prox",
    "power_rate",
    "project_linear",
    "prove_positive",
    "rational_from_residues",
    "root_branch",
]
